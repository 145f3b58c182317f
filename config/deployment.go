package config

import (
	"strconv"
	"time"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/resource"
)

// Deployment serves a model version behind a stable endpoint.
type Deployment struct {
	Exec
	Model       *Model        `ml:"model,required,spec=upstream" doc:"The version to serve, such as validation.x.model."`
	Image       string        `ml:"image" doc:"Container image (cluster providers)."`
	Format      string        `ml:"format" doc:"Model format for a serving runtime (cluster providers)."`
	Replicas    int           `ml:"replicas,default=1,min=0,max=1000" doc:"Number of server processes."`
	Port        int           `ml:"port,min=0,max=65535" doc:"Port of the endpoint; by default one is chosen once and kept."`
	Readiness   *Readiness    `ml:"readiness,block" doc:"When a server counts as ready."`
	Rollout     *Rollout      `ml:"rollout,block" doc:"How a new version replaces the old one."`
	Transformer *Transformer  `ml:"transformer,block" doc:"A server in front of the predictor, which it finds in PREDICTOR_HOST."`
	Sink        *Sink         `ml:"sink,block" doc:"Where 2xx answers are sent downstream with their id, each at least once: no client has one in full before its record is with the operating system, so that a kill of the gateway loses none (a power cut may take the last). While the sink is down they wait on the disk, up to four times capture.max_mb; then requests get 503 until it takes them. What a destroyed deployment leaves unsent is kept in .ml/unsent."`
	Capture     *Capture      `ml:"capture,block" doc:"What is kept of requests and answers for monitors."`
	Scale       *Scale        `ml:"scale,block" doc:"Autoscaling (cluster providers)."`
	Resources   *ServerUse    `ml:"resources,block" doc:"What a server may use."`
	Drain       time.Duration `ml:"drain,default=30s" doc:"How long requests in flight may take when a server stops."`
}

// Readiness says when a server counts as ready.
type Readiness struct {
	Path    string        `ml:"path" doc:"Path that answers 2xx when ready. Default: any answer to GET /."`
	Timeout time.Duration `ml:"timeout,default=1m" doc:"How long a server may take to become ready."`
}

// Rollout says how a new version replaces the old one.
type Rollout struct {
	Strategy    string        `ml:"strategy,default=rolling" enum:"rolling|canary|blue_green|shadow" doc:"How. The first creation skips the steps."`
	Steps       []int         `ml:"steps" doc:"Percentages of a canary, rising, ending at 100. Default [10, 50, 100]."`
	Interval    time.Duration `ml:"interval,default=30s" doc:"How long each step is watched."`
	MaxWait     time.Duration `ml:"max_wait" doc:"How long a step may wait for enough requests. Default ten intervals."`
	OnNoTraffic string        `ml:"on_no_traffic,default=hold" enum:"hold|promote|abort" doc:"What happens then."`
	Abort       *Abort        `ml:"abort,block" doc:"When the new version is taken back and quarantined."`
	Requests    int           `ml:"requests,default=100,min=1" doc:"Mirrored requests that a shadow compares."`
}

// Abort bounds what a candidate may do.
type Abort struct {
	ErrorRate   *float64       `ml:"error_rate,min=0,max=1" doc:"Greatest share of failed requests."`
	P99         *time.Duration `ml:"p99" doc:"Greatest 99th percentile of the latency."`
	MinRequests int            `ml:"min_requests,default=20,min=1" doc:"Requests needed before a step is judged."`
}

// Transformer is a server in front of the predictor.
type Transformer struct {
	Command []string          `ml:"command,required" doc:"Argument list of the server; it listens on PORT."`
	Env     map[string]string `ml:"env" doc:"Environment variables."`
}

// Sink is where answers go.
type Sink struct {
	URL  string `ml:"url" doc:"Where each answer is POSTed as JSON. A 4xx other than 408 and 429 refuses it for good; after any other failure it is sent again."`
	File string `ml:"file" doc:"File inside the project that each answer is appended to."`
}

// Capture bounds what is kept of the traffic.
type Capture struct {
	Enabled bool  `ml:"enabled,default=true" doc:"Whether requests and answers are kept."`
	MaxMB   int64 `ml:"max_mb,default=512,min=1" doc:"Disk space; the oldest segments go first, but never one with answers that wait for the sink."`
}

