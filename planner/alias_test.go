package planner_test

import (
	"strings"
	"testing"
)

func TestAProviderConfigurationThatARecordNeedsCannotBeRemoved(t *testing.T) {
	const block = "provider \"pods\" {\n alias = \"eu\"\n}\n"
	const check = "check \"c\" {\n command = [\"true\"]\n provider = \"pods.eu\"\n}\n"
	w := newWorld(t, block+check)
	w.apply()
	for name, files := range map[string]string{
		"with the block that it served":            "check \"d\" { command = [\"true\"] }",
		"while the block is served by another one": strings.Replace(check, "pods.eu", "pods", 1),
	} {
		w.files(files)
		p := w.build()
		if len(p.Diagnostics) != 1 || p.Diagnostics[0].Severity != "error" || !strings.Contains(p.Diagnostics[0].Detail, `alias "eu" any more, but what it made is still there: check.c`) {
			t.Errorf("%s: %+v", name, p.Diagnostics)
		}
	}
	w.files(block + strings.Replace(check, "pods.eu", "pods", 1))
	if p := w.build(); len(p.Diagnostics) != 0 {
		t.Errorf("as long as it is there: %+v", p.Diagnostics)
	}
}
