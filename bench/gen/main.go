// Command gen writes projects of a given size for the benchmarks: the same
// count and chaining of blocks for ml and for OpenTofu, with commands that do
// next to nothing, so that what is measured is the tool.
//
// Equal arguments give equal bytes: bench/measure keys its cache of applied
// projects by them.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("gen", flag.ContinueOnError)
	tool := flags.String("tool", "ml", "whose files to write: ml or tofu")
	shape := flags.String("shape", "chains", "chains: n/4 chains of four blocks; for_each: one block over n keys")
	n := flags.Int("n", 1000, "how many blocks, or keys of the one block")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("want one argument, the folder to write: gen -tool ml -shape chains -n 1000 DIR")
	}
	files, err := project(*tool, *shape, *n)
	if err != nil {
		return err
	}
	return write(flags.Arg(0), files)
}
