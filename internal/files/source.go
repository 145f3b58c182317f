package files

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// setDigest is the memory of one DigestSet.
type setDigest struct {
	hex   string
	files []FileDigest
}

// DigestSet returns the digest of the files that patterns match, see Glob, and of each of them. The
// set's digest covers paths relative to the project folder: renaming a file changes it. A pattern
// without a wildcard that names nothing is an error; a pattern set that matches nothing is not. The
// slice is shared between callers: read it only.
func (x *Index) DigestSet(patterns []string) (setHex string, files []FileDigest, err error) {
	v := x.view()
	key := strings.Join(slices.Sorted(slices.Values(patterns)), "\x00")
	set, err := v.sets.get(key, func() (setDigest, error) {
		found, err := v.glob(patterns)
		if err != nil {
			return setDigest{}, err
		}
		if len(found.missing) > 0 {
			return setDigest{}, fmt.Errorf("digest %s: %w; correct the name, or use a pattern if it need not exist", strings.Join(found.missing, ", "), fs.ErrNotExist)
		}
		files, err := v.digestAll(found.paths)
		if err != nil {
			return setDigest{}, err
		}
		sum, err := sumSet(files, ".")
		return setDigest{sum, files}, err
	})
	return set.hex, slices.Clip(set.files), err
}

// sumSet digests the set of files, sorted by path, with paths relative to base.
func sumSet(files []FileDigest, base string) (string, error) {
	h := sha256.New()
	var line []byte
	for i := range files {
		f := &files[i]
		// A line break in a name would let two different sets share their lines.
		if strings.ContainsAny(f.Path, "\n\r") {
			return "", fmt.Errorf("digest %q: a file name must not hold a line break; rename the file", f.Path)
		}
		line = append(append(append(line[:0], f.Hex...), "  "...), relTo(base, f.Path)...)
		if _, err := h.Write(append(line, '\n')); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// SourceDigest is the version of a dataset's source.
type SourceDigest struct {
	// Hex is the digest of the bytes for a single file, else the digest of the set, with paths
	// relative to Base: the same files elsewhere are the same version.
	Hex   string
	Files []FileDigest // sorted by path; shared between callers, read it only
	Bytes int64        // of all files
	IsDir bool         // the source is a folder or a glob, however many files it holds
	Base  string       // the folder, or for a glob the folder before the first wildcard; "." for a file
}

// DigestSource digests a dataset's source inside the project: a file, a folder with all below it, or a
// glob. Ignore rules apply to what lies below, not to what source itself names. No file is an error.
func (x *Index) DigestSource(source string) (SourceDigest, error) {
	v := x.view()
	d, err := v.source.get(source, func() (SourceDigest, error) {
		s, err := v.resolve(source)
		if err != nil {
			return SourceDigest{}, err
		}
		files, err := v.digestAll(s.paths)
		if err != nil {
			return SourceDigest{}, err
		}
		return s.finish(files)
	})
	d.Files = slices.Clip(d.Files)
	return d, err
}

// resolved is a source with the paths that it stands for.
type resolved struct {
	SourceDigest
	paths []string
}

// finish fills in the digests of the files and what follows from them.
func (s *resolved) finish(files []FileDigest) (SourceDigest, error) {
	s.Files = files
	for _, f := range s.Files {
		s.Bytes += f.Size
	}
	if !s.IsDir {
		s.Hex = s.Files[0].Hex
		return s.SourceDigest, nil
	}
	var err error
	s.Hex, err = sumSet(s.Files, s.Base)
	return s.SourceDigest, err
}

// resolve finds the files of a source. A file whose name looks like a pattern is that file.
func (v *view) resolve(source string) (*resolved, error) {
	clean, isDir, err := v.named(source)
	switch {
	case err == nil && !isDir:
		return &resolved{SourceDigest: SourceDigest{Base: "."}, paths: []string{clean}}, nil
	case err == nil:
		all := pattern{base: clean, all: true}
		paths, err := v.tree.collect([]string{clean}, all.match, all.under)
		if err != nil {
			return nil, err
		}
		return found(source, "the folder holds no file that is not ignored", clean, paths)
	case !hasMeta(source) || errors.Is(err, ErrOutside):
		return nil, err
	}
	p, err := compilePattern(source)
	if err != nil {
		return nil, err
	}
	got, err := v.glob([]string{source})
	if err != nil {
		return nil, err
	}
	return found(source, "the pattern matches no file", p.base, got.paths)
}

func found(source, nothing, base string, paths []string) (*resolved, error) {
	if len(paths) == 0 {
		return nil, fmt.Errorf("read %s: %s: %w", source, nothing, fs.ErrNotExist)
	}
	return &resolved{SourceDigest: SourceDigest{IsDir: true, Base: base}, paths: paths}, nil
}
