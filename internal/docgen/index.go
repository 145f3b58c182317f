package main

import (
	"fmt"
	"strings"

	"github.com/continuo-ml/continuo/config"
)

func indexPage(kinds config.Kinds) string {
	var b strings.Builder
	b.WriteString("# Reference\n\n| kind | |\n| --- | --- |\n")
	for _, name := range kinds.Names() {
		first, _, _ := strings.Cut(kinds[name].Doc, ". ")
		fmt.Fprintf(&b, "| [%s](%s.md) | %s |\n", name, name, strings.TrimSuffix(first, ".")+".")
	}
	b.WriteString(`
| page | |
| --- | --- |
| [language](language.md) | Files, variables, references, meta-arguments, modules. |
| [commands](commands.md) | Every command and flag. |
| [plan](plan.md) | The plan's JSON, its actions and reason codes. |
| [JSON output](schemas/README.md) | A JSON Schema for each ` + "`-json`" + ` document. |
| [runner contract](runner-contract.md) | What a command finds when it runs, and what it must write. |
| [providers](providers.md) | Where blocks run. |
| [limits](limits.md) | What every entry point keeps. |
| [bad inputs](bad-inputs.md) | Hostile and broken inputs, each with its test. |
`)
	return b.String()
}
