package runs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/joshdk/go-junit"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/internal/runner"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
)

const (
	maxReport   = 64 << 20
	maxFindings = 100
	maxMessage  = 400
)

// check runs a command whose success is the verdict.
type check struct{ command }

// Read implements providers.Typed. A check leaves nothing outside its record.
func (c *check) Read(context.Context, providers.ReadRequest) (providers.Object, error) {
	return providers.Object{Phase: resource.PhaseReady}, nil
}

// Delete implements providers.Typed: logs stay for as long as the run's record does.
func (c *check) Delete(context.Context, providers.DeleteRequest) error { return nil }

// checkResult is what an ended check remembers: its report may be overwritten later.
type checkResult struct {
	Verdict  resource.Verdict `json:"verdict"`
	Tests    int              `json:"tests"`
	Failures int              `json:"failures"`
}

// Apply implements providers.Typed.
func (c *check) Apply(ctx context.Context, spec config.Check, req providers.ApplyRequest) (providers.Result, error) {
	o, err := c.begin(ctx, req)
	if err != nil {
		return providers.Result{}, err
	}
	var r checkResult
	known, err := o.recall(&r)
	if err != nil {
		return providers.Result{}, err
	}
	if !known {
		if r, err = c.execute(ctx, spec, o); err != nil {
			return providers.Result{}, err
		}
		if err := o.done(r); err != nil {
			return providers.Result{}, err
		}
	}
	return providers.Result{
		Outputs: config.CheckOutputs{Address: req.Address.String(), Passed: r.Verdict.Passed, Tests: r.Tests, Failures: r.Failures},
		Ref:     o.ref(), Verdict: &r.Verdict, Message: r.Verdict.Message,
		Metrics: map[string]float64{"tests": float64(r.Tests), "failures": float64(r.Failures)},
	}, nil
}

func (c *check) execute(ctx context.Context, spec config.Check, o *op) (checkResult, error) {
	in, err := c.inputs(spec.Inputs)
	if err != nil {
		return checkResult{}, fmt.Errorf("%s: %w", o.req.Address, err)
	}
	before, err := c.reportBefore(spec, o)
	if err != nil {
		return checkResult{}, fmt.Errorf("%s: %w", o.req.Address, err)
	}
	s := o.stage(mainStage, spec.Exec)
	s.Inputs, s.Report = in, spec.JUnit
	st, err := o.run(ctx, mainStage, s, o.progress(""))
	if err != nil {
		return checkResult{}, err
	}
	// An exit code is a verdict; that nothing could be started, or that it was ended from outside, is none.
	if st.Phase != runner.Succeeded && (st.Phase != runner.Failed || st.ExitCode <= 0) {
		return checkResult{}, o.failure("", st)
	}
	r, err := c.judge(spec, o, st, before)
	r.Verdict.Time = c.Now()
	return r, err
}

// judge takes the exit code and the report together: both must be good.
func (c *check) judge(spec config.Check, o *op, st runner.Status, before reportMark) (checkResult, error) {
	r := checkResult{Verdict: resource.Verdict{Passed: true, Message: "passed"}}
	bad := func(f resource.Finding) {
		r.Verdict.Passed = false
		r.Verdict.Findings = append(r.Verdict.Findings, f)
	}
	if spec.JUnit != "" {
		suites, why, err := c.report(c.exec.Reports(o.dir), spec.JUnit, st.Started, before)
		if err != nil {
			return r, err
		}
		var failed []resource.Finding
		skipped := 0
		for i := range suites {
			suites[i].Aggregate()
			r.Tests += suites[i].Totals.Tests
			skipped += suites[i].Totals.Skipped
			failed = append(failed, failures(suites[i])...)
		}
		r.Failures = len(failed)
		if why == "" {
			why = emptyReport(spec.JUnit, r.Tests, skipped)
		}
		if why != "" {
			bad(resource.Finding{Name: "report", Rule: "junit", Path: spec.JUnit, Message: why})
		}
		for _, f := range failed[:min(len(failed), maxFindings)] {
			bad(f)
		}
		r.Verdict.Message = fmt.Sprintf("%d tests passed", r.Tests-skipped)
		if r.Failures > 0 {
			r.Verdict.Message = fmt.Sprintf("%d of %d tests failed: %s", r.Failures, r.Tests, failed[0].Name)
		} else if why != "" {
			r.Verdict.Message = why
		}
	}
	if st.Phase != runner.Succeeded {
		bad(resource.Finding{Name: "command", Rule: "exit_code", Message: strings.Join(append([]string{st.Message}, st.LastLogLines...), "\n")})
		if r.Failures == 0 {
			r.Verdict.Message = st.Message
		}
	}
	return r, nil
}

