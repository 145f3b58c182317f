// Package site is what people see of the daemon in a browser: its pages, the graph,
// the numbers of its charts, and runs as they go on.
package site

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/continuo-ml/continuo/daemon/internal/reply"
	"github.com/continuo-ml/continuo/daemon/internal/status"
	"github.com/continuo-ml/continuo/engine"
	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/report"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

//go:embed web
var web embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"ago":      func(t time.Time) string { return report.Ago(t, time.Now()) },
	"short":    status.Short,
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
	"digest":   func(d resource.Digest) string { return status.Short(d.Hex()) },
}).ParseFS(web, "web/*.html"))

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
	string(status.Synced): "good", string(status.Failing): "bad", string(status.Bad): "bad",
	string(status.Held): "wait", string(status.Waiting): "wait", string(status.Differs): "wait", string(status.Applying): "wait",
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

// Project is a repository as its pages look at it.
type Project interface {
	Status() status.Repository
	// Blocks are those of the files as they were loaded last, in their order.
	Blocks() []Block
	// Snapshot reads the state, whoever writes it now.
	Snapshot(ctx context.Context) (*state.Snapshot, error)
	// Runs are the runs of a block, oldest first.
	Runs(ctx context.Context, a resource.Address) ([]*state.Run, error)
	// Windows are the kept windows of a monitor's signal, oldest first.
	Windows(monitor resource.Address, signal string) ([]state.Window, error)
	// RunFolder is where a run has its files on this machine, if it has any here.
	RunFolder(id string) string
	// WriteLog writes a run's log, with follow as it grows; open says that it goes on.
	WriteLog(ctx context.Context, a resource.Address, id string, open, follow bool, to io.Writer) error
}

// Site serves the pages of projects.
type Site struct {
	Version string
	Log     *slog.Logger
	// MayApprove says whether who asks may let plans run.
	MayApprove func(*http.Request) bool
	// MayFollow gives a reader who stays one of the places, and the function that
	// gives it back; it answers who gets none.
	MayFollow func(http.ResponseWriter) (leave func(), ok bool)

	projects []*project
}

// project is a Project and what the site itself keeps of it.
type project struct {
	Project
	name string
	log  *slog.Logger

	mu     sync.Mutex
	curves map[string]*curve // by run
}

// Add shows a project under the name that its status has.
func (s *Site) Add(p Project) {
	name := p.Status().Name
	s.projects = append(s.projects, &project{Project: p, name: name, log: s.Log.With("repository", name), curves: map[string]*curve{}})
}

// Route is a pattern of http.ServeMux, and what answers. Public ones say nothing of
// any project.
type Route struct {
	Pattern string
	Public  bool
	Handle  http.HandlerFunc
}

// Routes are all that the site answers.
func (s *Site) Routes() []Route {
	return []Route{
		{"GET /{$}", false, s.overview},
		{"GET /r/{repo}", false, s.one(s.projectPage)},
		{"GET /r/{repo}/plan", false, s.one(s.planPage)},
		{"GET /r/{repo}/runs", false, s.one(s.runsPage)},
		{"GET /r/{repo}/runs/{run}", false, s.one(s.runPage)},
		{"GET /r/{repo}/b/{address}", false, s.one(s.blockPage)},
		{"GET /web/{file}", true, asset},
		{"GET /api/v1/repositories/{repo}/follow/{run}", false, s.one(s.followRun)},
		{"GET /api/v1/repositories/{repo}/graph", false, s.one(s.showGraph)},
		{"GET /api/v1/repositories/{repo}/charts/versions/{address}", false, s.one(s.showVersionCharts)},
		{"GET /api/v1/repositories/{repo}/charts/windows/{address}", false, s.one(s.showWindowCharts)},
		{"GET /api/v1/repositories/{repo}/charts/run/{run}", false, s.one(s.showRunCharts)},
	}
}

// one finds the project that a request names.
func (s *Site) one(next func(*project, http.ResponseWriter, *http.Request)) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		i := slices.IndexFunc(s.projects, func(p *project) bool { return p.name == req.PathValue("repo") })
		if i < 0 {
			http.Error(w, "there is no such repository", http.StatusNotFound)
			return
		}
		next(s.projects[i], w, req)
	}
}

