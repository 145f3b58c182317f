package files

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// manifestFormat names the layout of a manifest's JSON; a reader refuses any other.
const manifestFormat = "1"

// maxManifestBytes bounds a manifest before it is parsed: two million files with long paths.
const maxManifestBytes = 1 << 30

// Manifest lists the files of one artifact. The SHA-256 of its JSON, as Encode returns it, is the digest
// of the artifact; it covers paths, contents, sizes and whether a file is executable, and nothing else:
// neither owners nor times nor empty folders.
type Manifest struct {
	Format string         `json:"format"`
	Files  []ManifestFile `json:"files"` // sorted by path
}

// ManifestFile is one file of an artifact.
type ManifestFile struct {
	Path   string `json:"path"`   // slash path below the artifact's folder
	Mode   string `json:"mode"`   // "0644", or "0755" for an executable file
	Size   int64  `json:"size"`   // bytes
	Digest string `json:"digest"` // SHA-256, 64 hex digits
}

const (
	modeFile = "0644"
	modeExec = "0755"
)

// Bytes returns the size of all files together.
func (m Manifest) Bytes() int64 {
	var n int64
	for _, f := range m.Files {
		n += f.Size
	}
	return n
}

// CaseCollisions returns the paths that fall together on a disk that folds case.
func (m Manifest) CaseCollisions() [][]string {
	paths := make([]string, len(m.Files))
	for i, f := range m.Files {
		paths[i] = f.Path
	}
	return CaseCollisions(paths)
}

// Encode returns the manifest's JSON, the same bytes for the same manifest.
func (m Manifest) Encode() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(m); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// DecodeManifest parses and checks a manifest. It accepts only what Encode can have written, so that
// no path of it can lead out of the folder that it is checked out into.
func DecodeManifest(data []byte) (Manifest, error) {
	if len(data) > maxManifestBytes {
		return Manifest{}, fmt.Errorf("manifest: %w: over %d bytes", ErrTooLarge, maxManifestBytes)
	}
	var m Manifest
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return Manifest{}, fmt.Errorf("manifest: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Manifest{}, errors.New("manifest: text after its end")
	}
	if err := m.check(); err != nil {
		return Manifest{}, fmt.Errorf("manifest: %w", err)
	}
	// One manifest, one spelling: no field twice, no other spacing, no text that JSON would mend.
	if again, err := m.Encode(); err != nil || !bytes.Equal(again, data) {
		return Manifest{}, errors.Join(errors.New("manifest: it is not in its canonical form"), err)
	}
	return m, nil
}

func (m Manifest) check() error {
	if m.Format != manifestFormat {
		return fmt.Errorf("format %q, want %q; a newer version of the program wrote it", m.Format, manifestFormat)
	}
	if len(m.Files) == 0 {
		return errors.New("it lists no file")
	}
	for i, f := range m.Files {
		if err := checkEntryPath(f.Path); err != nil {
			return err
		}
		if i > 0 && m.Files[i-1].Path >= f.Path {
			return fmt.Errorf("%q comes after %q: the same path twice, or not sorted", f.Path, m.Files[i-1].Path)
		}
		if _, err := parseHex(f.Digest); err != nil || len(f.Digest) != 64 {
			return fmt.Errorf("%q: %.80q is not a digest", f.Path, f.Digest)
		}
		if f.Size < 0 || f.Mode != modeFile && f.Mode != modeExec {
			return fmt.Errorf("%q: size %d or mode %q is out of range", f.Path, f.Size, f.Mode)
		}
	}
	return m.checkNesting()
}

// checkNesting refuses a path that is a file and, for another path, a folder.
func (m Manifest) checkNesting() error {
	for _, f := range m.Files {
		for i := range len(f.Path) {
			if f.Path[i] != '/' {
				continue
			}
			_, is := slices.BinarySearchFunc(m.Files, f.Path[:i], func(g ManifestFile, p string) int { return strings.Compare(g.Path, p) })
			if is {
				return fmt.Errorf("%q is a file, and %q lies in it", f.Path[:i], f.Path)
			}
		}
	}
	return nil
}

// checkEntryPath accepts a relative slash path in its one clean form. A backslash is refused because
// "a\b" is a file here and a file in a folder on Windows; so are names that JSON cannot hold.
func checkEntryPath(p string) error {
	switch {
	case !fs.ValidPath(p) || p == ".":
		return fmt.Errorf("path %.200q must be relative and clean, without \"..\"", p)
	case strings.ContainsRune(p, '\\'):
		return fmt.Errorf("path %.200q must not hold a backslash", p)
	case !utf8.ValidString(p) || strings.ContainsFunc(p, unicode.IsControl):
		return fmt.Errorf("path %.200q must be UTF-8 without control characters", p)
	}
	return nil
}
