package engine

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
)

// lastLines shows what a run that failed said last. It is for the screen only:
// no record keeps what a command prints.
func (s *Session) lastLines(a resource.Address, err error) {
	var failed *providers.RunError
	if !errors.As(err, &failed) || len(failed.Log) == 0 {
		return
	}
	hide := s.hiding(a)
	for _, l := range failed.Log {
		s.e.emit(resource.Event{Type: resource.EventLog, Address: a.String(), Message: hide(l)})
	}
}

// hideIn takes sensitive values out of a bad verdict, which may quote what the
// command printed.
func (s *Session) hideIn(a resource.Address, v *resource.Verdict) {
	if !v.Bad() {
		return
	}
	hide := s.hiding(a)
	v.Message = hide(v.Message)
	for i := range v.Findings {
		v.Findings[i].Message = hide(v.Findings[i].Message)
	}
}

// leastSecret is the length from which a sensitive value is looked for in what a
// command printed: a shorter one would take digits and letters out of every line.
const leastSecret = 4

// hiding returns what takes the sensitive values of a block out of a text. Where
// they cannot be told, nothing of the text is left.
func (s *Session) hiding(a resource.Address) func(string) string {
	secrets, known := s.secretsOf(a)
	if !known {
		return func(string) string { return planner.MaskText }
	}
	return replacing(secrets)
}

func replacing(secrets []string) func(string) string {
	// The longest first: one may begin like another.
	slices.SortFunc(secrets, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	var pairs []string
	for _, t := range secrets {
		pairs = append(pairs, t, planner.MaskText)
	}
	return strings.NewReplacer(pairs...).Replace
}

// secretsOf are the texts of a block's sensitive values, as the files have them
// now. Of a block that no file declares any more they are not known.
func (s *Session) secretsOf(a resource.Address) (secrets []string, known bool) {
	blk := s.e.Project.Block(a)
	if blk == nil {
		return nil, false
	}
	ev, diags := s.e.Project.Eval(blk, recorded{project: s.e.Project, snap: s.now.snapshot()})
	tree, err := resource.ToGo(ev.Value)
	if err != nil || diags.HasErrors() {
		return nil, false
	}
	for path := range ev.Sensitive {
		plain := index.ReplaceAllString(path, "")
		eachLeaf(tree, "", func(at, text string) {
			if len(text) >= leastSecret && (at == plain || strings.HasPrefix(at, plain+".")) {
				secrets = append(secrets, text)
			}
		})
	}
	return secrets, true
}

var index = regexp.MustCompile(`\[[^\]]*\]`)

// eachLeaf calls do with the path, without indices, and the text of every value.
func eachLeaf(v any, at string, do func(at, text string)) {
	switch v := v.(type) {
	case nil:
	case map[string]any:
		for k, e := range v {
			eachLeaf(e, strings.TrimPrefix(at+"."+k, "."), do)
		}
	case []any:
		for _, e := range v {
			eachLeaf(e, at, do)
		}
	default:
		do(at, fmt.Sprint(v))
	}
}
