// Command measure takes the figures of docs/benchmarks.md: whole processes of
// ml and of what stands beside it, run in turn on the same machine, and the
// benchmarks of single packages. Each section of the page is written as soon
// as it is measured, between its markers; what stands outside of them is never
// touched.
//
// A figure is a median. Beside it stands how much of the machine others used
// meanwhile, since that decides what it is worth; a slow machine is a row in a
// table and never an error. What could not be measured says so in its row.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are what bench/run.sh hands over.
type options struct {
	ml, gen string // programs
	tofu    string // a program, or "" with tofuWhy saying why there is none
	tofuWhy string
	cache   string // a folder for applied projects and large files
	page    string // docs/benchmarks.md
	only    string // sections, joined by commas; "" means all
	runs    int    // samples of each median
	quick   bool   // leave out 10,000 blocks
	full    bool   // OpenTofu beside for_each over 1,000: minutes
}

// bench is one run of this program.
type bench struct {
	options
	self string // this program, to run parts of itself as a process
	log  func(format string, args ...any)
}

// section is one table of the page.
type section struct {
	name    string
	measure func(*bench, context.Context) ([]row, error)
}

func sections() []section {
	return []section{
		{"plans", (*bench).plans},
		{"files", (*bench).files},
		{"drift", (*bench).drift},
		{"gateway", (*bench).gateway},
	}
}

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && (args[0] == cmdDigest || args[0] == cmdSHA256) {
		return part(args[0], args[1:])
	}
	if len(args) > 0 && (args[0] == cmdModel || args[0] == cmdProxy) {
		return serverPart(args[0], args[1:])
	}
	b, err := parse(args)
	if err != nil {
		return err
	}
	// Only here: the parts above are ended with SIGTERM, and shall be.
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	for _, s := range sections() {
		if b.only != "" && !slices.Contains(strings.Split(b.only, ","), s.name) {
			continue
		}
		b.log("%s", s.name)
		rows, err := s.measure(b, ctx)
		if err != nil {
			return fmt.Errorf("measure %s: %w", s.name, err)
		}
		text := render(rows, describe(time.Now()))
		if err := update(b.page, s.name, text); err != nil {
			return err
		}
		fmt.Println(text)
	}
	return nil
}

func parse(args []string) (*bench, error) {
	var o options
	flags := flag.NewFlagSet("measure", flag.ContinueOnError)
	flags.StringVar(&o.ml, "ml", "", "the ml program")
	flags.StringVar(&o.gen, "gen", "", "the program built from bench/gen")
	flags.StringVar(&o.tofu, "tofu", "", "the OpenTofu program, or empty")
	flags.StringVar(&o.tofuWhy, "tofu-why", "no OpenTofu was given", "why there is no OpenTofu")
	flags.StringVar(&o.cache, "cache", "", "folder for applied projects and large files")
	flags.StringVar(&o.page, "page", "docs/benchmarks.md", "the page to write")
	flags.StringVar(&o.only, "only", "", "sections, joined by commas: "+names())
	flags.IntVar(&o.runs, "runs", 5, "samples of each median")
	flags.BoolVar(&o.quick, "quick", false, "leave out 10,000 blocks")
	flags.BoolVar(&o.full, "full", false, "OpenTofu beside for_each over 1,000")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if o.ml == "" || o.gen == "" || o.cache == "" || o.runs < 1 {
		return nil, errors.New("want -ml, -gen, -cache and at least one run: call bench/run.sh")
	}
	for _, s := range strings.Split(o.only, ",") {
		if s != "" && !slices.Contains(strings.Split(names(), ", "), s) {
			return nil, fmt.Errorf("section %q: want some of %s", s, names())
		}
	}
	for _, p := range []*string{&o.ml, &o.gen, &o.tofu, &o.cache, &o.page} {
		if *p == "" {
			continue
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return nil, err
		}
		*p = abs
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return &bench{options: o, self: self, log: func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "measure: "+format+"\n", args...)
	}}, os.MkdirAll(o.cache, 0o755)
}

func names() string {
	var all []string
	for _, s := range sections() {
		all = append(all, s.name)
	}
	return strings.Join(all, ", ")
}
