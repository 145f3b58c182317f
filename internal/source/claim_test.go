package source

import (
	"strings"
	"testing"
)

func TestAClaimsAddressIsTakenApart(t *testing.T) {
	for source, want := range map[string]Claim{
		"pvc://data/wdbc.csv":     {"data", "wdbc.csv"},
		"pvc://data/a/b/*.csv":    {"data", "a/b/*.csv"},
		"pvc://data/folder/":      {"data", "folder"},
		"pvc://data":              {"data", "."},
		"pvc://data/":             {"data", "."},
		"pvc://my.data-1/a/**/b*": {"my.data-1", "a/**/b*"},
	} {
		got, err := ParseClaim(source)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", source, got, err)
		}
		if !IsClaim(source) || !Remote(source) {
			t.Errorf("%s is taken for a path", source)
		}
	}
	if n := Name("pvc://data/a/wdbc.csv"); n != "wdbc.csv" {
		t.Errorf("a file on a claim is called %q", n)
	}
}

func TestWhatIsNoClaimsAddressSaysHowToWriteOne(t *testing.T) {
	for source, why := range map[string]string{
		"pvc://":              `"" is no name of a claim`,
		"pvc:///x":            `"" is no name of a claim`,
		"pvc://Data/x":        "no name of a claim",
		"pvc://a_b/x":         "no name of a claim",
		"pvc://data/../x":     "no clean path",
		"pvc://data//x":       "no clean path",
		"pvc://data/x?y=1":    "no options",
		"pvc://user@claim/x":  "no name of a claim",
		"s3://bucket/wdbc":    "on no claim",
		"pvc://data/x\ny":     "control characters",
		"pvc://data/a/./b":    "no clean path",
		"pvc://data/a/b/../c": "no clean path",
	} {
		c, err := ParseClaim(source)
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %+v, %v, want %q", source, c, err, why)
		}
	}
}
