package pods

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestOnlyAStaticProgramForLinuxGoesIntoPods(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join(dir, "main.go")
	if err := os.WriteFile(src, []byte("package main\nfunc main() {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	build := func(goos string) string {
		out := filepath.Join(dir, "ml-"+goos)
		cmd := exec.Command("go", "build", "-o", out, src)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=amd64", "GOOS="+goos)
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, text)
		}
		return out
	}
	if platform, err := checkExecutable(build("linux")); err != nil || platform != "linux/amd64" {
		t.Errorf("%q, %v", platform, err)
	}
	if _, err := checkExecutable(build("darwin")); err == nil || !strings.Contains(err.Error(), "no program for Linux") || !strings.Contains(err.Error(), "set runner_image") {
		t.Errorf("%v", err)
	}
	// A program of the system is linked with its libraries wherever this is tested.
	sh, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := checkExecutable(sh); err == nil || !strings.Contains(err.Error(), "set runner_image") {
		t.Errorf("%s: %v", sh, err)
	}
	if _, err := checkExecutable(filepath.Join(dir, "nothing")); err == nil {
		t.Error("no error for a program that is not there")
	}
}

func TestArtifactsMustBeARegistry(t *testing.T) {
	for _, bad := range []string{"", ".ml/artifacts", "s3://bucket/x", "oci://"} {
		if _, err := (Store{URI: bad}).Repo("data"); err == nil || !strings.Contains(err.Error(), `oci://HOST/NAME`) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if got, err := (Store{URI: "oci://r.example.com/ml/"}).Repo("data"); err != nil || got != "r.example.com/ml/data" {
		t.Errorf("%q, %v", got, err)
	}
}
