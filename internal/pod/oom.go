package pod

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// defaultCgroup is where a container sees its own control group.
const defaultCgroup = "/sys/fs/cgroup"

// memory watches how often the kernel killed something of this container for want of memory.
type memory struct {
	root   string
	before int64
}

func watchMemory(root string) memory {
	m := memory{root: root}
	m.before = m.kills()
	return m
}

// killed says how many processes were killed since, and what the limit is; 0 where it cannot be known.
func (m memory) killed() (n int64, limit string) { return m.kills() - m.before, m.limit() }

// kills reads the counter of version 2 of control groups, or else that of version 1.
func (m memory) kills() int64 {
	for _, file := range []string{"memory.events", "memory/memory.oom_control"} {
		b, err := os.ReadFile(filepath.Join(m.root, file))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if n, ok := strings.CutPrefix(strings.TrimSpace(line), "oom_kill "); ok {
				if v, err := strconv.ParseInt(n, 10, 64); err == nil {
					return v
				}
			}
		}
	}
	return 0
}

func (m memory) limit() string {
	for _, file := range []string{"memory.max", "memory/memory.limit_in_bytes"} {
		b, err := os.ReadFile(filepath.Join(m.root, file))
		if err != nil {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		if err != nil || n >= 1<<62 {
			return "of the machine" // "max", or version 1's way to say it
		}
		return "limit " + quantity(n)
	}
	return "limit unknown"
}

// quantity writes bytes as Kubernetes does.
func quantity(n int64) string {
	for _, u := range []struct {
		size int64
		name string
	}{{1 << 30, "Gi"}, {1 << 20, "Mi"}, {1 << 10, "Ki"}} {
		if n >= u.size && n%u.size == 0 {
			return strconv.FormatInt(n/u.size, 10) + u.name
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
