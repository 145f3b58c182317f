package main

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/all"
	"github.com/continuo-ml/continuo/resource"
)

func providersPage() (string, error) {
	var b strings.Builder
	b.WriteString("# Providers\n\nA block is served by the provider that it names (`provider = \"local\"`), else by the first of `ml { default_provider }` that serves its kind, else by `local`.\n")
	defs := all.Definitions()
	slices.SortFunc(defs, func(a, b providers.Definition) int { return strings.Compare(a.Name, b.Name) })
	for _, d := range defs {
		kinds := make([]string, len(d.Kinds))
		for i, k := range slices.Sorted(slices.Values(d.Kinds)) {
			kinds[i] = fmt.Sprintf("[%s](%s.md)", k, k)
			if slices.Contains(d.Named, k) {
				kinds[i] += " (where a block names it)"
			}
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\nServes %s.\n", d.Name, d.Doc, strings.Join(kinds, ", "))
		o := &objects{}
		if d.Config != nil {
			if err := settingsTable(&b, o, fmt.Sprintf("### `provider %q`", d.Name), d.Config); err != nil {
				return "", fmt.Errorf("provider %s: %w", d.Name, err)
			}
		}
		for _, kind := range sortedKeys(d.Nested) {
			if err := structTables(&b, o, fmt.Sprintf("### `%s` in a %s", d.Name, kind), d.Nested[kind]); err != nil {
				return "", fmt.Errorf("provider %s, %s: %w", d.Name, kind, err)
			}
		}
		o.tables(&b)
	}
	return b.String(), nil
}

// settingsTable lists a provider's own settings, which no block's inputs hold.
func settingsTable(b *strings.Builder, o *objects, heading string, v any) error {
	s, err := resource.SchemaOf(v)
	if err != nil {
		return err
	}
	fmt.Fprintf(b, "\n%s\n\n| attribute | type | default | |\n| --- | --- | --- | --- |\n", heading)
	for i := range s.Attrs {
		a := &s.Attrs[i]
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", a.Name, o.attrType(a, fieldType(reflect.TypeOf(v), a.Name)), defaultOf(a), cell(a.Doc))
	}
	return nil
}

func structTables(b *strings.Builder, o *objects, heading string, v any) error {
	s, err := resource.SchemaOf(v)
	if err != nil {
		return err
	}
	bodyTables(b, o, heading, "", s, reflect.TypeOf(v))
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
