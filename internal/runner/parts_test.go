package runner

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestMetricsAreFiniteNumbersOrTheErrorNamesTheKey(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want Metrics
		err  string
	}{
		"numbers":         {in: `{"accuracy": 0.95, "n": 3}`, want: Metrics{Values: map[string]float64{"accuracy": 0.95, "n": 3}}},
		"an empty object": {in: `{}`, want: Metrics{Values: map[string]float64{}}},
		"slices": {in: `{"a": 1, "slices": {"region": {"north": {"recall": 0.9}}}}`, want: Metrics{
			Values: map[string]float64{"a": 1},
			Slices: map[string]map[string]map[string]float64{"region": {"north": {"recall": 0.9}}},
		}},
		"a key that only looks like NaN":  {in: `{"NaN \" Infinity": 1}`, want: Metrics{Values: map[string]float64{`NaN " Infinity`: 1}}},
		"NaN":                             {in: `{"ok": 1, "loss": NaN}`, err: `"loss" is NaN; a finite number`},
		"infinity":                        {in: `{"loss": Infinity}`, err: `"loss" is Infinity; a finite`},
		"minus infinity in a slice":       {in: `{"slices": {"r": {"n": {"f": -Infinity}}}}`, err: `"slices.r.n.f" is -Infinity; a finite`},
		"a number too large for a float":  {in: `{"loss": 1e999}`, err: `"loss" is 1e999; a finite`},
		"text":                            {in: `{"loss": "0.1"}`, err: `"loss" is the text "0.1"`},
		"true":                            {in: `{"loss": true}`, err: `"loss" is true`},
		"null":                            {in: `{"loss": null}`, err: `"loss" is null`},
		"a list":                          {in: `{"loss": [1]}`, err: `"loss" is a list`},
		"a nested object":                 {in: `{"train": {"loss": 1}}`, err: `"train" is an object`},
		"slices that are no object":       {in: `{"slices": 1}`, err: `"slices" is the number 1; an object`},
		"a slice that is a number":        {in: `{"slices": {"r": {"n": 1}}}`, err: `"slices.r.n" is the number 1`},
		"a key twice":                     {in: `{"a": 1, "a": 2}`, err: `"a" is given twice`},
		"NaN as a key":                    {in: `{NaN: 1}`, err: "has NaN as a key"},
		"an empty key":                    {in: `{"": 1}`, err: "key of 0 bytes"},
		"an empty file":                   {in: " \n", err: "is empty"},
		"a list instead of an object":     {in: `[1]`, err: "the file is a list; an object is needed"},
		"a file that was cut":             {in: `{"a": 1`, err: "not valid JSON at byte"},
		"a second object":                 {in: `{"a": 1} {}`, err: "something follows"},
		"python's repr instead of JSON":   {in: `{'a': 1}`, err: "not valid JSON"},
		"a depth bomb ends at its second": {in: `{"a": ` + strings.Repeat("[", 100000), err: `"a" is a list`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseMetrics([]byte(c.in))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want one with %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestAMissingOrHugeMetricsFileIsAnError(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadMetrics(dir); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "ML_METRICS") {
		t.Errorf("missing: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, metricsFile), bytes.Repeat([]byte(" "), maxMetricsBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadMetrics(dir); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("huge: %v", err)
	}
}

func FuzzParseMetrics(f *testing.F) {
	for _, s := range []string{`{"a":1}`, `{"slices":{"r":{"n":{"f":-Infinity}}}}`, `{"a":NaN,"b\"":"x"}`, "{\"\\", `{"a":1}{`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMetrics(b)
		if err != nil {
			return
		}
		check := func(values map[string]float64) {
			for k, v := range values {
				if math.IsNaN(v) || math.IsInf(v, 0) {
					t.Errorf("%q: %s is %v", b, k, v)
				}
			}
		}
		check(m.Values)
		for _, column := range m.Slices {
			for _, values := range column {
				check(values)
			}
		}
		if !json.Valid(b) {
			t.Errorf("%q is no JSON but was taken", b)
		}
	})
}

func TestProgressIsTheSameHoweverItsBytesArrive(t *testing.T) {
	long := `{"step": 1, "x": "` + strings.Repeat("y", maxProgressLine) + `"}`
	text := "{\"step\": 1, \"of\": 3, \"loss\": 0.5, \"stage\": \"warm\"}\r\n\nnot json\n[1]\nnull\n{\"step\": \"1\"}\n{\"step\": -1}\n" + long + "\n{\"step\": 2}\n{\"step\": 3"
	want := []Progress{{Step: 1, Of: 3, Values: map[string]float64{"loss": 0.5}, Text: map[string]string{"stage": "warm"}}, {Step: 2}}
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		path := filepath.Join(dir, progressFile)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := NewProgressReader(dir)
		if err != nil {
			t.Fatal(err)
		}
		var got []Progress
		on := func(p Progress) { got = append(got, p) }
		cuts := rapid.SliceOfN(rapid.IntRange(0, len(text)), 0, 8).Draw(t, "cuts")
		slices.Sort(cuts)
		for _, end := range append(cuts, len(text)) {
			if err := os.WriteFile(path, []byte(text[:end]), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := r.Next(on); err != nil {
				t.Fatal(err)
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatal(d)
		}
		if err := r.each(true, on); err != nil {
			t.Fatal(err)
		}
		if r.Lines != 9 || r.Malformed != 7 || len(got) != 2 {
			t.Fatalf("%d lines, %d malformed, %d taken", r.Lines, r.Malformed, len(got))
		}
	})
}

func TestAProgressFileWrittenAnewIsReadAnew(t *testing.T) {
	dir := t.TempDir()
	r, err := NewProgressReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []float64
	for _, text := range []string{"", "{\"step\":1}\n{\"step\":2}\n", "{\"step\":7}\n"} {
		if text != "" {
			if err := os.WriteFile(filepath.Join(dir, progressFile), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Next(func(p Progress) { got = append(got, p.Step) }); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff([]float64{1, 2, 7}, got); d != "" {
		t.Error(d)
	}
}

func TestASpecThatCannotRunIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Spec)
		says   string
	}{
		"no command":                      {func(s *Spec) { s.Command = nil }, "command: is empty"},
		"a NUL in an argument":            {func(s *Spec) { s.Command = []string{"a", "b\x00"} }, "argument 1 holds a NUL"},
		"no id":                           {func(s *Spec) { s.ID = "" }, "run id"},
		"an env name with =":              {func(s *Spec) { s.Env = map[string]string{"A=B": "x"} }, `variable "A=B"`},
		"an env name with a line break":   {func(s *Spec) { s.Env = map[string]string{"A\nB": "x"} }, "line break"},
		"an env name with NUL":            {func(s *Spec) { s.ExtraEnv = map[string]string{"A\x00": "x"} }, "extra env"},
		"an empty env name":               {func(s *Spec) { s.Env = map[string]string{"": "x"} }, "empty name"},
		"an env value with NUL":           {func(s *Spec) { s.Env = map[string]string{"A": "\x00"} }, "env A: the value holds a NUL"},
		"an env value of 1 MiB":           {func(s *Spec) { s.Env = map[string]string{"A": strings.Repeat("x", 1<<20)} }, "put it into a file"},
		"env over the contract":           {func(s *Spec) { s.Env = map[string]string{"ML_SEED": "1"} }, "belongs to the runner contract"},
		"env over an input":               {func(s *Spec) { s.Env = map[string]string{"ML_INPUT_X": "1"} }, "belongs to the runner contract"},
		"pass_env with =":                 {func(s *Spec) { s.PassEnv = []string{"A=B"} }, "pass_env"},
		"a broken glob":                   {func(s *Spec) { s.PassEnv = []string{"A["} }, "syntax error in pattern"},
		"two inputs with one variable":    {func(s *Spec) { s.Inputs = map[string]string{"a-b": "x", "a_b": "y"} }, "ML_INPUT_A_B"},
		"two params with one variable":    {func(s *Spec) { s.Params = map[string]any{"a-b": 1, "A_B": 2} }, "ML_PARAM_A_B"},
		"a param that is NaN":             {func(s *Spec) { s.Params = map[string]any{"x": math.NaN()} }, `parameter "x": cannot be written as JSON`},
		"a param of 1 MiB":                {func(s *Spec) { s.Params = map[string]any{"x": strings.Repeat("x", 1<<20)} }, "make it an input"},
		"a negative timeout":              {func(s *Spec) { s.Timeout = -1 }, "timeout"},
		"too many processes":              {func(s *Spec) { s.Processes = 1 << 20 }, "processes"},
		"a model both written and read":   {func(s *Spec) { s.NeedModel, s.ModelReadOnly = true, true }, "both written"},
		"a read-only model without a dir": {func(s *Spec) { s.ModelReadOnly = true }, "no folder is given"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "r")
			s := Spec{ID: "r", Command: []string{"true"}, Dir: "."}
			c.change(&s)
			if err := Start(context.Background(), dir, s); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want one with %q", err, c.says)
			}
			if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the run folder is there: %v", err)
			}
		})
	}
}

