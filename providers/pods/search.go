package pods

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/internal/runner"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/runs"
)

var podKind = corev1.SchemeGroupVersion.WithKind("Pod")

// Searches implements runs.Searcher.
func (e *executor) Searches(req providers.ApplyRequest) (bool, error) {
	s, err := e.step(req)
	return s.Search != nil, err
}

// Search implements runs.Searcher. The object of a search cannot sleep; a pod of one of its candidates waits for the Secret.
func (e *executor) Search(ctx context.Context, dir string, s runs.Search) (runs.Found, error) {
	f := folder(dir)
	k, err := f.known()
	if err != nil {
		return runs.Found{}, err
	}
	switch {
	case k.isOver:
	case k.cancelled && !k.isPlaced:
		return runs.Found{Status: cancelled("cancelled before it began")}, nil
	case !k.isCreated:
		if k, err = e.beginSearch(ctx, f, k, s.Trial); err != nil {
			return runs.Found{}, err
		}
	}
	if !k.isOver {
		if k.outcome, err = e.awaitSearch(ctx, f, k, s); err != nil {
			if ctx.Err() != nil {
				return runs.Found{}, err
			}
			return runs.Found{}, &providers.OpenError{Err: fmt.Errorf("%s goes on, but cannot be followed; apply again to collect it: %w", k.placed.Job, err)}
		}
		if err := f.note(outcomeFile, k.outcome); err != nil {
			return runs.Found{}, err
		}
	}
	found := runs.Found{Status: k.outcome.Status}
	if k.outcome.Found != nil {
		found = *k.outcome.Found
		found.Status = k.outcome.Status
	}
	return found, e.clear(ctx, f, k)
}

// beginSearch makes the search's objects, or goes on where somebody else stopped.
func (e *executor) beginSearch(ctx context.Context, f folder, k known, trial runs.Stage) (known, error) {
	c, err := e.Cluster()
	if err != nil {
		return k, err
	}
	o, at, err := e.plan(ctx, c, trial, true)
	if err != nil {
		return k, err
	}
	k.placed, k.isPlaced = at, true
	if err := f.note(placedFile, k.placed); err != nil {
		return k, err
	}
	ref, err := e.createSearch(ctx, c, o, at.Run)
	if err != nil {
		return k, e.abandon(ctx, c, f, k, err)
	}
	k.created, k.isCreated = created{UID: ref.UID, At: time.Now().UTC()}, true
	return k, f.note(createdFile, k.created)
}

func (e *executor) createSearch(ctx context.Context, c *kube.Client, o Objects, run string) (kube.Ref, error) {
	ref := kube.RefOf(o.Object)
	there, err := c.Get(ctx, ref)
	switch {
	case errors.Is(err, kube.ErrNotFound):
		if ref, err = apply(ctx, c, o.Object); err != nil {
			return ref, fmt.Errorf("%w: %w", errRefused, err)
		}
	case err != nil:
		return ref, err
	default:
		if ref = kube.RefOf(there); there.GetLabels()[LabelRun] != LabelValue(run) {
			return ref, fmt.Errorf("%s is there already and belongs to run %q: delete it, or choose another namespace", ref, there.GetLabels()[LabelRun])
		}
	}
	for _, u := range o.Beside {
		if _, err := apply(ctx, c, owned(u, ref)); err != nil {
			return ref, err
		}
	}
	return ref, nil
}

// searching is a search under way.
type searching struct {
	*executor
	client   *kube.Client
	folder   folder
	k        known
	service  Searching
	search   runs.Search
	starting starting
	told     int
	reason   string               // of the last candidate that failed
	ended    map[string]time.Time // when the command of a candidate that is open was first seen to have ended well
}

// awaitSearch looks at a search until it is over.
func (e *executor) awaitSearch(ctx context.Context, f folder, k known, search runs.Search) (outcome, error) {
	w, err := e.step(search.Trial.Request)
	if err != nil {
		return outcome{}, err
	}
	if w.Search == nil {
		return outcome{}, errors.New("its block does not leave the search to that service any more")
	}
	c, err := e.Cluster()
	if err != nil {
		return outcome{}, err
	}
	s := &searching{
		executor: e, client: c, folder: f, k: k, service: w.Search, search: search, ended: map[string]time.Time{},
		starting: starting{client: c, container: e.Kind.Container(), within: k.placed.Start},
	}
	ctx, quiet := context.WithCancel(ctx)
	defer quiet()
	bell := c.Bell(ctx, watchedOf(k.job())...)
	for {
		o, over, err := s.look(ctx)
		var again *kube.Retryable
		if err != nil && !errors.As(err, &again) || over {
			return o, err
		}
		bell.Hurry(s.starting.every())
		if err := bell.Wait(ctx, lookEvery); err != nil {
			return outcome{}, err
		}
	}
}

