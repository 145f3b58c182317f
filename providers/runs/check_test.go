package runs

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/providers/providertest"
	"github.com/continuo-ml/continuo/resource"
)

func sh(script string) config.Exec { return config.Exec{Command: []string{"sh", "-c", script}} }

func TestTheVerdictOfACheck(t *testing.T) {
	good := `<testsuite name="s"><testcase classname="m" name="a"/><testcase classname="m" name="b"><skipped/></testcase></testsuite>`
	bad := `<testsuites><testsuite><testcase classname="m" name="a"/><testcase classname="m" name="b"><failure message="1 != 2">trace</failure></testcase>` +
		`<testsuite><testcase name="c"><error>boom</error></testcase></testsuite></testsuite></testsuites>`
	cases := []struct {
		name    string
		script  string
		junit   string
		want    config.CheckOutputs
		message string
	}{
		{"exit 0 passes", "true", "", config.CheckOutputs{Passed: true}, "passed"},
		{"another exit code fails and shows the last lines", "echo oh no; exit 3", "", config.CheckOutputs{}, "exit code 3"},
		{"a report counts its tests", "echo '" + good + "' > r.xml", "r.xml", config.CheckOutputs{Passed: true, Tests: 2}, "1 tests passed"},
		{"a failed test fails although the exit code is 0", "echo '" + bad + "' > r.xml", "r.xml", config.CheckOutputs{Tests: 3, Failures: 2}, "2 of 3 tests failed: m.b"},
		{"good tests do not hide an exit code", "echo '" + good + "' > r.xml; exit 1", "r.xml", config.CheckOutputs{Tests: 2}, "exit code 1"},
		{"a report without tests fails", "echo '<testsuite/>' > r.xml", "r.xml", config.CheckOutputs{}, "r.xml holds no test"},
		{"a report of skipped tests fails", "echo '<testsuite><testcase><skipped/></testcase></testsuite>' > r.xml", "r.xml", config.CheckOutputs{Tests: 1}, "were skipped"},
		{"a declared report that is not written fails", "true", "r.xml", config.CheckOutputs{}, "wrote no report"},
		{"a report of an earlier run fails", "true", "old.xml", config.CheckOutputs{}, "older than this run"},
		{"a report of an earlier run fails whatever its time", "true", "ahead.xml", config.CheckOutputs{}, "older than this run"},
		{"a report written over one counts", "echo '" + good + good + "' > ahead.xml", "ahead.xml", config.CheckOutputs{Passed: true, Tests: 4}, "2 tests passed"},
		{"what is no report fails", "echo '<testsuite><testcase>' > r.xml", "r.xml", config.CheckOutputs{}, "not a JUnit report"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := newProject(t, map[string]string{"old.xml": good, "ahead.xml": good})
			ahead := time.Now().Add(24 * time.Hour)
			if err := os.Chtimes(p.Path("ahead.xml"), ahead, ahead); err != nil {
				t.Fatal(err)
			}
			r := p.MustApply("check", "op1", config.Check{Exec: sh(c.script), JUnit: c.junit})
			c.want.Address = "check.x"
			if d := cmp.Diff(c.want, r.Outputs); d != "" {
				t.Error(d)
			}
			if r.Verdict.Passed != c.want.Passed || !strings.Contains(r.Verdict.Message, c.message) {
				t.Errorf("verdict %+v, want %q", r.Verdict, c.message)
			}
		})
	}
}

