package main

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/providers/all"
	"github.com/continuo-ml/continuo/resource"
)

// roleWords say what moving an attribute does.
var roleWords = map[resource.Role]string{
	resource.RoleInput:  "runs it again",
	resource.RolePolicy: "noted, runs nothing",
	resource.RoleJudge:  "judges again without running",
	resource.RoleSpec:   "updates it",
}

func kindPage(k *config.Kind) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s\n\n", k.Name, k.Doc)
	fmt.Fprintf(&b, "%s Served by: %s.\n", classWords(k), strings.Join(servedBy(k.Name), ", "))
	o := &objects{}
	bodyTables(&b, o, "## Attributes", "", k.Body(), reflect.TypeOf(k.Spec))
	fmt.Fprintf(&b, "\nEvery block also takes the [meta-arguments](language.md#meta-arguments).\n")
	fmt.Fprintf(&b, "\n## Outputs\n\nWhat other blocks may use, as `%s.NAME.OUTPUT`.\n\n| output | type | |\n| --- | --- | --- |\n", k.Name)
	for _, a := range k.OutputSchema().Attrs {
		doc := a.Doc
		if a.Hold {
			doc += " Keeps its last good value while the verdict is bad."
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", a.Name, o.name(fieldType(reflect.TypeOf(k.Outputs), a.Name)), cell(doc))
	}
	o.tables(&b)
	return b.String()
}

func classWords(k *config.Kind) string {
	if k.Class == resource.Run {
		return "A *run*: executed when its inputs moved."
	}
	return "An *object*: created, updated, replaced and deleted."
}

func servedBy(kind string) []string {
	var names []string
	for _, d := range all.Definitions() {
		if slices.Contains(d.Kinds, kind) {
			names = append(names, "`"+d.Name+"`")
		}
	}
	slices.Sort(names)
	if len(names) == 0 {
		return []string{"no provider yet"}
	}
	return names
}

// bodyTables writes the attributes of a body and, each under its own heading,
// those of its nested blocks.
func bodyTables(b *strings.Builder, o *objects, heading, path string, s *resource.Schema, t reflect.Type) {
	fmt.Fprintf(b, "\n%s\n\n", heading)
	if len(s.Attrs) > 0 {
		b.WriteString("| attribute | type | default | moving it | |\n| --- | --- | --- | --- | --- |\n")
	}
	for i := range s.Attrs {
		a := &s.Attrs[i]
		fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s |\n", a.Name, o.attrType(a, fieldType(t, a.Name)), defaultOf(a), moving(a), cell(a.Doc))
	}
	for i := range s.Blocks {
		blk := &s.Blocks[i]
		full := strings.TrimPrefix(path+"."+blk.Name, ".")
		bodyTables(b, o, "### "+usage(full, blk), full, blk.Schema, blockType(t, blk.Name))
	}
}

// usage renders a nested block's heading: `threshold "METRIC" { … }`.
func usage(full string, blk *resource.Block) string {
	text := full
	if blk.Label != "" {
		text += " \"" + strings.ToUpper(blk.Label) + "\""
	}
	text = "`" + text + "`"
	switch {
	case blk.Needed && blk.Many:
		text += " (at least one)"
	case blk.Needed:
		text += " (needed)"
	case blk.Many:
		text += " (any number)"
	}
	return text + "\n\n" + blk.Doc
}

func moving(a *resource.Attr) string {
	switch {
	case a.Feedback:
		return "read from the record"
	case a.Follow:
		return "read as it is each time; another address updates it"
	case a.Immutable:
		return "replaces it"
	}
	return roleWords[a.Role]
}

func defaultOf(a *resource.Attr) string {
	if a.Required {
		return "**required**"
	}
	v, err := resource.ToGo(a.Default)
	if err != nil || v == nil {
		return ""
	}
	return fmt.Sprintf("`%v`", v)
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
