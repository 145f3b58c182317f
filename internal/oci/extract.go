package oci

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

const (
	maxEntries = 2_000_000
	maxPath    = 4096
	maxDepth   = 128
)

// hostile is an error that matches ErrHostile.
func hostile(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrHostile, fmt.Sprintf(format, a...))
}

// extractor unpacks archives, one on top of another, into a folder that it cannot leave.
type extractor struct {
	root   *os.Root
	prefix string // what lies below is wanted; "" for all
	opt    Options
	left   int64 // bytes that may still be written

	n       int            // of the layer, from 1
	entries int            // of all layers, wanted or not
	files   int            // that are there
	at      map[string]int // layer that a file or link comes from
	links   map[string]bool
	dirs    map[string]bool // folders known to be there and to be no links
	buf     []byte
}

func newExtractor(root *os.Root, prefix string, opt Options) *extractor {
	return &extractor{
		root: root, prefix: prefix, opt: opt, left: opt.MaxBytes,
		at: map[string]int{}, links: map[string]bool{}, dirs: map[string]bool{".": true}, buf: make([]byte, 1<<20),
	}
}

// archive unpacks one tar stream.
func (x *extractor) archive(r io.Reader) error {
	x.n++
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("unpack a layer: %w", err)
		}
		if x.entries++; x.entries > maxEntries {
			return hostile("it holds more than %d entries", maxEntries)
		}
		name, err := entryName(h.Name)
		if err != nil {
			return err
		}
		if base := path.Base(name); strings.HasPrefix(base, whiteout) {
			if err := x.remove(path.Dir(name), base); err != nil {
				return err
			}
			continue
		}
		rel, wanted := below(x.prefix, name)
		if !wanted {
			if name == x.prefix && name != "." && h.Typeflag != tar.TypeDir {
				return fmt.Errorf("/%s in it %w", x.prefix, ErrNoFolder)
			}
			continue
		}
		if err := x.entry(t, h, rel); err != nil {
			return err
		}
	}
}

// entryName returns a name of an archive as a clean relative path.
func entryName(name string) (string, error) {
	switch {
	case len(name) > maxPath:
		return "", hostile("a name in it has %d bytes", len(name))
	case strings.HasPrefix(name, "/"):
		return "", hostile("%q in it is absolute", name)
	case strings.Contains(name, "\\"), strings.ContainsRune(name, 0):
		return "", hostile("%q in it holds a backslash or a NUL byte", name)
	}
	for seg := range strings.SplitSeq(name, "/") {
		if seg == ".." {
			return "", hostile("%q in it leads out", name)
		}
	}
	clean := path.Clean(name)
	if strings.Count(clean, "/") > maxDepth {
		return "", hostile("%.80q… in it is nested %d deep", clean, strings.Count(clean, "/"))
	}
	if !filepath.IsLocal(filepath.FromSlash(clean)) {
		return "", hostile("%q in it is no name of a file here", name)
	}
	return clean, nil
}

// below returns name relative to prefix, if it lies below.
func below(prefix, name string) (string, bool) {
	if name == "." {
		return "", false
	}
	if prefix == "" {
		return name, true
	}
	return strings.CutPrefix(name, prefix+"/")
}

func (x *extractor) entry(t *tar.Reader, h *tar.Header, rel string) error {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return hostile("%q in it is a sparse file", rel)
		}
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return x.file(t, h, rel)
	case tar.TypeDir:
		return x.dir(rel)
	case tar.TypeSymlink:
		return x.link(rel, h.Linkname)
	case tar.TypeXGlobalHeader:
		return nil
	case tar.TypeLink:
		return hostile("%q in it is a hard link", rel)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return hostile("%q in it is a device", rel)
	}
	return hostile("%q in it is of the unknown type %q", rel, h.Typeflag)
}

// dir makes a folder and those above it, in place of what lower layers have there. It never passes a link.
func (x *extractor) dir(rel string) error {
	if x.dirs[rel] {
		return nil
	}
	if err := x.dir(path.Dir(rel)); err != nil {
		return err
	}
	switch from := x.at[rel]; {
	case from == x.n && x.links[rel]:
		return hostile("%q in it is a link and a folder", rel)
	case from == x.n:
		return hostile("%q in it is a file and a folder", rel)
	case from > 0:
		if err := x.forget(rel); err != nil {
			return err
		}
	}
	if err := x.root.Mkdir(filepath.FromSlash(rel), 0o755); err != nil {
		return err
	}
	x.dirs[rel] = true
	return nil
}

