package planner_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What moved is found wherever its record still is: by itself, with all its
// instances, with its module, and over several moves of several years.
func TestMovesFollowModulesInstancesAndEachOther(t *testing.T) {
	const module = "variable \"k\" { default = [\"a\", \"b.c\"] }\ncheck \"c\" {\n for_each = toset(var.k)\n command = [\"true\", each.key]\n}\n"
	for name, c := range map[string]struct {
		before, after string
		want          []string
	}{
		"a module": {
			"module \"one\" { source = \"./m\" }\n",
			"module \"two\" { source = \"./m\" }\nmoved {\n from = module.one\n to = module.two\n}\n",
			[]string{`move module.two.check.c["a"] moved`, `move module.two.check.c["b.c"] moved`},
		},
		"a module with instances": {
			"module \"one\" {\n source = \"./m\"\n count = 2\n k = [\"x\"]\n}\n",
			"module \"two\" {\n source = \"./m\"\n count = 2\n k = [\"x\"]\n}\nmoved {\n from = module.one\n to = module.two\n}\n",
			[]string{`move module.two[0].check.c["x"] moved`, `move module.two[1].check.c["x"] moved`},
		},
		"a module that got an instance key": {
			"module \"one\" {\n source = \"./m\"\n k = [\"x\"]\n}\n",
			"module \"one\" {\n source = \"./m\"\n for_each = toset([\"de\"])\n k = [\"x\"]\n}\nmoved {\n from = module.one\n to = module.one[\"de\"]\n}\n",
			[]string{`move module.one["de"].check.c["x"] moved`},
		},
		"moves one after the other": {
			"check \"a\" { command = [\"true\"] }\n",
			"check \"c\" { command = [\"true\"] }\nmoved {\n from = check.b\n to = check.c\n}\nmoved {\n from = check.a\n to = check.b\n}\n",
			[]string{"move check.c moved"},
		},
		"a block that moved within a module that moved": {
			"module \"one\" {\n source = \"./m\"\n k = [\"x\"]\n}\n",
			"module \"two\" {\n source = \"./m\"\n k = [\"y\"]\n}\nmoved {\n from = module.one.check.c[\"x\"]\n to = module.one.check.c[\"y\"]\n}\nmoved {\n from = module.one\n to = module.two\n}\n",
			[]string{`run module.two.check.c["y"] moved,config_changed`},
		},
		"a circle": {
			"check \"a\" { command = [\"true\"] }\n",
			"check \"c\" { command = [\"true\"] }\nmoved {\n from = check.a\n to = check.b\n}\nmoved {\n from = check.b\n to = check.a\n}\n",
			[]string{"run check.c new", "delete check.a removed"},
		},
		"a module that is forgotten": {
			"module \"one\" { source = \"./m\" }\n",
			"removed {\n from = module.one\n lifecycle { destroy = false }\n}\n",
			[]string{`forget module.one.check.c["b.c"] removed`, `forget module.one.check.c["a"] removed`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "")
			if err := os.Mkdir(filepath.Join(w.dir, "m"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(w.dir, "m", "main.ml.hcl"), []byte(module), 0o600); err != nil {
				t.Fatal(err)
			}
			w.files(c.before)
			w.apply()
			w.files(c.after)
			if diff := cmp.Diff(c.want, lines(w.build())); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}