func emptyReport(path string, tests, skipped int) string {
	switch {
	case tests == 0:
		return path + " holds no test; a report without a test proves nothing"
	case tests == skipped:
		return fmt.Sprintf("all %d tests in %s were skipped", tests, path)
	}
	return ""
}

// reportMark is what a report was before the command ran. Its time alone proves nothing: a copied file may have any.
type reportMark struct {
	There bool  `json:"there"`
	Size  int64 `json:"size,omitempty"`
	Nanos int64 `json:"nanos,omitempty"` // modification time since 1970
}

func markOf(info fs.FileInfo) reportMark {
	return reportMark{true, info.Size(), info.ModTime().UnixNano()}
}

// reportBefore looks at the report before the command runs, or recalls what it was.
func (c *check) reportBefore(spec config.Check, o *op) (m reportMark, err error) {
	at := o.at("report-before.json")
	if known, err := durable.ReadJSON(at, &m); known || err != nil || spec.JUnit == "" {
		return m, err
	}
	root, err := os.OpenRoot(c.exec.Reports(o.dir))
	if errors.Is(err, fs.ErrNotExist) {
		return m, durable.WriteJSON(at, m)
	}
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	info, err := root.Stat(filepath.FromSlash(spec.JUnit))
	switch {
	case err == nil:
		m = markOf(info)
	case !errors.Is(err, fs.ErrNotExist):
		return m, fmt.Errorf("look at the report: %w", err)
	}
	return m, durable.WriteJSON(at, m)
}

// report reads the report that this run wrote; why says in words what is wrong with it. One that lies there from before is no report of it.
func (c *check) report(dir, path string, started time.Time, before reportMark) (suites []junit.Suite, why string, err error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "the command wrote no report to " + path, nil
	}
	if err != nil {
		return nil, "", err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	at := filepath.FromSlash(path)
	info, err := root.Stat(at)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "the command wrote no report to " + path, nil
	}
	switch {
	case err != nil:
		return nil, "", fmt.Errorf("read the report: %w", err)
	case !info.Mode().IsRegular():
		return nil, path + " is not a regular file", nil
	case markOf(info) == before, info.ModTime().Before(started.Add(-clockSlack)):
		return nil, path + " is older than this run; the command did not write it", nil
	case info.Size() > maxReport:
		return nil, fmt.Sprintf("%s is larger than %d bytes", path, maxReport), nil
	}
	b, err := root.ReadFile(at)
	if err != nil {
		return nil, "", fmt.Errorf("read the report: %w", err)
	}
	suites, err = junit.Ingest(b)
	if err != nil {
		return nil, fmt.Sprintf("%s is not a JUnit report: %v", path, err), nil
	}
	return suites, "", nil
}

// clockSlack is what file times may lag behind the clock.
const clockSlack = 20 * time.Millisecond

// failures are the tests of a suite that failed or errored, by name.
func failures(s junit.Suite) []resource.Finding {
	var out []resource.Finding
	for _, t := range s.Tests {
		if t.Status != junit.StatusFailed && t.Status != junit.StatusError {
			continue
		}
		name := t.Name
		if t.Classname != "" {
			name = t.Classname + "." + name
		}
		msg := t.Message
		if msg == "" && t.Error != nil {
			msg = t.Error.Error()
		}
		out = append(out, resource.Finding{Name: name, Rule: string(t.Status), Count: 1, Message: clip(msg)})
	}
	for _, inner := range s.Suites {
		out = append(out, failures(inner)...)
	}
	return out
}

// clip keeps a message readable.
func clip(s string) string {
	s = strings.ToValidUTF8(strings.TrimSpace(s), "\uFFFD")
	if r := []rune(s); len(r) > maxMessage {
		return string(r[:maxMessage]) + " …"
	}
	return s
}
