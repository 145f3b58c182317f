package runs

import "testing"

func TestATrialOfAServiceIsNamedByItsOwnPart(t *testing.T) {
	for name, want := range map[string]string{"training-x-op-tuning-g5tt75hp": "g5tt75hp", "alone": "alone"} {
		if got := (Candidate{Name: name}).short(); got != want {
			t.Errorf("%s is told as %q, want %q", name, got, want)
		}
	}
}
