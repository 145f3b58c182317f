// Package proctest finds the processes that a test may have left behind.
package proctest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// In lists the processes that run in dir or below, or have it in an argument,
// each with its number, arguments and, on Linux, working folder. Other systems
// are asked with ps, which does not tell the folder.
func In(dir string) ([]string, error) {
	if runtime.GOOS != "linux" {
		return asked(dir)
	}
	folders, err := filepath.Glob("/proc/[0-9]*")
	if err != nil || len(folders) == 0 {
		return nil, fmt.Errorf("/proc shows no process: %w", err)
	}
	var found []string
	for _, f := range folders {
		raw, err := os.ReadFile(filepath.Join(f, "cmdline"))
		if err != nil {
			continue // it ended meanwhile
		}
		cwd, err := os.Readlink(filepath.Join(f, "cwd"))
		if err != nil {
			cwd = "" // it ended meanwhile, or is a zombie
		}
		args := strings.ReplaceAll(string(raw), "\x00", " ")
		if names(args, dir) || names(cwd+" ", dir) {
			found = append(found, fmt.Sprintf("%s %s in %s", f, args, cwd))
		}
	}
	return found, nil
}

func asked(dir string) ([]string, error) {
	out, err := exec.Command("ps", "-A", "-o", "pid=,args=").Output()
	if err != nil {
		return nil, fmt.Errorf("ps: %w", err)
	}
	var found []string
	for line := range strings.Lines(string(out)) {
		if names(line, dir) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found, nil
}

// names says whether the folder itself, and not another whose name begins like
// it, stands in the text.
func names(text, dir string) bool {
	return strings.Contains(text, dir+"/") || strings.Contains(text, dir+" ") || strings.Contains(text, dir+"\n")
}
