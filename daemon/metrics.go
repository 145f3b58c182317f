package daemon

import (
	"errors"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/continuo-ml/continuo/daemon/internal/status"
	"github.com/continuo-ml/continuo/engine"
)

// meters are what Prometheus reads of the daemon.
type meters struct {
	registry *prometheus.Registry
	cycles   *prometheus.HistogramVec
	hooks    *prometheus.CounterVec
	mu       sync.Mutex
	signal   *prometheus.GaugeVec
	version  *prometheus.GaugeVec
}

func newMeters(version string) *meters {
	m := &meters{
		registry: prometheus.NewRegistry(),
		cycles: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ml_reconcile_duration_seconds", Help: "How long a cycle of a repository took, by how it ended.",
			Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200},
		}, []string{"repository", "result"}),
		hooks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ml_webhooks_total", Help: "Webhooks that came, by what became of them.",
		}, []string{"repository", "result"}),
		signal: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ml_signal_bad", Help: "1 while a monitor's signal is bad or cannot be told.",
		}, []string{"repository", "address", "signal"}),
		version: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ml_model_version", Help: "Version of the model that a block has or serves.",
		}, []string{"repository", "address"}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "ml_build_info", Help: "1, with the daemon's version.",
		ConstLabels: prometheus.Labels{"version": version, "go": runtime.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(m.cycles, m.hooks, m.signal, m.version, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *meters) cycle(repo string, err error, took time.Duration) {
	result := "done"
	switch {
	case errors.Is(err, errSuperseded):
		result = "superseded"
	case err != nil:
		result = "error"
	}
	m.cycles.WithLabelValues(repo, result).Observe(took.Seconds())
}

// blocks replaces the gauges of a repository: blocks come and go.
func (m *meters) blocks(repo string, rows []engine.StatusRow) {
	m.mu.Lock()
	defer m.mu.Unlock()
	own := prometheus.Labels{"repository": repo}
	m.signal.DeletePartialMatch(own)
	m.version.DeletePartialMatch(own)
	for _, row := range rows {
		for name, state := range row.Signal {
			bad := 0.0
			if state == "bad" || state == "error" {
				bad = 1
			}
			m.signal.WithLabelValues(repo, row.Address, name).Set(bad)
		}
		if row.Version > 0 {
			m.version.WithLabelValues(repo, row.Address).Set(float64(row.Version))
		}
	}
}

// leads adds whether this daemon leads, where several elect one.
func (m *meters) leads(e *election) {
	if e == nil {
		return
	}
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ml_leader", Help: "1 while this daemon leads, 0 while it stands by."}, func() float64 {
		if e.guard() != nil {
			return 0
		}
		return 1
	}))
}

// watch adds what is read from the repositories when somebody asks.
func (m *meters) watch(repos []*repo) {
	for _, r := range repos {
		labels := prometheus.Labels{"repository": r.conf.Name}
		gauge := func(name, help string, value func(status.Repository) float64) prometheus.Collector {
			return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, func() float64 { return value(r.look()) })
		}
		m.registry.MustRegister(
			gauge("ml_pending_approvals", "Plans that wait for an approval.", func(s status.Repository) float64 {
				if s.Held != nil && s.Held.Approved == "" {
					return 1
				}
				return 0
			}),
			gauge("ml_reconcile_failures", "Cycles that failed in a row.", func(s status.Repository) float64 { return float64(s.Failures) }),
			gauge("ml_revision_pending", "1 while the newest commit is not the applied one.", func(s status.Repository) float64 {
				if s.Observed.Commit != s.Applied.Commit {
					return 1
				}
				return 0
			}),
			gauge("ml_revision_refused", "1 while the newest commit is not worked with for its signatures.", func(s status.Repository) float64 {
				if s.Refused != nil {
					return 1
				}
				return 0
			}),
			gauge("ml_news_owed", "Notices that were not delivered yet.", func(status.Repository) float64 {
				if r.box == nil {
					return 0
				}
				return float64(len(r.box.Owed()))
			}),
			gauge("ml_drifted", "Blocks that were changed behind the daemon's back.", func(s status.Repository) float64 {
				if s.Plan == nil {
					return 0
				}
				return float64(len(s.Plan.Drift))
			}),
			gauge("ml_queue", "Steps of the plan that wait to be done.", func(s status.Repository) float64 {
				if s.Plan == nil || s.Phase == status.Synced || s.Phase == status.Bad {
					return 0
				}
				n := s.Plan.Summary
				return float64(n.Create + n.Update + n.Replace + n.Delete + n.Run)
			}),
		)
	}
}

func (m *meters) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
}

// hook counts a webhook.
func (m *meters) hook(repo, result string) {
	m.hooks.WithLabelValues(repo, strings.ToLower(result)).Inc()
}
