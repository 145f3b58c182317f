package daemon

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/daemon/internal/status"
	"github.com/continuo-ml/continuo/internal/forge"
)

func TestOnlyWhatKnownSignersSignedIsApplied(t *testing.T) {
	s := newSigners(t)
	s.pgp("ada", "never")
	files := map[string]string{"p.ml.hcl": project, "train.sh": train, "data.csv": data}
	first := s.commit("pgp:ada", files)
	dir := t.TempDir()
	file := "notifier \"log\" { type = \"log\" }\n" + s.file("notify {\n to = [\"log\"]\n on = [\"refused\"]\n}\n"+s.block(dir, s.export("ada"), "", ""))
	w := start(t, dir, file)
	got := w.until("the signed commit is applied", syncedAt(first))
	if got.Trusted == nil || got.Trusted.Commit != first || got.Refused != nil {
		t.Errorf("trusted %+v, refused %+v", got.Trusted, got.Refused)
	}
	// Nobody signed: nothing of it is applied, and what is applied stays watched.
	unsigned := s.commit("", map[string]string{"data.csv": data + "7,8\n"})
	w.d.repos[0].nudge()
	got = w.until("the unsigned commit is refused", func(s status.Repository) bool { return s.Refused != nil && s.Last.After(s.Refused.Since) })
	if got.Applied.Commit != first || got.Observed.Commit != unsigned || got.Phase != status.Synced || len(got.Blocks) != 3 || got.Failures != 0 {
		t.Errorf("after an unsigned commit: %+v", got)
	}
	if r := got.Refused; r.Commit != unsigned || r.Author != "Somebody" || r.Why != "it is not signed" {
		t.Errorf("refused: %+v", r)
	}
	w.d.meter.watch(w.d.repos)
	if _, body := w.get("/metrics"); !strings.Contains(body, `ml_revision_refused{repository="r"} 1`) {
		t.Errorf("metrics: %s", body)
	}
	if code, body := w.get("/r/r"); code != 200 || !strings.Contains(body, "it is not signed") {
		t.Errorf("the page: %d %s", code, body)
	}
	if code, body := w.get("/api/v1/repositories/r"); code != 200 || !strings.Contains(body, `"why":"it is not signed"`) {
		t.Errorf("the API: %d %s", code, body)
	}
	// A signature on top does not help what lies below.
	above := s.commit("pgp:ada", nil)
	w.d.repos[0].nudge()
	got = w.until("the commit above is refused", func(s status.Repository) bool { return s.Refused != nil && s.Refused.Head == above })
	if got.Refused.Commit != unsigned {
		t.Errorf("refused: %+v", got.Refused)
	}
	if code, body := w.post("/api/v1/repositories/r/reconcile"); code >= 400 {
		t.Errorf("reconcile: %d %s", code, body)
	}
	// A new daemon refuses it, too; taken back and signed, it is applied.
	w.end()
	w = start(t, dir, file)
	got = w.until("a new daemon refuses it", func(s status.Repository) bool { return s.Refused != nil && s.Phase == status.Synced })
	if got.Applied.Commit != first {
		t.Errorf("applied %+v", got.Applied)
	}
	s.run("git", "reset", "-q", "--hard", first)
	good := s.commit("pgp:ada", map[string]string{"data.csv": data + "7,8\n"})
	w.d.repos[0].nudge()
	if got = w.until("the signed commit is applied", syncedAt(good)); got.Refused != nil {
		t.Errorf("still refused: %+v", got.Refused)
	}
	w.end()
	log, err := os.ReadFile(filepath.Join(dir, "data", "alerts.log"))
	if err != nil || strings.Count(string(log), `"event":"refused"`) != 2 || strings.Count(string(log), "\n") != 2 || !strings.Contains(string(log), "it is not signed") {
		t.Errorf("told: %s, %v", log, err)
	}
}

// judged is a daemon's view of a team's repository, without its loop.
type judged struct {
	t   *testing.T
	s   *signers
	r   *repo
	dir string
}

func judge(t *testing.T, s *signers, pgp, allowed, more string) *judged {
	t.Helper()
	j := &judged{t: t, s: s, dir: t.TempDir()}
	j.configure(pgp, allowed, more)
	return j
}

