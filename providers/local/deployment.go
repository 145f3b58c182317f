package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/proc"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/runs"
	"github.com/continuo-ml/continuo/providers/serving"
	"github.com/continuo-ml/continuo/resource"
)

// deployment serves a model version by a gateway process of its own, which carries rollouts out by itself: Apply tells it what
// to serve and waits, Read asks it what it made of that.
type deployment struct {
	*runs.Workspace

	mu      sync.Mutex
	claimed map[string]resource.Address // folders that records were seen to own
}

// deploymentRef is what a record keeps of a deployment.
type deploymentRef struct {
	Dir  string `json:"dir"` // relative to the project
	Port int    `json:"port"`
}

// rolloutOp is the last operation that reached for a gateway, kept in its folder as op.json.
type rolloutOp struct {
	Op      string           `json:"op"`
	Address resource.Address `json:"address"`
	Version int              `json:"version"`
	Digest  string           `json:"digest"`
	Port    int              `json:"port,omitempty"` // as declared
	// Base is the generation that the operation found, Generation the one that it asked for; 0 until the gateway has it.
	Base       int64 `json:"base"`
	Generation int64 `json:"generation"`
}

const (
	opFile       = "op.json"
	defaultDrain = 30 * time.Second
)

// Probe implements providers.Prober: the code of the server.
func (d *deployment) Probe(_ context.Context, req providers.ProbeRequest) (map[string]string, error) {
	return d.ProbeCode(req)
}

// Apply implements providers.Typed. It returns when the rollout came to rest; a cancelled ctx leaves the gateway at its work.
func (d *deployment) Apply(ctx context.Context, spec config.Deployment, req providers.ApplyRequest) (providers.Result, error) {
	dir, err := d.home(req)
	if err != nil {
		return providers.Result{}, err
	}
	op, err := d.reached(dir, req)
	if err != nil {
		return providers.Result{}, fmt.Errorf("%s: %w", req.Address, err)
	}
	if op == nil {
		if req.Adopt {
			return providers.Result{}, fmt.Errorf("%s: operation %s: %w", req.Address, req.OpID, providers.ErrAbsent)
		}
		if op, err = d.submit(ctx, dir, spec, req); err != nil {
			return providers.Result{}, err
		}
	}
	if err := gateway.Start(ctx, d.Exe, dir); err != nil {
		return providers.Result{}, fmt.Errorf("%s: %w", req.Address, err)
	}
	live, err := gateway.Wait(ctx, dir, op.Generation, func(message string) {
		req.Emit(resource.Event{Time: d.Now(), Type: resource.EventProgress, Address: req.Address.String(), Action: req.Action, Message: serving.Brief(message)})
	})
	var down *gateway.DownError
	if errors.As(err, &down) {
		lines := strings.Split(strings.TrimSpace(down.Log), "\n")
		return providers.Result{}, &providers.RunError{
			Err: fmt.Errorf("%s: %w", req.Address, err), Log: lines[max(0, len(lines)-errorLines):], Ref: d.ref(dir, live),
		}
	}
	if err != nil {
		return providers.Result{}, fmt.Errorf("%s: %w", req.Address, err)
	}
	return d.outcome(dir, *op, live)
}

// submit checks the model out and tells the gateway what to serve.
func (d *deployment) submit(ctx context.Context, dir string, spec config.Deployment, req providers.ApplyRequest) (*rolloutOp, error) {
	if err := d.Unmoved(req, spec.Exec); err != nil {
		return nil, err
	}
	want, err := d.desired(ctx, spec, req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", req.Address, err)
	}
	// The gateway's files hold environments: nobody else looks into its folder.
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	base, err := generation(dir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", req.Address, err)
	}
	op := &rolloutOp{Op: req.OpID, Address: req.Address, Version: want.Model.Number, Digest: want.Model.Digest, Port: want.Port, Base: base}
	if err := durable.WriteJSON(filepath.Join(dir, opFile), op); err != nil {
		return nil, err
	}
	if op.Generation, err = gateway.Apply(ctx, dir, want); err != nil {
		return nil, fmt.Errorf("%s: %w", req.Address, err)
	}
	return op, durable.WriteJSON(filepath.Join(dir, opFile), op)
}

// reached returns what an earlier call under this id asked the gateway for, or nil if it never got so far.
func (d *deployment) reached(dir string, req providers.ApplyRequest) (*rolloutOp, error) {
	var op rolloutOp
	found, err := durable.ReadJSON(filepath.Join(dir, opFile), &op)
	if err != nil || !found || op.Op != req.OpID {
		return nil, err
	}
	if op.Generation == 0 {
		// Killed between telling the gateway and noting so: nobody else can have told it anything since.
		now, err := generation(dir)
		if err != nil || now == op.Base {
			return nil, err
		}
		op.Generation = now
	}
	return &op, nil
}

// generation is that of the gateway's desired.json, 0 if there is none.
func generation(dir string) (int64, error) {
	var d struct {
		Generation int64 `json:"generation"`
	}
	_, err := durable.ReadJSON(filepath.Join(dir, "desired.json"), &d)
	return d.Generation, err
}

