package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
	"github.com/continuo-ml/continuo/state/bolt"
)

// cmdJSON is `json FILE PATH [VALUE]`: the value at a path such as
// steps[0].reasons[0].code is there, and is VALUE as text. With `!` it is not.
func cmdJSON(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: [!] json FILE PATH [VALUE]")
	}
	v, ok := at(decoded(ts, args[0]), args[1])
	got := text(v)
	switch {
	case len(args) == 2 && ok == neg:
		ts.Fatalf("%s: there is %v", args[1], ok)
	case len(args) == 3 && !neg && (!ok || got != args[2]):
		ts.Fatalf("%s is %s, want %s", args[1], got, args[2])
	case len(args) == 3 && neg && ok && got == args[2]:
		ts.Fatalf("%s is %s", args[1], got)
	}
}

// cmdKeys is `keys FILE PATH KEY…`: the object at PATH ("." is the whole) has
// exactly these keys; a key ending in ? may be missing.
func cmdKeys(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: keys FILE PATH KEY…")
	}
	v, _ := at(decoded(ts, args[0]), args[1])
	m, ok := v.(map[string]any)
	if !ok {
		ts.Fatalf("%s is no object: %s", args[1], text(v))
	}
	for _, want := range args[2:] {
		name, maybe := strings.CutSuffix(want, "?")
		if _, ok := m[name]; !ok && !maybe {
			ts.Fatalf("%s has no %q: %s", args[1], name, text(v))
		}
	}
	for k := range m {
		if !slices.Contains(args[2:], k) && !slices.Contains(args[2:], k+"?") {
			ts.Fatalf("%s has a key %q that nobody documented", args[1], k)
		}
	}
}

// cmdEvents is `events FILE TYPE…`: every line is an event with time, type and
// message, its type is one of the documented ones, and each TYPE occurs.
func cmdEvents(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: events FILE TYPE…")
	}
	known := []string{"step_start", "progress", "log", "step_done", "diagnostic", "summary"}
	seen := map[string]bool{}
	for i, line := range strings.Split(strings.TrimSpace(ts.ReadFile(args[0])), "\n") {
		var ev struct {
			Time    time.Time
			Type    string
			Message *string
		}
		if err := json.Unmarshal([]byte(line), &ev); err != nil {
			ts.Fatalf("line %d is no event: %v: %s", i+1, err, line)
		}
		if ev.Time.IsZero() || !slices.Contains(known, ev.Type) {
			ts.Fatalf("line %d has no time or no known type: %s", i+1, line)
		}
		seen[ev.Type] = true
	}
	for _, want := range args[1:] {
		if !seen[want] {
			ts.Fatalf("there is no %s event", want)
		}
	}
}

// cmdLast is `last FILE PATH VALUE`: like json, for the last line of FILE.
func cmdLast(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: last FILE PATH VALUE")
	}
	lines := strings.Split(strings.TrimSpace(ts.ReadFile(args[0])), "\n")
	var v any
	ts.Check(json.Unmarshal([]byte(lines[len(lines)-1]), &v))
	if got, _ := at(v, args[1]); text(got) != args[2] {
		ts.Fatalf("%s is %s, want %s", args[1], text(got), args[2])
	}
}

// cmdAbsent is `absent WORD PATH…`: no file at or below the paths holds the
// word, plain or in base64 or hex; stdout and stderr are the last command's.
func cmdAbsent(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: [!] absent WORD PATH…")
	}
	forms := [][]byte{[]byte(args[0]), []byte(hex.EncodeToString([]byte(args[0])))}
	for shift := range 3 { // the three ways in which base64 may fall on the word
		enc := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + args[0]))
		forms = append(forms, []byte(enc[2*shift:len(enc)-3]))
	}
	read := 0
	where := ""
	look := func(name string, raw []byte) {
		read++
		for _, f := range forms {
			if bytes.Contains(raw, f) {
				where = name
			}
		}
	}
	for _, p := range args[1:] {
		if p == "stdout" || p == "stderr" {
			look(p, []byte(ts.ReadFile(p)))
			continue
		}
		ts.Check(filepath.WalkDir(ts.MkAbs(p), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			raw, err := os.ReadFile(path)
			look(path, raw)
			return err
		}))
	}
	if read == 0 {
		ts.Fatalf("nothing was read")
	}
	if (where != "") != neg {
		ts.Fatalf("found in %q", where)
	}
}

