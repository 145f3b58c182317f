//go:build linux

package host

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/continuo-ml/continuo/internal/proc"
)

// Machine is what a cluster needs of the machine beside processes. Names are the cluster's own, so that nobody else's are touched.
type Machine struct {
	Dir     Dir
	Bridge  string   // network interface
	Address string   // of the bridge, with the length of its prefix: 10.88.0.1/16
	Service string   // range of addresses that lead to pods: they have a route even where no default route is
	Table   string   // packet filter table that lets pods reach the outside world
	Private []int    // TCP ports that only this machine may reach
	Tables  []string // tables that a component makes, as "FAMILY NAME"
	Group   string   // control group below which all pods run
	Sysctls []string // kernel settings that components change, as paths below /proc/sys
	Shared  []string // folders outside Dir in which components leave files: what is new there is taken away
}

// before is what is put back: it is written once, before anything is changed.
type before struct {
	Sysctls map[string]string
	Shared  map[string][]string // nil where the folder was missing
}

func (m Machine) ledger() string { return m.Dir.Path("before.json") }

// Set prepares the machine. What it changes is in the folder of the run before it is changed.
func (m Machine) Set(ctx context.Context) error {
	for _, t := range m.Tables {
		if nft(ctx, "list table "+t) == nil {
			return fmt.Errorf("prepare machine: the packet filter has a table %s already: another cluster's kube-proxy runs here, or ran (nft delete table %s)", t, t)
		}
	}
	if m.bridged() {
		return fmt.Errorf("prepare machine: there is a network interface %s already, and not from here (ip link del %s)", m.Bridge, m.Bridge)
	}
	if err := m.remember(); err != nil {
		return fmt.Errorf("prepare machine: %w", err)
	}
	steps := [][]string{
		{"ip", "link", "add", m.Bridge, "type", "bridge"},
		{"ip", "addr", "add", m.Address, "dev", m.Bridge},
		{"ip", "link", "set", m.Bridge, "up"},
		{"ip", "route", "add", m.Service, "dev", m.Bridge},
	}
	for _, s := range steps {
		if err := run(ctx, s...); err != nil {
			return fmt.Errorf("prepare machine: %w", err)
		}
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		return fmt.Errorf("prepare machine: %w", err)
	}
	err := nft(ctx, m.rules())
	if err != nil {
		return fmt.Errorf("prepare machine: %w", err)
	}
	return m.makeGroups()
}

func (m Machine) rules() string {
	var ports []string
	for _, p := range m.Private {
		ports = append(ports, strconv.Itoa(p))
	}
	return fmt.Sprintf(`table inet %s {
	chain postrouting {
		type nat hook postrouting priority srcnat;
		ip saddr %s oifname != %q masquerade
	}
	chain input {
		type filter hook input priority filter;
		iifname != "lo" tcp dport { %s } drop
	}
}`, m.Table, m.Address, m.Bridge, strings.Join(ports, ", "))
}

func (m Machine) remember() error {
	if _, err := os.Stat(m.ledger()); err == nil {
		return fmt.Errorf("%s exists: the last run was not taken down", m.ledger())
	}
	b := before{Sysctls: map[string]string{}, Shared: map[string][]string{}}
	for _, name := range m.Sysctls {
		v, err := os.ReadFile("/proc/sys/" + name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		b.Sysctls[name] = strings.TrimSpace(string(v))
	}
	for _, dir := range m.Shared {
		names, err := namesIn(dir)
		if err != nil {
			return err
		}
		b.Shared[dir] = names
	}
	text, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(m.ledger(), text, 0o600)
}

// namesIn returns what lies in dir, nil if there is no such folder.
func namesIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// Unset takes away what Set and the components left. It goes on after an error and can be called again; without a Set before it, it does
// nothing, for then what it finds is not from here.
func (m Machine) Unset(ctx context.Context) error {
	if _, err := os.Stat(m.ledger()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{m.killGroups(ctx), m.killShims(ctx), m.unmount(), m.unlink(ctx)}
	for _, t := range append([]string{"inet " + m.Table}, m.Tables...) {
		if nft(ctx, "list table "+t) == nil {
			errs = append(errs, nft(ctx, "delete table "+t))
		}
	}
	errs = append(errs, m.removeGroups(ctx), m.restore())
	return errors.Join(errs...)
}

func (m Machine) bridged() bool {
	_, err := net.InterfaceByName(m.Bridge)
	return err == nil
}

func (m Machine) unlink(ctx context.Context) error {
	if !m.bridged() {
		return nil
	}
	return run(ctx, "ip", "link", "del", m.Bridge)
}

func (m Machine) restore() error {
	text, err := os.ReadFile(m.ledger())
	if err != nil {
		return err
	}
	var b before
	if err := json.Unmarshal(text, &b); err != nil {
		return fmt.Errorf("restore machine: read %s: %w", m.ledger(), err)
	}
	var errs []error
	for name, v := range b.Sysctls {
		errs = append(errs, os.WriteFile("/proc/sys/"+name, []byte(v), 0o644))
	}
	for dir, names := range b.Shared {
		errs = append(errs, removeNew(dir, names))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("restore machine: %w", err)
	}
	return os.Remove(m.ledger())
}

func removeNew(dir string, names []string) error {
	if names == nil {
		return os.RemoveAll(dir)
	}
	now, err := namesIn(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range now {
		if !slices.Contains(names, n) {
			errs = append(errs, os.RemoveAll(filepath.Join(dir, n)))
		}
	}
	return errors.Join(errs...)
}

// unmount takes away every mount below the folder of the run, the newest first.
func (m Machine) unmount() error {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	points := mountsBelow(text, string(m.Dir))
	var errs []error
	for _, p := range slices.Backward(points) {
		if err := unix.Unmount(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", p, err))
		}
	}
	return errors.Join(errs...)
}

// mountsBelow returns the mount points of a mountinfo (man 5 proc_pid_mountinfo) that lie below dir, in its order.
func mountsBelow(info []byte, dir string) []string {
	var points []string
	for s := bufio.NewScanner(bytes.NewReader(info)); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) > 4 {
			p := unescape(fields[4])
			if strings.HasPrefix(p, dir+"/") {
				points = append(points, p)
			}
		}
	}
	return points
}

// unescape reads the octal escapes of mountinfo.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// killShims ends the processes that containerd left to look after containers: they outlive it by design, and heed no gentler signal.
func (m Machine) killShims(ctx context.Context) error {
	err := Until(ctx, grace, func(context.Context) error {
		all, err := proc.List()
		if err != nil {
			return err
		}
		var left []error
		for _, p := range all {
			args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.PID))
			if err != nil || !bytes.Contains(args, []byte("containerd-shim")) || !bytes.Contains(args, []byte("\x00"+string(m.Dir)+"/")) {
				continue
			}
			if err := proc.Kill(p.Identity, unix.SIGKILL); errors.Is(err, proc.ErrGone) {
				continue
			} else if err != nil {
				return Final(err)
			}
			left = append(left, fmt.Errorf("%s still runs", p.Identity))
		}
		return errors.Join(left...)
	})
	if err != nil {
		return fmt.Errorf("end containerd's shims: %w", err)
	}
	return nil
}

func nft(ctx context.Context, rules string) error {
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	if strings.HasPrefix(rules, "list ") {
		cmd = exec.CommandContext(ctx, "nft", strings.Fields(rules)...)
	} else {
		cmd.Stdin = strings.NewReader(rules + "\n")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

func run(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("run %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
