//go:build !linux && !darwin

package runner

import (
	"fmt"
	"os"
	"syscall"

	"github.com/continuo-ml/continuo/internal/proc"
)

const nonBlock = 0

func selfExe() (string, error) {
	return "", fmt.Errorf("commands run locally on Linux and macOS only; use a remote provider here: %w", proc.ErrUnsupported)
}

func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }

// Main reports that nothing can run here. [Start] never gets this far.
func Main(string) int {
	_, err := selfExe()
	fmt.Fprintln(os.Stderr, err)
	return 1
}
