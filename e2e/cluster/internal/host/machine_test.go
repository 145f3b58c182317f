//go:build linux

package host

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestOnlyMountsBelowTheFolderAreFound(t *testing.T) {
	info := `21 1 254:0 / / rw - ext4 /dev/root rw
40 21 0:5 / /run/e2e/kubelet/pods/a\040b rw shared:1 - tmpfs tmpfs rw
41 21 0:5 / /run/e2e rw - tmpfs tmpfs rw
42 21 0:5 / /run/e2e-other/x rw - tmpfs tmpfs rw
43 21 0:4 net:[4026532] /run/e2e/containerd/state/netns/cni-1 rw - nsfs nsfs rw
`
	want := []string{"/run/e2e/kubelet/pods/a b", "/run/e2e/containerd/state/netns/cni-1"}
	if got := mountsBelow([]byte(info), "/run/e2e"); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestOnlyWhatIsNewInASharedFolderGoes(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"old", "new"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := removeNew(dir, []string{"old"}); err != nil {
		t.Fatal(err)
	}
	if got, err := namesIn(dir); err != nil || !reflect.DeepEqual(got, []string{"old"}) {
		t.Errorf("left: %v, %v", got, err)
	}
	if err := removeNew(dir, nil); err != nil { // it was missing before
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the folder is still there: %v", err)
	}
}

func TestTheWorldIsKeptFromPrivatePorts(t *testing.T) {
	rules := Machine{Table: "t", Bridge: "b0", Address: "10.0.0.1/16", Private: []int{1, 2}}.rules()
	for _, part := range []string{`iifname != "lo" tcp dport { 1, 2 } drop`, `ip saddr 10.0.0.1/16 oifname != "b0" masquerade`} {
		if !strings.Contains(rules, part) {
			t.Errorf("%s\nhas no %s", rules, part)
		}
	}
}

func TestWhatWasNotSetIsNotTakenAway(t *testing.T) {
	// An interface that nobody can remove: trying to is an error.
	m := Machine{Dir: Dir(t.TempDir()), Bridge: "lo", Table: "t", Group: "continuo-test"}
	if err := m.Unset(t.Context()); err != nil {
		t.Error(err)
	}
}
