package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/resource"
)

// contextName is how a Dockerfile refers to the model: COPY --from=model . /models.
const contextName = "model"

// dockerfile builds a Dockerfile with what this machine has for it, and makes the outcome the image below. Neither program gets to
// push: credentials, digests and retries are those of every other image.
func (p *pack) dockerfile(ctx context.Context, spec config.Package, o *op, req *oci.BuildRequest, work, model string) error {
	b := builder{
		context: filepath.Join(work, "app"), file: filepath.Join(work, "app", filepath.FromSlash(spec.Dockerfile)), model: model,
		platform: req.Platform, archive: filepath.Join(work, "image.tar"), name: "continuo-build:" + resource.DigestOf([]byte(o.req.OpID)).Hex()[:12], tell: o.log,
	}
	if err := b.run(ctx); err != nil {
		return fmt.Errorf("build %s: %w", spec.Dockerfile, err)
	}
	req.Archive = b.archive
	if len(spec.Command) > 0 {
		req.Entrypoint = spec.Command
	}
	if model != "" {
		req.Env[modelEnv] = modelDir
	}
	return nil
}

// builder is one build with docker or buildctl.
type builder struct {
	context, file, model string // folders and the Dockerfile; model may be ""
	platform             string
	archive              string // where the image goes
	name                 string // of the image at docker while it is there
	tell                 func(format string, args ...any)
}

func (b builder) run(ctx context.Context) error {
	docker, err := exec.LookPath("docker")
	if err != nil || os.Getenv("BUILDKIT_HOST") != "" {
		if buildctl, berr := exec.LookPath("buildctl"); berr == nil {
			return b.command(ctx, buildctl, b.buildctl()...)
		}
	}
	if err != nil {
		return errors.New("it needs docker or buildctl, and neither is on this machine; install one, or use base and sources, which need none")
	}
	if err := b.command(ctx, docker, b.docker()...); err != nil {
		return err
	}
	err = b.command(ctx, docker, "save", "--output", b.archive, b.name)
	// Whatever came of it, nothing of ours stays with docker, also when the context has ended.
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return errors.Join(err, b.command(clean, docker, "image", "rm", "--force", b.name))
}

func (b builder) docker() []string {
	args := []string{"build", "--file", b.file, "--platform", b.platform, "--tag", b.name}
	if b.model != "" {
		args = append(args, "--build-context", contextName+"="+b.model)
	}
	return append(args, b.context)
}

func (b builder) buildctl() []string {
	args := []string{
		"build", "--frontend", "dockerfile.v0", "--local", "context=" + b.context, "--local", "dockerfile=" + filepath.Dir(b.file),
		"--opt", "filename=" + filepath.Base(b.file), "--opt", "platform=" + b.platform, "--output", "type=docker,dest=" + b.archive,
	}
	if b.model != "" {
		args = append(args, "--local", contextName+"="+b.model, "--opt", "context:"+contextName+"=local:"+contextName)
	}
	return args
}

// lastBytes is how much of a program's output an error may hold.
const lastBytes = 2 << 10

func (b builder) command(ctx context.Context, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	out := &tail{limit: lastBytes}
	cmd.Stdout, cmd.Stderr = out, out
	env := map[string]string{"DOCKER_BUILDKIT": "1", "SOURCE_DATE_EPOCH": "0"}
	cmd.Env = os.Environ()
	for _, k := range slices.Sorted(maps.Keys(env)) {
		cmd.Env = append(cmd.Env, k+"="+env[k])
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	b.tell("%s %s", filepath.Base(program), args[0])
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("%s %s: %w: %s", filepath.Base(program), args[0], err, strings.TrimSpace(out.String()))
	}
	return nil
}

// tail keeps the end of what is written.
type tail struct {
	bytes.Buffer
	limit int
}

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	n, err := t.Buffer.Write(p)
	if over := t.Len() - t.limit; over > 0 {
		t.Next(over)
	}
	return n, err
}
