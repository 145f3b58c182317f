//go:build e2e

package scenarios

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// stopped stops the process of the daemon that leads, at any moment of mending an object, until its lease is over and the other one has mended it.
// That one is stopped, too, before the first goes on: what changes now, in the cluster or on the volume, the former leader wrote. It returns who leads
// at the end.
func (x *inCluster) stopped(leads string) string {
	x.Helper()
	a, b := x.daemon(leads), x.daemon(x.other(leads))
	x.edit("9")
	moment := time.NewTimer(time.Duration(rand.IntN(700)) * time.Millisecond)
	<-moment.C
	began := time.Now()
	a.signal(syscall.SIGSTOP)
	waits := false
	x.wait("the other daemon to take over", func() bool {
		waits = strings.Contains(x.said(b.pod), "waits to take over") // the first was stopped with a file half written
		return waits || x.isReady(b.pod) && x.levelNow() == "3"
	})
	took := time.Since(began)
	b.signal(syscall.SIGSTOP)
	before := x.written()
	a.signal(syscall.SIGCONT)
	x.wait("the former leader to end", func() bool { return x.restarts(leads) > a.restarts })
	after := x.written()
	b.signal(syscall.SIGCONT)
	x.Logf("stopped for %.0f s; the other one has waited for a file: %v", took.Seconds(), waits)
	for name, now := range after {
		if before[name] != now && !(waits && strings.HasPrefix(name, "r/")) {
			x.Errorf("the former leader wrote %s: %q, was %q", name, now, before[name])
		}
	}
	for name := range before {
		if _, ok := after[name]; !ok {
			x.Errorf("the former leader removed %s", name)
		}
	}
	if last := x.lastEnd(leads); last.ExitCode == 0 || last.ExitCode == 137 || !strings.Contains(x.saidBefore(leads), "does not lead any more") {
		x.Errorf("the former leader ended with %d:\n%s", last.ExitCode, x.saidBefore(leads))
	}
	x.level("3")
	return x.ready("")
}

// process is a daemon's process on this machine.
type process struct {
	x        *inCluster
	pod      string
	pid      int
	restarts int32
}

// daemon waits for the process of a pod: the kubelet begins one again that has ended, the later the more often it did.
func (x *inCluster) daemon(name string) (p *process) {
	x.Helper()
	x.wait("the process of "+name+" on this machine (a leader is stopped on the cluster of make cluster only)", func() bool {
		p = x.process(name)
		return p != nil
	})
	return p
}

// process finds the process of a pod by its control group, which names the pod; nil when there is none.
func (x *inCluster) process(name string) *process {
	x.Helper()
	pod := x.pod(name)
	groups, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		x.Fatal(err)
	}
	for _, g := range groups {
		raw, err := os.ReadFile(g)
		comm, err2 := os.ReadFile(filepath.Join(filepath.Dir(g), "comm"))
		if err != nil || err2 != nil || !strings.Contains(string(raw), "/pod"+string(pod.UID)+"/") || strings.TrimSpace(string(comm)) != "ml" {
			continue // it ended, or is another
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(g)))
		if err != nil {
			x.Fatal(err)
		}
		return &process{x: x, pod: name, pid: pid, restarts: x.restarts(name)}
	}
	return nil
}

func (p *process) signal(s syscall.Signal) {
	p.x.Helper()
	if err := syscall.Kill(p.pid, s); err != nil {
		p.x.Fatalf("signal %d to %s: %v", s, p.pod, err)
	}
}

func (x *inCluster) wait(what string, ok func() bool) {
	x.Helper()
	ctx, cancel := context.WithTimeout(x.Context(), 2*time.Minute)
	defer cancel()
	until(ctx, x.T, what, ok)
	if x.Failed() {
		x.logs()
		x.FailNow()
	}
}

func (x *inCluster) pod(name string) *corev1.Pod {
	x.Helper()
	p, err := x.cluster.typed.CoreV1().Pods(x.namespace).Get(x.Context(), name, metav1.GetOptions{})
	if err != nil {
		x.Fatal(err)
	}
	return p
}

// other is the pod beside the one named.
func (x *inCluster) other(than string) string {
	x.Helper()
	for _, p := range x.pods(x.Context()) {
		if p.Name != than {
			return p.Name
		}
	}
	x.Fatal("there is no other pod")
	return ""
}

func (x *inCluster) isReady(name string) bool {
	for _, c := range x.pod(name).Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func (x *inCluster) restarts(name string) int32 {
	if all := x.pod(name).Status.ContainerStatuses; len(all) == 1 {
		return all[0].RestartCount
	}
	return 0
}

func (x *inCluster) lastEnd(name string) corev1.ContainerStateTerminated {
	x.Helper()
	if all := x.pod(name).Status.ContainerStatuses; len(all) == 1 && all[0].LastTerminationState.Terminated != nil {
		return *all[0].LastTerminationState.Terminated
	}
	return corev1.ContainerStateTerminated{}
}

func (x *inCluster) said(name string) string {
	raw, err := x.cluster.typed.CoreV1().Pods(x.namespace).GetLogs(name, &corev1.PodLogOptions{}).DoRaw(x.Context())
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

// saidBefore is the log of the container's life before this one.
func (x *inCluster) saidBefore(name string) string {
	raw, err := x.cluster.typed.CoreV1().Pods(x.namespace).GetLogs(name, &corev1.PodLogOptions{Previous: true}).DoRaw(x.Context())
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

func (x *inCluster) levelNow() string {
	cm, err := x.cluster.typed.CoreV1().ConfigMaps(x.namespace).Get(x.Context(), "settings", metav1.GetOptions{})
	if err != nil {
		return ""
	}
	return cm.Data["level"]
}

// written is all that daemons write: the files of the volume, but the copy of the git repository, which whoever leads fetches anew, and the versions of
// objects.
func (x *inCluster) written() map[string]string {
	x.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(x.volume, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(x.volume, path)
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() == "git" {
			return fs.SkipDir
		}
		if !d.Type().IsRegular() || strings.Contains(rel, ".tmp-") {
			return nil
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(raw)
		out[rel] = hex.EncodeToString(sum[:4])
		return nil
	})
	if err != nil {
		x.Fatal(err)
	}
	for _, gvr := range []schema.GroupVersionResource{
		{Version: "v1", Resource: "configmaps"}, {Version: "v1", Resource: "secrets"}, {Group: "batch", Version: "v1", Resource: "jobs"},
		{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"},
	} {
		list, err := x.cluster.any.Resource(gvr).Namespace(x.namespace).List(x.Context(), metav1.ListOptions{})
		if err != nil {
			x.Fatal(err)
		}
		for _, o := range list.Items {
			out[fmt.Sprintf("%s %s", gvr.Resource, o.GetName())] = o.GetResourceVersion()
		}
	}
	if len(out) < 5 {
		x.Fatalf("too little is seen: %v", out)
	}
	return out
}
