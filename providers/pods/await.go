package pods

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/internal/pod"
	"github.com/continuo-ml/continuo/internal/runner"
)

// diagnoseEvery is the least time between two looks for why no pod begins.
const diagnoseEvery = 3 * time.Second

// await brings a stage to its end.
func (e *executor) await(ctx context.Context, f folder, k known, on func(runner.Progress)) (outcome, error) {
	c, err := e.Cluster()
	if err != nil {
		return outcome{}, err
	}
	var job *unstructured.Unstructured
	var pods []corev1.Pod
	s := starting{client: c, container: e.Kind.Container(), within: k.placed.Start}
	w := &watch{client: c, kind: e.Kind, k: k, every: s.every, sink: func(index int) (sink, error) {
		if index > 0 {
			on = nil
		}
		return newMirror(f, index, on)
	}}
	err = w.run(ctx, func(j *unstructured.Unstructured, ps []corev1.Pod) error {
		job, pods = j, ps
		return s.look(ctx, j, ps)
	})
	var cause *kube.CauseError
	switch {
	case errors.Is(err, errGone):
		return e.gone(ctx, f, k)
	case errors.As(err, &cause):
		begun := s.begun
		if !begun {
			// A process before this one may have seen it.
			if begun, err = f.mirrored(); err != nil {
				return outcome{}, err
			}
		}
		return outcome{Status: runner.Status{
			ID: k.placed.Run, Phase: runner.Failed, ExitCode: -1, Started: k.created.At, Finished: time.Now().UTC(), Message: cause.Cause.String(), NotBegun: !begun,
		}}, nil
	case err != nil:
		return outcome{}, err
	}
	return e.collect(ctx, f, k, job, pods)
}

// gone is a stage whose object was deleted. Its pod may have stored the result before.
func (e *executor) gone(ctx context.Context, f folder, k known) (outcome, error) {
	fresh, err := f.known() // a cancel may have come meanwhile
	switch {
	case err != nil:
		return outcome{}, err
	case fresh.isOver:
		return fresh.outcome, nil
	}
	o, err := e.result(ctx, f, k)
	switch {
	case err == nil && o.Status.Phase != runner.Cancelled:
		return o, nil
	case err != nil && !errors.Is(err, oci.ErrNotFound):
		return outcome{}, err
	case fresh.cancelled:
		return outcome{Status: cancelled("cancelled")}, nil
	}
	return outcome{Status: lost(f, k)}, nil
}

// collect takes what the pods have left.
func (e *executor) collect(ctx context.Context, f folder, k known, job *unstructured.Unstructured, pods []corev1.Pod) (outcome, error) {
	o, err := e.result(ctx, f, k)
	if err == nil || !errors.Is(err, oci.ErrNotFound) {
		return o, err
	}
	c, err := e.Cluster()
	if err != nil {
		return outcome{}, err
	}
	st, ok := lastWords(pods, e.Kind.Container())
	if !ok {
		st = runner.Status{Phase: runner.Failed, ExitCode: -1, Message: kube.Ready(job).Message}
		cause, found, err := c.Diagnose(ctx, job)
		if err != nil {
			return outcome{}, err
		}
		if found && cause.Code != kube.CauseFailed {
			st.Message = cause.String()
		}
		late, err := e.Kind.Late(ctx, c, job)
		if err != nil {
			return outcome{}, err
		}
		if late {
			st.Phase, st.Message = runner.TimedOut, "was ended at its deadline: "+st.Message
		}
	}
	st.ID, st.Started, st.Finished = k.placed.Run, k.created.At, time.Now().UTC()
	if len(st.LastLogLines) == 0 {
		if st.LastLogLines, err = runner.Tail(string(f), lastLines); err != nil {
			return outcome{}, err
		}
	}
	return outcome{Status: st}, nil
}

// result fetches what the first pod stored, and puts it where the runner of this machine would have.
func (e *executor) result(ctx context.Context, f folder, k known) (outcome, error) {
	dir := f.at(resultDir)
	if err := os.RemoveAll(dir); err != nil {
		return outcome{}, err
	}
	res, err := pod.FetchResult(ctx, e.Artifacts.Client, k.placed.Results, k.placed.Run, dir)
	if err != nil {
		return outcome{}, err
	}
	o := outcome{Status: res.Status}
	o.Status.ID, o.Status.Phase, o.Status.ExitCode, o.Status.Message = k.placed.Run, res.Phase, res.ExitCode, res.Message
	o.Status.Changed = nil // names of the pod's own copies
	if res.Model != nil {
		o.Model = &model{Digest: res.Model.Digest, Ref: res.Model.Ref, Bytes: res.Model.Bytes}
	}
	if res.Metrics != nil {
		if err := durable.WriteFile(f.at("metrics.json"), res.Metrics, 0o600); err != nil {
			return outcome{}, err
		}
	}
	if k.placed.Output != "" && res.Phase == runner.Succeeded {
		if err := placeOutput(res.OutputDir(), k.placed.Output); err != nil {
			return outcome{}, fmt.Errorf("put the output in its place: %w", err)
		}
	}
	return o, nil
}

