package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// together are servers of which one object holds all versions.
type together struct {
	Servers
	Carrier
	err  error  // of Up and GoBack
	back string // what it was made to ask for again
}

func (s *together) Key() string { return "new" }

func (s *together) Up(context.Context, func(string)) (string, error) { return "", s.err }

func (s *together) Sweep(context.Context, []int, func(string)) error { return nil }

func (s *together) GoBack(_ context.Context, number int, good json.RawMessage, _ func(string)) error {
	s.back = string(good)
	if number != 1 {
		return errors.New("another version")
	}
	return s.err
}

func TestOneObjectForAllVersionsAsksAgainForTheOneThatServes(t *testing.T) {
	t.Parallel()
	one, two := gateway.Version{Number: 1}, gateway.Version{Number: 2}
	for name, test := range map[string]struct {
		state State
		err   error
		back  bool
		fails bool
	}{
		"a version was taken back":    {state: State{Live: gateway.Live{Current: one}, Asked: two}, back: true},
		"its copy does not come up":   {state: State{Live: gateway.Live{Current: one}, Asked: two}, err: &Unfit{Reason: "no room"}, back: true},
		"the cluster does not answer": {state: State{Live: gateway.Live{Current: one}, Asked: two}, err: errors.New("no answer"), back: true, fails: true},
		"a rollout goes on":           {state: State{Live: gateway.Live{Current: one, Candidate: &two}, Asked: two}},
		"what was asked for serves":   {state: State{Live: gateway.Live{Current: two}, Asked: two, CurrentKey: "new"}},
		"nothing serves":              {state: State{Asked: two}},
	} {
		servers := &together{err: test.err}
		test.state.Good = json.RawMessage(`"the first"`)
		r := &roll{Request: Request{Say: func(string) {}}, state: &test.state, servers: servers}
		err := r.sweep(t.Context())
		if (servers.back != "") != test.back || (err != nil) != test.fails {
			t.Errorf("%s: it asks for %s, %v", name, servers.back, err)
		}
	}
}

func TestWhyAVersionFailsIsToldWhereNobodyCounts(t *testing.T) {
	t.Parallel()
	two := gateway.Version{Number: 2}
	r := &roll{Request: Request{Say: func(string) {}, Now: time.Now, Front: Front{Carried: true}}, servers: &together{err: &Unfit{Reason: "pod a: exited with 1: no such feature: age"}},
		state: &State{Asked: two, Policy: gateway.Rollout{}.WithDefaults(), Live: gateway.Live{Current: gateway.Version{Number: 1}, Candidate: &two}}}
	done, err := r.step(t.Context())
	if err != nil || !done || !strings.HasSuffix(r.state.Live.Message, "exited with 1: no such feature: age") {
		t.Errorf("%v, %v: %s", done, err, r.state.Live.Message)
	}
}

func TestADeploymentThatIsOneObjectNeedsNoRouter(t *testing.T) {
	t.Parallel()
	f, o := alive(t, nil)
	f.Carried, f.Single, f.Entry = true, true, "http://entry"
	only := Objects{}
	only.Put(o.Get(gvkConfigMap, f.Name))
	version := o.Get(gvkDeployment, f.Name) // bears the deployment's name
	only.Put(version)
	p := exampleParts()
	p.Version = []schema.GroupVersionKind{gvkDeployment}
	p.Enters = func(_ Front, _ Objects, _ gateway.Live, info map[string]string) (string, error) {
		info["way"] = "in"
		return "", nil
	}
	got, _, err := p.object(f, only, providers.ReadRequest{Record: &state.Record{}})
	if err != nil || got.Phase != resource.PhaseReady || got.Info["endpoint"] != "http://entry" || got.Info["way"] != "in" {
		t.Errorf("%v, %+v", err, got)
	}
	if got := f.VersionName(7); got != f.Name {
		t.Errorf("version 7 is called %s", got)
	}
}
