package serving

import (
	"strings"
	"testing"

	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/resource"
)

func TestAMessageIsOneLineWithTheLastWordOfTheServer(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]string{
		"ready": "ready",
		"version 2: server ended (exit status 1), without output":                                                  "version 2: server ended (exit status 1), without output",
		"version 2: server ended (exit status 1); its last lines:\nTraceback:\n  File x\nImportError: sklearn\n\n": "version 2: server ended (exit status 1): ImportError: sklearn",
		"ended; its last lines:\n" + strings.Repeat("ä", 200):                                                      "ended: " + strings.Repeat("ä", 80) + "…",
	} {
		if got := Brief(message); got != want {
			t.Errorf("%q is %q, want %q", message, got, want)
		}
	}
}

func TestAHeldRolloutSaysWhatItWaitsForAndWhatToDo(t *testing.T) {
	t.Parallel()
	addr := resource.Address{Kind: "deployment", Name: "t", Key: `["eu"]`}
	live := gateway.Live{Message: "version 2: shadow: 9 answers compared, 1 differed", Current: gateway.Version{Number: 1}}
	if got, want := Held(addr, live), live.Message+"; waits for traffic"; got != want {
		t.Errorf("a canary: %q, want %q", got, want)
	}
	live.Shadow = &gateway.Comparison{Examples: []gateway.Difference{{ID: "a1", Where: "$.predictions[0]", Current: "1", Candidate: "2"}}}
	want := live.Message + ", such as $.predictions[0] of request a1: 1 became 2; waits for a decision: " +
		"strategy = \"rolling\" takes it, `ml rollback 'deployment.t[\"eu\"]' -to 1` takes it back"
	if got := Held(addr, live); got != want {
		t.Errorf("a shadow: %q, want %q", got, want)
	}
}