func TestTheFindingsOfACheckNameTheFailingTests(t *testing.T) {
	p := newProject(t, nil)
	script := `echo '<testsuite><testcase classname="m" name="b"><failure message="1 != 2"/></testcase></testsuite>' > r.xml; echo last words; exit 1`
	got := p.MustApply("check", "op1", config.Check{Exec: sh(script), JUnit: "r.xml"}).Verdict.Findings
	want := []resource.Finding{
		{Name: "m.b", Rule: "failed", Count: 1, Message: "1 != 2"},
		{Name: "command", Rule: "exit_code", Message: "exit code 1\nlast words"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestACheckThatCouldNotRunIsAnErrorAndNoVerdict(t *testing.T) {
	cases := map[string]struct {
		spec config.Exec
		text string
	}{
		"it cannot be started": {config.Exec{Command: []string{"no-such-program"}}, "cannot start"},
		"it timed out":         {config.Exec{Command: []string{"sleep", "60"}, Timeout: 50 * time.Millisecond, Grace: time.Second}, "timed out after 50ms"},
		"it was killed":        {sh("kill -9 $$"), "killed by SIGKILL"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p := newProject(t, nil)
			_, err := p.Apply("check", "op1", config.Check{Exec: c.spec})
			providertest.WantRunError(t, err, c.text)
		})
	}
}

func TestAVerdictStandsWhenTheReportIsOverwrittenLater(t *testing.T) {
	p := newProject(t, nil)
	spec := config.Check{Exec: sh(`echo '<testsuite><testcase/></testsuite>' > r.xml; echo x >> count`), JUnit: "r.xml"}
	first := p.MustApply("check", "op1", spec)
	p.Write("r.xml", "<testsuite/>")
	p.connect()
	req := p.Request("check", "op1", spec)
	req.Adopt = true
	again, err := p.Drivers["check"].Apply(providertest.Within(t), req)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(first, again); d != "" {
		t.Error(d)
	}
	if n := lineCount(p.Read("count")); n != 1 {
		t.Errorf("it ran %d times", n)
	}
}

func TestACancelledContextLeavesTheRunToBeAdopted(t *testing.T) {
	p := newProject(t, nil)
	spec := config.Check{Exec: sh("echo started >> count; while [ ! -e go ]; do sleep 0.02; done")}
	ctx, cancel := context.WithCancel(providertest.Within(t))
	done := make(chan error, 1)
	req := p.Request("check", "op1", spec)
	go func() {
		_, err := p.Drivers["check"].Apply(ctx, req)
		done <- err
	}()
	eventually(t, "the command runs", func() bool { return p.Read("count") != "" })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	p.Write("go", "")
	p.connect()
	req.Adopt = true
	r, err := p.Drivers["check"].Apply(providertest.Within(t), req)
	if err != nil || !r.Verdict.Passed {
		t.Fatalf("adopted: %+v, %v", r.Verdict, err)
	}
	if n := lineCount(p.Read("count")); n != 1 {
		t.Errorf("it ran %d times", n)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func TestMaxParallelBoundsTheCommandsOfAProvider(t *testing.T) {
	p := newProject(t, nil)
	pr := open(t, providertest.Env(p.Root), 1)
	p.Drivers = pr.Drivers
	t.Cleanup(func() {
		if err := pr.Close(); err != nil {
			t.Error(err)
		}
	})
	spec := config.Check{Exec: sh("mkdir busy && sleep 0.1 && rmdir busy")}
	done := make(chan error, 3)
	for _, id := range []string{"a", "b", "c"} {
		req := p.Request("check", id, spec)
		go func() {
			r, err := p.Drivers["check"].Apply(providertest.Within(t), req)
			if err == nil && !r.Verdict.Passed {
				err = errors.New(r.Verdict.Message)
			}
			done <- err
		}()
	}
	for range 3 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestOnlyNamedVariablesReachACommand(t *testing.T) {
	t.Setenv("SECRET_TOKEN", "s3cret")
	t.Setenv("CUDA_HOME", "/cuda")
	t.Setenv("VIRTUAL_ENV", "/venv")
	p := newProject(t, nil)
	x := sh(`[ "$CUDA_HOME$MINE$SECRET_TOKEN" = "$(cat want)" ]`)
	p.Write("want", "/cuda42")
	x.PassEnv, x.Env = []string{"CUDA_*"}, map[string]string{"MINE": "42"}
	if r := p.MustApply("check", "op1", config.Check{Exec: x}); !r.Verdict.Passed {
		t.Errorf("verdict %+v", r.Verdict)
	}
	if !p.Logged("virtual environment /venv is active but not passed on") {
		t.Error("nothing was said of the virtual environment")
	}
	if s := p.Read(".ml/runs/op1/spec.json"); strings.Contains(s, "s3cret") || strings.Contains(s, "/cuda") {
		t.Error("a value of the environment was stored")
	}
}
