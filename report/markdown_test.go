package report

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"unicode"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	east "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/text"

	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/resource"
)

func TestCommentsLookAsTheyShould(t *testing.T) {
	f := func(v float64) *float64 { return &v }
	yes, no := true, false
	metrics := []MetricChange{
		{Address: addr("validation.tumors"), Metric: "recall", Before: f(0.951), After: f(0.942), Gate: "≥ 0.93", Passed: &yes},
		{Address: addr("validation.tumors"), Metric: "accuracy", Before: f(0.97), After: f(0.9412), Gate: "≥ 0.90 and within 0.02 of the champion", Passed: &no},
		{Address: addr("training.tumors"), Metric: "loss|train", After: f(0.12)},
	}
	broken := newPlan()
	broken.Diagnostics = []planner.Diagnostic{{Severity: "error", Summary: "No such file", Detail: "open data/wdbc.csv: no such file\nPut it there, or change source.", Address: "dataset.tumors", File: "main.ml.hcl", Line: 3}}
	merged := dataChanged()
	merged.Commit = "4f2c9a7d0e6b8135f2c9a7d0e6b8135f2c9a7d0e"
	daemon := MarkdownOptions{
		Project: "models/tumors", URL: "https://ml.example.com/plans/7", Metrics: metrics,
		Next:     "Merge it, and the daemon does this.",
		Commands: []CommentCommand{{"ml plan", "plans again"}, {"ml explain ADDRESS", "tells why a block is in the plan"}, {"ml approve 01JNB3", "allows this plan for this commit"}},
		Nodes:    []Node{{Address: addr("dataset.tumors")}, {Address: addr("training.tumors")}, {Address: addr("monitor.tumors")}},
		Edges:    []Edge{{From: addr("dataset.tumors"), To: addr("training.tumors")}, {From: addr("monitor.tumors"), To: addr("training.tumors"), Feedback: true, Label: "drift"}},
	}
	for _, tt := range []struct {
		name string
		plan *planner.Plan
		o    MarkdownOptions
	}{
		{"quickstart", quickstart(), MarkdownOptions{}},
		{"data_changed", merged, daemon},
		{"data_changed_foreign", merged, MarkdownOptions{Project: "models/tumors", Foreign: true, AsOf: planTime, Metrics: metrics}},
		{"gate_closed", gateClosed(), MarkdownOptions{}},
		{"replace", replaceImmutable(), MarkdownOptions{AsOf: planTime}},
		{"everything", everything(), MarkdownOptions{}},
		{"everything_foreign", everything(), MarkdownOptions{Foreign: true}},
		{"ten_thousand", tenThousand(), MarkdownOptions{}},
		{"ten_thousand_foreign", tenThousand(), MarkdownOptions{Foreign: true}},
		{"secrets", secrets(), MarkdownOptions{}},
		{"none", newPlan(), MarkdownOptions{}},
		{"broken", broken, MarkdownOptions{}},
		{"broken_foreign", broken, MarkdownOptions{Foreign: true}},
		{"hostile", hundredNames(), MarkdownOptions{Project: "a--><b>@all", URL: "https://ml.example.com/plans/8"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := render(t, func(b *bytes.Buffer) error { return Markdown(b, tt.plan, tt.o) })
			if err := harmless(got, tt.o); err != nil {
				t.Errorf("%v\n%s", err, got)
			}
			golden(t, "comment_"+tt.name+".md", got)
		})
	}
}

