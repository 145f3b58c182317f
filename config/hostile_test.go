package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// files writes a project and returns options that allow a child process.
func projectFiles(t testing.TB, files map[string]string) Options {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		p := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Options{Dir: dir, ToolVersion: "0.1.0", Exe: []string{exe}}
}

// refused loads and validates a hostile project: within ten seconds it must
// end in an error whose text holds each of the words, with a short detail.
func refused(t *testing.T, opts Options, words ...string) hcl.Diagnostics {
	t.Helper()
	start := time.Now()
	if opts.evalTime == 0 {
		opts.evalTime = 1500 * time.Millisecond
	}
	p, diags := Load(t.Context(), opts)
	if !diags.HasErrors() {
		diags = append(diags, p.Validate()...)
	}
	if took := time.Since(start); took > time.Minute {
		t.Errorf("took %s: that is a hang", took)
	}
	if !diags.HasErrors() {
		t.Fatal("accepted")
	}
	var text strings.Builder
	for _, d := range diags {
		fmt.Fprintf(&text, "%s: %s\n", d.Summary, d.Detail)
		if len(d.Detail) > 4096 {
			t.Errorf("a detail of %d bytes", len(d.Detail))
		}
	}
	for _, w := range words {
		if !strings.Contains(text.String(), w) {
			t.Errorf("no %q in:\n%.2000s", w, text.String())
		}
	}
	return diags
}

func hostile(t *testing.T, text string, words ...string) hcl.Diagnostics {
	t.Helper()
	return refused(t, projectFiles(t, map[string]string{"main.ml.hcl": text}), words...)
}

func TestH1ParenthesesNestedDeeperThanTheParserSurvives(t *testing.T) {
	start := time.Now()
	_ = hostile(t, "locals {\n a = "+strings.Repeat("(", 70_000)+"1"+strings.Repeat(")", 70_000)+"\n}\n", "nested deeper than 64")
	if took := time.Since(start); took > time.Minute {
		t.Errorf("took %s: that is a hang", took)
	}
}

func TestH2BracketsThatNeverClose(t *testing.T) {
	_ = hostile(t, "locals {\n a = "+strings.Repeat("[", 100_000), "nested deeper than 64")
}

func TestH3PrefixOperators(t *testing.T) {
	_ = hostile(t, "locals {\n a = "+strings.Repeat("!", 99_000)+"true\n}\n", "Too many operators in a row")
	_ = hostile(t, "locals {\n a = <<EOT\n${"+strings.Repeat("-", 99_000)+"1}\nEOT\n}\n", "Too many operators in a row")
}

func TestH4ChainsOfOperators(t *testing.T) {
	for name, text := range map[string]string{
		"plus":      strings.Repeat("+1", 400_000),
		"many":      strings.Repeat("+1", 1_000_000),
		"ternary":   strings.Repeat(" > 0 ? 1 : 1", 90_000),
		"index":     strings.Repeat("[local.b]", 100_000),
		"traversal": strings.Repeat(".b", 200_000),
		"lines":     " + [for x in [] : 1\n" + strings.Repeat("+1\n", 300_000) + "]",
		"heredoc":   "\n b = <<EOT\n${1" + strings.Repeat("+1", 300_000) + "}\nEOT\n",
	} {
		t.Run(name, func(t *testing.T) {
			diags := hostile(t, "locals {\n a = 1"+text+"\n}\n")
			if s := diags[0].Summary; s != "Expression too long" && s != "Too many tokens" {
				t.Error(diags)
			}
		})
	}
}

func TestH5NestedBlocks(t *testing.T) {
	_ = hostile(t, strings.Repeat("a {\n", 100_000), "nested deeper than 64")
}

func nestedFor(depth int) string {
	return strings.Repeat("[for x in local.l : ", depth) + "1" + strings.Repeat("]", depth)
}

