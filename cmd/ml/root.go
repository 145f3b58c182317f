package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/continuo-ml/continuo/report"
)

// Exit codes; `ml help exit-codes` explains them.
const (
	exitDone    = 0
	exitError   = 1
	exitChanges = 2
	exitVerdict = 3
)

// exitError carries an exit code through cobra; message "" prints nothing more.
type exitCode struct {
	code int
	err  error
}

// Error implements error.
func (e exitCode) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

// Unwrap gives the cause.
func (e exitCode) Unwrap() error { return e.err }

// Streams are what a command talks through.
type Streams struct {
	In       *os.File
	Out, Err io.Writer
	OutFile  *os.File // Out as a file, for terminal detection; nil when it is none
	Env      func(string) string
	Signals  <-chan os.Signal
}

// System is the process's own streams.
func System() Streams {
	ch := make(chan os.Signal, 4)
	signal.Notify(ch, os.Interrupt, syscall.SIGTERM)
	return Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, OutFile: os.Stdout, Env: os.Getenv, Signals: ch}
}

// global are the flags that every command takes.
type global struct {
	chdir       string
	noColor     bool
	json        bool
	input       bool
	lockTimeout time.Duration
}

// app is one invocation.
type app struct {
	Streams
	global
	vars varFlags
	// leftRunning says that detached work goes on although the command was interrupted.
	leftRunning bool
	asking      bool // the command itself asks what to do with a plan
	cancelOp    context.CancelFunc
	// live is the view that redraws the terminal now, if any: what is written
	// beside it would be overwritten.
	live atomic.Pointer[report.Progress]
}

// Main runs the command line and returns the exit code.
func Main(args []string, s Streams) int {
	a := &app{Streams: s}
	a.vars.bind()
	root := a.root()
	root.SetArgs(singleDashes(args))
	root.SetOut(s.Out)
	if n := len(args); n > 1 && strings.HasPrefix(args[0], "__complete") && longWord.MatchString(args[n-1]) {
		root.SetOut(oneDash{s.Out})
	}
	root.SetErr(s.Err)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	a.cancelOp = cancel
	return a.exit(unknownCommand(root, root.ExecuteContext(ctx)))
}

// exit prints an error and picks the code.
func (a *app) exit(err error) int {
	if err == nil {
		return exitDone
	}
	var code exitCode
	if errors.As(err, &code) {
		if code.err != nil {
			a.printError(code.err)
		}
		return code.code
	}
	a.printError(err)
	return exitError
}

func (a *app) printError(err error) {
	var diags diagError
	if errors.As(err, &diags) {
		if perr := report.Diagnostics(a.Err, diags.Diags, diags.Files, a.errStyle()); perr == nil {
			return
		}
	}
	_ = report.Failure(a.Err, a.errStyle(), strings.TrimSpace(err.Error())) // where it cannot be written, the exit code says it
}

// done says what was done and what comes next.
func (a *app) done(format string, args ...any) error {
	if a.json {
		return a.printJSON(map[string]any{"done": true, "message": fmt.Sprintf(format, args...)})
	}
	return report.Done(a.Out, a.style(), fmt.Sprintf(format, args...))
}

// style is how standard output is rendered.
func (a *app) style() report.Style { return report.DetectStyle(a.OutFile, a.noColor, a.Env) }

func (a *app) errStyle() report.Style {
	f, _ := a.Err.(*os.File)
	return report.DetectStyle(f, a.noColor, a.Env)
}