// hostileNames are what somebody might call a thing to make a comment of it say or do something.
func hostileNames() []string {
	names := []string{
		"@octocat", "@org/team", "@all please merge", "<b>x</b>", "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</details>", "<!--", "-->", "&lt;b&gt;", "&#64;octocat",
		"`", "``", "```", "````\n@octocat\n````", "`@octocat`", " `", "` ", "~~~", "a`b``c```d", strings.Repeat("`", 300), "|", "a|b|c", `\|`, `\`, "a\\`b", "| --- |",
		"\n", "a\nb", "\r\n/merge", "/close", "\n\n# heading", "# heading", "#123", "!123", "$123", "%123", "&123", "~label", "^alert", "GH-123", "octocat/repo#1", "octocat@4f2c9a7d0e6b8135f2c9a7d0e6b8135f2c9a7d0e",
		"[x](javascript:alert(1))", "![x](https://evil.example/pixel.png)", "[x]: https://evil.example", "<https://evil.example>", "https://evil.example", "www.evil.example", "mailto:a@b.example", "a@b.example", "data:text/html,x",
		"*bold*", "**bold**", "_x_", "~~x~~", "- [x] done", "1. one", "> quote", "---", "===", "    code", "\tcode", ":smile:", "$`x`$", "$x^2$", "{+ added +}", "[[_TOC_]]", "[^1]", "term\n: definition",
		"\u202eevil", "\u2066x\u2069", "a\u200bb", "\ufeff", "\x00", "\x1b[31mred", "\xff\xfe", "e\u0301", "ſ", "раураl", "\u2028x", "\u00a0", "",
		"%%{init: {\"theme\":\"dark\"}}%%", "a\"]; click n0 \"javascript:alert(1)\"", "end", "subgraph x", "graph TD", "n0 --> n1", "#quot;", "</summary>", "<summary>x", "<details open>",
		strings.Repeat("x", 5000), strings.Repeat("日本", 500), "-", "--", "(sensitive)", "(known after apply)", "null", "sha256:" + strings.Repeat("a", 64),
	}
	return names
}

// hundredNames has each of them in every place that a name, a value or a message may have.
func hundredNames() *planner.Plan {
	var steps []*planner.Step
	actions := []resource.Action{resource.RunIt, resource.Update, resource.Create, resource.Delete, resource.Noop}
	for i, n := range hostileNames() {
		st := &planner.Step{
			Address: resource.Address{Kind: "training", Name: "x", Key: fmt.Sprintf("[%q]", n)}, Kind: "training", Provider: "local", Action: actions[i%len(actions)],
			Reasons: []resource.Reason{{Code: resource.ReasonConfigChanged, Path: n, Old: n, New: n + "2", By: n, Message: n}, {Code: resource.ReasonFailedBefore, Message: n}},
			Gate:    []string{n}, Changes: []planner.Change{{Path: n, Old: raw(n), New: raw(n + "2")}},
		}
		steps = append(steps, st)
	}
	p := newPlan(steps...)
	p.Commit = "@octocat"
	for _, n := range hostileNames()[:20] {
		p.Drift = append(p.Drift, planner.DriftEntry{Address: addr("dataset.x"), Message: n, By: n, Changes: []planner.Change{{Path: n, Old: raw(n)}}})
		p.Diagnostics = append(p.Diagnostics, planner.Diagnostic{Severity: "warning", Summary: n, Detail: n, Address: n, File: n, Line: 3})
	}
	return p
}

func TestThereAreAHundredHostileNames(t *testing.T) {
	if n := len(hostileNames()); n < 100 {
		t.Errorf("%d names", n)
	}
}

var markdown = goldmark.New(goldmark.WithExtensions(extension.GFM))

