package planner_test

import "testing"

func TestOnlyWhatRunsTakesAsLongAsTheRunsBefore(t *testing.T) {
	for name, c := range map[string]struct {
		files string
		now   func(*world)
		takes bool
	}{
		"a run":                        {now: func(w *world) { w.sources["training.m"] = "y" }, takes: true},
		"a policy that is noted":       {files: with(`["train"]`, "[\"train\"]\n  timeout = \"1h\"")},
		"an earlier result taken over": {now: func(w *world) { w.sources["training.m"] = "" }},
	} {
		w := newWorld(t, project)
		w.apply()
		w.sources["training.m"] = "x"
		w.apply()
		if c.files != "" {
			w.files(c.files)
		}
		if c.now != nil {
			c.now(w)
		}
		st := w.build().Steps[0]
		if st.Address.String() != "training.m" || (st.Exec.Estimate > 0) != c.takes {
			t.Errorf("%s: %s is estimated to take %v s", name, st.Address, st.Exec.Estimate)
		}
	}
}