func (a *app) root() *cobra.Command {
	a.vars.bind()
	cmd := &cobra.Command{
		Use:   "ml",
		Short: "Plan and apply the life of machine-learning models",
		Long: `ml plans and applies the life of machine-learning models: datasets, checks,
trainings, validation gates, deployments and monitors, declared in *.ml.hcl files.

  ml init       write a starter project
  ml plan       show what would change, and why
  ml apply      do exactly that
  ml status     show what serves, and how it is`,
		Version:       version,
		SilenceErrors: true, SilenceUsage: true, SuggestionsMinimumDistance: 2,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	cmd.SetFlagErrorFunc(flagError)
	f := cmd.PersistentFlags()
	f.StringVar(&a.chdir, "chdir", "", "work in this folder")
	f.BoolVar(&a.noColor, "no-color", false, "no colours (also NO_COLOR)")
	f.BoolVar(&a.json, "json", false, "print JSON")
	f.BoolVar(&a.input, "input", true, "ask when something is missing; -input=false never asks")
	f.DurationVar(&a.lockTimeout, "lock-timeout", 0, "wait so long for another ml that is applying, such as 5m")
	f.Var(&a.vars.flag, "var", "set a variable, NAME=VALUE")
	f.Var(&a.vars.file, "var-file", "read variables from a file")
	cmd.AddCommand(
		a.initCmd(), a.validateCmd(), a.fmtCmd(), a.planCmd(), a.applyCmd(), a.destroyCmd(),
		a.showCmd(), a.statusCmd(), a.explainCmd(), a.graphCmd(), a.outputCmd(),
		a.versionsCmd(), a.runsCmd(), a.logsCmd(), a.rollbackCmd(), a.unpinCmd(), a.cancelCmd(), a.approveCmd(),
		a.checkCmd(), a.pruneCmd(), a.monitorCmd(), a.driftCmd(), a.importCmd(), a.stateCmd(),
		a.commentCmd(), a.ciCmd(), a.daemonCmd(), a.versionCmd(), a.completionCmd(), exitCodesTopic(),
	)
	plainUsage(cmd)
	cmd.PersistentPreRunE = a.refuseJSON
	return cmd
}

func exitCodesTopic() *cobra.Command {
	return &cobra.Command{Use: "exit-codes", Short: "What the exit codes mean", Long: `0  done
1  error
2  there are changes (plan -detailed-exitcode), or columns drifted (drift -detailed-exitcode)
3  a verdict in scope is bad (apply, check), or a file would change (fmt -check)`}
}

// singleDashes turns `-auto-approve` into `--auto-approve`, so that both forms
// of users' habits work: a word of letters behind one dash is a long flag, known
// or mistyped. What follows `--` is left alone.
func singleDashes(args []string) []string {
	out := make([]string, 0, len(args))
	for i, arg := range args {
		if arg == "--" {
			return append(out, args[i:]...)
		}
		if longWord.MatchString(arg) {
			arg = "-" + arg
		}
		out = append(out, arg)
	}
	return out
}

var longWord = regexp.MustCompile(`^-[a-z][a-z-]+(=|$)`)

// lingerAfterInterrupt is how long a second signal is waited for when the first
// one left something running: ml itself has nothing more to do by then.
const lingerAfterInterrupt = 3 * time.Second

// interrupts runs fn with a context that ends at the first signal; the second
// one calls again, if there is something that it could still stop.
func (a *app) interrupts(ctx context.Context, first string, again func(), fn func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		a.watchSignals(first, again, cancel, done)
	}()
	err := fn(ctx)
	close(done)
	<-watched
	return err
}

func (a *app) watchSignals(first string, again func(), cancel func(), done <-chan struct{}) {
	var over <-chan time.Time
	for n := 0; ; {
		select {
		case <-done:
			if n != 1 || again == nil || !a.leftRunning {
				return
			}
			done = nil
			over = time.After(lingerAfterInterrupt)
		case <-over:
			return
		case _, ok := <-a.Signals:
			if !ok {
				return
			}
			if n++; n == 1 {
				a.tell(first)
				cancel()
			} else if again != nil {
				again()
				return
			}
		}
	}
}

// tell says something in the middle of a command.
func (a *app) tell(text string) {
	if view := a.live.Load(); view != nil {
		view.Say(text)
		return
	}
	fmt.Fprintf(a.Err, "\n%s\n", text)
}
