package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var unknownWord = regexp.MustCompile(`^unknown command "(.*)" for`)

// unknownCommand says in one line which command may have been meant.
func unknownCommand(root *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	m := unknownWord.FindStringSubmatch(err.Error())
	if m == nil {
		return err
	}
	if near := root.SuggestionsFor(m[1]); len(near) > 0 {
		return fmt.Errorf("there is no command %q; did you mean ml %s?", m[1], near[0])
	}
	return fmt.Errorf("there is no command %q; ml help lists them", m[1])
}

// flagError says what a flag takes, in the words of its user rather than of the
// package that parses it.
func flagError(c *cobra.Command, err error) error {
	text := err.Error()
	var bad *pflag.InvalidValueError
	if errors.As(err, &bad) {
		want := bad.Unwrap().Error()
		switch bad.GetFlag().Value.Type() {
		case "int":
			want = "write a whole number"
		case "duration":
			want = "write a time such as 30s or 5m"
		case "bool":
			want = "write true or false"
		}
		text = fmt.Sprintf("-%s %s: %s", bad.GetFlag().Name, bad.GetValue(), want)
	}
	return fmt.Errorf("%s; %s -help lists the flags", text, c.CommandPath())
}

// noJSON are the commands whose output has one form only, and what has the facts.
var noJSON = map[string]string{
	"ml explain": "ml plan -json has every reason", "ml graph": "ml plan -json has what each step needs",
	"ml logs": "a log is text", "ml fmt": "it names the files that change, one a line", "ml init": "it names the files that it writes",
	"ml ci init": "it writes one file", "ml comment": "ml plan -json has the plan", "ml completion": "it prints a script",
}

// refuseJSON keeps a script from reading text where it asked for JSON.
func (a *app) refuseJSON(c *cobra.Command, _ []string) error {
	if why, ok := noJSON[c.CommandPath()]; ok && a.json {
		return fmt.Errorf("%s has no -json: %s", c.CommandPath(), why)
	}
	return nil
}

// plainUsage makes every command say how it is used when its arguments are wrong.
func plainUsage(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(c *cobra.Command, args []string) error {
			if check(c, args) == nil {
				return nil
			}
			return fmt.Errorf("wrong arguments; write %s; %s -help says more", strings.TrimSuffix(c.UseLine(), " [flags]"), c.CommandPath())
		}
	}
	for _, sub := range cmd.Commands() {
		plainUsage(sub)
	}
}
