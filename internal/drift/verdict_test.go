package drift

import "testing"

func TestConfirmAsksForConsecutiveBadWindows(t *testing.T) {
	tests := []struct {
		name    string
		history []Verdict
		latest  Verdict
		need    int
		want    Verdict
	}{
		{"one bad window is enough for one", nil, Bad, 1, Bad},
		{"zero asked means one", nil, Bad, 0, Bad},
		{"the first bad window of two says too few", nil, Bad, 2, TooFew},
		{"the first bad window after a good one stays good", []Verdict{Good}, Bad, 2, Good},
		{"the second in a row is bad", []Verdict{Good, Bad}, Bad, 2, Bad},
		{"a good window between starts anew", []Verdict{Bad, Good}, Bad, 2, Good},
		{"two of three is not three", []Verdict{Good, Bad}, Bad, 3, Good},
		{"an outage between neither counts nor breaks", []Verdict{Bad, NoData, Failed, TooFew}, Bad, 2, Bad},
		{"an outage does not count", []Verdict{NoData, Failed}, Bad, 2, TooFew},
		{"a good window clears at once", []Verdict{Bad, Bad, Bad}, Good, 3, Good},
		{"an error stays an error", []Verdict{Bad, Bad}, Failed, 2, Failed},
		{"no data stays no data", []Verdict{Good}, NoData, 2, NoData},
		{"too few stays too few", []Verdict{Bad}, TooFew, 1, TooFew},
	}
	for _, test := range tests {
		if got := Confirm(test.history, test.latest, test.need); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}
