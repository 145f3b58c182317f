package modelformat

import (
	"slices"
	"testing"
)

// fuzzed are names under which a file is looked at in its own way each.
var fuzzed = []string{"m.joblib", "m.pkl", "m.pt", "m.bin", "m.onnx", "saved_model.pb", "m.safetensors", "m.json", "MLmodel", "config.json"}

// FuzzDetect looks for a file that keeps Detect from its end, or that is called a pickle and is taken for harmless.
func FuzzDetect(f *testing.F) {
	for _, content := range []string{
		stateDict, pickled("sklearn.svm", "SVC"), onnxModel, savedModelProto, tensors(), xgboostOld(), string(legacyMagic),
		zipped(f, map[string]string{"m/data.pkl": stateDict, "m/version": "3"}), tarred(f, "pickle", stateDict),
		"\x78\x9c\x03\x00", "flavors:\n  sklearn:\n", `{"learner":{"objective":{}}}`, "{L\x00\x00\x00\x00\x00\x00\x00\x07learner{",
		"\x80\x04" + global4("joblib.numpy_pickle", "NumpyArrayWrapper") + ")\x81}(" + text4("shape") + "K\x01\x85" + text4("dtype") + global4("numpy", "dtype") + text4("f8") + "\x85Rub.",
	} {
		for i := range fuzzed {
			f.Add(uint8(i), []byte(content))
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, content []byte) {
		i := int(which) % len(fuzzed)
		found, err := Detect(folder(map[string]string{fuzzed[i]: string(content)}))
		if err != nil {
			return
		}
		if i < 2 && !found.RunsCode() && !slices.ContainsFunc(found.Files, func(e Evidence) bool { return e.Format != Pickle && e.Format != SKLearn }) {
			t.Errorf("%s is taken for harmless: %q", fuzzed[i], content)
		}
		for _, c := range found.Code {
			if c.String() == "" || len(c.Imports) > maxImports {
				t.Errorf("%d imports", len(c.Imports))
			}
		}
	})
}
