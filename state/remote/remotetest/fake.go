package remotetest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/continuo-ml/continuo/state/remote"
)

// Fake is a place in memory. It stands for faults that no real one shows on
// demand; what real ones do is tested with them.
type Fake struct {
	// Max is the largest object; 0 = 64 MiB.
	Max int
	// Careless ignores the condition of Put, as old S3 servers do.
	Careless bool

	mu      sync.Mutex
	objects map[string]object
	version int
	puts    int
	gets    int
	fault   func(op, name string) Fault
	now     func() time.Time
}

type object struct {
	data     []byte
	version  string
	modified time.Time
}

// Fault is what goes wrong with a request. Lost does it and loses the answer.
type Fault struct {
	Err  error
	Lost bool
}

// NewFake returns an empty place.
func NewFake() *Fake { return &Fake{objects: map[string]object{}, now: time.Now} }

// Break calls f before each request ("get", "put", "delete", "list" and a name);
// nil ends it.
func (f *Fake) Break(fault func(op, name string) Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

// At sets the place's clock.
func (f *Fake) At(now func() time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = now
}

// Requests counts those that read and those that wrote.
func (f *Fake) Requests() (gets, puts int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.gets, f.puts
}

// Names lists the objects with a prefix.
func (f *Fake) Names(prefix string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(f.objects)), func(n string) bool { return !strings.HasPrefix(n, prefix) })
}

// Raw returns an object's bytes, nil for none; Force writes them around every condition, and nil removes it.
func (f *Fake) Raw(name string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.objects[name].data)
}

// Force writes an object around every condition; nil removes it.
func (f *Fake) Force(name string, data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if data == nil {
		delete(f.objects, name)
		return
	}
	f.store(name, data)
}

func (f *Fake) store(name string, data []byte) string {
	f.version++
	o := object{slices.Clone(data), fmt.Sprint(f.version), f.now()}
	f.objects[name] = o
	return o.version
}

// begin counts a request and says what goes wrong with it.
func (f *Fake) begin(ctx context.Context, op, name string, n *int) (Fault, error) {
	f.mu.Lock()
	fault := f.fault
	if n != nil {
		*n++
	}
	f.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return Fault{}, err
	}
	if fault == nil {
		return Fault{}, nil
	}
	x := fault(op, name)
	if x.Lost && x.Err == nil {
		x.Err = fmt.Errorf("%w: the answer was lost", remote.ErrBusy)
	}
	if x.Err != nil && !x.Lost {
		return Fault{}, x.Err
	}
	return x, nil
}

// Get implements remote.Blobs.
func (f *Fake) Get(ctx context.Context, name string) ([]byte, string, error) {
	if _, err := f.begin(ctx, "get", name, &f.gets); err != nil {
		return nil, "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	o, ok := f.objects[name]
	if !ok {
		return nil, "", remote.ErrAbsent
	}
	return slices.Clone(o.data), o.version, nil
}

// Put implements remote.Blobs.
func (f *Fake) Put(ctx context.Context, name string, data []byte, at string) (string, error) {
	x, err := f.begin(ctx, "put", name, &f.puts)
	if err != nil {
		return "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.objects[name].version != at && !f.Careless {
		return "", remote.ErrPassed
	}
	return f.store(name, data), x.Err
}

// Delete implements remote.Blobs.
func (f *Fake) Delete(ctx context.Context, name string) error {
	x, err := f.begin(ctx, "delete", name, &f.puts)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.objects, name)
	return x.Err
}

// List implements remote.Blobs.
func (f *Fake) List(ctx context.Context, prefix string) ([]remote.Info, error) {
	if _, err := f.begin(ctx, "list", prefix, &f.gets); err != nil {
		return nil, err
	}
	var out []remote.Info
	for _, name := range f.Names(prefix) {
		f.mu.Lock()
		o := f.objects[name]
		f.mu.Unlock()
		out = append(out, remote.Info{Name: name, Modified: o.modified})
	}
	return out, nil
}

// Check implements remote.Blobs.
func (f *Fake) Check(ctx context.Context) error { return remote.CheckConditions(ctx, f) }

// Where implements remote.Blobs.
func (f *Fake) Where() string { return "fake://memory" }

// Limit implements remote.Blobs.
func (f *Fake) Limit() int {
	if f.Max == 0 {
		return 64 << 20
	}
	return f.Max
}
