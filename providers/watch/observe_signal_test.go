package watch

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

const (
	good   = resource.SignalGood
	bad    = resource.SignalBad
	few    = resource.SignalTooFew
	nodata = resource.SignalNoData
)

func TestASignalTurnsAfterEnoughWindows(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		confirm int
		windows []resource.SignalState
		want    string // state/epoch after each window
	}{
		"one bad window is enough without confirm":   {1, []resource.SignalState{good, bad}, "good/0 bad/1"},
		"it stays bad, and its epoch rises once":     {1, []resource.SignalState{bad, bad, bad}, "bad/1 bad/1 bad/1"},
		"two are needed":                             {2, []resource.SignalState{good, bad, bad}, "good/0 good/0 bad/1"},
		"a good window between breaks the streak":    {2, []resource.SignalState{bad, good, bad, bad}, "too_few/0 good/0 good/0 bad/1"},
		"a quiet window between does not":            {2, []resource.SignalState{bad, few, nodata, bad}, "too_few/0 too_few/0 no_data/0 bad/1"},
		"a quiet window does not end an alarm":       {1, []resource.SignalState{bad, nodata, few, bad}, "bad/1 bad/1 bad/1 bad/1"},
		"a good one does, and the next bad is anew":  {1, []resource.SignalState{bad, good, bad}, "bad/1 good/1 bad/2"},
		"bad after quiet is not quiet, and no alarm": {2, []resource.SignalState{nodata, bad, bad}, "no_data/0 too_few/0 bad/1"},
		"quiet from the start":                       {1, []resource.SignalState{few, nodata, good, few}, "too_few/0 no_data/0 good/0 too_few/0"},
	} {
		tr, err := newTrack(resource.Address{Kind: "monitor", Name: "m"}, "drift", "v1", nil, c.confirm)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range c.windows {
			if err := tr.add(opinion{state: s, message: "m"}); err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprintf("%s/%d", tr.signal.State, tr.signal.Epoch))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", name, got, c.want)
		}
	}
}

func TestWindowsAreToldOnceWithWhatTheyFound(t *testing.T) {
	t.Parallel()
	addr := resource.Address{Kind: "monitor", Name: "m"}
	tr, err := newTrack(addr, "drift", "v1", nil, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []resource.SignalState{good, bad} {
		if err := tr.add(opinion{state: s, message: string(s), evidence: map[string]int{"n": 1}}); err != nil {
			t.Fatal(err)
		}
	}
	got := tr.signal.Windows
	if len(got) != 2 || got[0].State != good || got[1].State != bad || tr.signal.State != good || string(got[1].Evidence) != `{"n":1}` || got[1].Subject != "v1" {
		t.Fatalf("%+v; the signal is %s", got, tr.signal.State)
	}
	if tr, err = newTrack(addr, "drift", "v1", &tr.signal, 2); err != nil || len(tr.signal.Windows) != 0 {
		t.Errorf("%+v, %v", tr.signal.Windows, err)
	}
}

func TestEpochsNeverFallAndRiseOncePerTurn(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		confirm := rapid.IntRange(1, 3).Draw(rt, "confirm")
		var recorded *state.Signal
		turns := int64(0)
		for range rapid.IntRange(1, 30).Draw(rt, "looks") {
			subject := rapid.SampledFrom([]string{"v1", "v1", "v1", "v2"}).Draw(rt, "subject")
			tr, err := newTrack(resource.Address{}, "drift", subject, recorded, confirm)
			if err != nil {
				rt.Fatal(err)
			}
			if rapid.IntRange(0, 5).Draw(rt, "fails") == 0 {
				recorded = broken(tr, errors.New("no"), noon)
				continue
			}
			for _, s := range rapid.SliceOfN(rapid.SampledFrom([]resource.SignalState{good, bad, few, nodata}), 0, 4).Draw(rt, "windows") {
				was := tr.signal.State
				if err := tr.add(opinion{state: s}); err != nil {
					rt.Fatal(err)
				}
				if was != bad && tr.signal.State == bad {
					turns++
				}
			}
			now, err := tr.result(recorded, noon)
			if err != nil {
				rt.Fatal(err)
			}
			if recorded != nil && now.Epoch < recorded.Epoch {
				rt.Fatalf("epoch fell from %d to %d", recorded.Epoch, now.Epoch)
			}
			recorded = now
			if recorded.Epoch != turns {
				rt.Fatalf("epoch %d after %d turns", recorded.Epoch, turns)
			}
		}
	})
}

func TestANewSubjectStartsCleanAndKeepsTheEpoch(t *testing.T) {
	t.Parallel()
	old := &state.Signal{Name: "drift", State: bad, Epoch: 3, Streak: 2, Subject: "v1", Evidence: json.RawMessage(`{}`), Cursor: json.RawMessage(`{"next":41,"state":"bad"}`)}
	tr, err := newTrack(resource.Address{}, "drift", "v2", old, 2)
	if err != nil {
		t.Fatal(err)
	}
	s, err := tr.result(old, noon)
	if err != nil {
		t.Fatal(err)
	}
	if s.State != few || s.Epoch != 3 || s.Streak != 0 || s.Evidence != nil || s.Subject != "v2" || tr.cursor.Next != 41 {
		t.Errorf("%+v, cursor %+v", s, tr.cursor)
	}
	if old.State != bad || old.Streak != 2 {
		t.Error("the recorded signal was changed")
	}
}

func TestASignalThatCouldNotBeEvaluatedComesBackAsItWas(t *testing.T) {
	t.Parallel()
	old := &state.Signal{Name: "drift", State: bad, Epoch: 1, Streak: 2, Subject: "v1", Cursor: json.RawMessage(`{"next":41,"state":"bad"}`)}
	tr, err := newTrack(resource.Address{}, "drift", "v1", old, 2)
	if err != nil {
		t.Fatal(err)
	}
	failed := broken(tr, errors.New("the reference is gone"), noon)
	if failed.State != resource.SignalError || failed.Epoch != 1 || failed.Message != "the reference is gone" {
		t.Errorf("%+v", failed)
	}
	if tr, err = newTrack(resource.Address{}, "drift", "v1", failed, 2); err != nil {
		t.Fatal(err)
	}
	if err := tr.add(opinion{state: bad}); err != nil {
		t.Fatal(err)
	}
	if s, err := tr.result(failed, noon); err != nil || s.State != bad || s.Epoch != 1 {
		t.Errorf("an alarm that went on during an error rose again: %+v, %v", s, err)
	}
	if _, err := newTrack(resource.Address{}, "drift", "v1", &state.Signal{Cursor: json.RawMessage("{")}, 1); err == nil {
		t.Error("a damaged cursor was read")
	}
}
