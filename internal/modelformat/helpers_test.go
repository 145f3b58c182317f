package modelformat

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// folder is a file system of files by path.
func folder(files map[string]string) fstest.MapFS {
	m := fstest.MapFS{}
	for name, content := range files {
		m[name] = &fstest.MapFile{Data: []byte(content), Mode: 0o644}
	}
	return m
}

// zipped is a zip archive of files by path, in order of the paths.
func zipped(t testing.TB, files map[string]string) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(files[name])); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// claimed is a zip archive whose record data.pkl claims a size.
func claimed(t testing.TB, size uint64) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.CreateRaw(&zip.FileHeader{Name: "m/data.pkl", Method: zip.Deflate, CompressedSize64: 2, UncompressedSize64: size})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("\x03\x00")); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func tarred(t testing.TB, name, content string) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Mode: 0o644, Format: tar.FormatUSTAR}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// text4 is a short string of a pickle of protocol 4.
func text4(s string) string { return "\x8c" + string(rune(len(s))) + s }

// global4 imports a name as protocol 4 does, on the stack.
func global4(module, name string) string { return text4(module) + text4(name) + "\x93" }

// pickled is a pickle of protocol 4 that makes one instance of a class.
func pickled(module, class string) string { return "\x80\x04" + global4(module, class) + ")\x81." }

// stateDict is what torch.save writes for a dictionary of one tensor: protocol 2 with a persistent id.
const stateDict = "\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQK\x00K\x01\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtRs."

// le is a number of eight bytes, least significant first.
func le(n int) string { return string(binary.LittleEndian.AppendUint64(nil, uint64(n))) }

// tensors is a safetensors file of one float.
func tensors() string {
	h := `{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`
	return le(len(h)) + h + "\x00\x00\x80\x3f"
}

// xgboostOld is the head of XGBoost's binary form.
func xgboostOld() string {
	return string(make([]byte, 136)) + le(len("binary:logistic")) + "binary:logistic" + le(len("gbtree")) + "gbtree" + string(make([]byte, 64))
}

// onnxModel is ModelProto{ir_version: 8, producer_name: "x", graph: {…}, opset_import: {version: 17}}.
const onnxModel = "\x08\x08\x12\x01x\x3a\x03\x0a\x01n\x42\x02\x10\x11"

// savedModelProto is SavedModel{saved_model_schema_version: 1, meta_graphs: {…}}.
const savedModelProto = "\x08\x01\x12\x02\x0a\x00"

// polyglot is a pickle that imports os.system and, for its first bytes, a safetensors file.
func polyglot() string {
	head := "\x80\x02X\x05\x00\x00\x00" + "\x00{\"\x00\x00" + "0cos\nsystem\n."
	n := int(binary.LittleEndian.Uint64([]byte(head[:8])))
	return head + strings.Repeat(" ", n+8-len(head)-1) + "}"
}
