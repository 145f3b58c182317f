package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/continuo-ml/continuo/internal/leader"
)

// LeaseBoard is a board of candidates in a Lease of a cluster: leaseTransitions is the term, and the API server compares resourceVersion. No
// time in it is compared with a clock. It needs the rights get, create and update on leases.
type LeaseBoard struct {
	Client          *Client
	Namespace, Name string // "" = the client's own namespace
}

var _ leader.Board = LeaseBoard{}

func (b LeaseBoard) request(method, verb, name string, body []byte) request {
	ns := b.Namespace
	if ns == "" {
		ns = b.Client.Namespace()
	}
	r := request{method: method, path: "/apis/coordination.k8s.io/v1/namespaces/" + ns + "/leases", body: body}
	if name != "" {
		r.path += "/" + name
	}
	if body != nil {
		r.ctype = "application/json"
	}
	r.call = call{verb: verb, resource: coordinationv1.SchemeGroupVersion.WithResource("leases"), ref: Ref{Group: coordinationv1.GroupName, Version: "v1", Kind: "Lease", Namespace: ns, Name: b.Name}}
	return r
}

// Read implements leader.Board.
func (b LeaseBoard) Read(ctx context.Context) (leader.Post, error) {
	a, err := b.Client.once(ctx, b.request(http.MethodGet, "get", b.Name, nil))
	if errors.Is(err, ErrNotFound) {
		return leader.Post{}, nil
	}
	if err != nil {
		return leader.Post{}, err
	}
	return postOf(a.body)
}

func postOf(raw []byte) (leader.Post, error) {
	var l coordinationv1.Lease
	if err := json.Unmarshal(raw, &l); err != nil {
		return leader.Post{}, fmt.Errorf("read the lease: %w", err)
	}
	p := leader.Post{Term: 1, Beat: l.ResourceVersion, For: 15 * time.Second}
	if l.Spec.HolderIdentity != nil {
		p.Holder = *l.Spec.HolderIdentity
	}
	if l.Spec.LeaseTransitions != nil {
		p.Term = int64(*l.Spec.LeaseTransitions)
	}
	if l.Spec.LeaseDurationSeconds != nil {
		p.For = time.Duration(*l.Spec.LeaseDurationSeconds) * time.Second
	}
	return p, nil
}

// Write implements leader.Board. It is sent once: an answer that was lost is found out by the next look.
func (b LeaseBoard) Write(ctx context.Context, old, now leader.Post) (leader.Post, error) {
	at, seconds, term := metav1.NowMicro(), int32((now.For+time.Second-1)/time.Second), int32(now.Term)
	l := coordinationv1.Lease{
		TypeMeta:   metav1.TypeMeta{APIVersion: "coordination.k8s.io/v1", Kind: "Lease"},
		ObjectMeta: metav1.ObjectMeta{Name: b.Name, ResourceVersion: old.Beat},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: &now.Holder, LeaseDurationSeconds: &seconds, RenewTime: &at, LeaseTransitions: &term},
	}
	if now.Term != old.Term {
		l.Spec.AcquireTime = &at
	}
	body, err := json.Marshal(l)
	if err != nil {
		return leader.Post{}, fmt.Errorf("write the lease: %w", err)
	}
	r := b.request(http.MethodPut, "update", b.Name, body)
	if old.Beat == "" {
		r = b.request(http.MethodPost, "create", "", body)
	}
	resp, err := b.Client.send(ctx, r)
	if err != nil {
		return leader.Post{}, b.Client.unreachable(ctx, r.call, err)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return leader.Post{}, b.Client.unreachable(ctx, r.call, err)
	}
	switch {
	case resp.StatusCode == http.StatusConflict:
		return leader.Post{}, leader.ErrMoved
	case resp.StatusCode >= 300:
		return leader.Post{}, b.Client.refused(r.call, resp, raw)
	}
	return postOf(raw)
}