func TestH6NestedFor(t *testing.T) {
	text := "locals {\n l = [0,1,2,3,4,5,6,7,8,9]\n a = " + nestedFor(7) + "\n}\n"
	t.Run("stopped in the child, which is named", func(t *testing.T) {
		diags := hostile(t, text, "Evaluation stopped", "local.a")
		if diags[0].Subject.Start.Line != 3 {
			t.Errorf("at %s", diags[0].Subject)
		}
	})
	t.Run("refused without a child", func(t *testing.T) {
		opts := projectFiles(t, map[string]string{"main.ml.hcl": text})
		opts.Exe = nil
		refused(t, opts, "Evaluation needs limits")
	})
	t.Run("in a block", func(t *testing.T) {
		_ = hostile(t, "locals { l = [0,1,2,3,4,5,6,7,8,9] }\ncheck \"c\" {\n command = "+nestedFor(8)+"\n}\n", "Evaluation stopped", "check.c")
	})
	t.Run("in a provider's block", func(t *testing.T) {
		_ = hostile(t, "locals { l = [0,1,2,3,4,5,6,7,8,9] }\ncheck \"c\" {\n command = [\"x\"]\n kubernetes {\n a = "+nestedFor(8)+"\n}\n}\n", "Evaluation stopped", "check.c")
	})
	t.Run("a program that cannot start", func(t *testing.T) {
		opts := projectFiles(t, map[string]string{"main.ml.hcl": text})
		opts.Exe = []string{filepath.Join(opts.Dir, "none")}
		refused(t, opts, "Evaluation needs limits", "none")
	})
}

func TestH7AnExponentThatTakesMinutesToPrint(t *testing.T) {
	_ = hostile(t, "locals {\n a = \"${1e100000000}\"\n}\n", "Number out of range")
	_ = hostile(t, "locals {\n a = <<EOT\n${1e10000000}\nEOT\n}\n", "Number out of range")
	_ = hostile(t, "locals {\n a = \"${tonumber(\"1e500000000\")}-x\"\n}\n")
	refused(t, projectFiles(t, map[string]string{"main.ml.json": `{"locals": {"a": "${1e100000000}", "b": 1e100000000}}`}), "Number out of range")
	var b strings.Builder
	b.WriteString("locals {\n x0 = 1e300\n")
	for i := range 20 {
		fmt.Fprintf(&b, " x%d = local.x%d * local.x%d\n", i+1, i, i)
	}
	_ = hostile(t, b.String()+" s = \"${local.x20}-x\"\n}\n")
}

func TestH8NestedTemplateFor(t *testing.T) {
	text := strings.Repeat("%{for x in local.l}", 7) + "x" + strings.Repeat("%{endfor}", 7)
	_ = hostile(t, "locals {\n l = [0,1,2,3,4,5,6,7,8,9]\n a = \""+text+"\"\n}\n", "local.a")
	deep := strings.Repeat("%{if true}", 50_000) + "x" + strings.Repeat("%{endif}", 50_000)
	_ = hostile(t, "locals {\n a = \""+deep+"\"\n}\n", "nested deeper than 64")
}

func TestH9ValuesThatDouble(t *testing.T) {
	var b strings.Builder
	b.WriteString("locals {\n x0 = \"0123456789\"\n")
	for i := range 40 {
		fmt.Fprintf(&b, " x%d = \"${local.x%d}${local.x%d}\"\n", i+1, i, i)
	}
	_ = hostile(t, b.String()+"}\n", "local.x2")
	// Just below the threshold the value itself is refused.
	text := b.String()[:strings.Index(b.String(), " x22 =")]
	_ = hostile(t, text+"}\n", "Value too large")
}

func TestH10CyclesShowTheirPath(t *testing.T) {
	_ = hostile(t, "check \"a\" { command = [check.b.address] }\ncheck \"b\" { command = [check.c.address] }\ncheck \"c\" { command = [check.a.address] }\n",
		"check.a needs check.b (main.ml.hcl:1); check.b needs check.c (main.ml.hcl:2); check.c needs check.a (main.ml.hcl:3)")
	_ = hostile(t, "check \"a\" { command = [check.a.address] }\n", "check.a needs check.a")
	_ = hostile(t, "locals { a = local.a }\n", "local.a (main.ml.hcl:1) → local.a")
	_ = hostile(t, "training \"t\" {\n command = [\"x\"]\n params = monitor.m.drift\n}\nmonitor \"m\" {\n deployment = deployment.d\n latency { p99 = \"1s\" }\n}\ndeployment \"d\" {\n model = training.t.model\n command = [\"x\"]\n}\n",
		"retrain { on = [monitor.m.drift] }")
}