func TestPassEnvTakesNamesAndGlobsButPreloadsOnlyByName(t *testing.T) {
	environ := []string{"LD_PRELOAD=evil.so", "LD_LIBRARY_PATH=/l", "ML_RUN_ID=outer", "HOME=/h", "X=1", "XY=2=3", "=odd", "bare", "LC_ALL=C"}
	for name, c := range map[string]struct {
		pass []string
		want map[string]string
	}{
		"nothing named":             {nil, map[string]string{}},
		"a name":                    {[]string{"X"}, map[string]string{"X": "1"}},
		"a glob":                    {[]string{"X*"}, map[string]string{"X": "1", "XY": "2=3"}},
		"a glob spares the preload": {[]string{"LD_*"}, map[string]string{"LD_LIBRARY_PATH": "/l"}},
		"everything still does":     {[]string{"*"}, map[string]string{"LD_LIBRARY_PATH": "/l", "X": "1", "XY": "2=3"}},
		"the preload by its name":   {[]string{"LD_PRELOAD"}, map[string]string{"LD_PRELOAD": "evil.so"}},
		"an outer run's id is not":  {[]string{"ML_RUN_ID"}, map[string]string{}},
	} {
		want := map[string]string{"HOME": "/h", "LC_ALL": "C", "PATH": defaultPath}
		for k, v := range c.want {
			want[k] = v
		}
		s := Spec{PassEnv: c.pass}
		if d := cmp.Diff(want, s.userEnv(environ)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestTailReadsTheLastLines(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		log  string
		n    int
		want []string
	}{
		{"", 3, nil},
		{"a\nb\nc\n", 2, []string{"b", "c"}},
		{"a\nb\nunfinished", 2, []string{"b", "unfinished"}},
		{"a\n", 5, []string{"a"}},
		{"a\n", 0, nil},
	} {
		if err := os.WriteFile(LogPath(dir, 0), []byte(c.log), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Tail(dir, c.n)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%q: %s", c.log, d)
		}
	}
	if got, err := Tail(filepath.Join(dir, "none"), 1); err != nil || got != nil {
		t.Errorf("%v %v", got, err)
	}
}

func TestALogIsCutInTheMiddleAndAWriterGoesOnAtItsEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	const limit = 4096
	var cut int64
	for i := range 1000 {
		if _, err := w.WriteString(strings.Repeat("x", 9) + string(rune('0'+i%10)) + "\n"); err != nil {
			t.Fatal(err)
		}
		if i%300 == 299 {
			if cut, err = trimLog(path, limit, cut); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := w.WriteString("the end\n"); err != nil {
		t.Fatal(err)
	}
	cut, err = trimLog(path, limit, cut)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	log := string(b)
	if len(log) > limit || !strings.HasPrefix(log, "xxxxxxxxx0\nxxxxxxxxx1\n") || !strings.HasSuffix(log, "\nthe end\n") {
		t.Errorf("%d bytes: %q … %q", len(log), log[:40], log[len(log)-40:])
	}
	if n := strings.Count(log, "[ml: the log outgrew 4096 bytes;"); n != 1 {
		t.Errorf("%d marks", n)
	}
	const written = 1000*11 + len("the end\n")
	if missing := int64(written - len(log)); cut < missing-100 || cut > missing+200 {
		t.Errorf("%d bytes cut, but %d are missing", cut, missing)
	}
}

func TestClippingKeepsValidText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := string(rapid.SliceOf(rapid.Byte()).Draw(t, "s"))
		n := rapid.IntRange(0, 10).Draw(t, "n")
		got := clip(s, n)
		if got != strings.ToValidUTF8(got, "") || len(got) > n+len(" …") {
			t.Fatalf("%q", got)
		}
	})
}

func TestADamagedOutcomeIsAnErrorAndNotAGuess(t *testing.T) {
	for _, text := range []string{"", "{", `{"phase":"running"}`, `{"phase":"lost"}`, `{}`} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, statusFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if st, err := Read(dir); err == nil || !strings.Contains(err.Error(), statusFile) {
			t.Errorf("%q: %+v %v", text, st, err)
		}
	}
}

func TestAFolderWithoutARunIsAbsent(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	if st, err := Read(dir); err != nil || st.Phase != Absent || st.Phase.Over() {
		t.Errorf("%+v %v", st, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := Wait(ctx, dir, nil); err == nil || !strings.Contains(err.Error(), "no run") {
		t.Errorf("wait: %v", err)
	}
}
