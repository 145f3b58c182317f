package files

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// largeFile makes a file of n random MiB.
func largeFile(b *testing.B, n int) string {
	b.Helper()
	dir := b.TempDir()
	f, err := os.Create(filepath.Join(dir, "large"))
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 1<<20)
	r := rand.NewChaCha8([32]byte{1})
	for range n {
		if _, err := r.Read(buf); err != nil {
			b.Fatal(err)
		}
		if _, err := f.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	return dir
}

func BenchmarkDigestLarge(b *testing.B) {
	const mib = 256
	dir := largeFile(b, mib)
	b.SetBytes(mib << 20)
	for b.Loop() {
		x := open(b, dir)
		if _, err := x.DigestFile("large"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSHA256 is the ceiling for BenchmarkDigestLarge: one core, bytes in memory.
func BenchmarkSHA256(b *testing.B) {
	buf := make([]byte, 1<<20)
	b.SetBytes(1 << 20)
	for b.Loop() {
		sha256.Sum256(buf)
	}
}

// smallFiles makes n files of 4 KiB in folders of 1,000.
func smallFiles(b *testing.B, n int) string {
	b.Helper()
	dir := b.TempDir()
	buf := make([]byte, 4096)
	for i := range n {
		copy(buf, fmt.Sprint(i))
		sub := filepath.Join(dir, fmt.Sprintf("d%03d", i/1000))
		if i%1000 == 0 {
			if err := os.Mkdir(sub, 0o755); err != nil {
				b.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("f%06d.bin", i)), buf, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	return dir
}

const benchFiles = 20_000

func BenchmarkDigestSmall(b *testing.B) {
	dir := smallFiles(b, benchFiles)
	b.SetBytes(benchFiles * 4096)
	for b.Loop() {
		x := open(b, dir)
		if _, err := x.DigestSource("."); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchFiles, "ns/file")
}

func BenchmarkRescan(b *testing.B) {
	dir := smallFiles(b, benchFiles)
	cache := filepath.Join(b.TempDir(), "stat")
	x, err := openIndex(dir, cache, options{now: later(time.Minute)})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := x.DigestSource("."); err != nil {
		b.Fatal(err)
	}
	if err := x.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		x := openWith(b, dir, cache, options{now: later(time.Minute)})
		if _, err := x.DigestSource("."); err != nil {
			b.Fatal(err)
		}
		if got := x.Stats().Hits; got != benchFiles {
			b.Fatalf("%d hits, want %d", got, benchFiles)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchFiles, "ns/file")
}
