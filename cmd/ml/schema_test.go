package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

const schemaDir = "../../docs/reference/schemas"

// schemaSet are the published schemas, made strict: what they do not name, the
// program must not print. Readers get them as they are, open for later fields.
type schemaSet struct {
	byName map[string]*jsonschema.Schema
	mu     sync.Mutex
	used   map[string]bool
}

func publishedSchemas(t *testing.T) *schemaSet {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(schemaDir, "*.json"))
	if err != nil || len(paths) < 15 {
		t.Fatalf("found %d schemas, %v", len(paths), err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	for _, p := range paths {
		f, err := os.Open(p)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(f)
		if err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if err := c.AddResource("file:///"+filepath.Base(p), strict(doc)); err != nil {
			t.Fatal(err)
		}
	}
	s := &schemaSet{byName: map[string]*jsonschema.Schema{}, used: map[string]bool{}}
	for _, p := range paths {
		name := strings.TrimSuffix(filepath.Base(p), ".json")
		if s.byName[name], err = c.Compile("file:///" + filepath.Base(p)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// strict closes every object whose fields are named.
func strict(v any) any {
	switch x := v.(type) {
	case map[string]any:
		if _, named := x["properties"].(map[string]any); named && x["type"] == "object" {
			x["additionalProperties"] = false
		}
		for k, e := range x {
			x[k] = strict(e)
		}
	case []any:
		for i, e := range x {
			x[i] = strict(e)
		}
	}
	return v
}

// check is `schema NAME FILE`: the file holds one document of that schema, or
// for NAME event one on each line. With `!` it holds none.
func (s *schemaSet) check(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: [!] schema NAME FILE")
	}
	schema := s.byName[args[0]]
	if schema == nil {
		ts.Fatalf("there is no schema %s", args[0])
	}
	docs := []string{ts.ReadFile(args[1])}
	if args[0] == "event" {
		docs = strings.Split(strings.TrimSpace(docs[0]), "\n")
	}
	for _, text := range docs {
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err == nil {
			err = schema.Validate(doc)
		}
		if (err != nil) != neg {
			ts.Fatalf("%s: %v\n%s", args[0], err, text)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used[args[0]] = true
}

// unused fails the test for a schema that no script holds to real output.
func (s *schemaSet) unused(t *testing.T) {
	t.Helper()
	for name := range s.byName {
		if name != "common" && !s.used[name] {
			t.Errorf("no script checks what is printed against the schema %s", name)
		}
	}
}

// TestSchemasNameEveryWord holds the lists in the schemas to the plan's page,
// which is held to the constants.
func TestSchemasNameEveryWord(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(schemaDir, "common.json"))
	if err != nil {
		t.Fatal(err)
	}
	var common struct {
		Defs map[string]struct{ Enum []string } `json:"$defs"`
	}
	if err := json.Unmarshal(raw, &common); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/reference/plan.md")
	if err != nil {
		t.Fatal(err)
	}
	_, tables, _ := strings.Cut(string(page), "## Actions")
	actions, codes, _ := strings.Cut(tables, "## Reason codes")
	for name, table := range map[string]string{"action": actions, "code": codes} {
		var words []string
		for line := range strings.Lines(table) {
			if word, ok := strings.CutPrefix(line, "| `"); ok {
				words = append(words, word[:strings.Index(word, "`")])
			}
		}
		listed := common.Defs[name].Enum
		slices.Sort(words)
		slices.Sort(listed)
		if len(words) < 10 || !slices.Equal(words, listed) {
			t.Errorf("%s: the schema lists %v, the page %v", name, listed, words)
		}
	}
}

func TestEverySchemaIsInTheIndex(t *testing.T) {
	index, err := os.ReadFile(filepath.Join(schemaDir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for name := range publishedSchemas(t).byName {
		if name != "common" && !strings.Contains(string(index), "["+name+"]("+name+".json)") {
			t.Errorf("README.md does not list %s", name)
		}
	}
}
