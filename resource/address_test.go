package resource

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestAddressesReadAsTheyAreWritten(t *testing.T) {
	for text, want := range map[string]Address{
		"training.churn":                     {Kind: "training", Name: "churn"},
		`training.churn["de"]`:               {Kind: "training", Name: "churn", Key: `["de"]`},
		"check.unit[0]":                      {Kind: "check", Name: "unit", Key: "[0]"},
		`module.eu.training.churn["a.b[0]"]`: {Module: "module.eu", Kind: "training", Name: "churn", Key: `["a.b[0]"]`},
		`module.a["x"].module.b.dataset.d`:   {Module: `module.a["x"].module.b`, Kind: "dataset", Name: "d"},
		`dataset.d["quote\"inside"]`:         {Kind: "dataset", Name: "d", Key: `["quote\"inside"]`},
		"batch_inference.daily":              {Kind: "batch_inference", Name: "daily"},
	} {
		got, err := ParseAddress(text)
		if err != nil || got != want {
			t.Errorf("%s: got %#v, %v", text, got, err)
		}
		if got.String() != text {
			t.Errorf("%s: written again as %s", text, got)
		}
	}
}

func TestWhatIsNoAddressSaysWhatOneLooksLike(t *testing.T) {
	for _, text := range []string{"", "training", "a.b.c", "Training.x", "training.", ".x", `training.x[`, `training.x["a]`, "training.x[-1]", "training.x[a]", "module.eu", "module.eu.training", "training.x]", "../../x.y", "training.x y"} {
		_, err := ParseAddress(text)
		if err == nil || !strings.Contains(err.Error(), "an address looks like") {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

func TestAddressesSortByModuleKindNameAndNumber(t *testing.T) {
	in := []string{"check.a", `check.a["b"]`, "check.b[2]", "check.b[10]", "dataset.a", "module.x.check.a"}
	for i, x := range in {
		for j, y := range in {
			a, err := ParseAddress(x)
			if err != nil {
				t.Fatal(err)
			}
			b, err := ParseAddress(y)
			if err != nil {
				t.Fatal(err)
			}
			if got := sign(a.Compare(b)); got != sign(i-j) {
				t.Errorf("%s against %s: %d", x, y, got)
			}
		}
	}
}

func sign(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}

func TestSlugsAreSafeAndDiffer(t *testing.T) {
	seen := map[string]string{}
	for _, text := range []string{"training.a_b", `training.a["x"]`, `training.a["X"]`, `training.a["../../etc"]`, `training.a["ä"]`, `training.a["` + strings.Repeat("k", 300) + `"]`, "training.a[0]", "module.m.training.a"} {
		a, err := ParseAddress(text)
		if err != nil {
			t.Fatal(err)
		}
		slug := a.Slug()
		if strings.ContainsAny(slug, "/\\ \"[]") || strings.Contains(slug, "..") || len(slug) > 120 || slug == "" {
			t.Errorf("%s has the slug %q", text, slug)
		}
		if other, dup := seen[slug]; dup {
			t.Errorf("%s and %s share the slug %q", text, other, slug)
		}
		seen[slug] = text
	}
}

func TestAddressesStandInJSONAsText(t *testing.T) {
	in := map[Address][]Address{{Kind: "training", Name: "x", Key: `["a"]`}: {{Kind: "dataset", Name: "d"}}}
	raw, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"training.x[\"a\"]":["dataset.d"]}`; string(raw) != want {
		t.Fatalf("got %s, want %s", raw, want)
	}
	var out map[Address][]Address
	if err := json.Unmarshal(raw, &out); err != nil || len(out) != 1 {
		t.Fatalf("read back: %v, %v", out, err)
	}
	if err := json.Unmarshal([]byte(`{"nonsense":[]}`), &out); err == nil {
		t.Fatal("nonsense was read as an address")
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"training.churn", `module.eu["a"].training.churn["de"]`, "check.unit[0]", `a.b["\x00"]`, "[[["} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err != nil {
			return
		}
		again, err := ParseAddress(a.String())
		if err != nil || again != a {
			t.Fatalf("%q reads as %#v, whose text %q reads as %#v, %v", s, a, a.String(), again, err)
		}
	})
}

func TestATextLosesTheAddressAtItsStartAndNothingElse(t *testing.T) {
	a := Address{Kind: "training", Name: "t"}
	for text, want := range map[string]string{
		"training.t: exit code 3":    "exit code 3",
		"training.t was lost":        "was lost",
		"training.tumors: no model":  "training.tumors: no model",
		"training.t":                 "training.t",
		"it needs training.t: later": "it needs training.t: later",
	} {
		if got := a.Trim(text); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}

func TestAnAddressIsQuotedForAShellWhereItMustBe(t *testing.T) {
	for text, want := range map[string]string{
		"training.t":                       "training.t",
		`training.t["de"]`:                 `'training.t["de"]'`,
		"check.unit[0]":                    "'check.unit[0]'",
		`module.eu["it's"].training.churn`: `'module.eu["it'\''s"].training.churn'`,
	} {
		a, err := ParseAddress(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.Arg(); got != want {
			t.Errorf("%s: %s", text, got)
		}
	}
}
