package crash

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
)

// disk is what a power cut would take away, computed from the system calls that
// programs made: bytes written since the last sync of their file, and names made
// or taken away since the last sync of their folder. It is as strict as POSIX allows, whatever
// the file system of this machine would have kept.
type disk struct {
	clock int
	// dirty holds when a file was written last, names when a name was made, and gone
	// when one was taken away; each only while a power cut could undo it.
	dirty, names, gone map[string]int
	syncs              map[string]int // how many syncs of each base name were seen
	// known are the files that were there before the traced command.
	known   map[string]bool
	renames int
	// These look at the disk at the moments that matter.
	onRename func(d *disk, from, to string)
	onSync   func(d *disk, path string)
	onUnlink func(d *disk, path string)
	onExec   func(d *disk, args string)
}

// call is one system call. Its effect on the disk lies between begin and end.
type call struct {
	name, args string
	began      int
}

var (
	lineForm    = regexp.MustCompile(`^(\d+) +(.*)$`)
	resumedForm = regexp.MustCompile(`^<\.\.\. (\w+) resumed>(.*)$`)
	callForm    = regexp.MustCompile(`^(\w+)\((.*?)(?:\) += (-?\d+|\?)(.*))?$`)
	fdForm      = regexp.MustCompile(`^(?:AT_FDCWD|\d+)<([^>]*)>(\(deleted\))?`)
	atForm      = regexp.MustCompile(`(?:AT_FDCWD|\d+)<([^>]*)>, "([^"]*)"`)
)

// replay reads a trace of strace -f -y.
func (d *disk) replay(t *testing.T, trace string) {
	t.Helper()
	d.dirty, d.names, d.gone, d.syncs = map[string]int{}, map[string]int{}, map[string]int{}, map[string]int{}
	if d.known == nil {
		d.known = map[string]bool{}
	}
	open := map[string]*call{} // by thread
	for _, line := range strings.Split(trace, "\n") {
		m := lineForm.FindStringSubmatch(line)
		if m == nil || strings.HasPrefix(m[2], "+++") || strings.HasPrefix(m[2], "---") || strings.HasPrefix(m[2], "???") {
			continue // how a thread ended
		}
		tid, text := m[1], m[2]
		d.clock++
		if r := resumedForm.FindStringSubmatch(text); r != nil {
			c := open[tid]
			if c == nil || c.name != r[1] {
				t.Fatalf("a call that never began: %s", line)
			}
			delete(open, tid)
			d.end(t, c, c.name+"("+c.args+r[2])
			continue
		}
		text, cut := strings.CutSuffix(text, " <unfinished ...>")
		r := callForm.FindStringSubmatch(text)
		if r == nil {
			t.Fatalf("a line that is no call: %s", line)
		}
		c := &call{name: r[1], args: r[2], began: d.clock}
		d.begin(c)
		if cut {
			open[tid] = c
			continue
		}
		d.end(t, c, text)
	}
}

// target is the file that a call on a descriptor works on.
func target(args string) string {
	m := fdForm.FindStringSubmatch(args)
	if m == nil || m[2] != "" || !strings.HasPrefix(m[1], "/") {
		return ""
	}
	return m[1]
}

// paths are the files that a call on names works on.
func paths(args string) []string {
	var out []string
	for _, m := range atForm.FindAllStringSubmatch(args, -1) {
		p := m[2]
		if !filepath.IsAbs(p) {
			p = filepath.Join(m[1], p)
		}
		out = append(out, filepath.Clean(p))
	}
	return out
}

func (d *disk) begin(c *call) {
	switch c.name {
	case "write", "pwrite64", "writev", "pwritev", "ftruncate":
		d.write(target(c.args))
	case "fsync", "fdatasync":
		if d.onSync != nil {
			d.onSync(d, target(c.args))
		}
	}
}

// end takes the effect of a call that returned.
func (d *disk) end(t *testing.T, c *call, text string) {
	t.Helper()
	r := callForm.FindStringSubmatch(text)
	if r == nil || r[3] == "" {
		t.Fatalf("a call without an end: %s", text)
	}
	ret, err := strconv.Atoi(r[3])
	if err != nil || ret < 0 {
		return // it failed, or its process died in it
	}
	args := r[2]
	switch c.name {
	case "write", "pwrite64", "writev", "pwritev", "ftruncate":
		d.write(target(args))
	case "copy_file_range", "sendfile", "ioctl":
		if c.name == "ioctl" && !strings.Contains(args, "FICLONE") {
			return
		}
		if c.name == "copy_file_range" { // the target is its third argument
			_, args, _ = strings.Cut(args, ", NULL, ")
		}
		d.write(target(args))
	case "openat":
		if p := paths(args); strings.Contains(args, "O_CREAT") && len(p) > 0 {
			d.opened(p[0], args)
		} else if strings.Contains(args, "O_TRUNC") && len(p) > 0 {
			d.write(p[0])
		}
	case "mkdirat", "mkdir":
		for _, p := range paths(args) {
			d.names[p] = d.clock
		}
	case "linkat", "renameat", "renameat2":
		if p := paths(args); len(p) == 2 {
			d.renamed(p[0], p[1], c.name == "linkat")
		}
	case "unlinkat":
		for _, p := range paths(args) {
			delete(d.dirty, p)
			delete(d.names, p)
			delete(d.known, p)
			if d.onUnlink != nil {
				d.onUnlink(d, p)
			}
			d.gone[p] = d.clock
		}
	case "fsync", "fdatasync":
		d.synced(target(args), c.began)
	case "syncfs":
		clear(d.dirty)
		clear(d.names)
		clear(d.gone)
		d.syncs["syncfs"]++
	case "execve":
		if d.onExec != nil {
			d.onExec(d, args)
		}
	}
}

