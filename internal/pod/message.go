package pod

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/continuo-ml/continuo/internal/runner"
)

// Exit codes of `ml pod run`.
const (
	ExitDone   = 0
	ExitFailed = 10 // the command failed, or what was asked for cannot be: another pod would fail alike
	ExitLost   = 11 // something around it failed: another pod may succeed
)

const (
	// maxMessage is how much of a container's last words Kubernetes keeps, in bytes.
	maxMessage = 4096
	// maxSentence bounds the part of them that says what happened.
	maxSentence = 1400
	maxTailLine = 400
	// DefaultMessagePath is where Kubernetes looks for a container's last words.
	DefaultMessagePath = "/dev/termination-log"
)

// Termination is the last word of a pod.
type Termination struct {
	V        int          `json:"v"`
	Phase    runner.Phase `json:"phase"`     // runner.Lost if the pod could not do its part
	ExitCode int          `json:"exit_code"` // of the command; -1 without one
	Message  string       `json:"message,omitempty"`
	Result   string       `json:"result,omitempty"` // reference of the result, by digest
	Model    *Model       `json:"model,omitempty"`
	Tail     []string     `json:"tail,omitempty"` // last lines of the log that fit

	code int // the pod's own exit code
}

// Model is a model in the registry.
type Model struct {
	Digest string `json:"digest"` // of the content, 64 hex digits, as files.DigestDir returns it
	Ref    string `json:"ref"`    // by digest
	Bytes  int64  `json:"bytes"`  // of its files
}

// ParseTermination reads what a pod wrote.
func ParseTermination(b []byte) (Termination, error) {
	var t Termination
	if len(strings.TrimSpace(string(b))) == 0 {
		return t, errors.New("the pod left no last word: it was killed, or never began")
	}
	if err := json.Unmarshal(b, &t); err != nil {
		return t, fmt.Errorf("the pod's last word is not ml's: %w: %s", err, clip(string(b), 200))
	}
	if t.V != TaskVersion || !t.Phase.Over() {
		return t, fmt.Errorf("the pod's last word is of version %d and phase %q; another version of ml wrote it", t.V, t.Phase)
	}
	return t, nil
}

// encode returns at most maxMessage bytes: lines of the log make room first, the oldest before the others.
func (t Termination) encode() ([]byte, error) {
	t.V = TaskVersion
	t.Message = clip(t.Message, maxSentence)
	tail := make([]string, len(t.Tail))
	for i, l := range t.Tail {
		tail[i] = clip(l, maxTailLine)
	}
	for t.Tail = tail; ; t.Tail = t.Tail[1:] {
		b, err := json.Marshal(t)
		if err != nil {
			return nil, err
		}
		if len(b) <= maxMessage {
			return b, nil
		}
		if len(t.Tail) == 0 { // control characters take six bytes each
			if len(t.Message) < 64 {
				return nil, fmt.Errorf("the last word has %d bytes; %d are possible", len(b), maxMessage)
			}
			t.Message, t.Tail = clip(t.Message, len(t.Message)/2), []string{""}
		}
	}
}

// write puts the last word where Kubernetes looks. The file is mounted from outside, so it cannot be replaced by a rename.
func (t Termination) write(path string) error {
	b, err := t.encode()
	if err != nil {
		return fmt.Errorf("write the last word: %w", err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		return fmt.Errorf("write the last word: %w", err)
	}
	return nil
}

// clip makes s valid UTF-8 of at most n bytes, the end left out.
func clip(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	const more = " …"
	return strings.ToValidUTF8(s[:n-len(more)], "") + more
}
