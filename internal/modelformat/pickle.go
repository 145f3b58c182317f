package modelformat

import (
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// What a pickle is called after.
var pickleNames = map[string]bool{".joblib": true, ".pkl": true, ".pickle": true, ".dill": true, ".cloudpickle": true, ".sav": true}

// runsOnLoad ends every sentence on a pickle.
const runsOnLoad = "loading a pickle calls whatever functions it names"

// pickle recognises pickles by name and by their first bytes, also compressed ones as joblib writes them. known says
// that the file was taken for something else already.
func (d *detector) pickle(in *input, known bool) error {
	named := pickleNames[in.ext()] && !known
	r, how, err := unpacked(in)
	if err != nil {
		return in.damaged("%v", err)
	}
	if r == nil { // a compression that is not seen through
		if named {
			d.code = append(d.code, Code{File: in.name, Why: "a pickle compressed with " + how + ", which is not looked into; " + runsOnLoad, Cut: true})
			d.is(in, Pickle, "%s by its name, compressed with %s", strings.TrimPrefix(in.ext(), "."), how)
		}
		return nil
	}
	if in.size == 0 && named {
		return in.damaged("it is empty")
	}
	start := peek(r)
	marked := startsPickle(start.head)
	if !named && !marked {
		return nil
	}
	s := newScan(start)
	err = s.run()
	switch {
	case err == nil, errors.Is(err, errLimit):
	case !named && len(s.imports) == 0:
		return nil // its first two bytes were a coincidence
	case named && !marked && len(s.imports) == 0 && s.read < headSize:
		return in.damaged("it is named as a pickle and is none: %v", err)
	case known || errors.Is(err, errStream):
	case !errors.Is(err, io.ErrUnexpectedEOF):
		return in.damaged("%v", err)
	case !s.guessed:
		return in.damaged("the pickle ends in its midst")
	}
	d.addPickle(in, s, err, how, known)
	return nil
}

func (d *detector) addPickle(in *input, s *scan, err error, how string, known bool) {
	names := s.names()
	format, what := libraryOf(names)
	if how != "" {
		what += ", compressed with " + how
	}
	if !known {
		d.is(in, format, "%s", what)
	}
	d.code = append(d.code, Code{File: in.name, Why: what + "; " + runsOnLoad, Imports: names, Cut: err != nil || s.vague})
}

// libraryOf names the library whose classes a pickle imports.
func libraryOf(names []string) (Format, string) {
	of := func(packages ...string) string {
		for _, n := range names {
			if root, _, _ := strings.Cut(n, "."); slices.Contains(packages, root) {
				return n
			}
		}
		return ""
	}
	if n := of("torch"); n != "" {
		return PyTorch, "a pickle with " + n
	}
	if n := of("sklearn", "imblearn"); n != "" {
		return SKLearn, "a pickle of scikit-learn with " + n
	}
	// Their estimators follow scikit-learn's interface, and its servers load them, where the library is installed.
	if n := of("xgboost", "lightgbm", "catboost"); n != "" {
		return SKLearn, "a pickle with " + n + ", an estimator of scikit-learn's interface"
	}
	return Pickle, "a pickle"
}

// startsPickle recognises protocols 2 to 5; 0 and 1 have no mark of their own.
func startsPickle(b []byte) bool {
	return len(b) >= 3 && b[0] == 0x80 && b[1] >= 2 && b[1] <= 5 && argumentOf(b[2]) != argInvalid
}

// peeked is a reader of which the first bytes are known.
type peeked struct {
	head []byte
	io.Reader
}

func peek(r io.Reader) peeked {
	head := make([]byte, 3)
	n, err := io.ReadFull(r, head)
	rest := r
	if err != nil { // told again by whoever reads on
		rest = failing{err}
	}
	return peeked{head[:n], io.MultiReader(bytes.NewReader(head[:n]), rest)}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) {
	if errors.Is(f.err, io.ErrUnexpectedEOF) {
		return 0, io.EOF
	}
	return 0, f.err
}

// compressions are those that joblib writes, by their first bytes. A nil opener means that it is known and not seen through.
var compressions = []struct {
	name  string
	magic string
	open  func(io.Reader) (io.Reader, error)
}{
	{"zlib", "\x78\x01", openZlib}, {"zlib", "\x78\x5e", openZlib}, {"zlib", "\x78\x9c", openZlib}, {"zlib", "\x78\xda", openZlib},
	{"gzip", "\x1f\x8b", func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }},
	{"bzip2", "BZh", func(r io.Reader) (io.Reader, error) { return bzip2.NewReader(r), nil }},
	{"xz", "\xfd7zXZ\x00", nil}, {"lzma", "\x5d\x00\x00", nil}, {"lz4", "\x04\x22\x4d\x18", nil}, {"zstd", "\x28\xb5\x2f\xfd", nil},
}

func openZlib(r io.Reader) (io.Reader, error) { return zlib.NewReader(r) }

// unpacked reads a file through the compression that its first bytes show. The reader is nil where that one is not seen
// through. What comes out is bounded by who reads it.
func unpacked(in *input) (r io.Reader, how string, err error) {
	r = in.section(0)
	for _, c := range compressions {
		if !bytes.HasPrefix(in.head, []byte(c.magic)) {
			continue
		}
		if c.open == nil {
			return nil, c.name, nil
		}
		if r, err = c.open(r); err != nil {
			if pickleNames[in.ext()] {
				return nil, c.name, fmt.Errorf("it is not whole: %w", err)
			}
			return in.section(0), "", nil // two bytes that look like a compression
		}
		return r, c.name, nil
	}
	return r, "", nil
}

// numpy recognises an array file of Python objects, which is a pickle with a header.
func (d *detector) numpy(in *input) (bool, error) {
	if !bytes.HasPrefix(in.head, []byte("\x93NUMPY")) {
		return false, nil
	}
	if line, _, _ := bytes.Cut(in.head, []byte("\n")); bytes.Contains(line, []byte("|O")) {
		d.code = append(d.code, Code{File: in.name, Why: "an array of Python objects, which is a pickle; " + runsOnLoad, Cut: true})
	}
	return true, nil
}
