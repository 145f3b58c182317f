package pods

import (
	"strings"
	"testing"

	"github.com/continuo-ml/continuo/resource"
)

func TestNamesAreTheRunsOwnAndFitTheirPlaces(t *testing.T) {
	addr := func(name, key string) resource.Address {
		a := resource.Address{Kind: "training", Name: name}
		if key != "" {
			a.Key = resource.StringKey(key)
		}
		return a
	}
	const room = 52 // what a Job has
	const id = "01M8B83ETY7V7474KQJGA2GVGZ"
	seen := map[string]string{}
	for _, test := range []struct{ run, name, key string }{
		{id, "churn", ""}, {id + ".smoke", "churn", ""}, {id + ".trial-001", "churn", ""}, {id, "a_very_long_name_of_a_training_of_all_things", ""},
		{id, "churn", "Größe XL"}, {strings.Repeat("x", 100), "churn", ""}, {"odd id/../x", "churn", ""},
	} {
		got := objectName(addr(test.name, test.key), test.run, room)
		if len(got) > room || !nameLike.MatchString(got) {
			t.Errorf("%v: %q is no name of an object", test, got)
		}
		if other, ok := seen[got]; ok {
			t.Errorf("%v and %s are both %s", test, other, got)
		}
		seen[got] = test.run + test.name + test.key
		if again := objectName(addr(test.name, test.key), test.run, room); again != got {
			t.Errorf("%s, and then %s", got, again)
		}
	}
	if got := objectName(addr("churn", ""), id, room); got != "training-churn-01m8b83ety7v7474kqjga2gvgz" {
		t.Errorf("%s", got)
	}
	for text, want := range map[string]string{"training.churn": "training.churn", "": ""} {
		if got := LabelValue(text); got != want {
			t.Errorf("%q becomes %q", text, got)
		}
	}
	for _, odd := range []string{`training.churn["de"]`, strings.Repeat("a", 64), "-x"} {
		if got := LabelValue(odd); len(got) > maxLabel || !labelLike.MatchString(got) {
			t.Errorf("%q becomes %q", odd, got)
		}
	}
}
