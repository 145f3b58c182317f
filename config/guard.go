package config

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// EvalCommand is the argument that makes this program run [EvalMain].
const EvalCommand = "__eval"

// guardRequest is what the child needs to evaluate a project.
type guardRequest struct {
	Dir     string     `json:"dir"`
	Modules string     `json:"modules"`
	Local   bool       `json:"local"`
	Vars    []guardVar `json:"vars"`
}

type guardVar struct {
	Name   string                   `json:"name"`
	Source string                   `json:"source"`
	Text   *string                  `json:"text,omitempty"`
	Value  *ctyjson.SimpleJSONValue `json:"value,omitempty"`
	File   string                   `json:"file,omitempty"`
}

// Guarded evaluates a project in a child process, `exe __eval`, with limits of
// time and memory, as if nothing were known of any block. The error is a
// *LimitError when a limit was passed; what the files themselves have wrong is
// not reported here, but when they are loaded.
func Guarded(ctx context.Context, exe []string, opts Options) error {
	if len(exe) == 0 {
		return errors.New("no program to evaluate in")
	}
	req := guardRequest{Dir: opts.Dir, Modules: opts.Modules, Local: opts.LocalGit}
	for _, v := range opts.Vars {
		g := guardVar{Name: v.Name, Source: v.Source, Text: v.Text, File: v.Range.Filename}
		if v.Text == nil && v.Value != cty.NilVal {
			g.Value = &ctyjson.SimpleJSONValue{Value: v.Value}
		}
		req.Vars = append(req.Vars, g)
	}
	input, err := json.Marshal(req)
	if err != nil {
		return fmt.Errorf("write the request: %w", err)
	}
	patience := MaxEvalTime
	if opts.evalTime > 0 {
		patience = opts.evalTime
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe[0], append(append([]string(nil), exe[1:]...), EvalCommand)...)
	cmd.Env = append(cmd.Environ(), fmt.Sprintf("GOMEMLIMIT=%d", MaxEvalBytes), "GOTRACEBACK=none")
	cmd.Stdin = bytes.NewReader(input)
	cmd.WaitDelay = time.Second
	var out tail
	cmd.Stdout = &out
	err = cmd.Run()
	if out.done {
		return nil
	}
	limit := &LimitError{At: out.at, Limit: fmt.Sprintf("%d MiB", MaxEvalBytes>>20)}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		limit.Limit = patience.String()
	case ctx.Err() != nil:
		return ctx.Err()
	case out.at == "" && err != nil:
		return fmt.Errorf("start %s: %w", exe[0], err)
	}
	return limit
}

// LimitError says what was being evaluated when a limit was passed.
type LimitError struct {
	At    string // "training.x", "local.y"
	Limit string // "10s", "256 MiB"
}

// Error implements error.
func (e *LimitError) Error() string {
	return fmt.Sprintf("evaluating %s took more than %s", e.At, e.Limit)
}

// tail keeps the last line that the child wrote.
type tail struct {
	rest []byte
	at   string
	done bool
}

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.rest = append(t.rest, p...)
	for {
		line, rest, ok := bytes.Cut(t.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		t.rest = append([]byte(nil), rest...)
		switch at, isAt := strings.CutPrefix(string(line), "at "); {
		case isAt:
			t.at = at
		case string(line) == "done":
			t.done = true
		}
	}
}

// EvalMain is the child's side of [Guarded]: it reads the request, loads the
// project and evaluates every block, and writes what it is at. It returns the
// exit code.
func EvalMain(stdin io.Reader, stdout io.Writer) int {
	debug.SetMaxStack(64 << 20)
	limitMemory()
	exit := make(chan int, 2)
	stop := make(chan struct{})
	defer close(stop)
	go watchMemory(stop, exit)
	go func() { exit <- evalAll(stdin, stdout) }()
	return <-exit
}

func evalAll(stdin io.Reader, stdout io.Writer) int {
	var req guardRequest
	if err := json.NewDecoder(stdin).Decode(&req); err != nil {
		return 1
	}
	w := bufio.NewWriterSize(stdout, 64)
	trace := func(what string) {
		fmt.Fprintf(w, "at %s\n", strings.ReplaceAll(what, "\n", " "))
		// A line that does not arrive names the wrong block, nothing worse.
		_ = w.Flush()
	}
	opts := Options{Dir: req.Dir, Modules: req.Modules, LocalGit: req.Local, trace: trace}
	for _, v := range req.Vars {
		in := VarInput{Name: v.Name, Source: v.Source, Text: v.Text, Range: hcl.Range{Filename: v.File}}
		if v.Value != nil {
			in.Value = v.Value.Value
		}
		opts.Vars = append(opts.Vars, in)
	}
	trace("the files")
	p, diags := Load(context.Background(), opts)
	if p != nil && !diags.HasErrors() {
		p.eval.loose = true
		for _, b := range p.Blocks {
			trace(b.Addr.String())
			// What it says of the files does not matter here: that it ends does.
			_, _ = p.Eval(b, unknownScope{})
			_ = p.Conditions(b, unknownScope{}, cty.NilVal, false)
			_ = p.Conditions(b, unknownScope{}, cty.NilVal, true)
		}
		for _, o := range p.Outputs {
			trace("output." + o.Name)
			_, _ = p.EvalOutput(o, unknownScope{})
		}
	}
	fmt.Fprintln(w, "done")
	if err := w.Flush(); err != nil {
		return 1
	}
	return 0
}

// watchMemory ends the evaluation when the heap outgrows its limit. GOMEMLIMIT
// only makes the collector work harder; this is the limit.
func watchMemory(stop <-chan struct{}, exit chan<- int) {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			metrics.Read(sample)
			if sample[0].Value.Uint64() > MaxEvalBytes {
				exit <- 3
				return
			}
		}
	}
}

// guard evaluates the project in a child process first when it could be
// expensive, or is a stranger's.
func (l *loader) guard(ctx context.Context) {
	if l.opts.trace != nil || !l.opts.Untrusted && !l.expensive() {
		return
	}
	rng := hcl.Range{}
	if len(l.sources) > 0 {
		rng = hcl.Range{Filename: l.sources[0].Name, Start: hcl.InitialPos, End: hcl.InitialPos}
	}
	if len(l.opts.Exe) == 0 {
		l.add(errAt(rng, "Evaluation needs limits", "These files could take much time or memory to evaluate (loops in loops, or values that double), which needs a process of its own, and none can be started here. Make the loops smaller."))
		return
	}
	err := Guarded(ctx, l.opts.Exe, l.opts)
	var limit *LimitError
	switch {
	case err == nil:
	case errors.As(err, &limit):
		l.add(errAt(l.rangeOf(limit.At, rng), "Evaluation stopped", "Evaluating %s took more than %s. Make its loops or values smaller.", limit.At, limit.Limit))
	default:
		l.add(errAt(rng, "Evaluation needs limits", "The files have to be evaluated in a process of its own, but it failed: %s. Run the command again.", sentence(err)))
	}
}

// rangeOf finds where something that was being evaluated is written.
func (l *loader) rangeOf(name string, otherwise hcl.Range) hcl.Range {
	for _, dir := range sortedKeys(l.modules) {
		cfg := l.modules[dir]
		for n, f := range cfg.locals {
			if "local."+n == name {
				return f.rng
			}
		}
		for n, o := range cfg.outputs {
			if "output."+n == name {
				return o.rng
			}
		}
		for _, d := range cfg.order {
			at := d.kind.Name + "." + d.name
			if name == at || strings.HasPrefix(name, at+"[") || strings.Contains(name, "."+at) {
				return d.rng
			}
		}
	}
	return otherwise
}
