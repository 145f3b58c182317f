package config

import (
	"time"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/resource"
)

// Monitor watches a deployment's traffic and judges it window by window.
type Monitor struct {
	Deployment  *DeploymentOutputs `ml:"deployment,required,follow" doc:"The deployment to watch. A new version of it starts a new verdict, and is no change of the monitor."`
	Reference   *Data              `ml:"reference,spec=data" doc:"Data that the traffic is compared with, usually the training split. It moves with the version that serves, also back: what is judged is compared with what it was trained on."`
	Features    []string           `ml:"features" doc:"Names of array instances' positions. Default: the reference's columns in order, without target, id and timestamp."`
	Window      *Window            `ml:"window" doc:"How much traffic is judged at once: { requests } or { duration }."`
	MinSamples  int                `ml:"min_samples,default=30,min=1" doc:"Instances that a window needs; with fewer the signal is too_few."`
	Drift       *Drift             `ml:"drift,block" doc:"Whether inputs and predictions are distributed as in the reference."`
	Performance *Performance       `ml:"performance,block" doc:"Whether predictions were right, once labels arrive."`
	Latency     *Latency           `ml:"latency,block" doc:"Whether answers are fast and succeed."`
	Alert       *Alert             `ml:"alert,block" doc:"Who is told when a signal turns bad, or good again: once per turn. A notifier that cannot be reached is told by the next ml monitor or ml apply."`
}

// Window is how much traffic is judged at once.
type Window struct {
	Requests int           `ml:"requests,min=1" doc:"Number of requests."`
	Duration time.Duration `ml:"duration" doc:"Length of time."`
}

// Drift compares distributions.
type Drift struct {
	Method      string        `ml:"method,default=auto" enum:"auto|ks|psi|wasserstein|jensen_shannon|chi_square|z|kl_div|hellinger|tvd" doc:"How columns are compared; auto picks by type and size."`
	Threshold   *float64      `ml:"threshold,min=0" doc:"Bound of the statistic or p-value; each method has its default."`
	Share       float64       `ml:"share,default=0.5,min=0,max=1" doc:"Share of columns that must drift."`
	Confirm     int           `ml:"confirm,default=1,min=1,max=1000" doc:"Consecutive windows that must drift."`
	Columns     []string      `ml:"columns" doc:"Columns to compare. Default: all features."`
	Predictions *bool         `ml:"predictions" doc:"Whether predictions are compared with the reference's target. Default: when the reference has one."`
	Correction  string        `ml:"correction,default=none" enum:"none|bonferroni|fdr" doc:"Correction of p-values for many columns."`
	Overrides   []DriftColumn `ml:"column,block" doc:"Another method or threshold for one column."`
}

// DriftColumn overrides the method for one column.
type DriftColumn struct {
	Name      string   `ml:"name,label"`
	Method    string   `ml:"method" enum:"auto|ks|psi|wasserstein|jensen_shannon|chi_square|z|kl_div|hellinger|tvd" doc:"How this column is compared."`
	Threshold *float64 `ml:"threshold,min=0" doc:"Bound for this column."`
}

// Performance joins predictions with labels.
type Performance struct {
	Labels     *Data   `ml:"labels,required,follow" doc:"Dataset with the labels; late ones are welcome. New rows are no change of the monitor."`
	ID         string  `ml:"id,default=prediction_id" doc:"Column with the prediction id."`
	Label      string  `ml:"label,required" doc:"Column with the label."`
	Positive   string  `ml:"positive" doc:"The positive class for precision, recall and f1; default: of two classes the one that sorts last."`
	MinSamples int     `ml:"min_samples,default=30,min=1" doc:"Joined predictions that a window needs."`
	Confirm    int     `ml:"confirm,default=1,min=1,max=1000" doc:"Consecutive windows that must be bad."`
	Metrics    []Bound `ml:"metric,block,required" doc:"A bound on accuracy, precision, recall, f1, mae, rmse or r2."`
}

// Bound bounds one metric.
type Bound struct {
	Name string   `ml:"name,label"`
	Min  *float64 `ml:"min" doc:"Least value."`
	Max  *float64 `ml:"max" doc:"Greatest value."`
}

// Latency bounds the answers' latency and failures.
type Latency struct {
	P50       *time.Duration `ml:"p50" doc:"Greatest median."`
	P95       *time.Duration `ml:"p95" doc:"Greatest 95th percentile."`
	P99       *time.Duration `ml:"p99" doc:"Greatest 99th percentile."`
	ErrorRate *float64       `ml:"error_rate,min=0,max=1" doc:"Greatest share of failed requests."`
	Confirm   int            `ml:"confirm,default=1,min=1,max=1000" doc:"Consecutive windows that must be bad."`
}

// Alert names who is told.
type Alert struct {
	Notify []NotifierOutputs `ml:"notify,required,policy" doc:"Notifiers."`
}

// MonitorOutputs is what other blocks may use of a monitor.
type MonitorOutputs struct {
	Address     string  `ml:"address" doc:"Address of the monitor."`
	Drift       *Signal `ml:"drift" doc:"The drift signal."`
	Performance *Signal `ml:"performance" doc:"The performance signal."`
	Latency     *Signal `ml:"latency" doc:"The latency signal."`
}

func monitorKind() Kind {
	return Kind{
		Name: "monitor", Class: resource.Object,
		Doc:  "Watches a deployment's requests and answers, window by window, and records a signal for drift, performance and latency, which a training's retrain block may listen to.",
		Spec: Monitor{}, Outputs: MonitorOutputs{},
		Signals: []string{"drift", "performance", "latency"}, KeepAttr: "reference", KeepWith: "deployment",
		Check: checkMonitor, Notify: notified,
	}
}

func checkMonitor(v cty.Value) []Problem {
	var ps []Problem
	if set(v, "drift") && !set(v, "reference") {
		ps = append(ps, Problem{"drift", "Drift needs a reference", "Add reference = dataset.NAME.split.train to the monitor."})
	}
	if !set(v, "drift") && !set(v, "performance") && !set(v, "latency") {
		ps = append(ps, Problem{"", "This monitor watches nothing", "Add a drift, performance or latency block."})
	}
	if w, ok := known(v, "window"); ok && set(w, "requests") == set(w, "duration") {
		ps = append(ps, Problem{"window", "A window has requests or a duration", "Write window = { requests = 200 } or window = { duration = \"24h\" }."})
	}
	return ps
}

// notified lists the notifiers of the alert block.
func notified(v cty.Value) []string {
	alert, ok := known(v, "alert")
	if !ok {
		return nil
	}
	var out []string
	for _, n := range blocks(alert, "notify") {
		if a, ok := known(n, "address"); ok {
			out = append(out, a.AsString())
		}
	}
	return out
}
