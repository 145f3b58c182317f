package kserve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers/kserve/internal/api"
	"github.com/continuo-ml/continuo/providers/rollout"
)

// look judges the servers of a version, and its graph when it has one.
func (f *fleet) look(ctx context.Context, name, key string, graph bool) (condition, error) {
	if f.nested.Canary == bySpec {
		return f.lookAtServers(ctx, name, key)
	}
	c, err := f.lookAt(ctx, api.Kind, name, key)
	if err != nil || !c.ready || !graph {
		return c, err
	}
	return f.lookAt(ctx, api.Graph, graphName(name), key)
}

// madeBy is the label by which what KServe makes for an object is found.
func madeBy(gvk schema.GroupVersionKind) string {
	if gvk == api.Graph {
		return api.GraphLabel
	}
	return api.Label
}

// lookAt judges an object of KServe's by its own word and by its Deployments: Ready may be of an older generation, and it stays while new
// pods crash. A graph even calls itself ready as soon as its Deployment has tried to be.
func (f *fleet) lookAt(ctx context.Context, gvk schema.GroupVersionKind, name, key string) (condition, error) {
	u, err := f.client.Get(ctx, kube.Ref{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind, Namespace: f.Namespace, Name: name})
	if err != nil {
		return condition{}, err
	}
	c := condition{object: u}
	status, err := api.StatusOf(u)
	if err != nil {
		return c, err
	}
	if f.Mode == knative && gvk == api.Kind {
		return f.lookAtRevisions(ctx, u, key, status)
	}
	if f.Mode == knative {
		k := kube.Ready(u) // Knative's own generation is the service's
		c.ready, c.why = status.Ready && k.Ready, cmp.Or(status.Message, k.Message)
		return c, nil
	}
	list, err := f.client.List(ctx, gvkDeployment, f.Namespace, kube.Selector{Labels: madeBy(gvk) + "=" + name})
	if err != nil {
		return c, err
	}
	if len(list) == 0 {
		c.why = cmp.Or(status.Message, "KServe has made no Deployment for it yet")
		return c, nil
	}
	for _, d := range list {
		if gvk == api.Graph {
			c.object = d // whose pods are found by what it says
		}
		notes, _, err := unstructured.NestedStringMap(d.Object, "spec", "template", "metadata", "annotations")
		if err != nil {
			return c, fmt.Errorf("read %s: %w", kube.RefOf(d), err)
		}
		if notes[releaseNote] != key {
			c.why = "KServe has not handed the newest specification on to " + d.GetName()
			if status.Message != "" {
				c.why += ": " + status.Message
			}
			return c, nil
		}
		if r := kube.Ready(d); !r.Ready {
			c.why = d.GetName() + ": " + r.Message
			return c, nil
		}
	}
	c.ready, c.why = status.Ready, status.Message
	return c, nil
}

// crashes reports whether a cause means that pods die, also while others serve and the service calls itself ready.
func crashes(c kube.Cause) bool {
	return c.Code == kube.CauseCrash || c.Code == kube.CauseExit || c.Code == kube.CauseMemory
}

func (f *fleet) diagnose(ctx context.Context, c condition) (kube.Cause, bool, error) {
	if c.object == nil {
		return kube.Cause{}, false, nil
	}
	return f.client.Diagnose(ctx, c.object)
}

// watched is what moves while servers get ready: what is waited for, and the Deployments and pods that KServe makes for it.
func (f *fleet) watched(name string, graph bool) []kube.Watched {
	of := func(gvk schema.GroupVersionKind, name string) []kube.Watched {
		made := kube.Selector{Labels: madeBy(gvk) + "=" + name}
		return []kube.Watched{
			kube.One(kube.Ref{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind, Namespace: f.Namespace, Name: name}),
			{Kind: gvkDeployment, Namespace: f.Namespace, Selector: made, Metadata: true},
			{Kind: gvkPod, Namespace: f.Namespace, Selector: made, Metadata: true},
		}
	}
	out := of(api.Kind, name)
	if graph {
		out = append(out, of(api.Graph, graphName(name))...)
	}
	return out
}

// await returns when the servers are ready. A version that cannot work ends it with the cause in one line.
func (f *fleet) await(ctx context.Context, name, key string, graph bool, say func(string)) error {
	within := f.spec.readyWithin() + rollout.PullAllowance
	end := time.NewTimer(within)
	defer end.Stop()
	ctx, quiet := context.WithCancel(ctx)
	defer quiet()
	bell := f.client.Bell(ctx, f.watched(name, graph)...)
	tick := time.NewTimer(lookEvery)
	defer tick.Stop()
	var cause kube.Cause
	var since, next time.Time
	last := ""
	for {
		c, err := f.look(ctx, name, key, graph)
		switch {
		case errors.Is(err, kube.ErrNotFound):
			return &rollout.Unfit{Reason: fmt.Sprintf("InferenceService %s/%s or its graph was deleted by somebody else", f.Namespace, name)}
		case err != nil:
			return err
		}
		if now := time.Now(); c.ready || !now.Before(next) {
			next = now.Add(diagnoseAll)
			found, bad, err := f.diagnose(ctx, c)
			if err != nil {
				return err
			}
			switch {
			case c.ready && !(bad && crashes(found)):
				return nil // what events tell of the start is over
			case !bad:
				cause = kube.Cause{}
			case found.Code != cause.Code || found.On != cause.On:
				cause, since = found, now
			case now.Sub(since) >= found.Patience:
				return &rollout.Unfit{Reason: found.String()}
			}
		}
		if c.why != "" && c.why != last {
			last = c.why
			say(name + ": " + c.why)
		}
		bell.Hurry(diagnoseAll)
		tick.Reset(bell.Next(lookEvery))
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-bell.C():
			if err := bell.Settle(ctx); err != nil {
				return err
			}
		case <-end.C:
			why := cmp.Or(last, "it is not ready")
			if cause.Code != "" {
				why = cause.String()
			}
			return &rollout.Unfit{Reason: fmt.Sprintf("not ready after %s: %s", within, why)}
		case <-tick.C:
		}
	}
}
