package windows

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

func window(signal string, n int) state.Window {
	return state.Window{Signal: signal, State: resource.SignalGood, Message: fmt.Sprint(n), Evidence: json.RawMessage(`{"n":1}`)}
}

func TestTheNewestWindowsAreKeptAndTheFileStaysSmall(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	a := resource.Address{Kind: "monitor", Name: "m"}
	if got, err := Read(dir, a, "drift"); err != nil || got != nil {
		t.Fatalf("before there is any: %v, %v", got, err)
	}
	for n := range 5*Keeps + 7 {
		if err := Append(dir, a, []state.Window{window("drift", n), window("latency", n)}); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(path(dir, a, "drift"))
		if err != nil {
			t.Fatal(err)
		}
		if lines := strings.Count(string(raw), "\n"); lines > 2*Keeps {
			t.Fatalf("%d lines after %d windows", lines, n+1)
		}
	}
	got, err := Read(dir, a, "drift")
	if err != nil || len(got) != Keeps {
		t.Fatalf("%d windows, %v", len(got), err)
	}
	for i, w := range got {
		if want := fmt.Sprint(4*Keeps + 7 + i); w.Message != want || w.Signal != "drift" {
			t.Fatalf("window %d is %+v, want %s", i, w, want)
		}
	}
}

func TestALineThatACrashCutOffCostsThatLine(t *testing.T) {
	dir := t.TempDir()
	a := resource.Address{Kind: "monitor", Name: "m"}
	for _, text := range []string{`{"signal":"drift","message":"0"}` + "\n", `{"signal":"dri`} {
		if err := add(path(dir, a, "drift"), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := Append(dir, a, []state.Window{window("drift", 1)}); err != nil {
		t.Fatal(err)
	}
	got, err := Read(dir, a, "drift")
	if err != nil || len(got) != 2 || got[0].Message != "0" || got[1].Message != "1" {
		t.Fatalf("%+v, %v", got, err)
	}
}

func TestEvidenceThatIsTooLargeIsLeftOut(t *testing.T) {
	dir := t.TempDir()
	a := resource.Address{Kind: "monitor", Name: "m"}
	w := window("drift", 1)
	w.Evidence = json.RawMessage(`"` + strings.Repeat("x", maxLine) + `"`)
	if err := Append(dir, a, []state.Window{w}); err != nil {
		t.Fatal(err)
	}
	got, err := Read(dir, a, "drift")
	if err != nil || len(got) != 1 || got[0].Evidence != nil || !strings.Contains(got[0].Message, "too large") {
		t.Fatalf("%+v, %v", got, err)
	}
}
