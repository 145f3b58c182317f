// Command docgen writes the generated pages of docs/reference: one per kind of
// block and per provider, the command line, the plan's actions and reasons, and
// the limits. Their text comes from the structs, constants and help texts that the
// program itself uses, so the pages cannot say something else than the program does.
//
// It never touches pages written by hand: every page of its own starts with a
// mark, and only marked pages are replaced or removed. With -check it writes
// nothing and fails when a page is not up to date.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/continuo-ml/continuo/config"
)

// mark starts every page that docgen writes.
const mark = "<!-- Written by internal/docgen; `make generate` writes it anew. -->\n"

// errStale says that -check found pages that are not up to date.
var errStale = errors.New("docs/reference is not up to date; run make generate and commit what it wrote")

func main() {
	check := flag.Bool("check", false, "write nothing; fail when a page is not up to date")
	flag.Parse()
	if err := run(".", *check, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "docgen:", err)
		os.Exit(1)
	}
}

// run brings the pages of the module at root up to date, or with check reports
// each that is not.
func run(root string, check bool, out io.Writer) error {
	dir := filepath.Join(root, "docs", "reference")
	pages, err := pages(root)
	if err != nil {
		return err
	}
	for name, text := range pages {
		pages[name] = mark + "\n" + text
	}
	if check {
		return compare(dir, pages, out)
	}
	return write(dir, pages)
}

// pages renders everything: file name to text, without the mark.
func pages(root string) (map[string]string, error) {
	all := map[string]string{}
	kinds, err := config.AllKinds()
	if err != nil {
		return nil, err
	}
	for _, name := range kinds.Names() {
		all[name+".md"] = kindPage(kinds[name])
	}
	if all["providers.md"], err = providersPage(); err != nil {
		return nil, err
	}
	if all["commands.md"], err = commandsPage(root); err != nil {
		return nil, err
	}
	if all["limits.md"], err = limitsPage(root); err != nil {
		return nil, err
	}
	all["plan.md"] = planPage()
	all["README.md"] = indexPage(kinds)
	return all, nil
}

// compare reports pages that differ, are missing or should be gone.
func compare(dir string, pages map[string]string, out io.Writer) error {
	stale := false
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		have, err := os.ReadFile(filepath.Join(dir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			fmt.Fprintf(out, "%s is missing\n", name)
			stale = true
		case err != nil:
			return err
		case !bytes.Equal(have, []byte(pages[name])):
			fmt.Fprintf(out, "%s differs\n", name)
			stale = true
		}
	}
	gone, err := leftovers(dir, pages)
	if err != nil {
		return err
	}
	for _, name := range gone {
		fmt.Fprintf(out, "%s is of a kind or provider that is gone\n", name)
		stale = true
	}
	if stale {
		return errStale
	}
	return nil
}

func write(dir string, pages map[string]string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		file := filepath.Join(dir, name)
		have, err := os.ReadFile(file)
		if err == nil && !strings.HasPrefix(string(have), mark) {
			return fmt.Errorf("%s is written by hand; rename it, its name belongs to a generated page", file)
		}
		if err := os.WriteFile(file, []byte(pages[name]), 0o644); err != nil {
			return err
		}
	}
	gone, err := leftovers(dir, pages)
	if err != nil {
		return err
	}
	for _, name := range gone {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// leftovers lists marked pages that nothing generates any more.
func leftovers(dir string, pages map[string]string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var gone []string
	for _, e := range entries {
		if e.IsDir() || pages[e.Name()] != "" {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(string(raw), mark) {
			gone = append(gone, e.Name())
		}
	}
	return gone, nil
}
