package modelformat

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestFormatsAreToldApartByTheirBytes(t *testing.T) {
	torchZip := zipped(t, map[string]string{"m/data.pkl": stateDict, "m/data/0": "abcd", "m/version": "3"})
	script := zipped(t, map[string]string{"m/data.pkl": stateDict, "m/constants.pkl": "\x80\x02).", "m/code/__torch__.py": "class M(Module):", "m/version": "3"})
	mlmodel := "artifact_path: model\nflavors:\n  python_function:\n    loader_module: mlflow.sklearn\n  sklearn:\n    pickled_model: model.pkl\nmlflow_version: 2.9.2\n"
	cases := map[string]struct {
		files  map[string]string
		format Format
		file   string
		code   []string // files that run code
	}{
		"joblib":                             {map[string]string{"model.joblib": pickled("sklearn.linear_model._logistic", "LogisticRegression"), "metrics.json": `{"f1":1}`}, SKLearn, "model.joblib", []string{"model.joblib"}},
		"a pickle without a name":            {map[string]string{"weights": pickled("sklearn.svm", "SVC")}, SKLearn, "weights", []string{"weights"}},
		"pickle of protocol 0":               {map[string]string{"m.pkl": "csklearn.svm\nSVC\n."}, SKLearn, "m.pkl", []string{"m.pkl"}},
		"pickle of xgboost's estimator":      {map[string]string{"m.pkl": pickled("xgboost.sklearn", "XGBClassifier")}, SKLearn, "m.pkl", []string{"m.pkl"}},
		"pickle of nothing known":            {map[string]string{"m.pkl": "\x80\x04}."}, Pickle, "m.pkl", []string{"m.pkl"}},
		"xz is not looked into":              {map[string]string{"m.joblib": "\xfd7zXZ\x00\x00\x00"}, Pickle, "m.joblib", []string{"m.joblib"}},
		"xgboost JSON":                       {map[string]string{"model.json": `{"learner":{"attributes":{},"feature_names":[]},"version":[2,0,0]}`}, XGBoost, "model.json", nil},
		"xgboost JSON, version first":        {map[string]string{"model.json": `{"version":[1,7,6], "learner": {"objective":{}}}`}, XGBoost, "model.json", nil},
		"xgboost UBJSON":                     {map[string]string{"model.ubj": "{L\x00\x00\x00\x00\x00\x00\x00\x07learner{L\x00"}, XGBoost, "model.ubj", nil},
		"xgboost binary":                     {map[string]string{"x.model": xgboostOld()}, XGBoost, "x.model", nil},
		"xgboost binary with its prefix":     {map[string]string{"x.model": "binf" + xgboostOld()}, XGBoost, "x.model", nil},
		"lightgbm":                           {map[string]string{"m.txt": "tree\nversion=v4\nnum_class=1\n"}, LightGBM, "m.txt", nil},
		"onnx":                               {map[string]string{"model.onnx": onnxModel}, ONNX, "model.onnx", nil},
		"onnx without its name":              {map[string]string{"model.bin": onnxModel}, ONNX, "model.bin", nil},
		"SavedModel":                         {map[string]string{"1/saved_model.pb": savedModelProto, "1/variables/variables.index": "i"}, TensorFlow, "1/saved_model.pb", nil},
		"a state dict":                       {map[string]string{"model.pt": torchZip}, PyTorch, "model.pt", []string{"model.pt"}},
		"a state dict without its name":      {map[string]string{"weights": torchZip}, PyTorch, "weights", []string{"weights"}},
		"TorchScript":                        {map[string]string{"model.pt": script}, PyTorch, "model.pt", nil},
		"an old file of torch.save":          {map[string]string{"model.pth": string(legacyMagic) + "\x80\x02M\xe9\x03.\x80\x02}." + stateDict}, PyTorch, "model.pth", []string{"model.pth"}},
		"a tar of torch.save":                {map[string]string{"model.pth": tarred(t, "pickle", stateDict)}, PyTorch, "model.pth", []string{"model.pth"}},
		"a pickle called pt":                 {map[string]string{"model.pt": pickled("torch.nn.modules.linear", "Linear")}, PyTorch, "model.pt", []string{"model.pt"}},
		"safetensors":                        {map[string]string{"model.safetensors": tensors()}, SafeTensors, "model.safetensors", nil},
		"MLflow":                             {map[string]string{"MLmodel": mlmodel, "model.pkl": pickled("sklearn.svm", "SVC")}, MLflow, "MLmodel", []string{"MLmodel", "model.pkl"}},
		"MLflow without pyfunc":              {map[string]string{"MLmodel": "flavors:\n    onnx:\n        data: model.onnx\n", "model.onnx": onnxModel}, MLflow, "MLmodel", nil},
		"Hugging Face":                       {map[string]string{"config.json": `{"model_type":"bert"}`, "model.safetensors": tensors(), "tokenizer_config.json": "{}"}, HuggingFace, "config.json", nil},
		"Hugging Face with own code":         {map[string]string{"config.json": `{"model_type":"x","auto_map":{"AutoModel":"m.M"}}`, "model.safetensors": tensors(), "m.py": "class M: pass"}, HuggingFace, "config.json", []string{"config.json", "m.py"}},
		"Hugging Face with old weights":      {map[string]string{"config.json": `{"architectures":["B"]}`, "pytorch_model.bin": torchZip}, HuggingFace, "config.json", []string{"pytorch_model.bin"}},
		"Keras":                              {map[string]string{"m.keras": zipped(t, map[string]string{"config.json": "{}", "model.weights.h5": "x"})}, Unknown, "m.keras", []string{"m.keras"}},
		"an array of objects":                {map[string]string{"a.npy": "\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n\x80\x04]."}, Unknown, "", []string{"a.npy"}},
		"an array of numbers":                {map[string]string{"a.npy": "\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }\n12345678"}, Unknown, "", nil},
		"files of nothing known":             {map[string]string{"weights.json": `{"w":[1,2]}`, "x.zip": zipped(t, map[string]string{"a": "b"}), "empty": "", "m.txt": "tree house", "note": "x^ is what it is"}, Unknown, "", nil},
		"a pickle made to look like tensors": {map[string]string{"m.safetensors": polyglot()}, SafeTensors, "m.safetensors", []string{"m.safetensors"}},
		"two formats":                        {map[string]string{"a.onnx": onnxModel, "b.txt": "tree\nversion=v4\n\n"}, Unknown, "a.onnx", nil},
		"a helper pickle beside a model":     {map[string]string{"a.onnx": onnxModel, "labels.pkl": "\x80\x04]."}, ONNX, "a.onnx", []string{"labels.pkl"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f, err := Detect(folder(c.files))
			if err != nil {
				t.Fatal(err)
			}
			if f.Format != c.format || f.File != c.file || f.Why == "" {
				t.Errorf("format %q by %q (%s), want %q by %q", f.Format, f.File, f.Why, c.format, c.file)
			}
			var code []string
			for _, x := range f.Code {
				code = append(code, x.File)
				if x.Why == "" || strings.Contains(x.String(), "\n") {
					t.Errorf("%s: %q", x.File, x.Why)
				}
			}
			if !slices.Equal(code, c.code) || f.RunsCode() != (len(c.code) > 0) {
				t.Errorf("code in %v, want %v", code, c.code)
			}
		})
	}
}