// look is one look at the search; it reports whether that is over.
func (s *searching) look(ctx context.Context) (outcome, bool, error) {
	object, err := s.client.Get(ctx, s.k.job())
	if errors.Is(err, kube.ErrNotFound) {
		return s.goneSearch()
	}
	if err != nil {
		return outcome{}, false, err
	}
	pods, err := s.pods(ctx)
	if err != nil {
		return outcome{}, false, err
	}
	got, err := s.service.Read(ctx, s.client, object)
	if err != nil {
		return outcome{}, false, err
	}
	s.tell(got, pods)
	switch r := kube.Ready(object); {
	case r.Failed:
		return s.failed(r.Message+s.reason, pods), true, nil
	case r.Ready && got.Best < 0:
		return s.failed(fmt.Sprintf("the search has ended, and no trial has the metric %q%s", s.search.Tuning.Metric, s.reason), pods), true, nil
	case r.Ready:
		o := s.outcome(runner.Succeeded, "")
		o.Found = &runs.Found{Method: got.Method, All: s.candidates(got, pods), Best: got.Best}
		return o, true, nil
	}
	if why := s.unmeasured(got, pods); why != "" {
		return s.failed(why, pods), true, nil
	}
	var cause *kube.CauseError
	if err := s.starting.look(ctx, object, pods); errors.As(err, &cause) {
		return s.stuck(cause.Cause.String(), got, pods), true, nil
	} else if err != nil {
		return outcome{}, false, err
	}
	// A trial that failed is no reason why none follows it; its service may have gone.
	if idle := s.starting.idle; !idle.IsZero() && time.Since(idle) > s.k.placed.Start {
		return s.stuck(fmt.Sprintf("no trial has run for %s, and the search is not over: %s%s", s.k.placed.Start, kube.Ready(object).Message, s.reason), got, pods), true, nil
	}
	return outcome{}, false, nil
}

// stuck is a search that does not go on; perhaps no command of it has begun.
func (s *searching) stuck(message string, got Searched, pods []corev1.Pod) outcome {
	o := s.failed(message, pods)
	o.Status.NotBegun = !s.starting.begun && len(got.Ended) == 0
	return o
}

// goneSearch is a search whose object was deleted.
func (s *searching) goneSearch() (outcome, bool, error) {
	fresh, err := s.folder.known() // a cancel may have come meanwhile
	switch {
	case err != nil:
		return outcome{}, false, err
	case fresh.isOver:
		return fresh.outcome, true, nil
	case fresh.cancelled:
		return outcome{Status: cancelled("cancelled")}, true, nil
	}
	return outcome{Status: lost(s.folder, s.k)}, true, nil
}

func (s *searching) outcome(phase runner.Phase, message string) outcome {
	return outcome{Status: runner.Status{ID: s.k.placed.Run, Phase: phase, ExitCode: -1, Message: message, Started: s.k.created.At, Finished: time.Now().UTC()}}
}

// failed is a search that found nothing; the last lines are those of a candidate that failed.
func (s *searching) failed(message string, pods []corev1.Pod) outcome {
	o := s.outcome(runner.Failed, message)
	if st, ok := lastWords(pods, s.Kind.Container()); ok {
		o.Status.LastLogLines = st.LastLogLines
	}
	return o
}

// pods lists those of all candidates.
func (s *searching) pods(ctx context.Context) ([]corev1.Pod, error) {
	list, err := s.client.List(ctx, podKind, s.k.placed.Job.Namespace, kube.Selector{Labels: LabelRun + "=" + LabelValue(s.k.placed.Run)})
	if err != nil {
		return nil, err
	}
	out := make([]corev1.Pod, len(list))
	for i, u := range list {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &out[i]); err != nil {
			return nil, fmt.Errorf("read %s: %w", kube.RefOf(u), err)
		}
	}
	return out, nil
}

// candidates gives those that failed the reason that their own pods know: the service has only seen that they did.
func (s *searching) candidates(got Searched, pods []corev1.Pod) []runs.Candidate {
	all := slices.Clone(got.Ended)
	for i, c := range all {
		own := slices.DeleteFunc(slices.Clone(pods), func(p corev1.Pod) bool { return p.Labels[batchv1.JobNameLabel] != c.Name })
		if st, ok := lastWords(own, s.Kind.Container()); ok && c.Value == nil && st.Message != "" {
			all[i].Reason = st.Message
		}
	}
	return all
}

// tell reports the candidates that have ended since the last look.
func (s *searching) tell(got Searched, pods []corev1.Pod) {
	all := s.candidates(got, pods)
	for _, c := range all {
		if c.Value == nil {
			s.reason = fmt.Sprintf("; trial %s: %s", c.Name, c.Reason)
		}
	}
	for ; s.told < len(all); s.told++ {
		if s.search.On != nil {
			s.search.On(all[s.told])
		}
	}
}

// unmeasured says why a candidate whose command ended well will never be measured.
func (s *searching) unmeasured(got Searched, pods []corev1.Pod) string {
	for _, p := range pods {
		name := p.Labels[batchv1.JobNameLabel]
		end := stateOf(p, s.Kind.Container()).Terminated
		if end == nil || end.ExitCode != 0 || !slices.Contains(got.Open, name) {
			continue
		}
		since, seen := s.ended[name]
		if !seen {
			s.ended[name] = time.Now()
			continue
		}
		if time.Since(since) > got.Patience {
			return fmt.Sprintf("trial %s ended well %s ago, and its metric has not arrived: %s", name, got.Patience, got.Unmeasured(p))
		}
	}
	return ""
}
