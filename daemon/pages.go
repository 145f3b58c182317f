package daemon

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/engine"
	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/report"
	"github.com/continuo-ml/continuo/resource"
)

//go:embed web
var web embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"ago":      func(t time.Time) string { return report.Ago(t, time.Now()) },
	"short":    short,
	"shortRun": shortRun,
	"stamp":    func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") },
	"iso":      func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"took":     report.Duration,
	"value":    report.Value,
	"count":    report.Count,
	"plural":   report.Plural,
	"number":   report.Number,
	"bytes":    byteCount,
	"tone":     tone,
	"words":    func(s any) string { return strings.ReplaceAll(fmt.Sprint(s), "_", " ") },
	"seg":      func(s any) string { return url.PathEscape(fmt.Sprint(s)) },
	"sign":     func(a resource.Action) string { return actionSigns[a] },
	"reason":   reasonText,
	"dict":     dict,
	"digest":   func(d resource.Digest) string { return short(d.Hex()) },
}).ParseFS(web, "web/*.html"))

// short is a commit or digest as people name it.
func short(s string) string {
	if len(s) > 12 {
		return s[:12]
	}
	return s
}

// dict is a map of names and values in turn, for templates within templates.
func dict(pairs ...any) (map[string]any, error) {
	out := map[string]any{}
	for i := 0; i+1 < len(pairs); i += 2 {
		name, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("%v is no name", pairs[i])
		}
		out[name] = pairs[i+1]
	}
	return out, nil
}