// claim makes room for a file or link at rel.
func (x *extractor) claim(rel string) error {
	if err := x.dir(path.Dir(rel)); err != nil {
		return err
	}
	if x.at[rel] == x.n {
		return hostile("%q is in it twice", rel)
	}
	if x.dirs[rel] {
		for p, n := range x.at {
			if n == x.n && strings.HasPrefix(p, rel+"/") {
				return hostile("%q in it is a folder and a file", rel)
			}
		}
	}
	if x.at[rel] > 0 || x.dirs[rel] {
		if err := x.forget(rel); err != nil {
			return err
		}
	}
	x.at[rel] = x.n
	return nil
}

func (x *extractor) file(t *tar.Reader, h *tar.Header, rel string) (err error) {
	if err := x.claim(rel); err != nil {
		return err
	}
	mode := os.FileMode(0o644)
	if h.Mode&0o111 != 0 {
		mode = 0o755
	}
	if h.Size > x.left {
		return hostile("it unpacks to more bytes than are allowed")
	}
	f, err := x.root.OpenFile(filepath.FromSlash(rel), os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if errors.Is(err, fs.ErrExist) {
		return hostile("%q in it has the name of another file on this disk, which folds case", rel)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	n, err := io.CopyBuffer(struct{ io.Writer }{f}, t, x.buf)
	if err != nil {
		return fmt.Errorf("unpack %s: %w", rel, err)
	}
	x.left -= n
	x.files++
	return f.Chmod(mode) // whatever the umask says
}

func (x *extractor) link(rel, target string) error {
	if target == "" || strings.HasPrefix(target, "/") || strings.ContainsAny(target, "\\\x00") || len(target) > maxPath {
		return hostile("%q in it is a link to %q, which leads out", rel, target)
	}
	if err := x.claim(rel); err != nil {
		return err
	}
	x.links[rel] = true
	return x.root.Symlink(target, filepath.FromSlash(rel))
}

// checkLinks follows every link: what it leads to through other links cannot be seen from its text.
func (x *extractor) checkLinks() error {
	for _, rel := range slices.Sorted(maps.Keys(x.links)) {
		_, err := x.root.Stat(filepath.FromSlash(rel))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return hostile("%q in it is a link that leads nowhere", rel)
		case err != nil:
			return hostile("%q in it is a link that leads out, or in a circle: %v", rel, err)
		}
	}
	return nil
}

// remove applies a removal, base in folder dir, to what lower layers have brought.
func (x *extractor) remove(dir, base string) error {
	target := path.Join(dir, strings.TrimPrefix(base, whiteout))
	if base == opaque {
		target = dir
	}
	if target == "." || target == x.prefix || strings.HasPrefix(x.prefix, target+"/") {
		return x.forgetOlder("")
	}
	rel, wanted := below(x.prefix, target)
	if !wanted {
		return nil
	}
	if base == opaque || x.dirs[rel] {
		return x.forgetOlder(rel + "/")
	}
	if x.at[rel] > 0 && x.at[rel] < x.n {
		return x.forget(rel)
	}
	return nil
}

// forgetOlder removes what lower layers have brought whose path begins with head. Folders stay.
func (x *extractor) forgetOlder(head string) error {
	for p, n := range x.at {
		if n < x.n && strings.HasPrefix(p, head) {
			if err := x.forget(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// forget removes a file, link or folder.
func (x *extractor) forget(rel string) error {
	if err := x.root.RemoveAll(filepath.FromSlash(rel)); err != nil {
		return err
	}
	if !x.dirs[rel] {
		if !x.links[rel] {
			x.files--
		}
		delete(x.at, rel)
		delete(x.links, rel)
		return nil
	}
	gone := func(p string) bool { return p == rel || strings.HasPrefix(p, rel+"/") }
	for p := range x.at {
		if gone(p) {
			if !x.links[p] {
				x.files--
			}
			delete(x.at, p)
			delete(x.links, p)
		}
	}
	maps.DeleteFunc(x.dirs, func(p string, _ bool) bool { return gone(p) })
	return nil
}
