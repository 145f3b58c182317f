package state

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/continuo-ml/continuo/resource"
)

// fullRecord sets every field, found by reflection so that a new one is not forgotten.
func fullRecord(t *testing.T) *Record {
	t.Helper()
	at := resource.Address{Module: "module.m", Kind: "training", Name: "t"}
	r := &Record{
		Address: at, Provider: "local", Phase: resource.PhaseReady, Parts: resource.Parts{"a": "ü\"\\\n", "b": ""},
		Inputs: "sha256:1", Policy: resource.Parts{"timeout": "1m"}, Judge: resource.Parts{"min": "1"}, Rows: map[string]int64{"train": 5},
		Spec: json.RawMessage(`{"a":[1,{"b":"]}"}],"c":"\""}`), Outputs: json.RawMessage(`[]`), Verdict: &resource.Verdict{Passed: true, Message: "m"},
		Ref: json.RawMessage(`"r"`), Deps: []resource.Address{{Kind: "check", Name: "a-b_c"}, {Module: `module.eu`, Kind: "dataset", Name: "d"}},
		Seen: map[string]int64{"monitor.x.drift": 2}, Run: "01", Version: 3, Attempt: 2, FailedInputs: "sha256:2", Message: "<&>",
		Protected: true, Created: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Updated: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
	for v, i := reflect.ValueOf(*r), 0; i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Fatalf("the record's field %s is not set by this test", v.Type().Field(i).Name)
		}
	}
	return r
}

func TestFastFormKnowsEveryField(t *testing.T) {
	r := fullRecord(t)
	raw, err := marshal(storedRecord{Record: r})
	if err != nil {
		t.Fatal(err)
	}
	got := &Record{Address: r.Address}
	c := &scanner{s: string(raw)}
	if err := c.object(func(key string) error {
		err := c.recordField(got, key)
		if err != nil {
			t.Errorf("field %s: %v", key, err)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, got); diff != "" {
		t.Error(diff)
	}
	k := RunKey{ID: "01", Inputs: "i", Phase: "ready", Trigger: true, Version: 2, Started: r.Created, Finished: r.Updated}
	if raw, err = marshal(k); err != nil {
		t.Fatal(err)
	}
	var fast RunKey
	c = &scanner{s: string(raw)}
	if err := c.object(func(key string) error { return c.runKeyField(&fast, key) }); err != nil || fast != k {
		t.Errorf("got %+v, %v", fast, err)
	}
}

func FuzzFastForm(f *testing.F) {
	for _, s := range []string{
		`{"phase":"ready","parts":{"a":"b"},"deps":["check.a","module.m.check.b[\"x\"]"],"version":12,"protected":true}`,
		`{"spec":null,"version":1e3}`, `{"spec":{"a":[1,2,"}"]},"created":"2026-01-02T03:04:05Z"}`, `{ "phase" : "x" }`,
		`{"Phase":"x","phase":"y"}`, `{"message":"\ud800"}`, `{"version":-0}`, `{"parts":null,"deps":null,"seen":null}`, `{"verdict":{"passed":true}}`,
	} {
		f.Add([]byte(s))
	}
	at := resource.Address{Kind: "training", Name: "t"}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := decodeRecord(data, at)
		want := &Record{Address: at}
		werr := json.Unmarshal(data, &storedRecord{Record: want})
		if !json.Valid(data) {
			return // never stored; that it does not panic is all
		}
		if (err != nil) != (werr != nil) || err == nil && !cmp.Equal(got, want) {
			t.Errorf("fast: %v\nencoding/json: %v\n%s", err, werr, cmp.Diff(want, got))
		}
	})
}
