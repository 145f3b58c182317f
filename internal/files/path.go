package files

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
	"syscall"
)

var (
	// ErrOutside is what a path that leaves the folder matches, by its text or through a link.
	ErrOutside = errors.New("outside of the folder")
	// ErrNotRegular is what a device, FIFO, socket or folder matches where a file is wanted.
	ErrNotRegular = errors.New("not a regular file")
	// ErrChanged is what a file matches that was written to, twice, while it was read.
	ErrChanged = errors.New("changed while it was read")
	// ErrMoved is what content matches that is no longer the content that was asked for.
	ErrMoved = errors.New("the source moved")
	// ErrTooMany is what a folder with more files than the cap matches.
	ErrTooMany = errors.New("too many files")
	// ErrTooLarge is what a file over the cap of ReadFile matches.
	ErrTooLarge = errors.New("too large")
)

// cleanPath returns p in the one form that the package uses: slashes, no "." elements, no trailing
// slash, "." for the folder itself. It refuses what os.Root would refuse too, with a better message,
// and "a/../b", which os.Root accepts but whose meaning depends on links.
func cleanPath(p string) (string, error) {
	switch {
	case p == "":
		return "", errors.New("the path is empty; name a file inside the project folder")
	case strings.ContainsRune(p, 0):
		return "", fmt.Errorf("%q: a path cannot hold a NUL byte", p)
	case strings.HasPrefix(p, "/") || filepath.IsAbs(p) || filepath.VolumeName(p) != "":
		return "", fmt.Errorf("%q is absolute: %w; name it relative to the project folder", p, ErrOutside)
	}
	for seg := range strings.SplitSeq(filepath.ToSlash(p), "/") {
		if seg == ".." {
			return "", fmt.Errorf("%q holds \"..\": %w; name it relative to the project folder", p, ErrOutside)
		}
	}
	c := path.Clean(filepath.ToSlash(p))
	if !filepath.IsLocal(filepath.FromSlash(c)) {
		return "", fmt.Errorf("%q is a reserved name: %w", p, ErrOutside)
	}
	return c, nil
}

// escapes reports whether err is os.Root's refusal to leave its folder. The os package exports no
// value for it, so its text is what there is; a test fails should the text change.
func escapes(err error) bool {
	return err != nil && strings.HasSuffix(err.Error(), "path escapes from parent")
}

// explain puts the path and, where the operating system is terse, the cause and the next step into
// an error of a file operation.
func explain(verb, p string, err error) error {
	var pe *fs.PathError
	cause := err
	if errors.As(err, &pe) {
		cause = pe.Err
	}
	switch {
	case err == nil:
		return nil
	case escapes(err):
		return fmt.Errorf("%s %s: it is or passes through a link that is absolute or leads %w; copy the data into the folder, or list the link in .mlignore", verb, p, ErrOutside)
	case errors.Is(err, syscall.ELOOP):
		return fmt.Errorf("%s %s: the links lead in a circle: %w", verb, p, cause)
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%s %s: a part of the path is a file, not a folder: %w", verb, p, fs.ErrNotExist)
	}
	return fmt.Errorf("%s %s: %w", verb, p, cause)
}

// notRegular names what stands at p instead of a regular file.
func notRegular(verb, p string, mode fs.FileMode) error {
	what := "neither a file nor a folder"
	switch {
	case mode.IsDir():
		what = "a folder"
	case mode&fs.ModeNamedPipe != 0:
		what = "a FIFO"
	case mode&fs.ModeSocket != 0:
		what = "a socket"
	case mode&fs.ModeDevice != 0:
		what = "a device"
	}
	return fmt.Errorf("%s %s: it is %s, %w; remove it, or list it in .mlignore", verb, p, what, ErrNotRegular)
}

// joinErrors returns the first few of errs, in the order given, and counts the rest.
func joinErrors(errs []error) error {
	const shown = 5
	if len(errs) <= shown {
		return errors.Join(errs...)
	}
	head := append([]error(nil), errs[:shown]...)
	return errors.Join(append(head, fmt.Errorf("and %d more files like these", len(errs)-shown))...)
}