// harmless parses a comment as a forge does, and says what in it is neither our own words nor code.
func harmless(comment []byte, o MarkdownOptions) error {
	if len(comment) > MaxMarkdown {
		return fmt.Errorf("%d bytes", len(comment))
	}
	if first, _, _ := strings.Cut(string(comment), "\n"); first != Marker(o.Project) {
		return fmt.Errorf("the first line is %q", first)
	}
	open := 0
	doc := markdown.Parser().Parse(text.NewReader(comment))
	return ast.Walk(doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.CodeSpan:
			return ast.WalkSkipChildren, clean(string(n.Text(comment))) //nolint:staticcheck // the source text is what is asked for
		case *ast.FencedCodeBlock:
			if lang := string(n.Language(comment)); lang != "text" && lang != "mermaid" {
				return ast.WalkStop, fmt.Errorf("a fence in %q", lang)
			}
			return ast.WalkSkipChildren, clean(string(n.Lines().Value(comment)))
		case *ast.HTMLBlock:
			html := string(n.Lines().Value(comment))
			if n.HasClosure() {
				html += string(n.ClosureLine.Value(comment))
			}
			open += strings.Count(html, "<details>") - strings.Count(html, "</details>")
			for _, l := range strings.Split(strings.TrimSpace(html), "\n") {
				switch l {
				case Marker(o.Project), "<details>", "</details>", "<summary>The whole plan</summary>", "<summary>Graph</summary>":
				default:
					return ast.WalkStop, fmt.Errorf("HTML: %q", l)
				}
			}
		case *ast.Link:
			if string(n.Destination) != o.URL {
				return ast.WalkStop, fmt.Errorf("a link to %q", n.Destination)
			}
		case *ast.Text:
			if words := string(n.Value(comment)); strings.ContainsFunc(words, unspeakable) {
				return ast.WalkStop, fmt.Errorf("text %q", words)
			}
		case *ast.Heading:
			if n.Level != 3 || n.PreviousSibling() == nil || n.PreviousSibling().PreviousSibling() != nil {
				return ast.WalkStop, fmt.Errorf("a heading at the wrong place")
			}
		case *ast.Document, *ast.Paragraph, *ast.TextBlock, *ast.List, *ast.ListItem, *ast.Emphasis,
			*east.Table, *east.TableHeader, *east.TableRow, *east.TableCell:
		default:
			return ast.WalkStop, fmt.Errorf("a %s", n.Kind())
		}
		if n == doc.LastChild() && open != 0 {
			return ast.WalkStop, fmt.Errorf("%d details stay open", open)
		}
		return ast.WalkContinue, nil
	})
}

// unspeakable tells what our own words never hold: anything that a forge might make more of than text.
func unspeakable(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(" .,;:()'-·…→≈✓✗", r))
}

// clean says what in code is not to be seen as it is.
func clean(code string) error {
	for _, r := range code {
		if r != '\n' && (!unicode.IsPrint(r) || unicode.Is(unicode.Bidi_Control, r)) {
			return fmt.Errorf("%U in code", r)
		}
	}
	return nil
}

func FuzzMarkdown(f *testing.F) {
	for i, n := range hostileNames() {
		f.Add(n, hostileNames()[len(hostileNames())-1-i], i%3 == 0)
	}
	f.Fuzz(func(t *testing.T, a, b string, foreign bool) {
		st := step("training.x", resource.RunIt,
			resource.Reason{Code: resource.ReasonDataChanged, Path: a, Old: b, New: a, By: b, Message: a},
			resource.Reason{Code: resource.ReasonSignal, By: a, Message: b}, resource.Reason{Code: resource.ReasonFailedBefore, Message: a + b})
		st.Gate, st.Provider = []string{a, b}, "p"+b
		st.Changes = []planner.Change{{Path: b, Old: raw(a), New: raw(b)}}
		next := &planner.Step{Address: resource.Address{Kind: "check", Name: b, Key: a}, Kind: "check", Action: resource.Create, Needs: addrs("training.x"), After: raw(map[string]any{a: b, "command": a})}
		p := newPlan(st, next)
		p.Commit = a
		p.Drift = []planner.DriftEntry{{Address: addr("training.y"), Message: a, By: b, Changes: []planner.Change{{Path: a, Old: raw(b)}}}}
		p.Diagnostics = []planner.Diagnostic{{Severity: "warning", Summary: a, Detail: b, Address: a, File: b, Line: 1}}
		one := 1.0
		o := MarkdownOptions{Project: b, Foreign: foreign, URL: "https://ml.example.com/p", Next: a, Commands: []CommentCommand{{b, a}}, Metrics: []MetricChange{{Address: next.Address, Metric: a, Before: &one, Gate: b}}}
		var out bytes.Buffer
		if err := Markdown(&out, p, o); err != nil {
			t.Fatal(err)
		}
		if err := harmless(out.Bytes(), o); err != nil {
			t.Fatalf("%v\n%s", err, out.String())
		}
	})
}

