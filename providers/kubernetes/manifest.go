package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/resource"
)

const (
	// noteOperation on an object names the operation that changed it last, by which an interrupted one is known again.
	noteOperation = "continuo.dev/operation"
	// noteApplied is a keyed digest of what was applied: an object that has it, and has not drifted, is left alone.
	noteApplied = "continuo.dev/applied-digest"
	// noteFound marks an object that was there before: it is given back in the end, and not deleted.
	noteFound = "continuo.dev/found"

	readyWithin = 5 * time.Minute
	// atOnce bounds the requests of one manifest that are on their way side by side.
	atOnce = 8
)

// manifests applies objects of any kind as they are written.
type manifests struct {
	*pods.Env
	now func() time.Time
}

// manifestRef is what a record keeps of a manifest.
type manifestRef struct {
	Project string `json:"project,omitempty"`
	// Objects are in the order in which they were made.
	Objects []manifestObject `json:"objects"`
}

// manifestObject is one object that is ours.
type manifestObject struct {
	kube.Ref
	Key   string `json:"key"`             // in the block's objects
	Found bool   `json:"found,omitempty"` // it was there before
	Ends  bool   `json:"ends,omitempty"`  // it goes by itself when its work is done, as a Job does that says so
}

func (r manifestRef) byUID(uid string) (manifestObject, bool) {
	for _, o := range r.Objects {
		if o.UID == uid && uid != "" {
			return o, true
		}
	}
	return manifestObject{}, false
}

func manifestRefOf(raw json.RawMessage) (manifestRef, error) {
	var ref manifestRef
	if len(raw) == 0 {
		return ref, nil
	}
	if err := json.Unmarshal(raw, &ref); err != nil {
		return ref, fmt.Errorf("read its reference: %w", err)
	}
	return ref, nil
}

// Apply implements providers.Typed. All objects are tried first without effect, and nothing is changed if one of them is refused; those whose
// namespace or kind only this block makes are tried once that is there. It returns when all are ready.
func (m *manifests) Apply(ctx context.Context, spec config.Manifest, req providers.ApplyRequest) (providers.Result, error) {
	c, err := m.Cluster()
	if err != nil {
		return providers.Result{}, fmt.Errorf("%s: %w", req.Address, err)
	}
	a := &application{m: m, client: c, spec: spec, req: req}
	if err := a.prepare(ctx); err != nil {
		return providers.Result{}, a.failure(err)
	}
	if req.Adopt && !a.begun() {
		return providers.Result{}, fmt.Errorf("%s: operation %s: %w", req.Address, req.OpID, providers.ErrAbsent)
	}
	for _, step := range []func(context.Context) error{a.try, a.make, a.await, a.prune} {
		if err := step(ctx); err != nil {
			return providers.Result{}, a.failure(err)
		}
	}
	return a.result(), nil
}

// failure says whether another try by itself may mend it, and keeps the reference to what is there by now.
func (a *application) failure(err error) error {
	err = fmt.Errorf("%s: %w", a.req.Address, err)
	var again *kube.Retryable
	retry := errors.As(err, &again)
	if a.changed.Load() && !errors.Is(err, context.Canceled) {
		err = &providers.RunError{Err: err, Ref: a.ref()}
	}
	if retry {
		return &providers.RetryableError{Err: err, After: again.After}
	}
	return err
}

func (a *application) say(format string, args ...any) {
	a.req.Emit(resource.Event{Time: a.m.now(), Type: resource.EventProgress, Address: a.req.Address.String(), Action: a.req.Action, Message: fmt.Sprintf(format, args...)})
}

// ref is what is ours: all that is asked for and there, and what was before and is not taken away yet.
func (a *application) ref() manifestRef {
	out := manifestRef{Project: a.project, Objects: append([]manifestObject{}, a.leaving...)}
	for _, w := range a.wanted {
		if w.at.UID != "" {
			out.Objects = append(out.Objects, manifestObject{Ref: w.at, Key: w.key, Found: w.found, Ends: w.ends()})
		}
	}
	return out
}

func (a *application) result() providers.Result {
	out := config.ManifestOutputs{Address: a.req.Address.String(), Objects: []config.ManifestObject{}}
	made, changed, same := 0, 0, 0
	for _, w := range a.wanted {
		switch {
		case w.created:
			made++
		case w.same:
			same++
		default:
			changed++
		}
	}
	for _, w := range sortedByKey(a.wanted) {
		out.Objects = append(out.Objects, config.ManifestObject{
			APIVersion: w.object.GetAPIVersion(), Kind: w.at.Kind, Namespace: w.at.Namespace, Name: w.at.Name,
		})
	}
	return providers.Result{Outputs: out, Ref: a.ref(), Message: counted([]count{{made, "made"}, {changed, "changed"}, {same, "as before"}, {a.removed, "removed"}})}
}

type count struct {
	n    int
	what string
}

// counted is "2 made, 1 removed".
func counted(list []count) string {
	out := ""
	for _, c := range list {
		if c.n == 0 {
			continue
		}
		if out != "" {
			out += ", "
		}
		out += fmt.Sprintf("%d %s", c.n, c.what)
	}
	if out == "" {
		return "nothing to do"
	}
	return out
}