// placeOutput moves what the command wrote to ML_OUTPUT: one file, or into a folder that is there.
func placeOutput(from, to string) error {
	if info, err := os.Stat(to); err != nil || !info.IsDir() {
		err := os.Rename(filepath.Join(from, filepath.Base(to)), to)
		if errors.Is(err, os.ErrNotExist) {
			return nil // it wrote none; who asked for the output says so
		}
		return err
	}
	entries, err := os.ReadDir(from)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		at := filepath.Join(to, e.Name())
		if err := errors.Join(os.RemoveAll(at), os.Rename(filepath.Join(from, e.Name()), at)); err != nil {
			return err
		}
	}
	return nil
}

// lastWords is how the pods say themselves that it ended: the one that failed first, for the others were ended because of it.
func lastWords(pods []corev1.Pod, container string) (runner.Status, bool) {
	type word struct {
		t  pod.Termination
		at time.Time
	}
	var all []word
	for _, p := range pods {
		end := stateOf(p, container).Terminated
		if end == nil {
			continue
		}
		if t, err := pod.ParseTermination([]byte(end.Message)); err == nil {
			all = append(all, word{t, end.FinishedAt.Time})
		}
	}
	if len(all) == 0 {
		return runner.Status{}, false
	}
	rank := func(w word) int {
		if w.t.Phase == runner.Failed || w.t.Phase == runner.TimedOut {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(all, func(a, b word) int {
		if r := rank(a) - rank(b); r != 0 {
			return r
		}
		return a.at.Compare(b.at)
	})
	t := all[0].t
	st := runner.Status{Phase: t.Phase, ExitCode: t.ExitCode, Message: t.Message, LastLogLines: t.Tail}
	if t.Phase != runner.TimedOut {
		st.Phase = runner.Failed // whatever it was, it is over without a result
	}
	return st, true
}

// starting watches over pods that do not begin.
type starting struct {
	client    *kube.Client
	container string
	within    time.Duration
	begun     bool      // a command did
	idle      time.Time // since when none runs
	looked    time.Time
	code      string
	since     time.Time
}

// every is how far apart looks may be: why no pod runs is looked for again and again.
func (s *starting) every() time.Duration {
	if s.idle.IsZero() {
		return 0
	}
	return diagnoseEvery
}

// look errs with the cause once it is clear that no pod will begin.
func (s *starting) look(ctx context.Context, job *unstructured.Unstructured, pods []corev1.Pod) error {
	now := time.Now()
	running := false
	for _, p := range pods {
		st := stateOf(p, s.container)
		running = running || st.Running != nil
		s.begun = s.begun || running || st.Terminated != nil
	}
	if over(job) || running {
		s.idle, s.code = time.Time{}, ""
		return nil
	}
	if s.idle.IsZero() {
		s.idle = now
	}
	if now.Sub(s.looked) < diagnoseEvery {
		return nil
	}
	s.looked = now
	cause, ok, err := s.client.Diagnose(ctx, job)
	if err != nil {
		return err
	}
	if ok && slices.Contains(ofEnded, cause.Code) {
		return nil // how a pod ended is for its owner to judge
	}
	if cause.Code != s.code {
		s.code, s.since = cause.Code, now
	}
	patience := cause.Patience
	if cause.Code == kube.CauseUnschedulable || cause.Code == kube.CauseQuota {
		patience = s.within // others may leave
	}
	late := now.Sub(s.idle) > s.within
	if late && !ok {
		cause, ok = kube.Cause{Code: kube.CauseFailed, On: strings.ToLower(job.GetKind()) + " " + job.GetName(), Message: fmt.Sprintf("no pod began within %s: %s", s.within, kube.Ready(job).Message)}, true
	}
	if ok && (late || now.Sub(s.since) >= patience) {
		return &kube.CauseError{Ref: kube.RefOf(job), Cause: cause}
	}
	return nil
}

// ofEnded are the causes that concern pods which had begun.
var ofEnded = []string{kube.CauseExit, kube.CauseCrash, kube.CauseMemory, kube.CauseEvicted, kube.CauseFailed, kube.CauseProbe}

// FailedFor is the reason of an object's condition Failed, "" while it has not failed.
func FailedFor(object *unstructured.Unstructured) string {
	list, _, err := unstructured.NestedSlice(object.Object, "status", "conditions")
	if err != nil {
		return ""
	}
	for _, c := range list {
		if m, ok := c.(map[string]any); ok && m["type"] == "Failed" && m["status"] == "True" {
			reason, _ := m["reason"].(string)
			return reason
		}
	}
	return ""
}
