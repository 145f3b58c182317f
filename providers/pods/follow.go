package pods

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/internal/kube"
)

const (
	lookEvery  = time.Second
	firstLook  = 200 * time.Millisecond
	drainWithn = 30 * time.Second // for what a container wrote at its very end
	maxLogLine = 1 << 20
	// unseenFor is how long a run is waited for that nobody can look at. It goes on meanwhile; an API server that is moved to another
	// machine takes less.
	unseenFor = 10 * time.Minute
)

// errGone: the object no longer exists.
var errGone = errors.New("its object is gone")

// errNoLog: a kubelet answered with words of its own where the log ought to be.
var errNoLog = errors.New("the kubelet has no log")

// cursor is how much of a pod's log was taken: all lines before a time, and some that carry that very time.
type cursor struct {
	Pod  string    `json:"pod,omitempty"`
	Time time.Time `json:"time,omitzero"`
	Same int       `json:"same,omitempty"`
}

// sink takes the log of the pods of one index, one pod after the other.
type sink interface {
	// at is where it stands: a sink may remember a life before this one.
	at() cursor
	line(c cursor, text string) error
	close() error
}

// watch follows the pods of a stage until its object is over. A log that breaks off, because an API server or a node went away for a while,
// is opened again where it broke, until the context ends.
type watch struct {
	client *kube.Client
	kind   Kind
	k      known
	sink   func(index int) (sink, error)

	// every, when not nil, is how far apart looks may be although nothing moves; 0 = far.
	every func() time.Duration

	unseenFor time.Duration // 0 = the constant

	sinks    map[int]sink
	active   map[int]bool
	followed map[string]bool
	ended    chan ended
}

type ended struct {
	index int
	err   error
}

// run returns when the object is over. onLook sees them each time before.
func (w *watch) run(ctx context.Context, onLook func(job *unstructured.Unstructured, pods []corev1.Pod) error) (err error) {
	w.sinks, w.active, w.followed, w.ended = map[int]sink{}, map[int]bool{}, map[string]bool{}, make(chan ended)
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		for range w.active {
			<-w.ended // none outlives its sink
		}
		for _, s := range w.sinks {
			err = errors.Join(err, s.close())
		}
	}()
	bell := w.client.Bell(ctx, watchedOf(w.k.job())...)
	timer := time.NewTimer(0)
	defer timer.Stop()
	pause, over, seen := firstLook, time.Time{}, time.Now()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case e := <-w.ended:
			delete(w.active, e.index)
			if e.err != nil {
				return e.err
			}
		case <-bell.C():
			if err := bell.Settle(ctx); err != nil {
				return err
			}
			timer.Reset(w.next(bell, pause))
		case <-timer.C:
			timer.Reset(w.next(bell, pause))
			pause = min(pause*2, lookEvery)
		}
		done, err := w.look(ctx, onLook)
		var again *kube.Retryable
		switch {
		case errors.As(err, &again):
			if unseen := time.Since(seen); unseen > cmp.Or(w.unseenFor, unseenFor) {
				return fmt.Errorf("it could not be looked at for %s: %w", unseen.Round(time.Second), err)
			}
			continue // the cluster goes on without being watched
		case err != nil:
			return err
		}
		seen = time.Now()
		if !done {
			continue
		}
		if over.IsZero() {
			over = time.Now()
		}
		if len(w.active) == 0 || time.Since(over) > drainWithn {
			return nil
		}
	}
}

// next is how long to wait for the next look if nothing moves.
func (w *watch) next(bell *kube.Bell, pause time.Duration) time.Duration {
	if w.every != nil {
		bell.Hurry(w.every())
	}
	return bell.Next(pause)
}

// watchedOf is what moves when a run does: its object, and the pods of it.
func watchedOf(ref kube.Ref) []kube.Watched {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(ref.GVK())
	object.SetNamespace(ref.Namespace)
	object.SetName(ref.Name)
	out := []kube.Watched{kube.One(ref)}
	if pods, ok := kube.PodsOf(object); ok {
		out = append(out, pods)
	}
	return out
}

// look reads the object and its pods, and begins to follow those that have begun.
func (w *watch) look(ctx context.Context, onLook func(*unstructured.Unstructured, []corev1.Pod) error) (done bool, _ error) {
	job, err := w.client.Get(ctx, w.k.job())
	if errors.Is(err, kube.ErrNotFound) {
		return false, errGone
	}
	if err != nil {
		return false, err
	}
	pods, err := w.pods(ctx, job)
	if err != nil {
		return false, err
	}
	for _, p := range pods {
		index := indexOf(p)
		if w.followed[p.Name] || w.active[index] || !w.begun(p) {
			continue
		}
		if w.sinks[index] == nil {
			if w.sinks[index], err = w.sink(index); err != nil {
				return false, err
			}
		}
		w.followed[p.Name], w.active[index] = true, true
		go func() {
			err := w.follow(ctx, p.Name, w.sinks[index])
			w.ended <- ended{index, err}
		}()
	}
	if onLook != nil {
		if err := onLook(job, pods); err != nil {
			return false, err
		}
	}
	return over(job), nil
}

