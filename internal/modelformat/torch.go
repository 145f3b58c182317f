package modelformat

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// Limits of a zip archive: PyTorch writes one entry per tensor.
const (
	maxZipEntries   = 200_000
	maxZipDirectory = 64 << 20
	maxZipPickle    = 64 << 20 // of data.pkl, which holds names and sizes only
	maxTarEntries   = 16
)

// legacyMagic begins a file of torch.save before PyTorch 1.6: a pickled number (torch/serialization.py, MAGIC_NUMBER).
var legacyMagic = []byte("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.")

func isTorchName(ext string) bool { return ext == ".pt" || ext == ".pth" || ext == ".ckpt" }

// torch recognises what torch.save and torch.jit.save write.
func (d *detector) torch(in *input) (bool, error) {
	switch {
	case bytes.HasPrefix(in.head, []byte("PK\x03\x04")):
		return d.torchZip(in)
	case bytes.HasPrefix(in.head, legacyMagic):
		return true, d.torchLegacy(in)
	case len(in.head) > 262 && string(in.head[257:262]) == "ustar" && isTorchName(in.ext()):
		return true, d.torchTar(in)
	case in.ext() == ".pt" || in.ext() == ".pth":
		if startsPickle(in.head) { // pickle.dump under another name
			return false, nil
		}
		return true, in.damaged("neither the zip archive nor the pickle that torch.save writes: it begins with %q", in.head[:min(len(in.head), 8)])
	}
	return false, nil
}

// torchZip looks into a zip archive; one without data.pkl is not PyTorch's, and an error only if it is named as one.
func (d *detector) torchZip(in *input) (bool, error) {
	named := in.ext() == ".pt" || in.ext() == ".pth"
	z, err := openZip(in)
	if err != nil {
		return true, err
	}
	var data *zip.File
	entries := map[string]bool{}
	code := false
	for _, f := range z.File {
		if entries[f.Name] {
			return true, in.damaged("it holds %.200q twice, and readers differ in which one they take", f.Name)
		}
		entries[f.Name] = true
		if path.Base(f.Name) == "data.pkl" && strings.Count(f.Name, "/") <= 1 {
			if data != nil {
				return true, in.damaged("it holds two records data.pkl")
			}
			data = f
		}
	}
	if data == nil {
		if named {
			return true, in.damaged("a zip archive without the record data.pkl that torch.save writes")
		}
		return d.torchServe(in, entries) || d.kerasZip(in, entries), nil
	}
	root := strings.TrimSuffix(data.Name, "data.pkl")
	for name := range entries {
		code = code || strings.HasPrefix(name, root+"code/")
	}
	if code && entries[root+"constants.pkl"] {
		d.is(in, PyTorch, "TorchScript: a zip archive with %scode/ and constants.pkl", root)
		return true, nil // its code is TorchScript, which PyTorch interprets itself; its reader imports no Python
	}
	return true, d.torchPickle(in, data)
}

func (d *detector) torchPickle(in *input, f *zip.File) error {
	if f.UncompressedSize64 > maxZipPickle {
		return in.damaged("its record data.pkl has %d bytes; it holds names and sizes, at most %d", f.UncompressedSize64, maxZipPickle)
	}
	r, err := f.Open()
	if err != nil {
		return in.damaged("record data.pkl: %v", err)
	}
	s := newScan(io.LimitReader(r, maxZipPickle+1))
	err = s.run()
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	if err != nil && !errors.Is(err, errLimit) {
		return in.damaged("record data.pkl: %v", err)
	}
	what := "the zip archive of torch.save"
	d.is(in, PyTorch, "%s with %s", what, f.Name)
	d.code = append(d.code, Code{File: in.name, Why: what + " holds a pickle; " + runsOnLoad, Imports: s.names(), Cut: err != nil || s.vague})
	return nil
}

// openZip reads an archive's directory, whose size is checked before memory is taken for it.
func openZip(in *input) (*zip.Reader, error) {
	entries, size, err := zipDirectory(in)
	if err != nil {
		return nil, in.damaged("a zip archive whose directory cannot be read: %v", err)
	}
	if entries > maxZipEntries || size > maxZipDirectory {
		return nil, in.damaged("a zip archive with %d entries and a directory of %d bytes; a model has at most %d and %d", entries, size, maxZipEntries, maxZipDirectory)
	}
	z, err := zip.NewReader(in.r, in.size)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		return nil, in.damaged("a zip archive whose directory cannot be read: %v", err)
	}
	return z, nil
}

