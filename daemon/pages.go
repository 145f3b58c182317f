package daemon

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"time"

	"github.com/continuo-ml/continuo/report"
	"github.com/continuo-ml/continuo/resource"
)

//go:embed web
var web embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"ago":   func(t time.Time) string { return report.Ago(t, time.Now()) },
	"short": short,
	"stamp": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") },
	"iso":   func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"value": report.Value,
	"tone":  tone,
}).ParseFS(web, "web/*.html"))

// short is a commit or digest as people name it.
func short(s string) string {
	if len(s) > 12 {
		return s[:12]
	}
	return s
}

// tones are the classes that colour words.
var tones = map[string]string{
	string(Synced): "good", string(Failing): "bad", string(Bad): "bad",
	string(Held): "wait", string(Waiting): "wait", string(Differs): "wait", string(Applying): "wait",
	string(resource.PhaseReady): "good", string(resource.PhaseFailed): "bad", string(resource.PhaseMissing): "bad",
	string(resource.Delete): "bad", string(resource.Blocked): "bad", string(resource.Replace): "bad",
	string(resource.RunIt): "wait", string(resource.Update): "wait",
	"passed": "good", "ok": "good", "error": "bad",
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
		{"GET /web/{file}", open, asset},
	}
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
	var list []Status
	for _, r := range d.repos {
		list = append(list, r.look())
	}
	d.page(w, "overview.html", map[string]any{"Title": "Repositories", "Repositories": list, "Version": d.opts.Version})
}

func (d *Daemon) repoPage(r *repo, w http.ResponseWriter, _ *http.Request) {
	s := r.look()
	d.page(w, "repository.html", map[string]any{"Title": s.Name, "S": s, "Plan": s.plan, "Version": d.opts.Version})
}

// assets that pages name; nothing else of the folder is served.
var assets = map[string]string{"style.css": "text/css; charset=utf-8", "live.js": "text/javascript; charset=utf-8"}

func asset(w http.ResponseWriter, req *http.Request) {
	name := req.PathValue("file")
	kind, ok := assets[name]
	raw, err := web.ReadFile("web/" + name)
	if !ok || err != nil {
		http.NotFound(w, req)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "max-age=300")
	w.Write(raw) //nolint:errcheck // who went away needs no answer
}
