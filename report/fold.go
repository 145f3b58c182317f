package report

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/resource"
)

// family is the instances of one block to which the same happens for the same
// reasons.
type family struct {
	members int
	shown   int
	limit   int // shown at most
	first   block
}

// fold renders the steps, and of many equal instances of one block only the
// first few, with a line that counts the rest.
func (v *view) fold() []block {
	families := map[string]*family{}
	of := make([]*family, len(v.p.Steps))
	for i, st := range v.p.Steps {
		if v.s.Verbose || st.Address.Key == "" {
			continue
		}
		key := familyKey(st)
		if families[key] == nil {
			families[key] = &family{limit: foldSame}
		}
		of[i] = families[key]
		of[i].members++
	}
	blocks := make([]block, 0, min(len(v.p.Steps), 1000))
	for i, st := range v.p.Steps {
		f := of[i]
		if f == nil || f.members == 1 {
			blocks = append(blocks, v.blockOf(st))
			continue
		}
		if b, ok := v.member(f, st); ok {
			blocks = append(blocks, b)
		}
	}
	return blocks
}

// member renders one instance: the first whole, equal ones as a headline, and
// after the last that there is room for the count of those that follow.
func (v *view) member(f *family, st *planner.Step) (block, bool) {
	switch {
	case f.shown > f.limit:
		return block{}, false
	case f.shown == f.limit:
		f.shown++
		return v.rest(st, f.members-f.limit), true
	}
	b := v.blockOf(st)
	f.shown++
	if f.shown == 1 {
		f.first = b
		return b, true
	}
	if !reflect.DeepEqual(b.rows, f.first.rows) {
		if f.members > foldSame {
			f.limit = min(f.limit, max(f.shown, foldSimilar))
		}
		return b, true
	}
	if len(b.rows) > 0 {
		b.rows, b.like = nil, f.first.address
		b.phrase = append(b.phrase[:1:1], span{", like " + f.first.address, Faint})
	}
	return b, true
}

func (v *view) rest(st *planner.Step, n int) block {
	sign, tone := v.s.symbol(st.Action)
	return block{sign: sign, tone: tone, address: fmt.Sprintf("%s more %s[…] like these", Count(n), st.Address.Block()), step: st, more: n}
}

func familyKey(st *planner.Step) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s|%s|%s|", st.Address.Block(), st.Action, st.Provider)
	for _, r := range st.Reasons {
		b.WriteString(string(r.Code) + " " + r.Path + "|")
	}
	for _, c := range st.Changes {
		b.WriteString(c.Path + "|")
	}
	if st.Action == resource.Move && st.From != nil {
		b.WriteString(st.From.Block().String())
	}
	return b.String()
}
