//go:build e2e && linux

package gitops

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// kib reads a line of /proc/PID/status.
func kib(t *testing.T, pid int, name string) int {
	t.Helper()
	for line := range strings.Lines(string(must[[]byte](t)(os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))))) {
		if rest, found := strings.CutPrefix(line, name+":"); found {
			return must[int](t)(strconv.Atoi(strings.Fields(rest)[0]))
		}
	}
	t.Fatalf("no %s", name)
	return 0
}

// load is what else the machine has to do, for the log.
func load() string {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(raw))
}

func percentile(times []time.Duration, p float64) time.Duration {
	slices.Sort(times)
	return times[min(len(times)-1, int(p*float64(len(times))))].Round(100 * time.Microsecond)
}

func hook(client *http.Client, url string, body []byte, secret string) (int, time.Duration, error) {
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body)) //nolint:noctx // a test of a program of its own
	if err != nil {
		return 0, 0, err
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Gitea-Event", "push")
	req.Header.Set("X-Gitea-Signature", hex.EncodeToString(mac.Sum(nil)))
	began := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return 0, 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	took := time.Since(began)
	if cerr := resp.Body.Close(); err == nil {
		err = cerr
	}
	return resp.StatusCode, took, err
}

// TestAFloodOfWebhooks sends thousands of webhooks over fifty connections, valid, forged, replayed and long, while commits come in, and a second
// flood of one for each of thousands of pushes. Each is answered, memory stays flat, nothing runs twice, and the last commit is applied.
func TestAFloodOfWebhooks(t *testing.T) {
	requests, pushes := 1000, 500
	if full {
		requests, pushes = 10_000, 10_000
	}
	tm := newTeam(t, map[string]string{"readme": "the forge of a repository of this machine"})
	t.Setenv("GIT_TOKEN", tm.owner.Token)
	t.Setenv("HOOK_SECRET", hookSecret)
	k := &killed{plain: newPlain(t, allowAll+fmt.Sprintf("  forge {\n    kind = \"gitea\"\n    url = %q\n    repo = %q\n    token_env = \"GIT_TOKEN\"\n    webhook_secret_env = \"HOOK_SECRET\"\n  }\n", server.URL, tm.repo))}
	k.oracle = filepath.Join(k.dir, "oracle.log")
	k.newRound()
	k.start("")
	k.until("the first commit is applied", k.applied(k.commit))
	pid := k.cmd.Process.Pid
	url := "http://" + k.at + "/hooks/r"
	before := kib(t, pid, "VmRSS")
	push := func(i int) []byte {
		return fmt.Appendf(nil, `{"ref":"refs/heads/main","after":"%040x","repository":{"full_name":%q}}`, i, tm.repo)
	}
	long := append(push(-1), bytes.Repeat([]byte(" "), 1<<20)...)
	var wrong atomic.Int64
	var mu sync.Mutex
	var valid []time.Duration
	send := func(client *http.Client, i int) {
		body, secret, want := push(i), hookSecret, http.StatusAccepted
		switch i % 10 {
		case 1, 2, 3:
			secret, want = "another secret", http.StatusUnauthorized
		case 4, 5:
			body = push(i % 50 * 10) // one that came before, or comes again
		case 6:
			if i%50 == 6 {
				body, want = long, http.StatusRequestEntityTooLarge
			}
		}
		code, took, err := hook(client, url, body, secret)
		if want == http.StatusRequestEntityTooLarge && err != nil {
			return // it was cut off while it still sent, which is an answer
		}
		if err != nil || code != want {
			if wrong.Add(1) < 5 {
				t.Errorf("request %d: %d, %v; want %d", i, code, err, want)
			}
			return
		}
		if want == http.StatusAccepted {
			mu.Lock()
			valid = append(valid, took)
			mu.Unlock()
		}
	}
	flood := func(n int, send func(client *http.Client, i int)) {
		var next atomic.Int64
		var senders sync.WaitGroup
		for range 50 {
			senders.Go(func() {
				client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
				defer client.CloseIdleConnections()
				for i := next.Add(1); i <= int64(n); i = next.Add(1) {
					send(client, int(i))
				}
			})
		}
		senders.Wait()
	}
	k.newRound() // it comes in the middle of it
	began := time.Now()
	flood(requests, send)
	took := time.Since(began)
	k.until("the commit that came with it is applied", k.applied(k.commit))
	after := kib(t, pid, "VmRSS")
	t.Logf("%d webhooks over 50 connections in %s (load %s): %d valid ones, p50 %s, p99 %s, max %s; resident memory %d MiB before, %d MiB after",
		requests, took.Round(time.Millisecond), load(), len(valid), percentile(valid, 0.5), percentile(valid, 0.99), percentile(valid, 1), before>>10, after>>10)
	if after > before+64<<10 {
		t.Errorf("memory grew from %d to %d KiB", before, after)
	}
	// A webhook for each of many pushes, all of which happened.
	k.round++
	var stream strings.Builder
	for i := range pushes {
		data := fmt.Sprintf("token,n\nr%d,%d\n", k.round, i/(pushes/3+1))
		fmt.Fprintf(&stream, "commit refs/heads/many\ncommitter Ada <ada@example.org> %d +0000\ndata 1\nx\n", 1_700_000_000+i)
		if i == 0 {
			fmt.Fprintf(&stream, "from refs/heads/main^0\n")
		}
		fmt.Fprintf(&stream, "M 100644 inline data.csv\ndata %d\n%s\nM 100644 inline n\ndata %d\n%s\n", len(data), data, len(strconv.Itoa(i)), strconv.Itoa(i))
	}
	k.gitIn(stream.String(), "fast-import", "--quiet")
	commits := strings.Fields(k.git("rev-list", "--reverse", "main..many"))
	if len(commits) != pushes {
		t.Fatalf("%d commits", len(commits))
	}
	var moved sync.Mutex
	at := 0
	flood(pushes, func(client *http.Client, i int) {
		if i%(pushes/50) == 0 || i == pushes {
			moved.Lock()
			if i > at {
				at = i
				k.git("update-ref", "refs/heads/main", commits[i-1])
			}
			moved.Unlock()
		}
		if code, _, err := hook(client, url, fmt.Appendf(nil, `{"ref":"refs/heads/main","after":%q,"repository":{"full_name":%q}}`, commits[i-1], tm.repo), hookSecret); err != nil || code != http.StatusAccepted {
			if wrong.Add(1) < 5 {
				t.Errorf("push %d: %d, %v", i, code, err)
			}
		}
	})
	last := commits[pushes-1]
	k.until("the last of all pushes is applied", k.applied(last))
	t.Logf("%d pushes with a webhook each: the last is applied; resident memory %d MiB, at most %d MiB", pushes, kib(t, pid, "VmRSS")>>10, kib(t, pid, "VmHWM")>>10)
	k.stop()
	// Each version of the data was trained on once at most, and the last one was.
	seen := map[string]int{}
	for line := range strings.Lines(string(must[[]byte](t)(os.ReadFile(k.oracle)))) {
		f := strings.Fields(line)
		if f[3] == "start" {
			seen[f[0]+" "+f[2]]++
		}
	}
	for run, n := range seen {
		if n != 1 {
			t.Errorf("%s ran %d times", run, n)
		}
	}
	if out, err := k.ml("plan", "-detailed-exitcode"); err != nil {
		t.Errorf("the plan after it must be empty: %v\n%s", err, out)
	}
	k.noOrphans()
}
