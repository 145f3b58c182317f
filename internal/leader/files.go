package leader

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/internal/durable"
)

// Files is a board in a folder that all candidates reach: each term has a file of its own, made by whoever was first, and written by nobody
// else. Nothing is locked, so a process that is stopped in the middle stops nobody.
type Files struct{ Dir string }

type filePost struct {
	Holder string        `json:"holder"`
	Beat   string        `json:"beat"`
	For    time.Duration `json:"for_ns"`
}

const termPrefix = "term-"

func (f Files) path(term int64) string {
	return filepath.Join(f.Dir, termPrefix+strconv.FormatInt(term, 10))
}

// terms lists the terms that have a file, and the highest.
func (f Files) terms() (all []int64, highest int64, err error) {
	entries, err := os.ReadDir(f.Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, 0, err
	}
	for _, e := range entries {
		text, ok := strings.CutPrefix(e.Name(), termPrefix)
		n, err := strconv.ParseInt(text, 10, 64)
		if !ok || err != nil {
			continue // a temporary file
		}
		all, highest = append(all, n), max(highest, n)
	}
	return all, highest, nil
}

// Read implements Board.
func (f Files) Read(context.Context) (Post, error) {
	for {
		_, term, err := f.terms()
		if err != nil || term == 0 {
			return Post{}, wrapped(err)
		}
		raw, err := os.ReadFile(f.path(term))
		if errors.Is(err, os.ErrNotExist) {
			continue // a newer one has come, and this one was removed
		}
		var p filePost
		if err == nil {
			err = json.Unmarshal(raw, &p)
		}
		return Post{Term: term, Holder: p.Holder, Beat: p.Beat, For: p.For}, wrapped(err)
	}
}

func wrapped(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("the leader's folder: %w", err)
}

// Write implements Board.
func (f Files) Write(ctx context.Context, old, now Post) (Post, error) {
	have, err := f.Read(ctx)
	if err != nil {
		return Post{}, err
	}
	if have != old {
		return Post{}, ErrMoved
	}
	now.Beat = rand.Text()
	raw, err := json.Marshal(filePost{Holder: now.Holder, Beat: now.Beat, For: now.For})
	if err != nil {
		return Post{}, wrapped(err)
	}
	if now.Term == old.Term { // its own: nobody else writes there
		return now, wrapped(durable.WriteFile(f.path(now.Term), raw, 0o600))
	}
	return now, f.take(now.Term, raw)
}

// take makes the file of a new term, if nobody else has. The highest term counts: a process that was stopped before it got here may make
// one that is long over.
func (f Files) take(term int64, raw []byte) (err error) {
	if err := durable.MkdirAll(f.Dir, 0o700); err != nil {
		return wrapped(err)
	}
	tmp := filepath.Join(f.Dir, "."+rand.Text())
	if err := durable.WriteFile(tmp, raw, 0o600); err != nil {
		return wrapped(err)
	}
	defer func() { err = errors.Join(err, durable.RemoveIfThere(tmp)) }()
	if err := os.Link(tmp, f.path(term)); errors.Is(err, os.ErrExist) {
		return ErrMoved
	} else if err != nil {
		return wrapped(err)
	}
	all, highest, err := f.terms()
	if err != nil {
		return wrapped(err)
	}
	if highest != term {
		return ErrMoved
	}
	for _, n := range all {
		if n < term {
			err = errors.Join(err, durable.RemoveIfThere(f.path(n)))
		}
	}
	return wrapped(errors.Join(err, durable.SyncDir(f.Dir)))
}
