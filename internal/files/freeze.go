package files

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/continuo-ml/continuo/internal/durable"
)

const (
	readOnly     = 0o444
	readOnlyExec = 0o555
)

// parseHex returns the 64 hex digits of a digest, which may carry its algorithm, "sha256:", in front.
func parseHex(digest string) (string, error) {
	h := strings.TrimPrefix(digest, "sha256:")
	if len(h) != 2*sha256.Size || strings.Trim(h, "0123456789abcdef") != "" {
		return "", fmt.Errorf("%.80q is not a digest: want 64 lowercase hex digits", digest)
	}
	return h, nil
}

// Freeze copies the source src (a file, a folder or a glob, as DigestSource takes it) to dst, a path
// outside of the project's rules such as a cache, if and only if its content is wantHex. What is hashed
// is the copy itself, made by sharing blocks where the file system can. Files are read-only in dst, and
// dst appears complete and durable or not at all. Content that is not wantHex is an error that matches
// ErrMoved, a file that is being written one that matches ErrChanged. A dst that already holds wantHex is left alone; one that holds anything else is replaced.
func (x *Index) Freeze(src, wantHex, dst string) error {
	want, err := parseHex(wantHex)
	if err != nil {
		return fmt.Errorf("freeze %s: %w", src, err)
	}
	same := func() error {
		have, err := x.frozen(dst)
		if err == nil && have != want {
			err = fmt.Errorf("%s holds %s, not %s", dst, have, want)
		}
		return err
	}
	if same() == nil {
		return nil
	}
	// A new view: files that came since the plan are part of what the source is now.
	s, err := x.newView(x.root, "", true).resolve(src)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("freeze %s: %w: the plan read %s, now nothing is there; plan again: %w", src, ErrMoved, want, err)
	}
	if err != nil {
		return fmt.Errorf("freeze %s: %w", src, err)
	}
	err = stage(dst, true, func(tmp string) error {
		d, err := x.copySource(s, tmp)
		if err == nil && d.Hex != want {
			err = fmt.Errorf("%w: the plan read %s, now it is %s; plan again", ErrMoved, want, d.Hex)
		}
		return err
	}, same)
	if err != nil {
		return fmt.Errorf("freeze %s: %w", src, err)
	}
	return nil
}

// Place is Freeze for content that comes from elsewhere: fill writes a file or a folder to its argument, a path that does not exist yet. What
// is hashed is what fill left there, and it must be wantHex, or dst stays as it was; the error then matches ErrMoved. A dst that
// holds wantHex already is left alone, and fill is not called. Files become read-only. It returns what stands at dst.
func (x *Index) Place(wantHex, dst string, fill func(to string) error) (SourceDigest, error) {
	wrap := func(err error) error { return fmt.Errorf("place %s: %w", filepath.Base(dst), err) }
	want, err := parseHex(wantHex)
	if err != nil {
		return SourceDigest{}, wrap(err)
	}
	var got SourceDigest
	same := func() (err error) {
		if got, err = x.standing(dst); err == nil && got.Hex != want {
			err = fmt.Errorf("%s holds %s, not %s", dst, got.Hex, want)
		}
		return err
	}
	if same() == nil {
		return got, nil
	}
	err = stage(dst, true, func(tmp string) error {
		if err := fill(tmp); err != nil {
			return err
		}
		if err := protect(tmp); err != nil {
			return err
		}
		if got, err = digestAt(tmp); err == nil && got.Hex != want {
			err = fmt.Errorf("%w: the plan read %s, now it is %s; plan again", ErrMoved, want, got.Hex)
		}
		return err
	}, same)
	if err != nil {
		return SourceDigest{}, wrap(err)
	}
	return got, nil
}

// digestAt reads all that stands at p, without the stat cache: it is not a place that anybody will ask for again.
func digestAt(p string) (SourceDigest, error) {
	fi, err := os.Lstat(p)
	if err != nil {
		return SourceDigest{}, err
	}
	d := SourceDigest{IsDir: fi.IsDir(), Base: "."}
	var m Manifest
	if d.IsDir {
		_, m, err = DigestDir(p)
	} else {
		_, m, err = DigestFiles(filepath.Dir(p), []string{filepath.Base(p)})
	}
	if err != nil {
		return d, err
	}
	for _, f := range m.Files {
		d.Files = append(d.Files, FileDigest{Path: f.Path, Digest: Digest{Hex: f.Digest, Size: f.Size}})
	}
	d.Bytes = m.Bytes()
	d.Hex, err = m.SourceDigest(d.IsDir)
	return d, err
}

// protect makes the files below dir, or the file dir, read-only.
func protect(dir string) error {
	return filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		return os.Chmod(p, readOnly)
	})
}

// frozen returns the digest of what stands at dst, by the stat cache where it can.
func (x *Index) frozen(dst string) (string, error) {
	d, err := x.standing(dst)
	return d.Hex, err
}