func TestH11LabelsThatLookAlike(t *testing.T) {
	for _, name := range []string{"caf\u00e9", "cafe\u0301", "m\u043edel"} {
		_ = hostile(t, "check \""+name+"\" { command = [\"true\"] }\n", "Invalid name")
	}
}

func TestH12BytesThatAreNotText(t *testing.T) {
	for name, text := range map[string]string{
		"NUL":             "check \"a\x00\" {}\n",
		"UTF-16":          "c\x00h\x00e\x00c\x00k\x00",
		"invalid UTF-8":   "check \"\xff\" {}\n",
		"right to left":   "check \"a\u202eb\" {}\n",
		"isolate":         "# \u2066\ncheck \"a\" {}\n",
		"JSON with a NUL": "\x00",
	} {
		t.Run(name, func(t *testing.T) { hostile(t, text, "Invalid character") })
	}
	t.Run("a byte order mark is skipped", func(t *testing.T) {
		mustLoad(t, projectFiles(t, map[string]string{"main.ml.hcl": "\ufeffcheck \"a\" { command = [\"true\"] }\n"}))
	})
}

func TestH13LabelsThatAreNotNames(t *testing.T) {
	for _, name := range []string{"../../x", "a/b", strings.Repeat("a", 300), "", "A", "-a", "a b", "a.b"} {
		_ = hostile(t, fmt.Sprintf("check %q { command = [\"true\"] }\n", name), "Invalid name")
	}
	_ = hostile(t, "check \"a_b\" { command = [\"true\"] }\ncheck \"a-b\" { command = [\"true\"] }\n", "Names too alike")
}

