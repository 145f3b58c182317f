package config

import (
	"bytes"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// limitMemory caps the address space a little above what the process has, as
// a last resort behind watchMemory. Failing to is no reason not to evaluate.
func limitMemory() {
	raw, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return
	}
	first, _, _ := bytes.Cut(raw, []byte(" "))
	pages, err := strconv.ParseUint(string(first), 10, 64)
	if err != nil {
		return
	}
	size := pages*uint64(os.Getpagesize()) + 8*MaxEvalBytes
	_ = unix.Setrlimit(unix.RLIMIT_AS, &unix.Rlimit{Cur: size, Max: size})
}