func (d *disk) write(path string) {
	if path != "" {
		d.dirty[path] = d.clock
	}
}

// opened takes an open that makes the file unless it is there.
func (d *disk) opened(path, args string) {
	if !d.known[path] {
		d.names[path] = d.clock
		d.known[path] = true
	}
	if strings.Contains(args, "O_TRUNC") {
		d.write(path)
	}
}

func (d *disk) renamed(from, to string, link bool) {
	d.renames++
	if d.onRename != nil {
		d.onRename(d, from, to)
	}
	for _, m := range []map[string]int{d.dirty, d.names} {
		for p, at := range m {
			if p == from || strings.HasPrefix(p, from+"/") {
				if !link {
					delete(m, p)
				}
				m[to+p[len(from):]] = at
			}
		}
	}
	d.names[to] = d.clock
	d.known[to] = true
	if !link {
		delete(d.known, from)
	}
}

func (d *disk) synced(path string, began int) {
	d.syncs[filepath.Base(path)]++
	if at, ok := d.dirty[path]; ok && at <= began {
		delete(d.dirty, path)
	}
	for _, m := range []map[string]int{d.names, d.gone} {
		for p, at := range m {
			if filepath.Dir(p) == path && at <= began {
				delete(m, p)
			}
		}
	}
}

// lost lists what a power cut would take now, of what want asks for.
func (d *disk) lost(want func(path string) bool) []string {
	var out []string
	for p := range d.dirty {
		if want(p) {
			out = append(out, "the bytes of "+p)
		}
	}
	for p := range d.names {
		if want(p) {
			out = append(out, "the name "+p)
		}
	}
	sort.Strings(out)
	return out
}

// TestTheDiskModelLosesWhatIsNotSynced tells the model's own rules apart on a
// trace by hand: a model that loses nothing would prove nothing.
func TestTheDiskModelLosesWhatIsNotSynced(t *testing.T) {
	const trace = `1 openat(AT_FDCWD</p>, "a.tmp", O_RDWR|O_CREAT|O_EXCL, 0600) = 3</p/a.tmp>
1 write(3</p/a.tmp>, "x", 1) = 1
2 fsync(3</p/a.tmp> <unfinished ...>
1 write(3</p/a.tmp>, "y", 1) = 1
2 <... fsync resumed>) = 0
1 mkdirat(AT_FDCWD</p>, "d", 0755) = 0
1 renameat(AT_FDCWD</p>, "a.tmp", AT_FDCWD</p>, "d/a") = 0
1 openat(AT_FDCWD</p>, "b", O_RDWR|O_CREAT|O_EXCL, 0600) = -1 EEXIST (File exists)
1 fsync(4</p/d>) = 0
1 unlinkat(AT_FDCWD</p>, "gone", 0) = -1 ENOENT (No such file or directory)`
	var early []string
	d := &disk{onRename: func(d *disk, from, _ string) {
		early = d.lost(func(p string) bool { return p == from })
	}}
	d.replay(t, trace)
	if got, want := fmt.Sprint(early), "[the bytes of /p/a.tmp the name /p/a.tmp]"; got != want {
		t.Errorf("at the rename %s, want %s: the write during the sync is not covered by it", got, want)
	}
	all := func(string) bool { return true }
	if got, want := fmt.Sprint(d.lost(all)), "[the bytes of /p/d/a the name /p/d]"; got != want {
		t.Errorf("in the end %s, want %s", got, want)
	}
	d.replay(t, trace+"\n1 unlinkat(AT_FDCWD</p>, \"d/a\", 0) = 0\n")
	if got, want := fmt.Sprint(slices.Collect(maps.Keys(d.gone))), "[/p/d/a]"; got != want {
		t.Errorf("taken away %s, want %s: its folder was synced before", got, want)
	}
	d.replay(t, trace+"\n1 syncfs(5</p>) = 0")
	if got := d.lost(all); len(got) != 0 {
		t.Errorf("after syncfs %v, want nothing", got)
	}
}
