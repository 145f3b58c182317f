package leader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/internal/fence"
)

// boards are what every board passes.
func boards(t *testing.T) map[string]Board {
	return map[string]Board{"files": Files{Dir: t.TempDir() + "/leader"}}
}

func TestABoardIsChangedByWhoSawItLast(t *testing.T) {
	for name, b := range boards(t) {
		ctx := t.Context()
		none, err := b.Read(ctx)
		if err != nil || none != (Post{}) {
			t.Fatalf("%s: %+v %v", name, none, err)
		}
		first, err := b.Write(ctx, none, Post{Term: 1, Holder: "a", For: time.Second})
		if err != nil || first.Beat == "" {
			t.Fatalf("%s: %+v %v", name, first, err)
		}
		if _, err := b.Write(ctx, none, Post{Term: 1, Holder: "b", For: time.Second}); !errors.Is(err, ErrMoved) {
			t.Errorf("%s: a second first one: %v", name, err)
		}
		again, err := b.Write(ctx, first, first)
		if err != nil || again.Beat == first.Beat {
			t.Errorf("%s: a renewal: %+v %v", name, again, err)
		}
		if _, err := b.Write(ctx, first, Post{Term: 2, Holder: "b", For: time.Second}); !errors.Is(err, ErrMoved) {
			t.Errorf("%s: taken on what was seen before the renewal: %v", name, err)
		}
		second, err := b.Write(ctx, again, Post{Term: 2, Holder: "b", For: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Write(ctx, again, again); !errors.Is(err, ErrMoved) {
			t.Errorf("%s: renewed after it was taken: %v", name, err)
		}
		if now, err := b.Read(ctx); err != nil || now != second {
			t.Errorf("%s: %+v %v, want %+v", name, now, err, second)
		}
	}
}

// One who was stopped between looking and taking makes the file of a term that is long over: it must not count.
func TestATermThatIsOverIsNotTakenAgain(t *testing.T) {
	f := Files{Dir: t.TempDir()}
	post := Post{}
	for term := int64(1); term <= 3; term++ {
		var err error
		if post, err = f.Write(t.Context(), post, Post{Term: term, Holder: fmt.Sprint(term), For: time.Second}); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.take(2, []byte(`{"holder":"late"}`)); !errors.Is(err, ErrMoved) {
		t.Errorf("term 2 after term 3: %v", err)
	}
	if now, err := f.Read(t.Context()); err != nil || now != post {
		t.Errorf("%+v %v", now, err)
	}
}

func TestOfManyWhoTakeOneTermOneHasIt(t *testing.T) {
	f := Files{Dir: t.TempDir()}
	var won atomic.Int64
	var wg sync.WaitGroup
	for n := range 20 {
		wg.Go(func() {
			if _, err := f.Write(t.Context(), Post{}, Post{Term: 1, Holder: fmt.Sprint(n), For: time.Second}); err == nil {
				won.Add(1)
			} else if !errors.Is(err, ErrMoved) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d have it", won.Load())
	}
}

// clock is one that a test moves.
type clock struct{ now atomic.Int64 }

func (c *clock) read() time.Duration { return time.Duration(c.now.Load()) }

func TestATermEndsByTheClockAndForGood(t *testing.T) {
	c := &clock{}
	term := &Term{clock: c.read, end: time.Second}
	if err := term.Guard(); err != nil {
		t.Error(err)
	}
	if !term.prolong(3 * time.Second) {
		t.Error("a term that goes on is not prolonged")
	}
	other := &Term{clock: c.read, end: 3 * time.Second}
	c.now.Store(int64(3 * time.Second))
	if err := other.Guard(); !errors.Is(err, fence.ErrLost) {
		t.Errorf("at its end: %v", err)
	}
	if term.prolong(time.Hour) {
		t.Error("a term that is over was prolonged")
	}
	c.now.Store(0)
	if err := term.Guard(); !errors.Is(err, fence.ErrLost) {
		t.Errorf("what is over is over: %v", err)
	}
}

func candidate(t *testing.T, b Board, name string, c func() time.Duration) *Candidate {
	return &Candidate{Board: b, Name: name, For: 600 * time.Millisecond, Clock: c, Log: slog.New(slog.NewTextHandler(testLog{t}, nil))}
}

type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) { return len(b), nil }

func TestOneLeadsTheOtherStandsByAndFollowsAtOnceWhenItIsGivenUp(t *testing.T) {
	b := Files{Dir: t.TempDir()}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	release, leads := make(chan struct{}), make(chan int64, 2)
	done := make(chan error, 2)
	lead := func(name string) {
		done <- candidate(t, b, name, nil).Lead(ctx, func(ctx context.Context, term *Term) error {
			if err := fence.Check(ctx); err != nil {
				return err
			}
			leads <- term.Number
			<-release
			return fence.Check(ctx) // renewed for as long as it took
		})
	}
	go lead("a")
	if n := <-leads; n != 1 {
		t.Errorf("term %d", n)
	}
	go lead("b")
	wait := time.NewTimer(1500 * time.Millisecond) // longer than a lease
	select {
	case n := <-leads:
		t.Fatalf("two lead: term %d", n)
	case <-wait.C:
	}
	release <- struct{}{}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := <-leads; n != 2 {
		t.Errorf("term %d", n)
	}
	release <- struct{}{}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestWhoGivesUpIsFollowedBeforeItsLeaseIsOver(t *testing.T) {
	t.Parallel()
	b := Files{Dir: t.TempDir()}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // half of a lease
	defer cancel()
	for _, name := range []string{"a", "b"} {
		c := candidate(t, b, name, nil)
		c.For = time.Minute
		if err := c.Lead(ctx, func(context.Context, *Term) error { return nil }); err != nil {
			t.Error(name, err)
		}
	}
}

func TestWhoCannotRenewIsToldAndDoesNotFinish(t *testing.T) {
	dir := t.TempDir()
	b := Files{Dir: dir + "/leader"}
	err := candidate(t, b, "a", nil).Lead(t.Context(), func(ctx context.Context, _ *Term) error {
		if err := os.RemoveAll(b.Dir); err != nil {
			return err
		}
		if err := os.WriteFile(b.Dir, nil, 0o600); err != nil { // now nothing can be written there
			return err
		}
		<-ctx.Done()
		return fence.Check(ctx)
	})
	if !errors.Is(err, fence.ErrLost) {
		t.Errorf("%v", err)
	}
}

func TestWhoWasPausedBeyondItsLeaseActsNoMore(t *testing.T) {
	b := Files{Dir: t.TempDir()}
	var skip atomic.Int64 // what the clock jumps by: the time in which nothing of this process ran
	slow := func() time.Duration { return sinceBoot() + time.Duration(skip.Load()) }
	err := candidate(t, b, "a", slow).Lead(t.Context(), func(ctx context.Context, _ *Term) error {
		skip.Store(int64(time.Hour))
		if err := fence.Check(ctx); err != nil {
			return err // at once: no timer had to fire for it
		}
		return errors.New("it may still act")
	})
	if !errors.Is(err, fence.ErrLost) {
		t.Errorf("%v", err)
	}
}