// recorded reads the address that a request names, and the state; it answers when there is none.
func (p *project) recorded(w http.ResponseWriter, req *http.Request) (a resource.Address, snap *state.Snapshot, ok bool) {
	if a, ok = reply.Address(w, req); !ok {
		return a, nil, false
	}
	snap, err := p.Snapshot(req.Context())
	if err != nil {
		reply.Unreadable(w, p.log, err)
	}
	return a, snap, err == nil
}

// frame is what every page has around it.
type frame struct {
	Title, Version string
	Crumbs         []crumb
}

// crumb is a step on the way from the overview to a page; the page itself has no link.
type crumb struct{ Name, Href string }

func (s *Site) frame(title string, way ...crumb) frame {
	return frame{title, s.Version, append([]crumb{{"Repositories", "/"}}, way...)}
}

func (p *project) crumb() crumb { return crumb{p.name, "/r/" + p.name} }

func (p *project) blockCrumb(a resource.Address) crumb { return crumb{a.String(), pageOf(p.name, a)} }

// page renders a template whole before anything is sent.
func (s *Site) page(w http.ResponseWriter, name string, data any) {
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name, data); err != nil {
		s.Log.Error("page", "page", name, "error", err)
		http.Error(w, "this page cannot be shown; the daemon's log says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Write(b.Bytes()) //nolint:errcheck // who went away needs no answer
}

func (s *Site) overview(w http.ResponseWriter, _ *http.Request) {
	v := struct {
		frame
		Repositories []status.Repository
	}{frame: frame{Title: "Repositories", Version: s.Version}}
	for _, p := range s.projects {
		v.Repositories = append(v.Repositories, p.Status())
	}
	s.page(w, "overview.html", v)
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

// stands reads how a project stands; it answers when its state cannot be read.
func (p *project) stands(w http.ResponseWriter, req *http.Request) (st status.Repository, world *world, ok bool) {
	snap, err := p.Snapshot(req.Context())
	if err != nil {
		reply.Unreadable(w, p.log, err)
		return st, nil, false
	}
	st = p.Status()
	return st, newWorld(&st, p.Blocks(), snap), true
}

func (s *Site) projectPage(p *project, w http.ResponseWriter, req *http.Request) {
	st, world, ok := p.stands(w, req)
	if !ok {
		return
	}
	v := struct {
		frame
		S          status.Repository
		MayApprove bool
		Graph      *drawing
		GraphError string
		Query      string
		Rows       []blockRow
		Found      int
		Total      int
		Runs       []runRow
		Steps      int
	}{frame: s.frame(st.Name, crumb{st.Name, ""}), S: st, Query: strings.TrimSpace(req.URL.Query().Get("q")), MayApprove: s.mayApprove(&st, req)}
	if st.Plan != nil && report.Changes(st.Plan) {
		v.Steps = len(st.Plan.Steps)
	}
	var err error
	if v.Graph, err = world.draw(); err != nil {
		v.GraphError = err.Error()
	}
	v.Rows, v.Found = world.table(v.Query)
	v.Total, v.Runs = len(world.blocks), runRows(world.snap, resource.Address{}, maxRecent)
	s.page(w, "repository.html", v)
}

// mayApprove says whether who looks may let plans run, and the daemon runs any of this project.
func (s *Site) mayApprove(of *status.Repository, req *http.Request) bool {
	return of.Mode == status.Applies && s.MayApprove(req)
}

// table lists the blocks that contain a text, those that want a look first when
// not all of them fit.
func (w *world) table(query string) (rows []blockRow, found int) {
	for _, b := range w.blocks {
		row := blockRow{Address: b.Addr, State: w.condition(b.Addr), Version: w.version(b.Addr), Row: w.rows[b.Addr.String()]}
		if row.Row != nil {
			row.Note = row.Row.Note()
		}
		if query == "" || strings.Contains(b.Addr.String(), query) || strings.Contains(row.State.Word, query) {
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
func (s *Site) planPage(p *project, w http.ResponseWriter, req *http.Request) {
	st := p.Status()
	v := struct {
		frame
		S          status.Repository
		Plan       *planner.Plan
		MayApprove bool
		Steps      []stepView
		More       int
		Total      string
	}{frame: s.frame("Plan of "+st.Name, p.crumb(), crumb{"Plan", ""}), S: st, Plan: st.Plan, MayApprove: s.mayApprove(&st, req)}
	if st.Plan != nil {
		v.Total = report.Total(st.Plan)
		v.Steps, v.More = stepViews(st.Name, st.Plan)
	}
	s.page(w, "plan.html", v)
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
