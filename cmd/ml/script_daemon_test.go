package main

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/continuo-ml/continuo/daemon"
)

// cmdDaemon is `daemon start FOLDER`, which makes FOLDER a git repository and runs a real daemon on it, in this process: it keeps it applied
// as the repository "churn". Its address is in DAEMON, the one with TLS in DAEMON_TLS and that one's certificate in the file ca.pem; the tokens are
// "see" and "act". `daemon push FOLDER` commits what is in it by now, and both wait until the daemon is at rest at that commit;
// `daemon applied FOLDER` waits until it is applied.
func cmdDaemon(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: daemon start|push|applied FOLDER")
	}
	dir := ts.MkAbs(args[1])
	rest := []string{"synced", "held", "bad"}
	var head string
	switch args[0] {
	case "start":
		head = commitAll(ts, dir)
		startDaemon(ts, dir)
	case "applied":
		rest = rest[:1]
		repo, err := git.PlainOpen(dir)
		ts.Check(err)
		ref, err := repo.Head()
		ts.Check(err)
		head = ref.Hash().String()
	case "push":
		head = commitAll(ts, dir)
		ask(ts, http.MethodPost, "/reconcile", nil)
	}
	late := time.After(time.Minute)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var s struct {
			Phase    string
			Message  string
			Observed struct{ Commit string }
		}
		ask(ts, http.MethodGet, "", &s)
		if s.Observed.Commit == head && slices.Contains(rest, s.Phase) {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			ts.Fatalf("the daemon is %s at %s: %s", s.Phase, s.Observed.Commit, s.Message)
		}
	}
}

func commitAll(ts *testscript.TestScript, dir string) string {
	repo, err := git.PlainOpen(dir)
	if errors.Is(err, git.ErrRepositoryNotExists) {
		repo, err = git.PlainInit(dir, false)
	}
	ts.Check(err)
	wt, err := repo.Worktree()
	ts.Check(err)
	ts.Check(wt.AddWithOptions(&git.AddOptions{All: true}))
	h, err := wt.Commit("work", &git.CommitOptions{AllowEmptyCommits: true, Author: &object.Signature{Name: "Ada", Email: "ada@example.org", When: time.Now()}})
	ts.Check(err)
	return h.String()
}

func startDaemon(ts *testscript.TestScript, dir string) {
	write := func(name, text string) string {
		path := ts.MkAbs(name)
		ts.Check(os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	write("see", "see\n")
	write("act", "act\n")
	file := write("daemon.hcl", fmt.Sprintf(`data = "kept"
tokens {
  read_file  = "see"
  write_file = "act"
}
repository "churn" {
  url       = %q
  branch    = "master"
  interval  = "1h"
  mode      = "apply"
  variables = { rows = 2, token = "hunter2swordfish" }
}
`, dir))
	conf, _, diags := daemon.Load(file)
	if diags.HasErrors() {
		ts.Fatalf("%s", diags)
	}
	d, err := daemon.New(conf, daemon.Options{
		Version: toolVersion(), Exe: []string{exe()}, Environ: os.Environ, Now: time.Now, Forges: daemon.NewForge,
		Log: slog.New(slog.DiscardHandler),
	})
	ts.Check(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	plain, sealed := httptest.NewServer(d.Handler()), httptest.NewTLSServer(d.Handler())
	ts.Defer(func() {
		plain.Close()
		sealed.Close()
		cancel()
		ts.Check(<-done)
	})
	write("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: sealed.Certificate().Raw})))
	ts.Setenv("DAEMON", plain.URL)
	ts.Setenv("DAEMON_TLS", sealed.URL)
}

// ask speaks to the daemon beside the program.
func ask(ts *testscript.TestScript, method, path string, into any) {
	req, err := http.NewRequestWithContext(context.Background(), method, ts.Getenv("DAEMON")+"/api/v1/repositories/churn"+path, nil)
	ts.Check(err)
	req.Header.Set("Authorization", "Bearer act")
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	raw, err := io.ReadAll(resp.Body)
	ts.Check(errors.Join(err, resp.Body.Close()))
	if into != nil {
		ts.Check(json.Unmarshal(raw, into))
	}
}

// cmdElsewhere is `elsewhere WHAT`: something that answers and is no daemon of this version, with its address in ELSEWHERE. "other" is a
// server of something else, "older" a daemon that lacks these requests, "redirect" points to another address.
func cmdElsewhere(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: elsewhere other|older|redirect")
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch args[0] {
		case "older":
			w.Header().Set("ML-Daemon", "0.0.1")
			http.NotFound(w, r)
		case "redirect":
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		default:
			w.WriteHeader(http.StatusOK)
		}
	}))
	ts.Defer(s.Close)
	ts.Setenv("ELSEWHERE", s.URL)
}

// cmdSame is `same A B PATH…`: at these paths the JSON documents are equal.
func cmdSame(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: same A B PATH…")
	}
	for _, path := range args[2:] {
		a, okA := at(decoded(ts, args[0]), path)
		b, okB := at(decoded(ts, args[1]), path)
		if !okA || !okB || text(a) != text(b) {
			ts.Fatalf("%s:\n%s\n%s", path, text(a), text(b))
		}
	}
}