func TestH14FilesOutsideOfTheProject(t *testing.T) {
	opts := projectFiles(t, map[string]string{"main.ml.hcl": "", "data/in.txt": "in"})
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(opts.Dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(opts.Dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, call := range []string{
		`file("../../id_rsa")`, `file("/proc/self/environ")`, `file("/dev/zero")`, `file("fifo")`, `file("link")`, `file("data")`, `file("")`,
		`file("data/../../x")`, `filebase64("link")`, `filesha256("/etc/passwd")`, `templatefile("link", {})`, `templatefile("../x", {})`,
		`fileset("..", "*")`, `fileset("/", "**")`, `fileset(".", "../*")`,
	} {
		t.Run(call, func(t *testing.T) {
			if err := os.WriteFile(filepath.Join(opts.Dir, "main.ml.hcl"), []byte("locals { a = "+call+" }\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			diags := refused(t, opts)
			if strings.Contains(diags.Error(), "hunter2") {
				t.Error("the secret is shown")
			}
		})
	}
	if err := os.WriteFile(filepath.Join(opts.Dir, "main.ml.hcl"), []byte(`check "c" { command = [file("./data/in.txt"), join(",", fileset("data", "*.txt"))] }`), 0o644); err != nil {
		t.Fatal(err)
	}
	p := mustLoad(t, opts)
	v, diags := p.Eval(p.Blocks[0], unknownScope{})
	if diags.HasErrors() || v.Value.GetAttr("command").Index(cty.NumberIntVal(1)).AsString() != "in.txt" {
		t.Errorf("%#v %s", v.Value, diags)
	}
}

func TestH15NumbersAndDurationsOutOfBounds(t *testing.T) {
	for text, want := range map[string]string{
		"replicas = -1":                                    "must be 0 or more, not -1",
		"replicas = 1e308":                                 "whole numbers",
		"replicas = 0.5":                                   "whole number, not 0.5",
		"replicas = \"many\"":                              "a number is required",
		"drain = \"9999999h\"":                             "duration",
		"drain = \"-1s\"":                                  "negative",
		"drain = 30":                                       "is not a duration",
		"rollout { steps = [10, 101] }":                    "from 1 to 100",
		"rollout { steps = [1.5, 100] }":                   "whole number, not 1.5",
		"rollout { abort { error_rate = \"NaN\" } }":       "a number is required",
		"rollout { abort { error_rate = 1.01 } }":          "must be 1 or less",
		"rollout { abort { error_rate = 0.1 / 0 } }":       "finite",
		"rollout { abort { min_requests = 1e300*1e300 } }": "finite",
	} {
		t.Run(text, func(t *testing.T) {
			text = strings.ReplaceAll(strings.ReplaceAll(text, "{ abort {", "{\n abort {"), "} }", "}\n}")
			hostile(t, "training \"t\" { command = [\"x\"] }\ndeployment \"d\" {\n command = [\"x\"]\n model = training.t.model\n "+text+"\n}\n", want)
		})
	}
}

func TestH16Patterns(t *testing.T) {
	_ = hostile(t, `locals { a = regex("x{1000}{1000}", "x") }`, "regex")
	_ = hostile(t, `locals { a = regex("`+strings.Repeat("a", 1<<20)+`", "x") }`)
	opts := projectFiles(t, map[string]string{"main.ml.hcl": `check "c" { command = [regex("(a|a)*$", "` + strings.Repeat("a", 100_000) + `!")] }`})
	start := time.Now()
	p := mustLoad(t, opts)
	_, _ = p.Eval(p.Blocks[0], unknownScope{}) // only how long it takes matters
	if took := time.Since(start); took > time.Minute {
		t.Errorf("took %s: that is a hang", took)
	}
}

func TestH17TyposAreErrors(t *testing.T) {
	_ = hostile(t, "check \"c\" {\n command = [\"x\"]\n lifecycle { prevent_destory = true }\n}\n", `Did you mean "prevent_destroy"?`)
	_ = hostile(t, "check \"c\" {\n comand = [\"x\"]\n}\n", `Did you mean "command"?`)
}

func TestH18Sizes(t *testing.T) {
	t.Run("heredoc of 50 MB", func(t *testing.T) {
		_ = hostile(t, "locals {\n a = <<EOT\n"+strings.Repeat(strings.Repeat("x", 99)+"\n", 500_000)+"EOT\n}\n", "At most")
	})
	t.Run("file over the limit", func(t *testing.T) {
		if _, diags := Format([]byte(strings.Repeat(" ", MaxFileBytes+1)), "x"); !diags.HasErrors() || diags[0].Summary != "File too large" {
			t.Error(diags)
		}
	})
	t.Run("tokens", func(t *testing.T) {
		_ = hostile(t, "locals {\n a = ["+strings.Repeat("1,", 600_000)+"]\n}\n", "Too many tokens")
		_ = hostile(t, "locals {\n b = <<E\nx\nE\n a = ["+strings.Repeat("1,", 600_000)+"]\n}\n", "Too many tokens")
	})
	t.Run("project over the limit", func(t *testing.T) {
		files := map[string]string{}
		for i := range 9 {
			files[fmt.Sprintf("f%d.ml.hcl", i)] = strings.Repeat("#"+strings.Repeat("x", 1022)+"\n", 4095)
		}
		refused(t, projectFiles(t, files), "Project too large")
	})
	t.Run("instances", func(t *testing.T) {
		_ = hostile(t, "dataset \"d\" {\n count = 100001\n source = \"x\"\n}\n", "Invalid count")
		_ = hostile(t, "dataset \"d\" {\n count = 60000\n source = \"x\"\n}\ndataset \"e\" {\n count = 60000\n source = \"x\"\n}\n", "Too many instances")
	})
	t.Run("100,000 blocks load", func(t *testing.T) {
		if testing.Short() || raceEnabled {
			t.Skip("a size test")
		}
		files := map[string]string{}
		for f := range 10 {
			var b strings.Builder
			for i := range 10_000 {
				fmt.Fprintf(&b, "notifier \"n%d\" { type=\"log\" }\n", 10_000*f+i)
			}
			files[fmt.Sprintf("f%d.ml.hcl", f)] = b.String()
		}
		p := mustLoad(t, projectFiles(t, files))
		if len(p.Blocks) != 100_000 {
			t.Error(len(p.Blocks))
		}
	})
	t.Run("10,000 files load", func(t *testing.T) {
		if testing.Short() || raceEnabled {
			t.Skip("a size test")
		}
		files := map[string]string{}
		for i := range 10_000 {
			files[fmt.Sprintf("f%d.ml.hcl", i)] = fmt.Sprintf("notifier \"n%d\" { type = \"log\" }\n", i)
		}
		if p := mustLoad(t, projectFiles(t, files)); len(p.Blocks) != 10_000 {
			t.Error(len(p.Blocks))
		}
	})
}

func TestH19SensitiveValuesAreNeverShown(t *testing.T) {
	const head = "variable \"s\" {\n default = \"hunter2\"\n sensitive = true\n}\nvariable \"m\" {\n default = { hunter2 = \"hunter2\" }\n sensitive = true\n}\n"
	for _, body := range []string{
		"dataset \"d\" {\n source = \"x\"\n for_each = toset([var.s])\n}\n",
		"dataset \"d\" {\n source = \"x\"\n for_each = var.m\n}\n",
		"dataset \"d\" {\n source = \"x\"\n count = length(var.s)\n}\n",
		"locals { a = parseint(var.s, 10) }\n",
		"locals { a = file(var.s) }\n",
		"locals { a = var.m.nope }\n",
		"locals { a = var.m[var.s].x }\n",
		"locals { a = jsondecode(var.s) }\n",
		"locals { a = regex(\"x\", var.s) }\n",
		"check \"c\" {\n command = [\"x\"]\n timeout = var.s\n}\n",
		"check \"c\" {\n command = [\"x\"]\n retries = var.s\n}\n",
		"notifier \"n\" { type = var.s }\n",
		"check \"c\" {\n command = [\"x\"]\n provider = var.s\n}\n",
		"check \"c\" {\n command = [\"x\"]\n precondition {\n condition = false\n error_message = \"no ${var.s}\"\n }\n}\n",
		"variable \"n\" {\n type = number\n default = 1\n validation {\n condition = var.s == \"x\"\n error_message = var.s\n }\n}\n",
		"output \"o\" { value = var.s }\n",
		"dataset \"d\" {\n source = \"x\"\n dynamic \"split\" {\n for_each = [var.s]\n labels = [split.value]\n content { fraction = 0.1 }\n }\n}\n",
		"module \"m\" {\n source = \"./m\"\n n = var.s\n}\n",
		"ml { default_provider = var.s }\n",
		"ml { parallelism = var.s }\n",
	} {
		t.Run(body[:20], func(t *testing.T) {
			opts := projectFiles(t, map[string]string{"main.ml.hcl": head + body, "m/main.ml.hcl": "variable \"n\" { type = number }\n"})
			opts.Providers = testProviders()
			diags := refused(t, opts)
			for _, d := range diags {
				if strings.Contains(d.Summary+d.Detail, "hunter2") || d.EvalContext != nil {
					t.Errorf("%s: %s: shown", d.Summary, d.Detail)
				}
			}
		})
	}
	t.Run("values given from outside", func(t *testing.T) {
		opts := projectFiles(t, map[string]string{"main.ml.hcl": "variable \"s\" {\n type = number\n sensitive = true\n}\n"})
		text := "hunter2"
		opts.Vars = []VarInput{{Name: "s", Source: "-var", Text: &text}}
		if diags := refused(t, opts); strings.Contains(diags.Error(), text) {
			t.Error(diags)
		}
	})
	t.Run("paths and values are listed", func(t *testing.T) {
		p := mustLoad(t, projectFiles(t, map[string]string{"main.ml.hcl": head + "check \"c\" {\n command = [\"x\", var.s]\n env = { A = \"a\", B = var.s }\n}\n"}))
		v, diags := p.Eval(p.Blocks[0], unknownScope{})
		if diags.HasErrors() || !v.Sensitive["command[1]"] || !v.Sensitive["env.B"] || v.Sensitive["env.A"] || v.Value.ContainsMarked() {
			t.Errorf("%v %#v %s", v.Sensitive, v.Value, diags)
		}
		if !slices.Equal(p.Sensitive, []string{"hunter2"}) {
			t.Error(p.Sensitive)
		}
	})
}

func TestH20DuplicateKeysInJSON(t *testing.T) {
	refused(t, projectFiles(t, map[string]string{"main.ml.json": `{"check": {"c": {"command": ["a"], "command": ["b"]}}}`}), "Duplicate")
	refused(t, projectFiles(t, map[string]string{"main.ml.json": `{"check": {"c": {"command": ["a"], "env": {"A": "1", "A": "2"}}}}`}), "Duplicate property")
	refused(t, projectFiles(t, map[string]string{"main.ml.json": `{"check": {"c": {"command": ["a"]}}, "check": {"c": {"command": ["b"]}}}`}), "Duplicate")
}

func TestH21FileNamesThatDifferByCase(t *testing.T) {
	opts := projectFiles(t, map[string]string{"A.ml.hcl": "", "a.ml.hcl": ""})
	if names, err := os.ReadDir(opts.Dir); err != nil || len(names) < 2 {
		t.Skip("this disk folds case")
	}
	refused(t, opts, "File names differ only by case")
}

func TestH22CommandsAreListsThatNoShellReads(t *testing.T) {
	_ = hostile(t, "check \"c\" { command = \"sh -c 'touch x'\" }\n", "Wrong type")
	p := mustLoad(t, projectFiles(t, map[string]string{"main.ml.hcl": "locals { column = \"$(touch x)\" }\ncheck \"c\" { command = [\"train\", local.column] }\n"}))
	v, diags := p.Eval(p.Blocks[0], unknownScope{})
	if diags.HasErrors() || v.Value.GetAttr("command").Index(cty.NumberIntVal(1)).AsString() != "$(touch x)" {
		t.Errorf("%#v %s", v.Value, diags)
	}
}

func TestH23Environments(t *testing.T) {
	for _, env := range []string{`"A=B" = "x"`, `"" = "x"`, `"A\nB" = "x"`, `ML_PARAMS = "x"`, `A = "\u0000"`} {
		_ = hostile(t, "check \"c\" {\n command = [\"x\"]\n env = { "+env+" }\n}\n", "Invalid environment variable")
	}
	p := mustLoad(t, projectFiles(t, map[string]string{"main.ml.hcl": "check \"c\" {\n command = [\"x\"]\n env = { LD_PRELOAD = \"x.so\", A = \"line\\nline\" }\n}\n"}))
	if _, diags := p.Eval(p.Blocks[0], unknownScope{}); diags.HasErrors() {
		t.Error(diags)
	}
}

func TestAStrangersFilesAreEvaluatedInAChildWhateverTheyCost(t *testing.T) {
	opts := projectFiles(t, map[string]string{"main.ml.hcl": "locals { a = 1 }\ncheck \"c\" { command = [\"x\"] }\n"})
	opts.Untrusted = true
	mustLoad(t, opts)
	opts.Exe = nil
	refused(t, opts, "Evaluation needs limits")
}

func TestTenThousandInstancesOfOneBlockNeedNoChild(t *testing.T) {
	keys := make([]string, 10_000)
	for i := range keys {
		keys[i] = fmt.Sprintf("%q", fmt.Sprint(i))
	}
	opts := projectFiles(t, map[string]string{"main.ml.hcl": "check \"c\" {\n for_each = toset([" + strings.Join(keys, ",") + "])\n command = [each.key]\n}\n"})
	opts.Exe = nil // so that a child would be an error
	p, diags := Load(t.Context(), opts)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	if len(p.Blocks) != len(keys) {
		t.Errorf("%d blocks, want %d", len(p.Blocks), len(keys))
	}
}

func TestAnEndlessListOfErrorsIsCut(t *testing.T) {
	diags := hostile(t, "locals {\n a = ["+strings.Repeat("local.b,\n", 5000)+"]\n}\n", "4800 more")
	if len(diags) != maxDiags+1 {
		t.Error(len(diags))
	}
}
