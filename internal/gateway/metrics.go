package gateway

import (
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/continuo-ml/continuo/internal/gateway/capture"
)

// keepVersions is for how many versions series are kept: labels never come
// from requests, and old versions go, so their number is bounded.
const keepVersions = 20

// classes are the values of code_class; "gone" is a client that left.
var classes = [...]string{"gone", "1xx", "2xx", "3xx", "4xx", "5xx"}

// meters are the gateway's Prometheus metrics.
type meters struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	errors   *prometheus.CounterVec
	duration *prometheus.HistogramVec
	restarts *prometheus.CounterVec
	weight   *prometheus.GaugeVec
	unkept   prometheus.Counter
	sink     capture.SinkStats

	mu       sync.Mutex
	versions []string // oldest use first
}

// versionMeters are the metrics of one version, looked up once.
type versionMeters struct {
	requests [len(classes)]prometheus.Counter
	errors   prometheus.Counter
	duration prometheus.Observer
	restarts prometheus.Counter
}

func newMeters(rt *router, w *capture.Writer) *meters {
	version := []string{"version"}
	m := &meters{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ml_gateway_requests_total",
			Help: "Requests that a model server was asked, by version and class of the answer (gone: the client left)."}, []string{"version", "code_class"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ml_gateway_errors_total",
			Help: "Requests that failed by the model's fault: 5xx, timeouts, broken connections."}, version),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "ml_gateway_request_duration_seconds",
			Help:    "Time from the request's arrival to the end of its answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}}, version),
		restarts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ml_gateway_server_restarts_total",
			Help: "Model servers that were started again."}, version),
		weight: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "ml_gateway_rollout_weight",
			Help: "Share of the traffic that a version gets, in percent."}, version),
		unkept: prometheus.NewCounter(prometheus.CounterOpts{Name: "ml_gateway_sink_refused_total",
			Help: "Requests that were refused because their answers could not be kept for the sink."}),
	}
	count := func(name, help string, n *atomic.Uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(n.Load()) })
	}
	m.registry.MustRegister(m.requests, m.errors, m.duration, m.restarts, m.weight, m.unkept,
		count("ml_gateway_sink_sent_total", "Answers that arrived at the sink.", &m.sink.Sent),
		count("ml_gateway_sink_rejected_total", "Answers that the sink refused for good (4xx other than 408 and 429).", &m.sink.Rejected),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ml_gateway_sink_unsent_bytes",
			Help: "Disk space of captured answers that wait for the sink."}, func() float64 { return float64(w.Owed()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ml_gateway_in_flight",
			Help: "Requests that are running."}, func() float64 { return float64(rt.inflight.Load()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "ml_gateway_capture_dropped_total",
			Help: "Answers that were not captured because the queue was full or the disk failed."}, func() float64 { return float64(w.Dropped()) }))
	return m
}

// version returns the meters of a version, and drops those of the version
// that has been out of use for longest when there are too many.
func (m *meters) version(number int) *versionMeters {
	m.mu.Lock()
	defer m.mu.Unlock()
	label := strconv.Itoa(number)
	if i := slices.Index(m.versions, label); i >= 0 {
		m.versions = slices.Delete(m.versions, i, i+1)
	}
	m.versions = append(m.versions, label)
	if len(m.versions) > keepVersions {
		old := m.versions[0]
		m.versions = m.versions[1:]
		by := prometheus.Labels{"version": old}
		for _, vec := range []interface {
			DeletePartialMatch(prometheus.Labels) int
		}{m.requests, m.errors, m.duration, m.restarts, m.weight} {
			vec.DeletePartialMatch(by)
		}
	}
	v := &versionMeters{
		errors:   m.errors.WithLabelValues(label),
		duration: m.duration.WithLabelValues(label),
		restarts: m.restarts.WithLabelValues(label),
	}
	for i, class := range classes {
		v.requests[i] = m.requests.WithLabelValues(label, class)
	}
	return v
}

// latency is the histogram of a version's answers so far.
func (m *meters) latency(number int) Histogram {
	var out dto.Metric
	metric, ok := m.duration.WithLabelValues(strconv.Itoa(number)).(prometheus.Metric)
	if !ok || metric.Write(&out) != nil {
		return Histogram{}
	}
	var h Histogram
	below := uint64(0)
	for _, b := range out.GetHistogram().GetBucket() { // cumulative, and without the last
		h.Bounds = append(h.Bounds, b.GetUpperBound())
		h.Counts = append(h.Counts, b.GetCumulativeCount()-below)
		below = b.GetCumulativeCount()
	}
	h.Counts = append(h.Counts, out.GetHistogram().GetSampleCount()-below)
	return h
}

// setWeights publishes who gets how much.
func (m *meters) setWeights(t *route) {
	m.weight.Reset()
	rest := 100
	if t.candidate != nil {
		rest -= t.weight
		m.weight.WithLabelValues(strconv.Itoa(t.candidate.spec.Model.Number)).Set(float64(t.weight))
	}
	// Added, since both releases may be of one version.
	if t.current != nil {
		m.weight.WithLabelValues(strconv.Itoa(t.current.spec.Model.Number)).Add(float64(rest))
	}
}

func (v *versionMeters) observe(status int, latency time.Duration, failed, gone bool) {
	class := status / 100
	if gone || class < 1 || class > 5 {
		class = 0
	}
	v.requests[class].Inc()
	if failed {
		v.errors.Inc()
	}
	if !gone {
		v.duration.Observe(latency.Seconds())
	}
}
