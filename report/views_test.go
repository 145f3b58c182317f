package report

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/resource"
)

func TestMessagesWrapOnATerminalOnly(t *testing.T) {
	text := "deployment.tumors serves version 1 and is pinned there. Newer versions wait until: ml unpin deployment.tumors"
	for name, c := range map[string]struct {
		s    Style
		want string
	}{
		"a pipe":     {Style{Unicode: true, Width: 40}, "✓ " + text + "\n"},
		"a log":      {Style{Width: 40}, "ok " + text + "\n"},
		"a terminal": {Style{Unicode: true, Width: 60, Live: true}, "✓ deployment.tumors serves version 1 and is pinned there.\n  Newer versions wait until: ml unpin deployment.tumors\n"},
	} {
		if got := string(render(t, func(b *bytes.Buffer) error { return Done(b, c.s, text) })); got != c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
	got := string(render(t, func(b *bytes.Buffer) error { return Failure(b, Style{}, "no such\x1b[2J file\nand more") }))
	if want := "Error: no such\\u{1b}[2J file\n       and more\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestATerminalSparesEmptyColumns(t *testing.T) {
	tb := NewTable("ADDRESS", "SIGNAL", "RUN", "NOTE").Right(2)
	tb.Text("a", "", "1", "")
	tb.Text("b", "", "22", "")
	if got := string(render(t, func(b *bytes.Buffer) error { return tb.Write(b, Style{Live: true, Width: 80}) })); got != "ADDRESS  RUN\na          1\nb         22\n" {
		t.Errorf("terminal: %q", got)
	}
	if got := string(render(t, func(b *bytes.Buffer) error { return tb.Write(b, Style{}) })); !strings.HasPrefix(got, "ADDRESS  SIGNAL  RUN  NOTE\na        -         1  -\n") {
		t.Errorf("pipe: %q", got)
	}
}

func TestALastColumnWithoutRoomGoesUnderItsRow(t *testing.T) {
	tb := NewTable("RUN", "WHY")
	tb.Text("01M8AJ3N6NQ7969SQ3VRNBNMVT", "new")
	tb.Text("01M8AJ6KHGYVVBY6C4F53V1154", "drift: 31 of 31 columns moved")
	got := string(render(t, func(b *bytes.Buffer) error { return tb.Write(b, Style{Live: true, Width: 40}) }))
	want := "RUN                         WHY\n01M8AJ3N6NQ7969SQ3VRNBNMVT  new\n01M8AJ6KHGYVVBY6C4F53V1154\n    drift: 31 of 31 columns moved\n"
	if got != want {
		t.Errorf("got:\n%s", got)
	}
}

func TestShortAgo(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Minute: "now", 9 * time.Second: "now", 59 * time.Second: "59s ago", time.Minute: "1m ago", 59 * time.Minute: "59m ago",
		47 * time.Hour: "47h ago", 48 * time.Hour: "2d ago", 100 * 24 * time.Hour: planTime.Add(-100 * 24 * time.Hour).Format("2006-01-02"),
	} {
		if got := ShortAgo(planTime.Add(-d), planTime); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
	if got := ShortAgo(time.Time{}, planTime); got != "" {
		t.Errorf("never: %q", got)
	}
}

func TestTables(t *testing.T) {
	table := func() *Table {
		tb := NewTable("ADDRESS", "PHASE", "VERSION", "MESSAGE").Right(2)
		tb.Row(Cell{Text: "training.tumors", Tone: Strong}, PhaseCell(resource.PhaseReady), Cell{Text: "12"}, Cell{Text: "recall 0.953"})
		tb.Row(Cell{Text: "deployment.価格"}, PhaseCell(resource.PhaseFailed), Cell{Text: "3"}, Cell{Text: strings.Repeat("the server did not answer ", 5)})
		tb.Text("check.unit", "pending")
		return tb
	}
	for name, s := range map[string]Style{
		"pipe": {Unicode: true, Width: 60}, "live": {Unicode: true, Width: 60, Live: true}, "color": {Unicode: true, Color: true},
	} {
		golden(t, "table_"+name+".txt", render(t, func(b *bytes.Buffer) error { return table().Write(b, s) }))
	}
	if got := render(t, func(b *bytes.Buffer) error { return NewTable("A").Write(b, Style{}) }); len(got) != 0 {
		t.Errorf("an empty table writes %q", got)
	}
}

const source = `training "tumors" {
	comand = ["python3", "train.py"]
  params = {
    epochs = var.epochs + "x"
  }
}
# wide: 価格 bad` + "\x1b[31m \u202e \n"

// problems are diagnostics as loading a project makes them.
func problems(t *testing.T) (hcl.Diagnostics, map[string]*hcl.File) {
	t.Helper()
	f, diags := hclsyntax.ParseConfig([]byte(source), "main.ml.hcl", hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	at := func(text string) *hcl.Range {
		i := strings.Index(source, text)
		start := hcl.Pos{Line: 1 + strings.Count(source[:i], "\n"), Column: 1, Byte: i}
		end := start
		end.Byte += len(text)
		end.Line += strings.Count(text, "\n")
		return &hcl.Range{Filename: "main.ml.hcl", Start: start, End: end}
	}
	body := f.Body.(*hclsyntax.Body).Blocks[0].Body
	expr := body.Attributes["params"].Expr
	return hcl.Diagnostics{
		{Severity: hcl.DiagError, Summary: "Unsupported argument", Detail: `An argument named "comand" is not expected here. Did you mean "command"?`, Subject: at("comand")},
		{Severity: hcl.DiagError, Summary: "Invalid operand", Detail: "A number is required.", Subject: at(`var.epochs + "x"`), Expression: expr,
			EvalContext: &hcl.EvalContext{Variables: map[string]cty.Value{"var": cty.ObjectVal(map[string]cty.Value{"epochs": cty.StringVal("many\x1b[1m")})}}},
		{Severity: hcl.DiagWarning, Summary: "Odd text\x1b[2J", Detail: "Line one.\nLine two.", Subject: at("bad\x1b[31m \u202e")},
		{Severity: hcl.DiagError, Summary: "A range over lines", Subject: at("{\n    epochs")},
		{Severity: hcl.DiagError, Summary: "In a file that is not at hand", Subject: &hcl.Range{Filename: "other.ml.hcl", Start: hcl.Pos{Line: 3}}},
		{Severity: hcl.DiagError, Summary: "Without a place", Detail: "Say what to do next."},
	}, map[string]*hcl.File{"main.ml.hcl": f}
}

func TestDiagnosticsShowTheCulprit(t *testing.T) {
	diags, files := problems(t)
	for name, s := range map[string]Style{"unicode": {Unicode: true, Width: 80}, "ascii": {Width: 80}, "color": {Unicode: true, Color: true}} {
		golden(t, "diagnostics_"+name+".txt", render(t, func(b *bytes.Buffer) error { return Diagnostics(b, diags, files, s) }))
	}
	got := render(t, func(b *bytes.Buffer) error { return DiagnosticsJSON(b, diags, files) })
	var b bytes.Buffer
	if err := json.Indent(&b, got, "", "  "); err != nil {
		t.Fatal(err)
	}
	golden(t, "diagnostics.json", b.Bytes())
}

// FuzzDiagnostics: no range, however wrong, may panic or print what is not clean.
func FuzzDiagnostics(f *testing.F) {
	f.Add(source, 3, 20, 60)
	f.Add("", 0, 0, 0)
	f.Add("a\r\nb\xff", 1, 2, -5)
	f.Add(strings.Repeat("価", 300), 1, 450, 451)
	f.Add(strings.Repeat("\x80", 300), 1, 0, 2)
	f.Fuzz(func(t *testing.T, src string, line, from, to int) {
		diags := hcl.Diagnostics{{Severity: hcl.DiagError, Summary: "x", Subject: &hcl.Range{Filename: "f",
			Start: hcl.Pos{Line: line, Byte: from}, End: hcl.Pos{Line: line, Byte: to}}}}
		files := map[string]*hcl.File{"f": {Bytes: []byte(src)}}
		s := Style{Unicode: true}
		got := render(t, func(b *bytes.Buffer) error { return Diagnostics(b, diags, files, s) })
		for _, l := range strings.Split(string(got), "\n") {
			if s.Clean(l) != l {
				t.Fatalf("not clean: %q", l)
			}
		}
	})
}

func TestGraphs(t *testing.T) {
	var nodes []Node
	for _, st := range dataChanged().Steps {
		nodes = append(nodes, Node{st.Address, st.Action})
	}
	nodes = append(nodes, Node{Address: addr("monitor.tumors")}, Node{Address: addr(`check.c["a<b> \" #x"]`)})
	edges := []Edge{
		{From: addr("monitor.tumors"), To: addr("training.tumors"), Feedback: true, Label: "drift"},
		{From: addr("monitor.tumors"), To: addr("training.tumors"), Feedback: true, Label: "performance"},
		{From: addr("dataset.tumors"), To: addr("training.tumors")},
		{From: addr("training.tumors"), To: addr("validation.tumors")},
		{From: addr("dataset.tumors"), To: addr("validation.tumors")},
		{From: addr("validation.tumors"), To: addr("deployment.tumors")},
		{From: addr("deployment.tumors"), To: addr("monitor.tumors")},
	}
	golden(t, "graph.txt", render(t, func(b *bytes.Buffer) error { return GraphText(b, nodes, edges, Style{Unicode: true, Width: 100}) }))
	golden(t, "graph_ascii.txt", render(t, func(b *bytes.Buffer) error { return GraphText(b, nodes, edges, Style{}) }))
	golden(t, "graph.dot", render(t, func(b *bytes.Buffer) error { return GraphDOT(b, nodes, edges) }))
	golden(t, "graph.mmd", render(t, func(b *bytes.Buffer) error { return GraphMermaid(b, nodes, edges) }))
	if err := GraphMermaid(&bytes.Buffer{}, nil, edges); err == nil {
		t.Error("an edge that leads out of the graph is drawn")
	}
}