func TestAFileThatIsNotWhatItClaimsIsAnError(t *testing.T) {
	torchZip := zipped(t, map[string]string{"m/data.pkl": stateDict, "m/version": "3"})
	cases := map[string]struct{ name, content, want string }{
		"a truncated zip":             {"m.pt", torchZip[:len(torchZip)-30], "cut off"},
		"a zip without data.pkl":      {"m.pt", zipped(t, map[string]string{"a": "b"}), "without the record data.pkl"},
		"another file called pt":      {"m.pt", "hello", "neither the zip archive nor the pickle"},
		"two records data.pkl":        {"m.pt", zipped(t, map[string]string{"a/data.pkl": stateDict, "b/data.pkl": stateDict}), "two records"},
		"a pickle cut off":            {"m.pt", zipped(t, map[string]string{"m/data.pkl": stateDict[:40]}), "data.pkl"},
		"a directory of many entries": {"m.pt", "PK\x03\x04" + strings.Repeat("x", 100) + "PK\x06\x06" + le(44) + "\x2d\x00\x2d\x00" + strings.Repeat("\x00", 8) + le(1<<40) + le(1<<40) + le(1<<40) + le(0) + "PK\x06\x07" + strings.Repeat("\x00", 4) + le(104) + strings.Repeat("\x01\x00\x00\x00", 1) + "PK\x05\x06" + strings.Repeat("\xff", 16) + "\x00\x00", "a model has at most"},
		"a bomb":                      {"m.pt", claimed(t, maxZipPickle+1), "at most"},
		"a joblib cut off":            {"m.joblib", pickled("sklearn.svm", "SVC")[:20], "ends in its midst"},
		"a picture called pkl":        {"m.pkl", "\x89PNG\r\n", "is none"},
		"an empty pickle":             {"m.pkl", "", "empty"},
		"a broken zlib joblib":        {"m.joblib", "\x78\x9c\x03", "unexpected EOF"},
		"an onnx cut off":             {"m.onnx", onnxModel[:len(onnxModel)-6], "ends in its midst"},
		"another file called onnx":    {"m.onnx", "hello world", "no ONNX model"},
		"an empty onnx":               {"m.onnx", "", "no ir_version"},
		"an empty SavedModel":         {"saved_model.pb", "", "no graph"},
		"a header beyond the file":    {"m.safetensors", le(1<<40) + "{}", "inside the file"},
		"a header of 2^63 bytes":      {"m.safetensors", strings.Repeat("\x00", 7) + "\x80{}", "inside the file"},
		"a pickle called safetensors": {"m.safetensors", pickled("os", "system"), "inside the file"},
		"a header that is no JSON":    {"m.safetensors", le(4) + "{abc", "does not end"},
		"MLmodel in flow style":       {"MLmodel", "flavors: {python_function: {}}\n", "lists no flavors"},
		"MLmodel that is a list":      {"MLmodel", "flavors:\n  - python_function\n", "is no name"},
		"a huge MLmodel":              {"MLmodel", strings.Repeat("#", maxText+1), "at most"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := Detect(folder(map[string]string{c.name: c.content}))
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.name) || !strings.Contains(err.Error(), ErrDamaged.Error()) {
				t.Errorf("error %v, want one of %s that says %q", err, c.name, c.want)
			}
		})
	}
}

func TestLinksAreRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "model.pkl")); err != nil {
		t.Fatal(err)
	}
	if _, err := Detect(os.DirFS(dir)); err == nil || !strings.Contains(err.Error(), "model.pkl is a link") {
		t.Errorf("error %v", err)
	}
}

func TestARunawayFolderIsRefused(t *testing.T) {
	deep := strings.Repeat("d/", maxDepth+1) + "f"
	if _, err := Detect(folder(map[string]string{deep: "x"})); err == nil || !strings.Contains(err.Error(), "deeper") {
		t.Errorf("error %v", err)
	}
}