// standing is frozen with all that is known.
func (x *Index) standing(dst string) (d SourceDigest, err error) {
	abs, err := filepath.Abs(dst)
	if err != nil {
		return d, err
	}
	fi, err := os.Lstat(abs)
	if err != nil {
		return d, err
	}
	at, source := abs, "."
	if !fi.IsDir() {
		at, source = filepath.Dir(abs), filepath.Base(abs)
	}
	root, err := os.OpenRoot(at)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	// No project path begins with two slashes, so the cache cannot mix them up.
	v := x.newView(root, "//"+filepath.ToSlash(at)+"/", false)
	s, err := v.resolve(source)
	if err != nil {
		return d, err
	}
	files, err := v.digestAll(s.paths)
	if err != nil {
		return d, err
	}
	return s.finish(files)
}

// copySource copies the files of s to dst, under it with paths relative to the source's base if the
// source is not a single file, and returns the digest of the copies.
func (x *Index) copySource(s *resolved, dst string) (SourceDigest, error) {
	files := make([]FileDigest, len(s.paths))
	var pool buffers
	err := parallelErr(len(s.paths), func(i int) error {
		p, to := s.paths[i], dst
		if s.IsDir {
			to = filepath.Join(dst, filepath.FromSlash(relTo(s.Base, p)))
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				return err
			}
		}
		c, err := copyFile(x.root, p, to, readOnly, &pool)
		files[i] = FileDigest{Path: p, Digest: Digest{Hex: c.hex, Size: c.size}}
		return err
	})
	if err != nil {
		return SourceDigest{}, err
	}
	return s.finish(files)
}

// copied is what a copy holds.
type copied struct {
	hex  string
	size int64
	mode fs.FileMode // of the source
}

// copyFile copies the regular file p below root to the new file dst. The digest is that of the
// bytes in dst. The file is not yet durable.
func copyFile(root *os.Root, p, dst string, perm fs.FileMode, pool *buffers) (c copied, err error) {
	src, err := openRegular(root, p)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	before, mode, err := osFile{src}.stat()
	if err != nil {
		return c, explain("copy", p, err)
	}
	f, cloned, err := createClone(src, dst)
	if err != nil {
		return c, fmt.Errorf("copy %s: %w", p, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var sum [sha256.Size]byte
	var n int64
	// One byte more than expected shows that the source grew, and ends with one that grows for ever.
	if cloned {
		sum, n, err = copyHash(nil, f, before.size+1, pool)
	} else {
		adviseSequential(osFile{src})
		sum, n, err = copyHash(f, src, before.size+1, pool)
	}
	if err != nil {
		return c, explain("copy", p, err)
	}
	after, _, err := osFile{src}.stat()
	if err != nil {
		return c, explain("copy", p, err)
	}
	if n != before.size || !after.sameContent(before) {
		return c, fmt.Errorf("copy %s: %w; wait until its writer is done", p, ErrChanged)
	}
	if err := f.Chmod(perm); err != nil {
		return c, fmt.Errorf("copy %s: %w", p, err)
	}
	return copied{hex: hex.EncodeToString(sum[:]), size: n, mode: mode}, nil
}

// take moves tmp to dst, unless something stands there: whoever brought the same before us may be read from already, and a reader must
// not find another file under the name.
func take(tmp, dst string) error {
	if info, err := os.Lstat(tmp); err == nil && info.Mode().IsRegular() {
		err := os.Link(tmp, dst)
		if err == nil || errors.Is(err, fs.ErrExist) {
			return err // the first name goes with the folder that it is in
		}
	}
	return os.Rename(tmp, dst) // folders, and file systems without links
}

// stage calls fill with a path beside dst that does not exist yet, makes what fill put there durable,
// and moves it to dst. What came to stand at dst meanwhile, or before, is what same says: right
// (nil), and stays, or wrong, and is put aside if replace is set. On an error dst stays as it was.
func stage(dst string, replace bool, fill func(tmp string) error, same func() error) (err error) {
	parent := filepath.Dir(dst)
	if err := durable.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(parent, ".staged-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	tmp := filepath.Join(dir, "new")
	if err := fill(tmp); err != nil {
		return err
	}
	if err := syncTree(dir); err != nil {
		return fmt.Errorf("make %s durable: %w", dst, err)
	}
	if renamed := take(tmp, dst); renamed != nil {
		if _, err := os.Lstat(dst); err != nil {
			return renamed
		}
		if err := same(); err == nil {
			return nil
		} else if !replace {
			return err
		}
		if err := os.Rename(dst, filepath.Join(dir, "old")); err != nil {
			return err
		}
		if err := os.Rename(tmp, dst); err != nil {
			return err
		}
	}
	return durable.SyncDir(parent)
}
