package oci

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/oci/ocitest"
)

// fakeEngine stands in for docker or buildctl: it writes down its arguments and what the build would see, and gives an image
// that was made before. Whether a Dockerfile is understood is not what these tests are about.
const fakeEngine = `#!/bin/sh
echo "$(basename "$0") $*" >> "$FAKE/calls"
for a; do
  case "$a" in
  type=docker,dest=*) cp "$FAKE/image.tar" "${a#type=docker,dest=}" && next= ;;
  --output) next=out ;;
  model=*) ls "${a#model=}" > "$FAKE/model" ;;
  *) [ "$next" = out ] && cp "$FAKE/image.tar" "$a" && next= ;;
  esac
  last=$a
done
case "$1" in
build) [ -d "$last" ] && (cd "$last" && find . -type f | sort > "$FAKE/context") ;;
esac
[ ! -e "$FAKE/fail" ] || { echo "step 3: no such thing" >&2; exit 7; }
`

// engines puts fakes of the programs on the path and returns their folder.
func engines(t *testing.T, programs ...string) string {
	t.Helper()
	dir := t.TempDir()
	bin := filepath.Join(dir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, p := range programs {
		if err := os.WriteFile(filepath.Join(bin, p), []byte(fakeEngine), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	img, err := mutate.ConfigFile(mutate.MediaType(empty.Image, types.DockerManifestSchema2), &v1.ConfigFile{
		OS: "linux", Architecture: "amd64", Config: v1.Config{Env: []string{"PATH=/bin"}, Cmd: []string{"/serve"}},
		RootFS: v1.RootFS{Type: "layers"},
	})
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("continuo-build:test")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(filepath.Join(dir, "image.tar"), tag, img); err != nil {
		t.Fatal(err)
	}
	t.Setenv("FAKE", dir)
	t.Setenv("BUILDKIT_HOST", "")
	path := bin
	if len(programs) > 0 {
		path += ":/usr/bin:/bin" // for the script's own tools
	}
	t.Setenv("PATH", path)
	return dir
}

func said(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestADockerfileIsBuiltByWhatIsThere(t *testing.T) {
	for program, calls := range map[string][]string{
		"docker":   {"docker build --file ", "docker save --output ", "docker image rm --force continuo-build:"},
		"buildctl": {"buildctl build --frontend dockerfile.v0 "},
	} {
		t.Run(program, func(t *testing.T) {
			m := newMachine(t, ocitest.Start(t, "", ""), map[string]string{"docker/Dockerfile": "FROM scratch", "serve.py": "1", "other.txt": "2", ".mlignore": "other.txt\n"})
			dir := engines(t, program)
			out, _ := m.applied("op-1", config.Package{
				Mode: "server", Model: m.model(map[string]string{"model.onnx": onnx}), Dockerfile: "docker/Dockerfile",
				Env: map[string]string{"A": "1"}, Labels: map[string]string{"team": "a"}, Tags: []string{"latest"},
			}, nil)
			img, err := m.client.Resolve(within(t), m.reg.Repo("packages/churn")+":latest")
			if err != nil {
				t.Fatal(err)
			}
			if img.Ref != out.URI || img.Labels["team"] != "a" || strings.Join(img.Env, " ") != "PATH=/bin A=1 ML_MODEL_DIR=/models" || strings.Join(img.Cmd, " ") != "/serve" {
				t.Errorf("%+v", img)
			}
			lines := strings.Split(strings.TrimSpace(said(t, dir, "calls")), "\n")
			if len(lines) != len(calls) {
				t.Fatalf("calls %q", lines)
			}
			for i, want := range calls {
				if !strings.HasPrefix(lines[i], want) {
					t.Errorf("call %q, want %q", lines[i], want)
				}
			}
			if got := said(t, dir, "model"); got != "model.onnx\n" {
				t.Errorf("the model's context holds %q", got)
			}
			if program == "docker" {
				if d := cmp.Diff("./docker/Dockerfile\n./serve.py\n", said(t, dir, "context")); d != "" {
					t.Errorf("context (-want +got):\n%s", d)
				}
			}
			if left, err := filepath.Glob(filepath.Join(m.root, ".ml", "runs", "op-1", "work*")); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v %v", left, err)
			}
		})
	}
}

func TestADockerfileThatDoesNotBuildSaysWhy(t *testing.T) {
	m := newMachine(t, ocitest.Start(t, "", ""), map[string]string{"Dockerfile": "FROM scratch"})
	spec := config.Package{Mode: "server", Dockerfile: "Dockerfile"}
	dir := engines(t, "docker")
	if err := os.WriteFile(filepath.Join(dir, "fail"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := m.apply("op-1", spec, nil); err == nil || !strings.Contains(err.Error(), "package.churn: build Dockerfile: docker build: exit status 7: step 3: no such thing") {
		t.Errorf("error %v", err)
	}
	engines(t)
	if _, err := m.apply("op-2", spec, nil); err == nil || !strings.Contains(err.Error(), "needs docker or buildctl, and neither is on this machine") {
		t.Errorf("error %v", err)
	}
}
