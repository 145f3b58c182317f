package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestEveryCommandHasAnExampleThatItTakes walks all commands: each example
// starts with the command that it is of, and its flags exist.
func TestEveryCommandHasAnExampleThatItTakes(t *testing.T) {
	seen := 0
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			walk(sub)
		}
		if !c.Runnable() || c.Name() == "help" || c.Hidden {
			return
		}
		seen++
		if !strings.Contains(c.Example, c.CommandPath()) {
			t.Errorf("%s has no example of itself: %q", c.CommandPath(), c.Example)
		}
		for line := range strings.Lines(c.Example) {
			for _, part := range strings.Split(line, "&&") {
				own, ok := strings.CutPrefix(strings.TrimSpace(part), c.CommandPath()+" ")
				if !ok {
					continue
				}
				for _, word := range strings.Fields(own) {
					if word == "|" {
						break
					}
					name, _, _ := strings.Cut(strings.TrimLeft(word, "-"), "=")
					if strings.HasPrefix(word, "-") && c.Flags().Lookup(name) == nil && c.InheritedFlags().Lookup(name) == nil && c.Flags().ShorthandLookup(name[:1]) == nil {
						t.Errorf("%s: the example %q has a flag that the command lacks", c.CommandPath(), strings.TrimSpace(part))
					}
				}
			}
		}
	}
	a := &app{}
	a.vars.bind()
	walk(a.root())
	if seen < 30 {
		t.Errorf("only %d commands were looked at", seen)
	}
}
