package report

import "testing"

func TestValuesAreShownByWhatTellsThemApart(t *testing.T) {
	for raw, want := range map[string]string{
		`{"address":"deployment.m","version":null,"endpoint":null}`: "deployment.m",
		`{"address":"deployment.m","version":3}`:                    `{ address = "deployment.m", version = 3 }`,
		`{"digest":"sha256:` + hex64 + `","version":3}`:             "version 3, sha256:0123456…",
		`{"digest":"sha256:` + hex64 + `","rows":1}`:                "sha256:0123456… (1 row)",
	} {
		if got := valueText([]byte(raw)); got != want {
			t.Errorf("%s: %s, want %s", raw, got, want)
		}
	}
}

const hex64 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
