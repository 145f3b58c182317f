//go:build linux

package main

import (
	"strings"
	"testing"
)

func TestWhatIsMissingIsNamedOnePerLine(t *testing.T) {
	all := []need{{"etcd", "etcd-server"}, {"nft", "nftables"}, {"runc", "runc"}, {"nfct", "nftables"}}
	err := missing(1000, all, func(file string) bool { return file == "runc" })
	if err == nil {
		t.Fatal("no error")
	}
	lines := strings.Split(err.Error(), "\n")
	want := []string{"not root", "etcd is missing: apt-get install -y etcd-server", "nft is missing: apt-get install -y nftables", "nfct is missing: apt-get install -y nftables", "apt-get install -y --no-install-recommends etcd-server nftables"}
	if !strings.HasSuffix(err.Error(), want[len(want)-1]) {
		t.Errorf("it ends with %q", lines[len(lines)-1])
	}
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d:\n%v", len(lines), len(want), err)
	}
	for i, part := range want {
		if !strings.Contains(lines[i], part) {
			t.Errorf("line %d is %q, without %q", i+1, lines[i], part)
		}
	}
}

func TestNothingMissingIsNoError(t *testing.T) {
	if err := missing(0, needed, func(string) bool { return true }); err != nil {
		t.Error(err)
	}
}
