package planner_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/continuo-ml/continuo/resource"
)

// The nested blocks of two providers that exist for tests only.
type (
	podRun struct {
		Runtime string `ml:"runtime,input" doc:"What a run depends on."`
		Queue   string `ml:"queue,policy" doc:"Where it waits."`
	}
	podServer struct {
		Class string `ml:"class,immutable" doc:"Cannot be changed in place."`
		Scale int    `ml:"scale,default=1" doc:"Can be."`
		Note  string `ml:"note,policy" doc:"Nothing is done for it."`
		Token string `ml:"token,sensitive" doc:"Secret."`
		Tier  *tier  `ml:"tier,block" doc:"A block inside."`
	}
	tier struct {
		Level int `ml:"level" doc:"How high."`
	}
	gridRun struct {
		Cells int `ml:"cells,input" doc:"What a run depends on."`
	}
)

func nestedSchemas(t testing.TB, run, server any) map[string]*resource.Schema {
	t.Helper()
	out := map[string]*resource.Schema{}
	for kind, v := range map[string]any{"training": run, "deployment": server} {
		if v == nil {
			continue
		}
		s, err := resource.SchemaOf(v)
		if err != nil {
			t.Fatal(err)
		}
		out[kind] = s
	}
	return out
}

// nested is a training and a deployment with what stands in them.
func nested(provider, inTraining, inDeployment string) string {
	return `
training "m" {
  provider = "` + provider + `"
  command  = ["train"]
  ` + inTraining + `
}
deployment "m" {
  provider = "` + provider + `"
  model    = training.m.model
  command  = ["serve"]
  ` + inDeployment + `
}
`
}

func TestANestedProviderBlockIsPartOfWhatIsCompared(t *testing.T) {
	const run, serve = "pods {\n runtime = \"a\"\n queue = \"q\"\n }\n", "pods {\n class = \"a\"\n scale = 2\n }\n"
	for name, c := range map[string]struct {
		before, then string
		want         []string
	}{
		"nothing moved": {nested("pods", run, serve), nested("pods", run, serve), []string{}},
		"an input of a run": {
			nested("pods", run, serve), nested("pods", strings.Replace(run, `"a"`, `"b"`, 1), serve),
			[]string{"run training.m config_changed", "update deployment.m upstream_changed"},
		},
		"policy of a run":       {nested("pods", run, serve), nested("pods", strings.Replace(run, `"q"`, `"z"`, 1), serve), []string{"update training.m config_changed"}},
		"a setting of a server": {nested("pods", run, serve), nested("pods", run, strings.Replace(serve, "2", "3", 1)), []string{"update deployment.m config_changed"}},
		"an immutable one":      {nested("pods", run, serve), nested("pods", run, strings.Replace(serve, `"a"`, `"b"`, 1)), []string{"replace deployment.m config_changed,immutable"}},
		"a block inside":        {nested("pods", run, serve), nested("pods", run, strings.Replace(serve, "scale", "tier { level = 1 }\n scale", 1)), []string{"update deployment.m config_changed"}},
		"policy of a server":    {nested("pods", run, serve), nested("pods", run, strings.Replace(serve, "scale", "note = \"n\"\n scale", 1)), []string{"update deployment.m config_changed"}},
		"a block that is new":   {nested("pods", "", ""), nested("pods", run, ""), []string{"run training.m config_changed", "update deployment.m upstream_changed"}},
		"a block that is gone, with what cannot be changed in place": {nested("pods", run, serve), nested("pods", run, ""), []string{"replace deployment.m config_changed,config_changed,immutable"}},
		"another provider's block stands beside it":                  {nested("pods", run, serve), nested("pods", run+"grid { cells = 4 }", serve), []string{}},
		"a run that another provider serves now runs for neither block": {
			nested("pods", run, "provider_note_off"), nested("grid", run+"grid { cells = 4 }", "provider_note_off"), []string{"update training.m config_changed", "replace deployment.m immutable"}, // its queue is noted
		},
	} {
		t.Run(name, func(t *testing.T) {
			off := func(s string) string { return strings.ReplaceAll(s, "provider_note_off", "") }
			w := newWorld(t, off(c.before))
			w.apply()
			if c.want != nil && len(lines(w.build())) > 0 {
				t.Fatalf("planned again: %v", lines(w.build()))
			}
			w.files(off(c.then))
			p := w.build()
			if diff := cmp.Diff(c.want, lines(p)); diff != "" {
				t.Fatalf("plan (-want +got):\n%s", diff)
			}
			w.apply()
			if strings.Contains(name, "another provider serves") {
				return // the run's record stays the old provider's until it runs again
			}
			if got := lines(w.build()); len(got) > 0 {
				t.Fatalf("planned again: %v", got)
			}
		})
	}
}

