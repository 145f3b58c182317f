// Command mutate breaks the program in small, kept ways and wants a test to
// notice each: a guard that no test misses when it is gone is not guarded.
//
// A [mutation] replaces one piece of text in one file and names the tests that
// must fail for it. The replacement stands in an overlay of the go command, so
// the working tree is never touched. A mutation whose text is not found exactly
// once, that does not compile, or whose tests fail without it or do not exist is
// a mistake in the list and ends the program as a survivor does: with 1.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"
)

// mutation is one way to break the program.
type mutation struct {
	Name string
	// File is relative to the module's root; Old stands in it exactly once.
	File, Old, New string
	// Package holds the tests, such as ./engine; Test is for go test's -run.
	Package, Test string
}

// outcome is how a mutation ended.
type outcome string

const (
	killed   outcome = "killed"   // a test failed, as it should
	survived outcome = "SURVIVED" // the tests passed
	mistake  outcome = "MISTAKE"  // in the list
)

func main() {
	list := flag.Bool("list", false, "only list the mutations")
	only := flag.String("only", "", "only mutations whose name contains this")
	timeout := flag.Duration("timeout", 3*time.Minute, "longest that the tests of one mutation may take")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, *list, *only, *timeout)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, list bool, only string, timeout time.Duration) int {
	chosen := choose(mutations(), only)
	if list {
		for _, m := range chosen {
			fmt.Printf("%-52s %-36s %s %s\n", m.Name, m.File, m.Package, m.Test)
		}
		return 0
	}
	if len(chosen) == 0 {
		fmt.Fprintf(os.Stderr, "no mutation has %q in its name; -list shows them\n", only)
		return 1
	}
	dir, err := os.MkdirTemp("", "mutate-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	r := &runner{dir: dir, timeout: timeout, sound: map[string]error{}}
	count := map[outcome]int{}
	for _, m := range chosen {
		began := time.Now()
		got, why := r.try(ctx, m)
		if ctx.Err() != nil {
			break
		}
		count[got]++
		fmt.Printf("%-9s %-52s %5.1fs  %s\n", got, m.Name, time.Since(began).Seconds(), why)
	}
	fmt.Printf("\n%d mutations: %d killed, %d survived, %d mistakes in the list\n", len(chosen), count[killed], count[survived], count[mistake])
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if ctx.Err() != nil || count[killed] != len(chosen) {
		return 1
	}
	return 0
}

func choose(all []mutation, only string) []mutation {
	var out []mutation
	for _, m := range all {
		if strings.Contains(m.Name, only) {
			out = append(out, m)
		}
	}
	return out
}
