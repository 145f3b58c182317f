package runs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/internal/source"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/providertest"
	"github.com/continuo-ml/continuo/resource"
)

// fakeClaim stands for a cluster: its volume is a folder of this machine.
type fakeClaim struct {
	volume           string
	digested, stored int
	swap             func() // between the digest of a fetch and the copy
}

func (f *fakeClaim) read(text string) (source.Version, string, error) {
	c, err := source.ParseClaim(text)
	if err != nil {
		return source.Version{}, "", err
	}
	x, err := files.Open(f.volume, "")
	if err != nil {
		return source.Version{}, "", err
	}
	d, err := x.DigestSource(c.Path)
	return source.Version{Hex: d.Hex, Files: len(d.Files), Bytes: d.Bytes, IsDir: d.IsDir}, c.Path, errors.Join(err, x.Close())
}

func (f *fakeClaim) Digest(_ context.Context, q ClaimRequest) (source.Version, error) {
	f.digested++
	v, _, err := f.read(q.Source)
	return v, err
}

func (f *fakeClaim) Fetch(_ context.Context, q ClaimRequest, dir string) (source.Version, error) {
	f.stored++
	v, path, err := f.read(q.Source)
	if err == nil && v.Hex != q.Want.Hex() {
		err = fmt.Errorf("%w: it is %s", files.ErrMoved, v.Hex)
	}
	if err != nil {
		return v, err
	}
	if f.swap != nil {
		f.swap()
	}
	from := filepath.Join(f.volume, path)
	if v.IsDir {
		return v, os.CopyFS(dir, os.DirFS(from))
	}
	b, err := os.ReadFile(from)
	return v, errors.Join(err, os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, filepath.Base(path)), b, 0o644))
}

func claimProject(t *testing.T, contents map[string]string) (*project, *fakeClaim) {
	t.Helper()
	p := newProject(t, contents)
	f := &fakeClaim{volume: filepath.Join(p.Root, "volume")}
	w, err := NewWorkspace(providertest.Env(p.Root), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	p.Drivers = map[string]providers.Driver{"dataset": ClaimData(w, Processes{w}, f)}
	return p, f
}

func TestADatasetOnAClaimIsTheSameVersionWithTheSameSplits(t *testing.T) {
	rows := tableOf(40)
	for name, c := range map[string]struct{ path, claim string }{
		"a file":   {"volume/d/x.csv", "pvc://c/d/x.csv"},
		"a folder": {"volume/d", "pvc://c/d/"},
	} {
		t.Run(name, func(t *testing.T) {
			p, f := claimProject(t, map[string]string{"volume/d/x.csv": rows})
			spec := config.Dataset{
				Expect: []config.Expectation{{Name: "enough", RowCount: &config.Range{Min: new(10.0)}}},
				Splits: []config.SplitDef{{Name: "a", Fraction: 0.5}, {Name: "b", Fraction: 0.5}},
			}
			spec.Source = c.claim
			got := p.MustApply("dataset", "op1", spec)
			if f.stored != 1 || !got.Verdict.Passed {
				t.Errorf("fetched %d times, verdict %+v", f.stored, got.Verdict)
			}
			again := p.MustApply("dataset", "op2", spec)
			if f.stored != 1 {
				t.Error("what is frozen already was fetched again")
			}
			local := newProject(t, map[string]string{"volume/d/x.csv": rows})
			spec.Source = c.path
			want := local.MustApply("dataset", "op1", spec)
			for _, r := range []providers.Result{got, again} {
				if d := cmp.Diff(want.Outputs, r.Outputs); d != "" {
					t.Errorf("on this machine (-) and on a claim (+):\n%s", d)
				}
			}
			p.Write("volume/d/x.csv", "id\n9\n")
			out := got.Outputs.(config.DatasetOutputs)
			if data, err := FilesUnder(p.Path(out.Path)); err != nil || len(data) != 1 || p.Read(strings.TrimPrefix(data[0], p.Root+"/")) != rows {
				t.Errorf("the frozen copy moved with the claim: %v, %v", data, err)
			}
		})
	}
}

func TestAClaimThatMovedIsAnErrorAndLeavesNothing(t *testing.T) {
	for name, move := range map[string]func(p *project, f *fakeClaim){
		"before it was read":  func(p *project, _ *fakeClaim) { p.Write("volume/x.csv", "id\n9\n") },
		"while it was stored": func(p *project, f *fakeClaim) { f.swap = func() { p.Write("volume/x.csv", "id\n9\n") } },
	} {
		t.Run(name, func(t *testing.T) {
			p, f := claimProject(t, map[string]string{"volume/x.csv": table})
			spec := config.Dataset{Source: "pvc://c/x.csv"}
			planned := p.Request("dataset", "op1", spec)
			move(p, f)
			_, err := p.Drivers["dataset"].Apply(providertest.Within(t), planned)
			if !errors.Is(err, files.ErrMoved) || !strings.Contains(err.Error(), "the source moved since the plan") {
				t.Errorf("%v", err)
			}
			left, err := filepath.Glob(p.Path(".ml/data/*/*"))
			if err != nil || len(left) > 0 {
				t.Errorf("it left %v, %v", left, err)
			}
			if left, err = filepath.Glob(p.Path(".ml/data/.*")); err != nil || len(left) > 0 {
				t.Errorf("it left %v, %v", left, err)
			}
		})
	}
}

func TestAFrozenCopyThatWasDamagedIsFetchedAnew(t *testing.T) {
	p, f := claimProject(t, map[string]string{"volume/x.csv": table})
	spec := config.Dataset{Source: "pvc://c/x.csv"}
	at := p.Path(p.MustApply("dataset", "op1", spec).Outputs.(config.DatasetOutputs).Path)
	if err := errors.Join(os.Chmod(at, 0o644), os.WriteFile(at, []byte("id\n9\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	p.MustApply("dataset", "op2", spec)
	if b, err := os.ReadFile(at); err != nil || string(b) != table || f.stored != 2 {
		t.Errorf("%q, %v, fetched %d times", b, err, f.stored)
	}
}

func TestOnlyWhatIsOnAClaimIsReadThere(t *testing.T) {
	p, f := claimProject(t, map[string]string{"x.csv": table})
	for text, why := range map[string]string{
		"x.csv":         `source "x.csv" is on none`,
		"s3://b/x.csv":  `source "s3://b/x.csv" is on none`,
		"":              "has a command",
		"pvc://C/x.csv": "no name of a claim",
	} {
		spec := config.Dataset{Source: text}
		if text == "" {
			spec.Command = []string{"true"}
		}
		if _, err := p.Probe("dataset", spec); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("plan %q: %v, want %q", text, err, why)
		}
		req := providers.ApplyRequest{OpID: "op1", Address: providertest.AddressOf("dataset"), Spec: providertest.Encoded(t, spec), Emit: func(resource.Event) {}}
		if _, err := p.Drivers["dataset"].Apply(t.Context(), req); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("apply %q: %v, want %q", text, err, why)
		}
	}
	if f.digested+f.stored > 0 {
		t.Errorf("a claim was read: %+v", f)
	}
	if _, err := newProject(t, nil).Probe("dataset", config.Dataset{Source: "pvc://c/x.csv"}); err == nil || !strings.Contains(err.Error(), `set provider = "kubernetes"`) {
		t.Errorf("on this machine: %v", err)
	}
}
