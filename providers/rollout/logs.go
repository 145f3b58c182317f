package rollout

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers"
)

// newPodsEvery is how soon a followed log has the lines of a pod that came later.
const newPodsEvery = 2 * time.Second

// Logs writes what the servers of a recorded deployment wrote, each line with its pod when there are several.
func (f Front) Logs(ctx context.Context, c *kube.Client, req providers.LogRequest, w io.Writer) error {
	l := &serverLogs{client: c, front: f, w: w, known: map[string]bool{}, options: kube.LogOptions{Follow: req.Follow}}
	if req.Lines > 0 {
		l.options.Tail = new(int64(req.Lines))
	}
	if err := l.run(ctx); err != nil {
		return fmt.Errorf("%s: %w", f.Address, err)
	}
	return nil
}

// serverLogs copies the logs of a deployment's servers, line by line.
type serverLogs struct {
	client  *kube.Client
	front   Front
	options kube.LogOptions
	known   map[string]bool // pod/container
	several bool

	mu  sync.Mutex
	w   io.Writer
	err error // the first one
}

func (l *serverLogs) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var streams sync.WaitGroup
	defer streams.Wait()
	for {
		if err := l.start(ctx, &streams); err != nil {
			return err
		}
		if !l.options.Follow {
			streams.Wait()
			return l.failed()
		}
		if err := pause(ctx, newPodsEvery); err != nil {
			return err
		}
		if err := l.failed(); err != nil {
			return err
		}
	}
}

func (l *serverLogs) failed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// start begins a stream for each container that has none yet.
func (l *serverLogs) start(ctx context.Context, streams *sync.WaitGroup) error {
	list, err := l.client.List(ctx, gvkPod, l.front.Namespace, kube.Selector{Labels: l.front.Selector() + "," + LabelPart + "=" + PartServer})
	if err != nil {
		return err
	}
	type container struct{ pod, name string }
	var fresh []container
	for _, u := range list {
		var pod corev1.Pod
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &pod); err != nil {
			return fmt.Errorf("read pod %s: %w", u.GetName(), err)
		}
		for _, s := range pod.Status.ContainerStatuses {
			if key := pod.Name + "/" + s.Name; !l.known[key] && (s.State.Running != nil || s.State.Terminated != nil || s.LastTerminationState.Terminated != nil) {
				l.known[key] = true
				fresh = append(fresh, container{pod.Name, s.Name})
			}
		}
	}
	l.several = l.several || len(l.known) > 1
	for _, c := range fresh {
		prefix := ""
		if l.several {
			prefix = c.pod + "/" + c.name + ": "
		}
		streams.Go(func() { l.copy(ctx, c.pod, c.name, prefix) })
	}
	return nil
}

// copy passes whole lines on. A pod that goes away meanwhile ends its stream and no more.
func (l *serverLogs) copy(ctx context.Context, pod, container, prefix string) {
	in, err := l.client.PodLogs(ctx, l.front.Namespace, pod, container, l.options)
	if errors.Is(err, kube.ErrNotFound) {
		return
	}
	if err != nil {
		l.fail(err)
		return
	}
	r := bufio.NewReader(in)
	for {
		line, err := r.ReadString('\n')
		if line != "" {
			l.mu.Lock()
			_, werr := io.WriteString(l.w, prefix+line)
			l.mu.Unlock()
			if werr != nil {
				l.fail(werr)
				break
			}
		}
		if err != nil {
			break // its end, or that of the caller
		}
	}
	if err := in.Close(); err != nil && ctx.Err() == nil {
		l.fail(err)
	}
}

func (l *serverLogs) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
}