// ServerUse is what a server may use. Unlike a run's resources it is no policy: servers that run already get what was declared.
type ServerUse struct {
	CPU    string `ml:"cpu" doc:"CPU cores, such as \"2\" or \"500m\"."`
	Memory string `ml:"memory" doc:"Memory, such as \"4Gi\"."`
	GPU    int    `ml:"gpu,min=0" doc:"Number of GPUs."`
}

// Scale bounds autoscaling.
type Scale struct {
	Min    int     `ml:"min,default=1,min=0" doc:"Least number of replicas."`
	Max    int     `ml:"max,required,min=1" doc:"Greatest number of replicas."`
	Metric string  `ml:"metric,default=cpu" enum:"cpu|memory|concurrency|rps" doc:"What is scaled by."`
	Target float64 `ml:"target,default=70" doc:"Value to hold."`
}

// DeploymentOutputs is what other blocks may use of a deployment.
type DeploymentOutputs struct {
	Address  string `ml:"address" doc:"Address of the deployment."`
	Endpoint string `ml:"endpoint" doc:"URL that answers requests."`
	Version  int    `ml:"version" doc:"Version that serves."`
	Digest   string `ml:"digest" doc:"Digest of the model that serves."`
	Metrics  string `ml:"metrics" doc:"URL of its metrics, for Prometheus: requests, errors and latency by version, captured and sunk answers (local)."`
}

func deploymentKind() Kind {
	return Kind{
		Name: "deployment", Class: resource.Object, PinAttr: "model",
		Doc:  "Serves a model version behind an endpoint that never changes. A new version takes over by its rollout; one that fails in it is taken back and quarantined. Clients speak HTTP/1.1; a protocol upgrade such as WebSocket gets 501.",
		Spec: Deployment{}, Outputs: DeploymentOutputs{},
		Probes: []string{"code"}, ProbeCodes: codeProbe,
		Check: checkDeployment, Plan: planDeployment,
	}
}

func checkDeployment(v cty.Value) []Problem {
	ps := execProblems(v)
	if !set(v, "command") && !set(v, "image") && !set(v, "format") {
		ps = append(ps, Problem{"", "A deployment needs a server", "Add command = [\"python3\", \"serve.py\"], an image, or a format for a serving runtime."})
	}
	if s, ok := known(v, "sink"); ok && set(s, "url") == set(s, "file") {
		ps = append(ps, Problem{"sink", "A sink has a url or a file", "Give exactly one of them."})
	}
	if r, ok := known(v, "rollout"); ok {
		ps = append(ps, checkSteps(r)...)
	}
	return ps
}

func checkSteps(rollout cty.Value) []Problem {
	steps, ok := known(rollout, "steps")
	if !ok || !steps.IsWhollyKnown() {
		return nil
	}
	last := 0.0
	for _, s := range steps.AsValueSlice() {
		n := 0.0
		if !s.IsNull() {
			n, _ = s.AsBigFloat().Float64()
		}
		if n <= last || n > 100 || n != float64(int(n)) {
			return []Problem{{"rollout.steps", "Canary steps must rise to 100", "Write whole percentages from 1 to 100 in rising order, such as [10, 50, 100]; " + strconv.FormatFloat(n, 'g', -1, 64) + " is out of place."}}
		}
		last = n
	}
	if last != 100 {
		return []Problem{{"rollout.steps", "Canary steps must end at 100", "Add 100 as the last step: it is when the new version has taken over."}}
	}
	return nil
}

// planDeployment: the ports are stable once chosen.
func planDeployment(spec cty.Value, _ map[string]string, prior cty.Value) map[string]cty.Value {
	out := map[string]cty.Value{}
	for _, name := range []string{"endpoint", "metrics"} {
		if v, ok := known(prior, name); ok {
			out[name] = v
		}
	}
	if m, ok := known(spec, "model"); ok {
		if n, ok := known(m, "version"); ok {
			out["version"] = n
		}
		if d, ok := known(m, "digest"); ok {
			out["digest"] = d
		}
	}
	return out
}
