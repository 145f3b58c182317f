package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/continuo-ml/continuo/internal/gateway"
)

// The ways to the model.
const (
	frontGateway      = "gateway"
	frontNginx        = "nginx"
	frontReverseProxy = "`httputil.ReverseProxy` as it comes"
	frontTuned        = "`httputil.ReverseProxy` that keeps its connections"
	frontModel        = "no proxy"
)

const predictPath = "/v1/models/m:predict"

// fronted is a model server with everything that stands in front of it.
type fronted struct {
	fronts []front
	model  int // process of the model server
	ends   []func() error
}

// pids are all processes that take part.
func (s *fronted) pids() []int {
	all := []int{s.model}
	for _, f := range s.fronts {
		all = append(all, f.pids()...)
	}
	return all
}

// stop ends everything, the last first.
func (s *fronted) stop() error {
	var errs []error
	for i := len(s.ends) - 1; i >= 0; i-- {
		errs = append(errs, s.ends[i]())
	}
	return errors.Join(errs...)
}

// serve applies a deployment of the model server and puts the other proxies
// beside its gateway.
func (b *bench) serve(ctx context.Context) (_ *fronted, err error) {
	s := &fronted{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()
	model, err := s.apply(ctx, b)
	if err != nil {
		return nil, err
	}
	for _, p := range []struct {
		name string
		args []string
	}{{frontReverseProxy, nil}, {frontTuned, []string{"-keep"}}} {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		args := append(append([]string{cmdProxy}, p.args...), loopback(port), loopback(model))
		if err := s.start(ctx, p.name, port, exec.Command(b.self, args...)); err != nil {
			return nil, err
		}
	}
	if installed("nginx") {
		if err := s.nginx(ctx, model); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// apply has ml serve this program as a model, and returns the model's port.
func (s *fronted) apply(ctx context.Context, b *bench) (model int, err error) {
	dir, err := os.MkdirTemp(b.cache, "gateway-")
	if err != nil {
		return 0, err
	}
	s.ends = append(s.ends, func() error { return os.RemoveAll(dir) })
	project := fmt.Sprintf(`training "m" {
  command = ["sh", "-c", "echo m > \"$ML_MODEL_DIR/m\""]
  sources = []
}

deployment "m" {
  model   = training.m.model
  command = [%q, %q]
  sources = []
}
`, b.self, cmdModel)
	if err := os.WriteFile(filepath.Join(dir, "main.ml.hcl"), []byte(project), 0o644); err != nil {
		return 0, err
	}
	ml := func(ctx context.Context, args ...string) error {
		_, err := contender{dir: dir, argv: append([]string{b.ml}, args...)}.run(ctx)
		return err
	}
	// Also after an apply that failed half-way, and after an interrupt.
	s.ends = append(s.ends, func() error { return ml(context.WithoutCancel(ctx), "destroy", "-auto-approve") })
	if err := ml(ctx, "apply", "-auto-approve"); err != nil {
		return 0, err
	}
	live, err := gateway.Read(filepath.Join(dir, ".ml", "deployments", "deployment.m"))
	if err != nil {
		return 0, err
	}
	if len(live.Servers) != 1 || !live.Servers[0].Ready {
		return 0, fmt.Errorf("no server is ready behind the gateway: %+v", live)
	}
	s.model, model = live.Servers[0].Process.PID, live.Servers[0].Port
	s.fronts = append(s.fronts,
		front{name: frontModel, url: "http://" + loopback(model) + predictPath, pids: func() []int { return nil }},
		front{name: frontGateway, url: live.Endpoint + predictPath, pids: func() []int { return []int{live.Process.PID} }})
	return model, nil
}

// start runs a proxy until stop, and returns when it listens.
func (s *fronted) start(ctx context.Context, name string, port int, cmd *exec.Cmd) error {
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	pid := cmd.Process.Pid
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // it is killed in the end: how it ended says nothing
	}()
	s.ends = append(s.ends, func() error {
		// SIGTERM, for nginx has children that it ends itself.
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		<-ended
		return nil
	})
	s.fronts = append(s.fronts, front{name: name, url: "http://" + loopback(port) + predictPath, pids: func() []int {
		return append([]int{pid}, children(pid)...)
	}})
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := net.Dial("tcp", loopback(port))
		if err == nil {
			return c.Close()
		}
		select {
		case <-ended:
			return fmt.Errorf("%s ended at once:\n%s", name, tail(said.String()))
		case <-ctx.Done():
			return fmt.Errorf("%s does not listen: %w", name, err)
		case <-tick.C:
		}
	}
}

// nginx runs nginx with two workers, in a folder and on a port of its own.
func (s *fronted) nginx(ctx context.Context, model int) error {
	dir, err := os.MkdirTemp("", "ml-bench-nginx-")
	if err != nil {
		return err
	}
	s.ends = append(s.ends, func() error { return os.RemoveAll(dir) })
	port, err := freePort()
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(nginxConfig(dir, port, model)), 0o644); err != nil {
		return err
	}
	return s.start(ctx, frontNginx, port, exec.Command("nginx", "-p", dir, "-e", filepath.Join(dir, "error.log"), "-c", file))
}

// nginxConfig keeps every connection on both sides, as the gateway does, and
// writes nothing but its folder.
func nginxConfig(dir string, port, model int) string {
	var temp strings.Builder
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temp, "  %s_temp_path %s;\n", kind, filepath.Join(dir, kind))
	}
	return fmt.Sprintf(`daemon off;
pid %s;
worker_processes 2;
events { worker_connections 512; }
http {
  access_log off;
%s  keepalive_requests 1000000000;
  upstream model {
    server %s;
    keepalive 64;
    keepalive_requests 1000000000;
  }
  server {
    listen %s;
    location / {
      proxy_pass http://model;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }
  }
}
`, filepath.Join(dir, "pid"), temp.String(), loopback(model), loopback(port))
}

// freePort asks the kernel for a port. Somebody else may take it before it is
// used; what needs it then says so.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err = errors.Join(err, l.Close()); err != nil {
		return 0, err
	}
	return strconv.Atoi(port)
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
