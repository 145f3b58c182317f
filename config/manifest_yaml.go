package config

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"
	"sigs.k8s.io/yaml"

	"github.com/continuo-ml/continuo/config/internal/funcs"
)

// maxDocuments bounds the objects of one manifest.
const maxDocuments = 2000

// document is one part of a YAML stream.
type document struct {
	text string
	line int // of its first line, from 1
}

// documents splits a stream. A marker stands at the beginning of a line and nowhere else, also inside of quotes and blocks
// (YAML 1.2, 9.1.4).
func documents(text string) []document {
	out := []document{{line: 1}}
	n := 0
	for line := range strings.Lines(text) {
		n++
		last := &out[len(out)-1]
		marker := strings.TrimRight(line, "\r\n")
		switch {
		case marker == "---" || strings.HasPrefix(marker, "--- ") || strings.HasPrefix(marker, "---\t"):
			rest := line[3:] // a document may begin behind its marker
			out = append(out, document{text: rest, line: n})
		case marker == "...":
			out = append(out, document{line: n + 1})
		default:
			last.text += line
		}
	}
	return out
}

// readYAML reads a stream as Kubernetes reads it: 0644 is octal, yes is true, and no key may stand twice.
func readYAML(text string) ([]part, *Problem) {
	var list []part
	for _, d := range documents(text) {
		if err := funcs.CheckYAML(d.text); err != nil {
			return nil, &Problem{"yaml", "This YAML cannot be read", fmt.Sprintf("The document at line %d: %s.", d.line, sentence(err))}
		}
		raw, err := yaml.YAMLToJSONStrict([]byte(d.text))
		if err != nil {
			return nil, &Problem{"yaml", "This YAML cannot be read", yamlCause(err, d.line) + "."}
		}
		if string(raw) == "null" {
			continue
		}
		v, err := fromJSON(raw)
		if err != nil {
			return nil, &Problem{"yaml", "This YAML cannot be read", fmt.Sprintf("The document at line %d: %s.", d.line, sentence(err))}
		}
		list = append(list, part{fmt.Sprintf("document at line %d", d.line), v})
		if len(list) > maxDocuments {
			return nil, &Problem{"yaml", "Too many objects", fmt.Sprintf("One manifest holds at most %d; make several of it.", maxDocuments)}
		}
	}
	return list, nil
}

func fromJSON(raw []byte) (cty.Value, error) {
	t, err := ctyjson.ImpliedType(raw)
	if err != nil {
		return cty.NilVal, err
	}
	return ctyjson.Unmarshal(raw, t)
}

var yamlLine = regexp.MustCompile(`line (\d+)`)

// yamlCause is a parser's error with lines as they are in the whole stream.
func yamlCause(err error, first int) string {
	text := strings.TrimPrefix(sentence(err), "error converting YAML to JSON: ")
	text = strings.TrimPrefix(text, "yaml: ")
	text = strings.Join(strings.Fields(strings.TrimPrefix(text, "unmarshal errors:")), " ")
	if !yamlLine.MatchString(text) {
		return fmt.Sprintf("The document at line %d: %s", first, text)
	}
	text = yamlLine.ReplaceAllStringFunc(text, func(m string) string {
		n, err := strconv.Atoi(strings.TrimPrefix(m, "line "))
		if err != nil {
			return m
		}
		return "line " + strconv.Itoa(n+first-1)
	})
	return strings.ToUpper(text[:1]) + text[1:]
}

// ordinal is a place in a list, from 0, in words.
func ordinal(i int) string {
	n := i + 1
	end := "th"
	if n%100 < 11 || n%100 > 13 {
		switch n % 10 {
		case 1:
			end = "st"
		case 2:
			end = "nd"
		case 3:
			end = "rd"
		}
	}
	return strconv.Itoa(n) + end
}