// cmdDamage is `damage FILE WORD`: the first byte of each WORD in the file
// becomes another.
func cmdDamage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: damage FILE WORD")
	}
	path := ts.MkAbs(args[0])
	raw, err := os.ReadFile(path)
	ts.Check(err)
	to := []byte(args[1])
	to[0] ^= 1
	changed := bytes.ReplaceAll(raw, []byte(args[1]), to)
	if bytes.Equal(raw, changed) {
		ts.Fatalf("%s does not hold %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(path, changed, 0o600))
}

// cmdStuck is `stuck ADDR PROVIDER`: a run at ADDR is open in the journal, which
// a provider started that is configured no more.
func cmdStuck(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: stuck ADDR PROVIDER")
	}
	addr, err := resource.ParseAddress(args[0])
	ts.Check(err)
	store := bolt.Open(ts.MkAbs(".ml/state.db"), bolt.Options{})
	epoch, release, err := store.Acquire(context.Background(), "test")
	ts.Check(err)
	_, err = store.Commit(context.Background(), 0, state.Op{PutIntent: &state.Intent{
		OpID: "01STUCK", Address: addr, Provider: args[1], Action: resource.RunIt, Spec: []byte(`{"command":["true"]}`), Epoch: epoch, Started: time.Now(),
	}})
	ts.Check(errors.Join(err, release()))
}

// cmdWaiting is `waiting NAME`: the id of the newest plan that waits becomes $NAME.
func cmdWaiting(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waiting NAME")
	}
	paths, err := filepath.Glob(ts.MkAbs(".ml/plans/*.plan"))
	ts.Check(err)
	newest, id := time.Time{}, ""
	for _, p := range paths {
		st, err := os.Stat(p)
		ts.Check(err)
		if st.ModTime().After(newest) {
			newest, id = st.ModTime(), strings.TrimSuffix(filepath.Base(p), ".plan")
		}
	}
	if id == "" {
		ts.Fatalf("no plan waits")
	}
	ts.Setenv(args[0], id)
}

// cmdUntil is `until FILE`: wait until the file is there; or `until URL WORD`:
// until the answer holds the word.
func cmdUntil(ts *testscript.TestScript, neg bool, args []string) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(30 * time.Second)
	for {
		if neg != there(ts, args) {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			ts.Fatalf("waited 30s for %s", strings.Join(args, " "))
		}
	}
}

func there(ts *testscript.TestScript, args []string) bool {
	if len(args) == 1 {
		_, err := os.Stat(ts.MkAbs(args[0]))
		return err == nil
	}
	resp, err := http.Get(args[0])
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	_, err = body.ReadFrom(resp.Body)
	return err == nil && strings.Contains(body.String(), args[1])
}

func decoded(ts *testscript.TestScript, file string) any {
	var v any
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile(file)))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		ts.Fatalf("%s is no JSON: %v", file, err)
	}
	if dec.More() {
		ts.Fatalf("%s holds more than one document", file)
	}
	return v
}

// at finds a value by a path such as a.b[2].c; "." is the whole, and [k=v]
// picks the first element whose k is v.
func at(v any, path string) (any, bool) {
	if path == "." {
		return v, true
	}
	for _, part := range strings.FieldsFunc(strings.ReplaceAll(path, "[", "\x00["), func(r rune) bool { return r == '\x00' }) {
		if sel, ok := strings.CutPrefix(part, "["); ok {
			sel, rest, _ := strings.Cut(sel, "]")
			list, _ := v.([]any)
			if v, ok = pick(list, sel); !ok {
				return nil, false
			}
			part = strings.TrimPrefix(rest, ".")
		}
		for _, k := range strings.FieldsFunc(part, func(r rune) bool { return r == '.' }) {
			m, _ := v.(map[string]any)
			var ok bool
			if v, ok = m[k]; !ok {
				return nil, false
			}
		}
	}
	return v, true
}

func pick(list []any, sel string) (any, bool) {
	if n, err := strconv.Atoi(sel); err == nil {
		if n >= len(list) {
			return nil, false
		}
		return list[n], true
	}
	k, want, _ := strings.Cut(sel, "=")
	for _, e := range list {
		if m, ok := e.(map[string]any); ok && text(m[k]) == want {
			return e, true
		}
	}
	return nil, false
}

// text is a string as it is, and anything else as JSON.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case map[string]any:
		names := make([]string, 0, len(v))
		for k := range v {
			names = append(names, k)
		}
		sort.Strings(names)
		return fmt.Sprint("object of ", names)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(raw)
}
