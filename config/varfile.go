package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/continuo-ml/continuo/config/internal/syntax"
	"github.com/continuo-ml/continuo/internal/files"
)

// envPrefix is how variables of the environment start.
const envPrefix = "ML_VAR_"

// fromEnv says whether an input came from the environment.
func fromEnv(in VarInput) bool { return strings.HasPrefix(in.Source, envPrefix) }

// EnvVars reads the variables of an environment ("ML_VAR_name=value", as
// os.Environ lists it), sorted by name.
func EnvVars(environ []string) []VarInput {
	var out []VarInput
	for _, kv := range environ {
		rest, ok := strings.CutPrefix(kv, envPrefix)
		name, value, found := strings.Cut(rest, "=")
		if !ok || !found || name == "" {
			continue
		}
		out = append(out, VarInput{Name: name, Source: envPrefix + name, Text: &value})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// ReadVarFile reads a variables file, HCL or JSON by its name: attributes
// without references or functions, one per variable, sorted by name.
func ReadVarFile(path string) ([]VarInput, hcl.Diagnostics) {
	data, err := readRegular(path, MaxFileBytes)
	if err != nil {
		return nil, varFileError(path, err)
	}
	return parseVarFile(path, data)
}

// readRegular reads a file that the user named, anywhere on the disk.
func readRegular(path string, max int64) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("it is not a regular file")
	case info.Size() > max:
		return nil, fmt.Errorf("it is larger than %d bytes", max)
	}
	return os.ReadFile(path)
}

func varFileError(path string, err error) hcl.Diagnostics {
	return hcl.Diagnostics{&hcl.Diagnostic{Severity: hcl.DiagError, Summary: "A variables file cannot be read", Detail: fmt.Sprintf("%s: %s. Check the name given with -var-file.", path, sentence(err))}}
}

// autoVars reads the *.auto.vars.hcl files of the project folder, sorted by name.
func autoVars(index *files.Index, dir string) ([]VarInput, hcl.Diagnostics) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, varFileError(dir, err)
	}
	var out []VarInput
	var diags hcl.Diagnostics
	for _, e := range entries {
		if e.IsDir() || !strings.HasSuffix(e.Name(), ".auto.vars.hcl") && !strings.HasSuffix(e.Name(), ".auto.vars.json") {
			continue
		}
		data, err := index.ReadFile(e.Name(), MaxFileBytes)
		if err != nil {
			diags = append(diags, varFileError(e.Name(), err)...)
			continue
		}
		in, d := parseVarFile(e.Name(), data)
		out, diags = append(out, in...), append(diags, d...)
	}
	return out, diags
}

func parseVarFile(path string, data []byte) ([]VarInput, hcl.Diagnostics) {
	body, diags := varBody(path, data)
	if body == nil {
		return nil, diags
	}
	for _, b := range body.Blocks {
		diags = append(diags, errAt(b.DefRange(), "Block in a variables file", "A variables file holds values only: NAME = VALUE. Blocks belong into *.ml.hcl files."))
	}
	var out []VarInput
	for _, name := range sortedKeys(body.Attributes) {
		a := body.Attributes[name]
		v, d := a.Expr.Value(nil)
		if d.HasErrors() {
			diags = append(diags, errAt(a.Expr.Range(), "Not a plain value", "A variables file holds neither references nor functions."))
			continue
		}
		out = append(out, VarInput{Name: name, Source: filepath.ToSlash(path), Value: v, Range: a.SrcRange})
	}
	return out, diags
}

func varBody(path string, data []byte) (*hclsyntax.Body, hcl.Diagnostics) {
	if isJSON(path) {
		parsed, diags := syntax.ParseJSON(data, path, limits)
		if parsed == nil {
			return nil, diags
		}
		body, d := syntax.BodyOfJSON(parsed, &syntax.BodySchema{Any: true})
		return body, append(diags, d...)
	}
	if diags := syntax.Scan(data, path, limits); diags.HasErrors() {
		return nil, diags
	}
	f, diags := hclsyntax.ParseConfig(data, path, hcl.InitialPos)
	if f == nil {
		return nil, diags
	}
	body, ok := f.Body.(*hclsyntax.Body)
	if !ok {
		return nil, diags
	}
	return body, diags
}

// scanTemplate measures a template file against the parser's limits.
func scanTemplate(text []byte, rng hcl.Range) error {
	if d := syntax.ScanTemplate(text, rng, limits); d != nil {
		return errors.New(d.Detail)
	}
	return nil
}

// scanText measures the text of a variable against the parser's limits.
func scanText(text string) error {
	if diags := syntax.Scan([]byte(text), "", limits); diags.HasErrors() {
		return errors.New(diags[0].Detail)
	}
	return nil
}