func TestANestedSecretIsKeptAsAHash(t *testing.T) {
	w := newWorld(t, nested("pods", "", "pods { token = \"hunter2swordfish\" }"))
	first := w.build()
	w.apply()
	w.files(nested("pods", "", "pods { token = \"correcthorsebattery\" }"))
	second := w.build()
	if got := strings.Join(lines(second), ", "); got != "update deployment.m config_changed" {
		t.Fatalf("the change must be seen: %s", got)
	}
	for _, text := range []string{mustJSON(t, first), mustJSON(t, second), mustJSON(t, w.snap.Records)} {
		for _, word := range []string{"hunter2swordfish", "correcthorsebattery"} {
			if strings.Contains(text, word) {
				t.Errorf("%s stands in:\n%s", word, text)
			}
		}
	}
	if c := stepOf(t, second, "deployment.m").Changes; len(c) != 1 || c[0].Path != "pods.token" || !c[0].Sensitive {
		t.Errorf("changes: %+v", c)
	}
	if text := mustJSON(t, w.snap.Records); !strings.Contains(text, "hash:"+hash(`"hunter2swordfish"`)) {
		t.Errorf("the record must hold the hash:\n%s", text)
	}
}

func TestWhatASecretOfAManifestHoldsIsKeptAsAHash(t *testing.T) {
	manifest := func(password, setting string) string {
		return `manifest "m" {
  provider = "pods"
  yaml     = <<-E
    {apiVersion: v1, kind: Secret, metadata: {name: db.main}, stringData: {pass.word: ` + password + `, list: [` + password + `]}}
    ---
    {apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {setting: "` + setting + `"}}
  E
}
`
	}
	w := newWorld(t, manifest("hunter2swordfish", "one"))
	first := w.build()
	w.apply()
	if again := lines(w.build()); len(again) > 0 {
		t.Fatalf("planned again: %v", again)
	}
	w.files(manifest("correcthorsebattery", "two"))
	second := w.build()
	for _, text := range []string{mustJSON(t, first), mustJSON(t, second), mustJSON(t, w.snap.Records)} {
		for _, word := range []string{"hunter2swordfish", "correcthorsebattery"} {
			if strings.Contains(text, word) {
				t.Errorf("%s stands in:\n%s", word, text)
			}
		}
	}
	var got []string
	for _, c := range stepOf(t, second, "manifest.m").Changes {
		got = append(got, c.Path+" "+string(c.Old)+" "+string(c.New))
	}
	want := []string{
		`objects.ConfigMap/c.data.setting "one" "two"`,
		`objects.Secret/db.main.stringData.list "(sensitive)" "(sensitive)"`,
		`objects.Secret/db.main.stringData.pass.word "(sensitive)" "(sensitive)"`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("changes (-want +got):\n%s", d)
	}
	if text := mustJSON(t, w.snap.Records); !strings.Contains(text, "hash:"+hash(`"hunter2swordfish"`)) {
		t.Errorf("the record must hold the hash:\n%s", text)
	}
}