// configure begins anew with another file, as a restart does.
func (j *judged) configure(pgp, allowed, more string) {
	j.t.Helper()
	path := filepath.Join(j.dir, "daemon.hcl")
	if err := os.WriteFile(path, []byte(j.s.file(j.s.block(j.dir, pgp, allowed, more))), 0o644); err != nil {
		j.t.Fatal(err)
	}
	conf, _, diags := Load(path)
	if diags.HasErrors() {
		j.t.Fatal(diags)
	}
	d, err := New(conf, Options{Version: "test", Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		j.t.Fatal(err)
	}
	j.r = d.repos[0]
	if err := os.MkdirAll(j.r.dir, 0o755); err != nil {
		j.t.Fatal(err)
	}
}

// look fetches, and gives the commit to work at and why the head is refused.
func (j *judged) look() (string, string) {
	j.t.Helper()
	head, err := j.r.fetch(context.Background())
	if err != nil {
		j.t.Fatal(err)
	}
	at, err := j.r.target(context.Background(), head)
	if no := j.r.look().Refused; no != nil {
		return at, status.Short(no.Commit) + " " + no.Why + " " + no.Key
	}
	if err != nil {
		j.t.Fatal(err)
	}
	return at, ""
}

func (j *judged) takes(commit string) {
	j.t.Helper()
	if at, why := j.look(); at != commit || why != "" {
		j.t.Errorf("works at %s, refused: %q; want %s", status.Short(at), why, status.Short(commit))
	}
}

// refuses wants the work to stay at a commit, and the refusal to name another.
func (j *judged) refuses(stay, commit, says string) {
	j.t.Helper()
	if at, why := j.look(); at != stay || !strings.HasPrefix(why, status.Short(commit)) || !strings.Contains(why, says) {
		j.t.Errorf("works at %s, refused: %q; want %s, and %s: %s", status.Short(at), why, status.Short(stay), status.Short(commit), says)
	}
}

const inRepo = "signers = \".continuo/signers\"\n"

func TestSignersOfTheRepositoryCountFromTheCommitAfter(t *testing.T) {
	s := newSigners(t)
	ada, bob, carol := s.ssh("ada"), s.ssh("bob"), s.ssh("carol")
	s.pgp("dan", "never")
	list := func(text string) map[string]string {
		return map[string]string{".continuo/signers/allowed_signers": text}
	}
	j := judge(t, s, "", ada, inRepo)
	// The first commit's own signers are nobody yet.
	early := s.commit("ssh:bob", list(bob))
	j.refuses("", early, "none of the signers'")
	c0 := s.commit("ssh:ada", list(bob))
	j.takes(c0)
	c1 := s.commit("ssh:bob", map[string]string{"x": "1"})
	j.takes(c1)
	// Who is not a signer yet cannot make herself one.
	own := s.commit("ssh:carol", list(bob+carol))
	j.refuses(c1, own, "none of the signers'")
	s.run("git", "reset", "-q", "--hard", c1)
	// Bob lets Carol in, and she commits, before anybody looked.
	s.commit("ssh:bob", list(bob+carol))
	c2 := s.commit("ssh:carol", map[string]string{"x": "2", ".continuo/signers/dan.asc": s.export("dan"), ".continuo/signers/README": "who may"})
	c3 := s.commit("pgp:dan", map[string]string{"x": "3"})
	j.takes(c3)
	// Taken away, she counts no more from the next commit on.
	s.commit("ssh:bob", list(bob))
	gone := s.commit("ssh:carol", map[string]string{"x": "4"})
	j.refuses(c3, gone, "none of the signers'")
	// On a branch from before, neither: not after it is known that she is gone.
	s.run("git", "reset", "-q", "--hard", gone+"^")
	c4 := s.run("git", "rev-parse", "HEAD")
	j.takes(c4)
	s.run("git", "checkout", "-q", "-b", "side", c2)
	side := s.commit("ssh:carol", map[string]string{"y": "1"})
	s.run("git", append(append([]string{}, s.as("ssh:carol")...), "merge", "-q", "--no-edit", c4)...)
	s.run("git", "checkout", "-q", "-B", "master", "side")
	j.refuses(c4, side, "none of the signers'")
	// What would leave nobody who can sign is refused while somebody can.
	s.run("git", "reset", "-q", "--hard", c4)
	broken := s.commit("ssh:bob", list("nonsense\n"))
	j.refuses(c4, broken, "allowed_signers")
	// Those of the daemon's own file are no longer enough when they are taken away.
	s.run("git", "reset", "-q", "--hard", c4)
	j.configure("", carol, inRepo)
	late := s.commit("ssh:ada", map[string]string{"x": "5"})
	j.refuses(c4, late, "none of the signers'")
}

func TestEveryCommitThatCameInIsJudged(t *testing.T) {
	s := newSigners(t)
	ada := s.ssh("ada")
	c0 := s.commit("ssh:ada", map[string]string{"x": "0"})
	j := judge(t, s, "", ada, "")
	j.takes(c0)
	// A signed merge brings a side that nobody signed.
	s.run("git", "checkout", "-q", "-b", "side")
	side := s.commit("", map[string]string{"y": "1"})
	s.run("git", "checkout", "-q", "master")
	s.commit("ssh:ada", map[string]string{"x": "1"})
	merge := append(append([]string{}, s.as("ssh:ada")...), "merge", "-q", "--no-ff", "--no-edit", "side")
	s.run("git", merge...)
	j.refuses(c0, side, "not signed")
	// And one that is signed.
	s.run("git", "reset", "-q", "--hard", "HEAD^1")
	s.run("git", "checkout", "-q", "-B", "side", c0)
	s.commit("ssh:ada", map[string]string{"y": "2"})
	s.run("git", "checkout", "-q", "master")
	s.run("git", merge...)
	c1 := s.run("git", "rev-parse", "HEAD")
	j.takes(c1)
	// A signed tag signs no commit.
	tagged := s.commit("", map[string]string{"x": "2"})
	s.run("git", append(append([]string{}, s.as("ssh:ada")...), "tag", "-s", "-m", "x", "v1")...)
	j.refuses(c1, tagged, "not signed")
	// Another branch altogether is judged from its beginning.
	s.run("git", "checkout", "-q", "--orphan", "other")
	root := s.commit("", nil)
	s.commit("ssh:ada", nil)
	s.run("git", "branch", "-q", "-M", "other", "master")
	j.refuses(c1, root, "not signed")
	// The daemon's own file may say where trust begins; that it said so before changes nothing.
	j.configure("", ada, "trust = \""+root+"\"\n")
	j.takes(s.run("git", "rev-parse", "HEAD"))
	next := s.commit("ssh:ada", nil)
	j.takes(next)
	if k := j.r.recall(); k.Root != root || k.Trusted.Commit != next {
		t.Errorf("kept %+v", k)
	}
	// What is trusted stays so when its signer is not known any more.
	j.configure("", s.ssh("bob"), "trust = \""+root+"\"\n")
	j.takes(next)
	j.configure("", ada, "trust = \""+strings.Repeat("0", 40)+"\"\n")
	last := s.commit("ssh:ada", nil)
	j.refuses(next, last, "no commit that the branch has")
}

func TestKeysOfPGPThatAreOverCountNoMore(t *testing.T) {
	s := newSigners(t)
	s.pgp("ada", "never")
	s.pgp("eve", "never")
	s.pgp("old", "1d", "--faked-system-time", "20200101T000000")
	s.pgp("gone", "never")
	old := filepath.Join(s.keys, "gpg-of-2020")
	if err := os.WriteFile(old, []byte("#!/bin/sh\nexec gpg --faked-system-time 20200101T010000 \"$@\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	c0 := s.commit("pgp:ada", nil)
	lost := s.commit("pgp:gone", nil)
	s.revoke("gone")
	j := judge(t, s, s.export("ada", "old", "gone"), "", "trust = \""+c0+"\"\n")
	j.refuses(c0, lost, "is revoked gone <gone@example.org>")
	s.run("git", "reset", "-q", "--hard", c0)
	stale := s.commit("pgp:old", nil, "-c", "gpg.program="+old)
	j.refuses(c0, stale, "has expired old <old@example.org>")
	s.run("git", "reset", "-q", "--hard", c0)
	foreign := s.commit("pgp:eve", nil)
	j.refuses(c0, foreign, "none of the signers'")
	s.run("git", "reset", "-q", "--hard", c0)
	// The commit as it was signed, with another message.
	signed := s.commit("pgp:ada", map[string]string{"x": "1"})
	j.takes(signed)
	raw := strings.Replace(s.run("git", "cat-file", "commit", signed), "by pgp:ada", "by somebody", 1)
	file := filepath.Join(s.keys, "forged")
	if err := os.WriteFile(file, []byte(raw+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	forged := s.run("git", "hash-object", "-t", "commit", "-w", file)
	s.run("git", "reset", "-q", "--hard", forged)
	j.refuses(signed, forged, "does not fit")
}

func TestTheWholeHistoryIsThereOnceSignaturesAreAskedFor(t *testing.T) {
	s := newSigners(t)
	ada := s.ssh("ada")
	c0 := s.commit("ssh:ada", nil)
	var last string
	for range 120 {
		last = s.run("git", "commit-tree", "-p", "HEAD", "-m", "more", "HEAD^{tree}")
		s.run("git", "reset", "-q", "--hard", last)
	}
	j := judge(t, s, "", ada, "")
	// The copy as a daemon without signatures left it.
	j.r.mirror.Whole = false
	if _, err := j.r.fetch(context.Background()); err != nil {
		t.Fatal(err)
	}
	if has, err := j.r.mirror.Has(c0); err != nil || has {
		t.Fatalf("the copy is whole from the beginning: %v, %v", has, err)
	}
	j.r.mirror.Whole = true
	head := s.commit("ssh:ada", nil)
	j.takes(head) // the first: only the head
	if has, err := j.r.mirror.Has(c0); err != nil || !has {
		t.Fatalf("the copy is not whole: %v, %v", has, err)
	}
	// From a commit that a short copy would not have, every one is judged.
	j.configure("", ada, "trust = \""+c0+"\"\n")
	j.refuses(c0, strings.Fields(s.run("git", "rev-list", "--reverse", "HEAD"))[1], "not signed")
}

func TestAnApprovalDoesNotStandInForASignature(t *testing.T) {
	s := newSigners(t)
	ada := s.ssh("ada")
	first := s.commit("ssh:ada", map[string]string{"p.ml.hcl": project + "\ndataset \"extra\" { source = \"data.csv\" }\n", "train.sh": train, "data.csv": data})
	dir := t.TempDir()
	w := start(t, dir, s.file(""))
	w.until("the first commit is applied", syncedAt(first))
	second := s.commit("", map[string]string{"p.ml.hcl": project})
	w.d.repos[0].nudge()
	got := w.until("the plan waits", func(s status.Repository) bool { return s.Phase == status.Held })
	// It is approved, but before it runs, signatures are asked for.
	w.end()
	if _, err := w.d.repos[0].approve(context.Background(), got.Held.ID, "Ada"); err != nil {
		t.Fatal(err)
	}
	w = start(t, dir, s.file(s.block(dir, "", ada, "trust = \""+first+"\"\n")))
	got = w.until("the commit is refused", func(s status.Repository) bool { return s.Refused != nil && s.Phase == status.Synced })
	if got.Refused.Commit != second || got.Applied.Commit != first || got.Held != nil {
		t.Errorf("after the approval: %+v", got)
	}
}

func TestARefusedCommitDoesNotEndWhatRuns(t *testing.T) {
	s, f := newSigners(t), newFakeForge()
	ada, gate := s.ssh("ada"), filepath.Join(t.TempDir(), "go")
	first := s.commit("ssh:ada", map[string]string{
		"p.ml.hcl": project, "data.csv": data, "train.sh": "until [ -e " + gate + " ]; do sleep 0.05; done\n" + train,
	})
	dir := t.TempDir()
	w := startWith(t, dir, s.file(s.block(dir, "", ada, "")+withForge), func(*ForgeConfig) (Forge, error) { return f, nil })
	w.until("the training runs", func(s status.Repository) bool { return s.Phase == status.Applying })
	unsigned := s.commit("", map[string]string{"data.csv": data + "7,8\n"})
	s.run("git", "update-ref", "refs/pull/1/head", unsigned)
	w.d.repos[0].nudge()
	w.until("the unsigned commit is refused", func(s status.Repository) bool { return s.Refused != nil })
	if err := os.WriteFile(gate, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	w.until("the signed commit is applied and its cycle counted", func(s status.Repository) bool { return syncedAt(first)(s) && !s.Last.IsZero() })
	if _, body := w.get("/metrics"); strings.Contains(body, `result="superseded"`) || !strings.Contains(body, `result="done"`) {
		t.Errorf("the unsigned commit took over: %s", body)
	}
	w.eventually("the unsigned commit has its status", func() bool {
		st := f.status(unsigned)
		return st.State == forge.Failure && strings.Contains(st.Text, "not signed by a signer")
	})
	// As a pull request it is planned all the same, and told what would become of it.
	f.set(forge.Pull{Number: 1, Head: unsigned, Base: "master", Ref: "refs/pull/1/head", Open: true, Author: "eve"})
	w.d.repos[0].nudgePulls()
	w.eventually("the pull request has its plan", func() bool { return f.bot(1) != "" })
	if text := f.bot(1); !strings.Contains(text, "commit `"+status.Short(unsigned)+"` is not") || !strings.Contains(text, "dataset.d") {
		t.Errorf("the comment: %s", text)
	}
}
