package engine

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
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
	secrets, known := s.e.secretsOf(a, s.now.snapshot())
	if !known {
		return func(string) string { return planner.MaskText }
	}
	return replacing(secrets)
}

// hidingLog is hiding for a log, which people read of blocks that no file declares
// any more, too: as it is, if nothing sensitive was recorded of the block.
func (e *Engine) hidingLog(a resource.Address, snap *state.Snapshot) func(string) string {
	secrets, known := e.secretsOf(a, snap)
	switch {
	case known:
		return replacing(secrets)
	case Secretive(snap, a):
		return func(string) string { return planner.MaskText }
	}
	return func(text string) string { return text }
}

// Secretive says whether sensitive values are recorded of a block, as keyed
// hashes, so that what its command prints may hold them.
func Secretive(snap *state.Snapshot, a resource.Address) bool {
	hashed := []byte(`"hash:`)
	if rec := snap.Records[a]; rec != nil && bytes.Contains(rec.Spec, hashed) {
		return true
	}
	for _, in := range snap.Intents {
		if in.Address == a && bytes.Contains(in.Spec, hashed) {
			return true
		}
	}
	return false
}

// hidingWriter takes sensitive values out of what passes through it, line by line.
type hidingWriter struct {
	to   io.Writer
	hide func(string) string
	rest []byte // of a line that is not whole yet
}

// maxUnbroken is how much of a line is kept back while its end has not come.
const maxUnbroken = 1 << 20

// Write implements io.Writer.
func (h *hidingWriter) Write(p []byte) (int, error) {
	h.rest = append(h.rest, p...)
	end := bytes.LastIndexByte(h.rest, '\n') + 1
	if end == 0 && len(h.rest) > maxUnbroken {
		end = len(h.rest)
	}
	if end == 0 {
		return len(p), nil
	}
	for line := range bytes.Lines(h.rest[:end]) {
		text, ended := strings.CutSuffix(string(line), "\n")
		if text = h.hide(text); ended {
			text += "\n"
		}
		if _, err := io.WriteString(h.to, text); err != nil {
			return 0, err
		}
	}
	h.rest = append(h.rest[:0:0], h.rest[end:]...)
	return len(p), nil
}

// flush writes a last line that has no end.
func (h *hidingWriter) flush() error {
	if len(h.rest) == 0 {
		return nil
	}
	_, err := io.WriteString(h.to, h.hide(string(h.rest)))
	h.rest = nil
	return err
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
func (e *Engine) secretsOf(a resource.Address, snap *state.Snapshot) (secrets []string, known bool) {
	blk := e.Project.Block(a)
	if blk == nil {
		return nil, false
	}
	ev, diags := e.Project.Eval(blk, recorded{project: e.Project, snap: snap})
	tree, err := resource.ToGo(ev.Value)
	if err != nil || diags.HasErrors() {
		return nil, false
	}
	for path := range ev.Sensitive {
		plain := index.ReplaceAllString(path, "")
		eachLeaf(tree, "", func(at, text string) {
			if len(text) >= leastSecret && (at == plain || strings.HasPrefix(at, plain+".")) {
				secrets = append(secrets, text)
				secrets = append(secrets, linesOf(text)...)
			}
		})
	}
	return secrets, true
}

// linesOf are the lines of a secret that has several: what is printed is looked at line by line.
func linesOf(secret string) []string {
	if !strings.Contains(secret, "\n") {
		return nil
	}
	return slices.DeleteFunc(strings.Split(secret, "\n"), func(l string) bool { return len(strings.TrimSpace(l)) < 2*leastSecret })
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
