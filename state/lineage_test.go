package state

import (
	"encoding/json"
	"testing"
)

func TestDataIsFoundWhereverABodyNamesIt(t *testing.T) {
	const d = `{"address":"dataset.d","digest":"sha256:1","name":"train","path":".ml/data/1/d.csv","rows":3}`
	for spec, want := range map[string]string{
		``:                "null",
		`{"inputs":null}`: "null",
		`{"inputs":{"b":` + d + `,"a":{"x":[1,` + d + `]}},"params":{"path":"p","rows":2}}`: "[" + d + "," + d + "]",
		// A model has a digest, and no path and rows; data that is not known yet has no digest.
		`{"model":{"address":"training.t","digest":"sha256:2","name":"t","uri":"u"}}`: "null",
		`{"in":{"address":"dataset.d","digest":null,"name":"","path":null,"rows":0}}`: "null",
	} {
		got, err := DataIn(json.RawMessage(spec))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(got)
		if err != nil || string(raw) != want {
			t.Errorf("%s:\n%s, %v\nwant %s", spec, raw, err, want)
		}
	}
	if _, err := DataIn(json.RawMessage(`{`)); err == nil {
		t.Error("a body that is no JSON is taken")
	}
}