// zipDirectory reads how many entries an archive's directory claims and how large it is (APPNOTE.TXT 4.3.14–16).
func zipDirectory(in *input) (entries, size uint64, err error) {
	const end, locator, end64 = 22, 20, 56
	tail := make([]byte, min(in.size, end+locator+1<<16))
	from := in.size - int64(len(tail))
	if _, err := in.r.ReadAt(tail, from); err != nil && !errors.Is(err, io.EOF) {
		return 0, 0, err
	}
	at := bytes.LastIndex(tail, []byte("PK\x05\x06"))
	if at < 0 || len(tail)-at < end {
		return 0, 0, errors.New("it has no end; it was cut off")
	}
	e := tail[at:]
	entries, size = uint64(binary.LittleEndian.Uint16(e[10:])), uint64(binary.LittleEndian.Uint32(e[12:]))
	if at < locator || !bytes.HasPrefix(tail[at-locator:], []byte("PK\x06\x07")) {
		return entries, size, nil
	}
	off := binary.LittleEndian.Uint64(tail[at-locator+8:])
	b := make([]byte, end64)
	if off > uint64(in.size) {
		return 0, 0, errors.New("its second end lies behind the file")
	}
	if _, err := in.r.ReadAt(b, int64(off)); err != nil || !bytes.HasPrefix(b, []byte("PK\x06\x06")) {
		return 0, 0, fmt.Errorf("its second end is not where the first says: %w", errors.Join(err))
	}
	return max(entries, binary.LittleEndian.Uint64(b[32:])), max(size, binary.LittleEndian.Uint64(b[40:])), nil
}

// torchLegacy follows the pickles of an old file: number, protocol, system, object.
func (d *detector) torchLegacy(in *input) error {
	s := newScan(in.section(0))
	var err error
	for i := 0; i < 4 && err == nil; i++ {
		err = s.run()
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return in.damaged("the file of torch.save ends in its midst")
	}
	d.is(in, PyTorch, "a file of torch.save before PyTorch 1.6")
	d.code = append(d.code, Code{File: in.name, Why: "a file of torch.save before PyTorch 1.6 is a pickle; " + runsOnLoad, Imports: s.names(), Cut: err != nil || s.vague})
	return nil
}

// torchTar looks at a file of the first PyTorch versions: a tar archive with pickle, storages and tensors.
func (d *detector) torchTar(in *input) error {
	t := tar.NewReader(in.section(0))
	for range maxTarEntries {
		h, err := t.Next()
		if err != nil {
			break
		}
		if path.Clean(h.Name) != "pickle" {
			continue
		}
		s := newScan(io.LimitReader(t, maxZipPickle))
		err = s.run()
		d.is(in, PyTorch, "a tar archive with the record pickle, as torch.save wrote it in 2017")
		d.code = append(d.code, Code{File: in.name, Why: "a tar archive of torch.save holds a pickle; " + runsOnLoad, Imports: s.names(), Cut: err != nil || s.vague})
		return nil
	}
	return in.damaged("a tar archive without the record pickle that torch.save wrote in 2017")
}

// torchServe recognises the archive that TorchServe loads, which is a model with the Python that handles requests.
func (d *detector) torchServe(in *input, entries map[string]bool) bool {
	if !entries["MAR-INF/MANIFEST.json"] {
		return false
	}
	d.is(in, PyTorch, "TorchServe's archive with MAR-INF/MANIFEST.json")
	d.code = append(d.code, Code{File: in.name, Why: "TorchServe's archive holds a handler in Python, which the server imports, and weights that it may unpickle"})
	return true
}

// kerasZip recognises Keras 3's archive.
func (d *detector) kerasZip(in *input, entries map[string]bool) bool {
	if !entries["config.json"] || !entries["model.weights.h5"] {
		return false
	}
	d.is(in, Unknown, "a Keras archive with config.json and model.weights.h5")
	d.kerasCode(in)
	return true
}

func (d *detector) kerasCode(in *input) {
	d.code = append(d.code, Code{File: in.name, Why: "a Keras model may hold Lambda layers, whose Python bytecode runs when it is loaded"})
}

// keras recognises the HDF5 files of Keras, which may hold the model as well as its weights.
func (d *detector) keras(in *input) (bool, error) {
	if !bytes.HasPrefix(in.head, []byte("\x89HDF\r\n\x1a\n")) {
		return false, nil
	}
	d.is(in, Unknown, "an HDF5 file")
	if !strings.HasSuffix(in.name, ".weights.h5") && path.Base(in.name) != "tf_model.h5" {
		d.kerasCode(in)
	}
	return true, nil
}
