package remote

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Blobs is a place for objects with names. Names are made of letters, digits,
// '.', '-' and '/'. Implementations are safe for concurrent use and repeat no
// Put by themselves.
type Blobs interface {
	// Get returns an object and its version, which is another one after every
	// change. It errors with ErrAbsent.
	Get(ctx context.Context, name string) (data []byte, version string, err error)
	// Put writes an object if its version is still at, "" being that there is
	// none, and returns the new version. It errors with ErrPassed when it is
	// not, and with ErrBusy when nobody knows whether it was done. After any
	// other error nothing was written.
	Put(ctx context.Context, name string, data []byte, at string) (version string, err error)
	// Delete removes an object; one that is not there is no error.
	Delete(ctx context.Context, name string) error
	// List returns the objects whose names begin with prefix, sorted by name.
	List(ctx context.Context, prefix string) ([]Info, error)
	// Check finds out whether the place keeps the condition of Put, and errors
	// when it does not: then two writers could both believe that they won.
	Check(ctx context.Context) error
	// Where names the place for people; Limit is the largest object, in bytes.
	Where() string
	Limit() int
}

// Info is what List tells of an object.
type Info struct {
	Name     string
	Modified time.Time // by the place's clock; of what is never replaced, its creation
}

// Errors of a Blobs on which the Store branches.
var (
	ErrAbsent = errors.New("there is no such object")
	// ErrPassed: the object is no longer the one that the writer saw.
	ErrPassed = errors.New("somebody else wrote it meanwhile")
	// ErrBusy: no answer, or one that says to try again. Of a Put it is not known
	// whether it was done.
	ErrBusy = errors.New("it cannot be reached, or is busy")
)

// checkObject is what CheckConditions writes.
const checkObject = "conditions"

// CheckConditions writes an object twice under conditions that do not hold, and
// errors when the place lets either through. It is Check for places of which
// not all keep them.
func CheckConditions(ctx context.Context, b Blobs) error {
	text := []byte("continuo writes this object to see whether the conditions of a write are kept here\n")
	_, err := b.Put(ctx, checkObject, text, "")
	if err == nil { // the first time: now it is there
		_, err = b.Put(ctx, checkObject, text, "")
	}
	if err == nil {
		return fmt.Errorf("%s lets a writer replace an object that it wanted to make (If-None-Match is ignored): two applies could both win; keep the state elsewhere, or use a newer version of that server", b.Where())
	}
	if !errors.Is(err, ErrPassed) {
		return err
	}
	_, err = b.Put(ctx, checkObject, text, noVersion)
	if err == nil {
		return fmt.Errorf("%s lets a writer replace another object than the one it saw (If-Match is ignored): two applies could both win; keep the state elsewhere, or use a newer version of that server", b.Where())
	}
	if !errors.Is(err, ErrPassed) {
		return err
	}
	return nil
}

// noVersion is what no object has as its version; it has the form of an ETag.
const noVersion = `"00000000000000000000000000000000"`
