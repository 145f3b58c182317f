package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"

	"github.com/continuo-ml/continuo/internal/files"
)

// Parts of this program that run as processes of their own, so that they are
// measured as what they are compared with is.
const (
	cmdDigest = "digest" // digest [-cache FILE] DIR: the digest of a folder, and how much was read
	cmdSHA256 = "sha256" // sha256: SHA-256 of largeMiB in memory, on one core
)

const (
	largeMiB   = 2048
	smallFiles = 100_000
	smallBytes = 4096
)

func part(name string, args []string) error {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	cache := flags.String("cache", "", "stat cache")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if name == cmdSHA256 {
		buf, h := make([]byte, 1<<20), sha256.New()
		for range largeMiB {
			h.Write(buf)
		}
		fmt.Printf("%x\n", h.Sum(nil))
		return nil
	}
	if flags.NArg() != 1 {
		return errors.New("want one folder: measure digest [-cache FILE] DIR")
	}
	x, err := files.Open(flags.Arg(0), *cache)
	if err != nil {
		return err
	}
	d, err := x.DigestSource(".")
	if err != nil {
		return errors.Join(err, x.Close())
	}
	fmt.Printf("%s %d files, %d read\n", d.Hex, len(d.Files), x.Stats().Hashed)
	return x.Close()
}

func (b *bench) files(ctx context.Context) ([]row, error) {
	large, small := filepath.Join(b.cache, "large"), filepath.Join(b.cache, "small")
	if err := once(large, writeLarge); err != nil {
		return nil, err
	}
	if err := once(small, writeSmall); err != nil {
		return nil, err
	}
	big, err := compare(ctx, b.runs, []contender{
		{dir: large, argv: []string{b.self, cmdDigest, large}},
		{dir: large, argv: []string{b.self, cmdSHA256}},
	})
	if err != nil {
		return nil, err
	}
	list := fmt.Sprintf("find . -type f -print0 | xargs -0 -P%d -n500 sha256sum", runtime.NumCPU())
	many, err := compare(ctx, b.runs, []contender{
		{dir: small, argv: []string{b.self, cmdDigest, small}},
		{dir: small, argv: []string{"sh", "-c", list}},
	})
	if err != nil {
		return nil, err
	}
	cache := filepath.Join(b.cache, "small.stat")
	again, err := compare(ctx, b.runs, []contender{{dir: small, argv: []string{b.self, cmdDigest, "-cache", cache, small}}})
	if err != nil {
		return nil, err
	}
	share := big[1].wall / big[0].wall
	return []row{
		{
			what: "digest of one file of 2 GiB", ours: speed(big[0]), beside: "SHA-256 in memory, one core: " + speed(big[1]),
			ratio: fmt.Sprintf("%.0f %%", 100*share), targets: []target{{"≥ 80 % of SHA-256", share >= 0.8}}, others: big[0].others,
		},
		{
			what: "digest of 100,000 files of 4 KiB", ours: many[0].String(), beside: fmt.Sprintf("`xargs -P%d -n500 sha256sum`: %s", runtime.NumCPU(), many[1]),
			ratio: fmt.Sprintf("%.2f× as fast", many[1].wall/many[0].wall), others: many[0].others,
		},
		{
			what: "the same files again, none moved", ours: again[0].String(), targets: []target{{"< 0.5 s", again[0].wall < 0.5}}, others: again[0].others,
		},
	}, nil
}

func speed(r result) string {
	return fmt.Sprintf("%.0f MB/s, %s", largeMiB*(1<<20)/1e6/r.wall, r)
}

// once fills a folder of the cache unless that was done before; a folder that
// was left half filled does not count.
func once(dir string, fill func(dir string) error) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	fresh := dir + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	if err := os.Mkdir(fresh, 0o755); err != nil {
		return err
	}
	if err := fill(fresh); err != nil {
		return err
	}
	return os.Rename(fresh, dir)
}

func writeLarge(dir string) (err error) {
	f, err := os.Create(filepath.Join(dir, "large.bin"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	buf, random := make([]byte, 1<<20), rand.NewChaCha8([32]byte{1})
	for range largeMiB {
		_, _ = random.Read(buf) // documented never to fail
		if _, err := f.Write(buf); err != nil {
			return err
		}
	}
	return nil
}

func writeSmall(dir string) error {
	buf := make([]byte, smallBytes)
	for i := range smallFiles {
		sub := filepath.Join(dir, fmt.Sprintf("d%03d", i/1000))
		if i%1000 == 0 {
			if err := os.Mkdir(sub, 0o755); err != nil {
				return err
			}
		}
		copy(buf, fmt.Sprint(i))
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("f%06d.bin", i)), buf, 0o644); err != nil {
			return err
		}
	}
	return nil
}
