// Package remotetest is the suite that every remote.Blobs passes, and a [Fake]
// for what no real place shows on demand.
package remotetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/continuo-ml/continuo/state/remote"
)

// Run checks a place, which must be empty.
func Run(t *testing.T, b remote.Blobs) {
	ctx := t.Context()
	t.Run("what is not there is absent, and goes without an error", func(t *testing.T) {
		if _, _, err := b.Get(ctx, "nothing"); !errors.Is(err, remote.ErrAbsent) {
			t.Errorf("get: %v", err)
		}
		if err := b.Delete(ctx, "nothing"); err != nil {
			t.Errorf("delete: %v", err)
		}
		if _, err := b.Put(ctx, "nothing", []byte("x"), "1"); !errors.Is(err, remote.ErrPassed) {
			t.Errorf("a write over what is not there: %v", err)
		}
	})
	t.Run("an object is made once and replaced only by who saw it", func(t *testing.T) {
		v1, err := b.Put(ctx, "a/b.c-d", []byte("one\x00"), "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Put(ctx, "a/b.c-d", []byte("two"), ""); !errors.Is(err, remote.ErrPassed) {
			t.Errorf("made twice: %v", err)
		}
		v2, err := b.Put(ctx, "a/b.c-d", []byte("two"), v1)
		if err != nil || v2 == v1 || v2 == "" {
			t.Fatal(v2, err)
		}
		if _, err := b.Put(ctx, "a/b.c-d", []byte("three"), v1); !errors.Is(err, remote.ErrPassed) {
			t.Errorf("on an old version: %v", err)
		}
		data, v, err := b.Get(ctx, "a/b.c-d")
		if string(data) != "two" || v != v2 || err != nil {
			t.Errorf("got %q at %s, %v", data, v, err)
		}
	})
	t.Run("a list has what begins so, sorted", func(t *testing.T) {
		for _, n := range []string{"list/2", "list/1", "list/3", "lists/1"} {
			if _, err := b.Put(ctx, n, []byte(n), ""); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Delete(ctx, "list/3"); err != nil {
			t.Fatal(err)
		}
		infos, err := b.List(ctx, "list/")
		if err != nil || len(infos) != 2 || infos[0].Name != "list/1" || infos[1].Name != "list/2" || infos[0].Modified.IsZero() {
			t.Errorf("got %+v, %v", infos, err)
		}
	})
	t.Run("of writers at once exactly one wins each round", func(t *testing.T) { race(t, b) })
	t.Run("a done context does nothing", func(t *testing.T) {
		done, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := b.Put(done, "done", nil, ""); !errors.Is(err, context.Canceled) {
			t.Errorf("put: %v", err)
		}
		if _, _, err := b.Get(done, "list/1"); !errors.Is(err, context.Canceled) {
			t.Errorf("get: %v", err)
		}
	})
	t.Run("the place keeps conditions", func(t *testing.T) {
		for range 2 {
			if err := b.Check(ctx); err != nil {
				t.Error(err)
			}
		}
	})
}

func race(t *testing.T, b remote.Blobs) {
	const writers, rounds = 8, 5
	at := ""
	for round := range rounds {
		var won atomic.Int32
		var next atomic.Value
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				v, err := b.Put(t.Context(), "race", fmt.Appendf(nil, "%d %d", round, w), at)
				switch {
				case err == nil:
					won.Add(1)
					next.Store(v)
				case !errors.Is(err, remote.ErrPassed) && !errors.Is(err, remote.ErrBusy):
					t.Errorf("writer %d: %v", w, err)
				}
			})
		}
		wg.Wait()
		if n := won.Load(); n != 1 {
			t.Fatalf("%d writers won round %d", n, round)
		}
		at, _ = next.Load().(string)
	}
}