// pods lists those that run the command, oldest first.
func (w *watch) pods(ctx context.Context, job *unstructured.Unstructured) ([]corev1.Pod, error) {
	all, err := w.client.Pods(ctx, job)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(p corev1.Pod) bool { return !w.kind.Owns(job, &p) })
	sort.SliceStable(all, func(i, j int) bool { return all[i].CreationTimestamp.Before(&all[j].CreationTimestamp) })
	return all, nil
}

func over(job *unstructured.Unstructured) bool {
	r := kube.Ready(job)
	return r.Ready || r.Failed
}

// indexOf is a pod's number among those of several nodes.
func indexOf(p corev1.Pod) int {
	n, err := strconv.Atoi(p.Annotations[batchv1.JobCompletionIndexAnnotation])
	if err != nil {
		return 0
	}
	return n
}

// stateOf is the state of a container.
func stateOf(p corev1.Pod, container string) corev1.ContainerState {
	for _, s := range p.Status.ContainerStatuses {
		if s.Name == container {
			return s.State
		}
	}
	return corev1.ContainerState{}
}

func (w *watch) begun(p corev1.Pod) bool {
	s := stateOf(p, w.kind.Container())
	return s.Running != nil || s.Terminated != nil
}

// follow takes a pod's log to its end.
func (w *watch) follow(ctx context.Context, name string, s sink) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for silent := 0; ; {
		rest, broken, err := w.stream(ctx, name, s)
		if errors.Is(err, errNoLog) {
			// The runtime has put the log away, or not yet given it out: a kubelet that is asked again may have it.
			silent, broken, err = silent+1, silent < 2, nil
		}
		if err != nil || ctx.Err() != nil {
			return err
		}
		if over, gone := w.over(ctx, name); gone || over && !broken {
			if rest != "" {
				c := s.at()
				return s.line(cursor{Pod: name, Time: c.Time, Same: c.Same}, rest)
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// over reports whether a pod's command has ended, and whether the pod is gone. When nobody knows, neither.
func (w *watch) over(ctx context.Context, name string) (over, gone bool) {
	u, err := w.client.Get(ctx, kube.Ref{Version: "v1", Kind: "Pod", Namespace: w.k.placed.Job.Namespace, Name: name})
	if err != nil {
		return false, errors.Is(err, kube.ErrNotFound)
	}
	states, _, err := unstructured.NestedSlice(u.Object, "status", "containerStatuses")
	if err != nil {
		return false, false
	}
	for _, s := range states {
		m, ok := s.(map[string]any)
		if !ok || m["name"] != w.kind.Container() {
			continue
		}
		state, ok := m["state"].(map[string]any)
		return ok && state["terminated"] != nil, false
	}
	return false, false
}

// stream takes what there is of a pod's log until the connection ends: broken says that it did so before the log. rest is a last line
// without a line break. The error is the sink's.
func (w *watch) stream(ctx context.Context, name string, s sink) (rest string, broken bool, _ error) {
	from := s.at()
	if from.Pod != name {
		from = cursor{Pod: name}
	}
	log, err := w.client.PodLogs(ctx, w.k.placed.Job.Namespace, name, w.kind.Container(), kube.LogOptions{Follow: true, Timestamps: true, Since: from.Time})
	if err != nil {
		return "", true, nil
	}
	in := bufio.NewReaderSize(log, maxLogLine)
	pos, same, goesOn := from, 0, false
	for {
		b, err := in.ReadSlice('\n')
		whole := err == nil || errors.Is(err, bufio.ErrBufferFull)
		at, text, ok := stamped(strings.TrimSuffix(string(b), "\n"))
		if ok && at.Equal(from.Time) {
			same++
		}
		if len(b) > 0 && !ok && !goesOn && (b[0] < '0' || b[0] > '9') {
			// Each line of the command has its time, or the beginning of one where the answer was cut off; only the rest of a line
			// that is too long has none.
			return "", true, errors.Join(errNoLog, log.Close())
		}
		goesOn = errors.Is(err, bufio.ErrBufferFull)
		switch {
		case len(b) == 0 || ok && (at.Before(from.Time) || at.Equal(from.Time) && same <= from.Same):
		case !whole:
			rest = text
		default:
			if !ok {
				at = pos.Time
			}
			if at.Equal(pos.Time) {
				pos.Same++
			} else {
				pos = cursor{Pod: name, Time: at, Same: 1}
			}
			if err := s.line(pos, text); err != nil {
				return "", false, errors.Join(err, log.Close())
			}
		}
		if whole {
			continue
		}
		// Whatever closing a stream that was read says changes nothing.
		return rest, !errors.Is(errors.Join(err, log.Close()), io.EOF), nil
	}
}

// stamped takes the time off a line.
func stamped(line string) (time.Time, string, bool) {
	stamp, text, ok := strings.Cut(line, " ")
	if !ok {
		stamp = line
	}
	at, err := time.Parse(time.RFC3339Nano, stamp)
	if err != nil {
		return time.Time{}, line, false
	}
	return at, text, true
}