// outcome turns how a rollout came to rest into the result of the step.
func (d *deployment) outcome(dir string, op rolloutOp, live gateway.Live) (providers.Result, error) {
	ref := d.ref(dir, live)
	res, err := serving.Outcome(op.asked(live), live, d.Now())
	if why := crashing(live); err == nil && live.Phase == gateway.PhaseReady && why != "" {
		err = fmt.Errorf("%s does not stay up: %s", live.Current, why)
	}
	if err != nil {
		return providers.Result{}, &providers.RunError{Err: fmt.Errorf("%s: %w", op.Address, err), Log: serverTail(dir, op.Version), Ref: ref}
	}
	res.Ref = ref
	return res, nil
}

// asked is what the operation wanted. Nobody blames a version for a port that could not be had.
func (op rolloutOp) asked(live gateway.Live) serving.Asked {
	return serving.Asked{Address: op.Address, Version: op.Version, Digest: op.Digest, Innocent: op.Port != 0 && op.Port != portOf(live.Endpoint)}
}

// home is the folder of a deployment: the recorded one, or one by its address. A block that was renamed keeps its folder, so a
// new block under its old name must take another.
func (d *deployment) home(req providers.ApplyRequest) (string, error) {
	if req.Prior != nil && len(req.Prior.Ref) > 0 {
		return d.recordedDir(req.Address, req.Prior.Ref)
	}
	for n := 1; ; n++ {
		dir := d.defaultDir(req.Address)
		if n > 1 {
			dir += "~" + strconv.Itoa(n)
		}
		d.mu.Lock()
		owner, taken := d.claimed[dir]
		d.mu.Unlock()
		if !taken || owner == req.Address {
			return dir, nil
		}
	}
}

func (d *deployment) defaultDir(a resource.Address) string {
	return filepath.Join(d.Dir, "deployments", a.Slug())
}

// recordedDir reads the folder from a record's reference.
func (d *deployment) recordedDir(a resource.Address, raw json.RawMessage) (string, error) {
	dir := d.defaultDir(a)
	if len(raw) > 0 {
		var ref deploymentRef
		if err := json.Unmarshal(raw, &ref); err != nil {
			return "", fmt.Errorf("%s: read its reference: %w", a, err)
		}
		if ref.Dir != "" {
			dir = d.Abs(ref.Dir)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.claimed == nil {
		d.claimed = map[string]resource.Address{}
	}
	d.claimed[dir] = a
	return dir, nil
}

func (d *deployment) ref(dir string, live gateway.Live) deploymentRef {
	return deploymentRef{Dir: d.Rel(dir), Port: portOf(live.Endpoint)}
}

// portOf is the port of an endpoint such as "http://127.0.0.1:20123", or 0.
func portOf(endpoint string) int {
	_, port, _ := strings.Cut(strings.TrimPrefix(endpoint, "http://"), ":")
	n, err := strconv.Atoi(port)
	if err != nil {
		return 0
	}
	return n
}

// Delete implements providers.Typed: requests in flight finish, then no process and no file of the deployment is left.
func (d *deployment) Delete(ctx context.Context, req providers.DeleteRequest) error {
	dir, err := d.recordedDir(req.Address, req.Record.Ref)
	if err != nil {
		return err
	}
	live, err := gateway.Read(dir)
	if err != nil {
		return fmt.Errorf("%s: %w", req.Address, err)
	}
	if err := gateway.Stop(ctx, dir, recordedDrain(req.Record.Spec)); err != nil {
		return fmt.Errorf("%s: %w", req.Address, err)
	}
	// Where the kernel does not end the servers of a gateway that was killed, they still run.
	for _, s := range live.Servers {
		if err := proc.KillGroup(s.Process, syscall.SIGKILL); err != nil && !errors.Is(err, proc.ErrGone) && !errors.Is(err, proc.ErrUnsupported) {
			return fmt.Errorf("%s: end server %d: %w", req.Address, s.Process.PID, err)
		}
	}
	if err := d.keepUnsent(dir, req); err != nil {
		return fmt.Errorf("%s: %w", req.Address, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("%s: %w", req.Address, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.claimed, dir)
	return nil
}

// keepUnsent saves what a sink that was down did not take from going with the folder, and says where it is.
func (d *deployment) keepUnsent(dir string, req providers.DeleteRequest) error {
	file := filepath.Join(d.Dir, "unsent", filepath.Base(dir)+"-"+req.OpID+".jsonl")
	n, err := gateway.SaveUnsent(dir, file)
	if err != nil || n == 0 {
		return err
	}
	req.Emit(resource.Event{Time: d.Now(), Type: resource.EventLog, Address: req.Address.String(), Action: resource.Delete,
		Message: fmt.Sprintf("its sink did not take %d answers; they are in %s, one JSON record a line: send them on or remove the file", n, d.Rel(file))})
	return nil
}

// recordedDrain is the drain of a recorded spec.
func recordedDrain(spec json.RawMessage) time.Duration {
	var s struct {
		Drain string `json:"drain"`
	}
	// A record without a spec is of a deployment that was never made.
	if len(spec) == 0 || json.Unmarshal(spec, &s) != nil {
		return defaultDrain
	}
	drain, err := resource.ParseDuration(s.Drain)
	if err != nil {
		return defaultDrain
	}
	return drain
}
