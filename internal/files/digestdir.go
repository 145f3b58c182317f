package files

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
)

// ListDir returns the slash paths of all files below dir, sorted, without ignore rules. Links inside dir
// stand as what they lead to; links out, devices and the like are refused, and so are names that a
// manifest cannot hold. A folder without a file is an error.
func ListDir(dir string) (paths []string, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	if paths, err = listAll(root); err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	return paths, nil
}

// listAll returns all files below root, at least one.
func listAll(root *os.Root) ([]string, error) {
	all := pattern{base: ".", all: true}
	paths, err := newTree(root, false, maxFiles).collect([]string{"."}, all.match, all.under)
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, errors.New("the folder holds no file")
	}
	for _, p := range paths {
		if err := checkEntryPath(p); err != nil {
			return nil, err
		}
	}
	return paths, nil
}

// DigestDir returns what [Store.PutDir] would return for dir, the artifact's digest (64 hex digits) and its
// manifest, and stores nothing. The same files have the same digest on every machine, so that both ends of
// a transfer can compare.
func DigestDir(dir string) (digest string, m Manifest, err error) { return DigestFiles(dir, nil) }

// DigestFiles is DigestDir for some files of dir, given as slash paths; nil means all.
func DigestFiles(dir string, some []string) (digest string, m Manifest, err error) {
	wrap := func(err error) error { return fmt.Errorf("digest %s: %w", dir, err) }
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", Manifest{}, wrap(err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	paths := slices.Sorted(slices.Values(some))
	if some == nil {
		if paths, err = listAll(root); err != nil {
			return "", Manifest{}, wrap(err)
		}
	}
	m = Manifest{Format: manifestFormat, Files: make([]ManifestFile, len(paths))}
	var pool buffers
	err = parallelErr(len(paths), func(i int) (err error) {
		m.Files[i], err = digestEntry(root, paths[i], &pool)
		return err
	})
	if err != nil {
		return "", Manifest{}, wrap(err)
	}
	if _, digest, err = encodeManifest(m); err != nil {
		return "", Manifest{}, wrap(err)
	}
	return digest, m, nil
}

// digestEntry reads the regular file p below root, which must not change meanwhile.
func digestEntry(root *os.Root, p string, pool *buffers) (e ManifestFile, err error) {
	f, err := openRegular(root, p)
	if err != nil {
		return e, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	before, mode, err := osFile{f}.stat()
	if err != nil {
		return e, explain("digest", p, err)
	}
	adviseSequential(osFile{f})
	sum, n, err := copyHash(nil, f, before.size+1, pool)
	if err != nil {
		return e, explain("digest", p, err)
	}
	after, _, err := osFile{f}.stat()
	if err != nil {
		return e, explain("digest", p, err)
	}
	if n != before.size || !after.sameContent(before) {
		return e, fmt.Errorf("digest %s: %w; wait until its writer is done", p, ErrChanged)
	}
	e = ManifestFile{Path: p, Mode: modeFile, Size: n, Digest: hex.EncodeToString(sum[:])}
	if mode&0o111 != 0 {
		e.Mode = modeExec
	}
	return e, nil
}

// encodeManifest returns a manifest's bytes and their digest. What could not be read back is an error.
func encodeManifest(m Manifest) (data []byte, digest string, err error) {
	if data, err = m.Encode(); err != nil {
		return nil, "", err
	}
	if _, err := DecodeManifest(data); err != nil {
		return nil, "", err
	}
	sum := sha256.Sum256(data)
	return data, hex.EncodeToString(sum[:]), nil
}

// SourceDigest returns the digest that [Index.DigestSource] gives to the same files as a dataset's source
// (64 hex digits): the digest of the bytes for a single file, or else that of the set.
func (m Manifest) SourceDigest(isDir bool) (string, error) {
	if !isDir {
		if len(m.Files) != 1 {
			return "", fmt.Errorf("a source that is one file was asked for, and there are %d", len(m.Files))
		}
		return m.Files[0].Digest, nil
	}
	set := make([]FileDigest, len(m.Files))
	for i, f := range m.Files {
		set[i] = FileDigest{Path: f.Path, Digest: Digest{Hex: f.Digest, Size: f.Size}}
	}
	return sumSet(set, ".")
}