// Of a stranger's pull request nothing is shown that a file, a record or the world says, but names of blocks and fields.
func TestAStrangersCommentHoldsNoValue(t *testing.T) {
	const secret = "c4n4ry"
	st := step("training.x", resource.RunIt,
		resource.Reason{Code: resource.ReasonDataChanged, Path: "inputs.train", Old: secret, New: secret, By: secret, Message: secret},
		resource.Reason{Code: resource.ReasonFailedBefore, Message: secret})
	st.Address.Key, st.Address.Module = `["`+secret+`"]`, `module.eu["`+secret+`"]`
	st.Gate, st.Provider = []string{secret}, secret
	st.Changes = []planner.Change{{Path: "params.seed", Old: raw(secret), New: raw(secret)}}
	st.Before, st.After = raw(map[string]any{"a": secret}), raw(map[string]any{"a": secret})
	p := newPlan(st)
	p.Drift = []planner.DriftEntry{{Address: addr("deployment.x"), Message: secret, By: secret, Changes: []planner.Change{{Path: secret, Old: raw(secret)}}}}
	p.Diagnostics = []planner.Diagnostic{{Severity: "error", Summary: secret, Detail: secret, Address: secret, File: "main.ml.hcl", Line: 3}}
	one := 1.0
	o := MarkdownOptions{Foreign: true, Metrics: []MetricChange{{Address: addr("training.x"), Metric: secret, Before: &one, Gate: secret}},
		Nodes: []Node{{Address: st.Address}, {Address: addr("check.a")}}}
	got := string(render(t, func(b *bytes.Buffer) error { return Markdown(b, p, o) }))
	if strings.Contains(got, secret) {
		t.Errorf("the comment holds a value:\n%s", got)
	}
	for _, want := range []string{"module.eu.training.x", "params.seed", "main.ml.hcl:3", "1 block was changed outside"} {
		if !strings.Contains(got, want) {
			t.Errorf("the comment lacks %q:\n%s", want, got)
		}
	}
}

func TestAMarkerIsOneLineAndOneComment(t *testing.T) {
	seen := map[string]string{}
	for _, n := range append(hostileNames(), "a", "a/b", "/a/b/", "a b", "a-b", "a%20b") {
		m := Marker(n)
		inner := strings.TrimSuffix(strings.TrimPrefix(m, markerStart), " -->")
		if strings.ContainsAny(m, "\n\r") || strings.Contains(inner, "--") || strings.ContainsAny(inner, "<>") {
			t.Errorf("%q has the marker %q", n, m)
		}
		if other, twice := seen[m]; twice && projectPath(other) != projectPath(n) {
			t.Errorf("%q and %q share the marker %q", n, other, m)
		}
		seen[m] = n
	}
	if Marker("") != "<!-- continuo plan . -->" || Marker("models/churn") != "<!-- continuo plan models/churn -->" {
		t.Error("the marker changed: comments that were made before are found no more")
	}
}

func TestWhatCallersSayIsHarmlessToo(t *testing.T) {
	for _, n := range hostileNames() {
		o := MarkdownOptions{Next: n, Project: n, Commands: []CommentCommand{{Text: n, Does: n}}}
		got := render(t, func(b *bytes.Buffer) error { return Markdown(b, newPlan(), o) })
		if err := harmless(got, o); err != nil {
			t.Errorf("%v\n%s", err, got)
		}
	}
}

func TestSecretsAreMaskedWhereverTheyStand(t *testing.T) {
	p := secrets()
	p.Drift = []planner.DriftEntry{{Address: addr("notifier.team"), Changes: []planner.Change{{Path: "url", Old: raw("hunter4"), New: raw("hunter5"), Sensitive: true}}}}
	got := string(render(t, func(b *bytes.Buffer) error { return Markdown(b, p, MarkdownOptions{}) }))
	if strings.Contains(got, "hunter") || strings.Count(got, "(sensitive)") < 4 {
		t.Errorf("%s", got)
	}
}
