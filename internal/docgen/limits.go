package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/gateway/capture"
	"github.com/continuo-ml/continuo/internal/runner"
	"github.com/continuo-ml/continuo/resource"
)

// limit is one row: the constant's name, for the test that none is missing, and
// what it bounds.
type limit struct{ constant, text, value string }

func languageLimits() []limit {
	return []limit{
		{"MaxFileBytes", "size of one file", size(config.MaxFileBytes)},
		{"MaxFileTokens", "tokens of one file", count(config.MaxFileTokens)},
		{"MaxProjectBytes", "size of all files of a project", size(config.MaxProjectBytes)},
		{"MaxDepth", "depth of brackets, blocks and templates", count(config.MaxDepth)},
		{"MaxPrefixRun", "prefix operators (`!`, `-`) in a row", count(config.MaxPrefixRun)},
		{"MaxChain", "operators and operands in a row", count(config.MaxChain)},
		{"MaxExponent", "exponent of ten of a number literal", count(config.MaxExponent)},
		{"MaxValueBytes", "size of any one value", size(config.MaxValueBytes)},
		{"MaxInstances", "instances of one block by `count` or `for_each`", count(config.MaxInstances)},
		{"MaxModuleDepth", "depth of modules in modules", count(config.MaxModuleDepth)},
		{"MaxEvalTime", "time of an evaluation that may be costly", config.MaxEvalTime.String()},
		{"MaxEvalBytes", "memory of an evaluation that may be costly", size(config.MaxEvalBytes)},
		{"MaxDuration", "any duration", fmt.Sprintf("%d days", int(resource.MaxDuration.Hours()/24))},
	}
}

func otherLimits() []limit {
	return []limit{
		{"DefaultLogLimit", "log of one run; beyond it the middle is cut out", size(runner.DefaultLogLimit)},
		{"MaxLog", "log of one server; beyond it the last MiB is kept beside it", size(gateway.MaxLog)},
		{"MaxReplicas", "servers of one local deployment", count(gateway.MaxReplicas)},
		{"DefaultMaxRequest", "body of one request to a deployment; a longer one gets 413", size(gateway.DefaultMaxRequest)},
		{"DefaultMaxInFlight", "requests in flight at one deployment; more get 503", count(gateway.DefaultMaxInFlight)},
		{"DefaultMaxBody", "what is captured of one request or answer", size(capture.DefaultMaxBody)},
		{"OwedFactor", "answers on the disk that a sink has not taken; beyond it requests get 503", fmt.Sprintf("%d × `capture.max_mb`", capture.OwedFactor)},
	}
}

func limitsPage(root string) (string, error) {
	var b strings.Builder
	b.WriteString("# Limits\n\nBeyond a limit there is an error that names the place, never a crash or a machine out of memory.\n\n## Files\n\n| what | at most |\n| --- | --- |\n")
	for _, l := range languageLimits() {
		fmt.Fprintf(&b, "| %s | %s |\n", l.text, l.value)
	}
	b.WriteString("\n## Data\n\n| what | at most |\n| --- | --- |\n")
	rows, err := dataLimits(root)
	if err != nil {
		return "", err
	}
	for _, l := range rows {
		fmt.Fprintf(&b, "| %s | %s |\n", l.text, l.value)
	}
	b.WriteString("\n## Runs and servers\n\n| what | at most |\n| --- | --- |\n")
	for _, l := range otherLimits() {
		fmt.Fprintf(&b, "| %s | %s |\n", l.text, l.value)
	}
	return b.String(), nil
}

// dataLimits reads the comments of tabular.Limits, which say what each field
// bounds and its default: "encoded bytes of one row; default 16 MiB".
func dataLimits(root string) ([]limit, error) {
	file := filepath.Join(root, "internal", "tabular", "schema.go")
	src, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	if err != nil {
		return nil, fmt.Errorf("read the limits of data: %w", err)
	}
	var rows []limit
	ast.Inspect(src, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok || spec.Name.Name != "Limits" {
			return true
		}
		st, ok := spec.Type.(*ast.StructType)
		if !ok {
			return false
		}
		for _, f := range st.Fields.List {
			text, def, ok := strings.Cut(strings.TrimSpace(f.Comment.Text()), "; default ")
			if !ok {
				err = fmt.Errorf("%s: the comment of Limits.%s says no default", file, f.Names[0].Name)
				return false
			}
			def, _, _ = strings.Cut(def, ", at most ") // how far a caller in Go may raise it
			rows = append(rows, limit{f.Names[0].Name, text, def})
		}
		return false
	})
	if err == nil && len(rows) == 0 {
		err = fmt.Errorf("%s: found no limits", file)
	}
	return rows, err
}

func size(n int) string {
	switch {
	case n%(1<<30) == 0:
		return fmt.Sprintf("%d GiB", n>>30)
	case n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return count(n) + " bytes"
}

// count renders a number with commas between its thousands.
func count(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