func byteCount(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

// tones are the classes that colour words.
var tones = map[string]string{
	string(Synced): "good", string(Failing): "bad", string(Bad): "bad",
	string(Held): "wait", string(Waiting): "wait", string(Differs): "wait", string(Applying): "wait",
	string(resource.PhaseReady): "good", string(resource.PhaseFailed): "bad", string(resource.PhaseMissing): "bad",
	string(resource.PhaseRunning): "wait", string(resource.PhasePending): "wait",
	string(resource.Delete): "bad", string(resource.Blocked): "bad", string(resource.Replace): "bad",
	string(resource.RunIt): "wait", string(resource.Update): "wait", string(resource.Create): "good",
	"passed": "good", "ok": "good", "error": "bad",
}

// actionSigns are the symbols of plans.
var actionSigns = map[resource.Action]string{
	resource.Create: "+", resource.Update: "~", resource.Replace: "-/+", resource.Delete: "−", resource.RunIt: "▶",
	resource.Blocked: "✗", resource.Move: "→", resource.Import: "←", resource.Forget: "×", resource.Noop: "·",
}

// tone is the class of a word, whatever its type.
func tone(word any) string {
	if class, ok := tones[fmt.Sprint(word)]; ok {
		return class
	}
	return "plain"
}

func (d *Daemon) pages() []route {
	return []route{
		{"GET /{$}", read, d.overview},
		{"GET /r/{repo}", read, d.one(d.repoPage)},
		{"GET /r/{repo}/plan", read, d.one(d.planPage)},
		{"GET /r/{repo}/runs", read, d.one(d.runsPage)},
		{"GET /r/{repo}/runs/{run}", read, d.one(d.runPage)},
		{"GET /r/{repo}/b/{address}", read, d.one(d.blockPage)},
		{"GET /web/{file}", open, asset},
	}
}

// frame is what every page has around it.
type frame struct {
	Title, Version string
	Crumbs         []crumb
}

// crumb is a step on the way from the overview to a page; the page itself has no link.
type crumb struct{ Name, Href string }

func (d *Daemon) frame(title string, way ...crumb) frame {
	return frame{title, d.opts.Version, append([]crumb{{"Repositories", "/"}}, way...)}
}

func repoCrumb(r *repo) crumb { return crumb{r.conf.Name, "/r/" + r.conf.Name} }

func blockCrumb(r *repo, a resource.Address) crumb {
	return crumb{a.String(), pageOf(r.conf.Name, a)}
}

// page renders a template whole before anything is sent.
func (d *Daemon) page(w http.ResponseWriter, name string, data any) {
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name, data); err != nil {
		d.opts.Log.Error("page", "page", name, "error", err)
		http.Error(w, "this page cannot be shown; the daemon's log says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Write(b.Bytes()) //nolint:errcheck // who went away needs no answer
}

func (d *Daemon) overview(w http.ResponseWriter, _ *http.Request) {
	v := struct {
		frame
		Repositories []Status
	}{frame: frame{Title: "Repositories", Version: d.opts.Version}}
	for _, r := range d.repos {
		v.Repositories = append(v.Repositories, r.look())
	}
	d.page(w, "overview.html", v)
}

// Limits of a repository's page.
const (
	maxBlockTable = 200
	maxRecent     = 8
)

// blockRow is a block in the table.
type blockRow struct {
	Address resource.Address
	State   condition
	Version int
	Note    string
	Row     *engine.StatusRow
}

func (d *Daemon) repoPage(r *repo, w http.ResponseWriter, req *http.Request) {
	snap, _, err := r.snapshot(req.Context())
	if err != nil {
		d.broken(w, r, err)
		return
	}
	s := r.look()
	world := newWorld(&s, r.declared(), snap)
	v := struct {
		frame
		S          Status
		MayApprove bool
		Graph      *drawing
		GraphError string
		Query      string
		Rows       []blockRow
		Found      int
		Total      int
		Runs       []runRow
		Steps      int
	}{frame: d.frame(s.Name, crumb{s.Name, ""}), S: s, Query: strings.TrimSpace(req.URL.Query().Get("q")), MayApprove: d.mayApprove(r, req)}
	if s.plan != nil && report.Changes(s.plan) {
		v.Steps = len(s.plan.Steps)
	}
	if v.Graph, err = world.draw(); err != nil {
		v.GraphError = err.Error()
	}
	v.Rows, v.Found = world.table(v.Query)
	v.Total, v.Runs = len(world.blocks), runRows(snap, resource.Address{}, maxRecent)
	d.page(w, "repository.html", v)
}

// mayApprove says whether who looks may let plans run, and this daemon runs any.
func (d *Daemon) mayApprove(r *repo, req *http.Request) bool {
	has, err := d.rightOf(req)
	return err == nil && has >= write && r.conf.Mode == Apply
}

// table lists the blocks that contain a text, those that want a look first when
// not all of them fit.
func (w *world) table(query string) (rows []blockRow, found int) {
	for _, b := range w.blocks {
		row := blockRow{Address: b.addr, State: w.condition(b.addr), Version: w.version(b.addr), Row: w.rows[b.addr.String()]}
		if row.Row != nil {
			row.Note = row.Row.Note()
		}
		if query == "" || strings.Contains(b.addr.String(), query) || strings.Contains(row.State.Word, query) {
			rows = append(rows, row)
		}
	}
	found = len(rows)
	if found > maxBlockTable {
		sortByRank(rows)
		rows = rows[:maxBlockTable]
	}
	return rows, found
}

// planPage shows the plan that was made last.
func (d *Daemon) planPage(r *repo, w http.ResponseWriter, req *http.Request) {
	s := r.look()
	v := struct {
		frame
		S          Status
		Plan       *planner.Plan
		MayApprove bool
		Steps      []stepView
		More       int
		Total      string
	}{frame: d.frame("Plan of "+s.Name, repoCrumb(r), crumb{"Plan", ""}), S: s, Plan: s.plan, MayApprove: d.mayApprove(r, req)}
	if s.plan != nil {
		v.Total = report.Total(s.plan)
		v.Steps, v.More = stepViews(s.Name, s.plan)
	}
	d.page(w, "plan.html", v)
}

// assets that pages name; nothing else of the folder is served.
var assets = map[string]string{
	"style.css": "text/css; charset=utf-8", "live.js": scriptType, "charts.js": scriptType,
	"icon.svg": "image/svg+xml", "uPlot.iife.min.js": scriptType, "uPlot.min.css": "text/css; charset=utf-8",
}

const scriptType = "text/javascript; charset=utf-8"

func asset(w http.ResponseWriter, req *http.Request) {
	name := req.PathValue("file")
	kind, ok := assets[name]
	raw, err := web.ReadFile("web/" + name)
	if err != nil {
		raw, err = web.ReadFile("web/vendor/" + name)
	}
	if !ok || err != nil {
		http.NotFound(w, req)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "max-age=300")
	w.Write(raw) //nolint:errcheck // who went away needs no answer
}
