package workspace

import (
	"context"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
	"github.com/continuo-ml/continuo/state/bolt"
)

// TestMain lets the test binary be the child that evaluates under limits.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[len(os.Args)-1] == config.EvalCommand {
		os.Exit(config.EvalMain(os.Stdin, os.Stdout))
	}
	os.Exit(m.Run())
}

const inBucket = "ml {\n  backend \"s3\" {\n    bucket   = \"ml-state\"\n    endpoint = \"http://127.0.0.1:1\"\n  }\n}\n"

// folder is a project folder with one check, and its options.
func folder(t *testing.T, more string) Options {
	t.Helper()
	for _, name := range []string{"AWS_PROFILE", "AWS_CONFIG_FILE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv(keyVariable, "")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.ml.hcl"), []byte(more+"check \"c\" { command = [\"true\"] }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return Options{Root: dir, Version: "test", Environ: func() []string { return nil }}
}

// open opens a project and gives it up again.
func open(t *testing.T, o Options) (*Workspace, error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w, err := Open(ctx, o)
	if err != nil {
		return nil, err
	}
	return w, w.Close()
}

// write makes a state in the folder's own file.
func write(t *testing.T, o Options) {
	t.Helper()
	s := bolt.Open(filepath.Join(o.dir(), stateFile), bolt.Options{})
	if _, err := s.Commit(t.Context(), 0, state.Op{PutRecord: &state.Record{Address: resource.Address{Kind: "check", Name: "c"}, Provider: "local"}}); err != nil {
		t.Fatal(err)
	}
}

func TestAFreshFolderTakesTheFilesWordOnWhereTheStateIs(t *testing.T) {
	o := folder(t, inBucket)
	w, err := open(t, o)
	if err != nil || w.Store.Where() != "s3://ml-state" {
		t.Fatal(w, err)
	}
	bare, err := Bare(o)
	if err != nil || bare.Store.Where() != "s3://ml-state" {
		t.Error("without the files:", err)
	}
}

func TestAStateInAFileIsNotLeftSilently(t *testing.T) {
	o := folder(t, inBucket)
	write(t, o)
	_, err := open(t, o)
	if !errors.Is(err, ErrBackend) || !strings.Contains(err.Error(), "-migrate-state") || !strings.Contains(err.Error(), "s3://ml-state") {
		t.Errorf("got %v", err)
	}
	if to, err := Reconfigure(t.Context(), o); err != nil || to != "s3://ml-state" {
		t.Fatal(to, err)
	}
	if w, err := open(t, o); err != nil || w.Store.Where() != "s3://ml-state" {
		t.Error("reconfigured:", err)
	}
	// And when the block is gone again.
	if err := os.WriteFile(filepath.Join(o.Root, "main.ml.hcl"), []byte("check \"c\" { command = [\"true\"] }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, o); !errors.Is(err, ErrBackend) {
		t.Errorf("without the block: %v", err)
	}
}

func TestAMoveThatFailsLeavesTheStateWhereItIs(t *testing.T) {
	o := folder(t, inBucket)
	write(t, o)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := Migrate(ctx, o); err == nil {
		t.Error("it moved to a place that does not exist")
	}
	if is, err := readBackend(o.dir()); is != nil || err != nil {
		t.Errorf("the state is in %v, %v", is, err)
	}
	s := bolt.Open(filepath.Join(o.dir(), stateFile), bolt.Options{})
	if snap, err := s.Snapshot(t.Context()); err != nil || len(snap.Records) != 1 {
		t.Errorf("%v, %v", snap, err)
	}
}

func TestAStrangersFilesDoNotSayWhereTheStateIs(t *testing.T) {
	branch := folder(t, "")
	write(t, branch)
	o := folder(t, inBucket)
	o.State, o.Untrusted = branch.dir(), true
	o.Exe = []string{os.Args[0]}
	w, err := open(t, o)
	if err != nil {
		t.Fatal(err)
	}
	if w.Store.Where() != filepath.Join(branch.dir(), stateFile) {
		t.Errorf("the state is read from %s", w.Store.Where())
	}
	if is, err := readBackend(branch.dir()); is != nil || err != nil {
		t.Errorf("the branch's state is in %v now, %v", is, err)
	}
}

func TestTheKeyMayComeFromTheEnvironment(t *testing.T) {
	o := folder(t, "")
	want := strings.Repeat("ab", 32)
	t.Setenv(keyVariable, want+"\n")
	w, err := open(t, o)
	if err != nil || hex.EncodeToString(w.Key) != want {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(o.dir(), keyFile)); !errors.Is(err, os.ErrNotExist) {
		t.Error("it was written into the folder")
	}
	t.Setenv(keyVariable, "no key")
	if _, err := open(t, o); err == nil || !strings.Contains(err.Error(), keyVariable) || strings.Contains(err.Error(), "no key") {
		t.Errorf("got %v", err)
	}
}

func TestADamagedWordOnWhereTheStateIsStopsEverything(t *testing.T) {
	o := folder(t, "")
	if err := durable.MkdirAll(o.dir(), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(o.dir(), backendFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, o); err == nil || !strings.Contains(err.Error(), backendFile) || !strings.Contains(err.Error(), "-reconfigure") {
		t.Errorf("got %v", err)
	}
	if err := writeBackend(o.dir(), &config.Backend{Type: "floppy"}); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, o); err == nil || !strings.Contains(err.Error(), "floppy") {
		t.Errorf("got %v", err)
	}
}
