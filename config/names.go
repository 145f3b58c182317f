package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"sort"
	"strings"

	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/continuo-ml/continuo/resource"
)

// collisions finds names of one kind that are equal once `_` and `-` are: they
// would share files and cluster objects.
func (d *declarer) collisions() {
	seen := map[string]*declaration{}
	for _, decl := range d.cfg.order {
		key := decl.kind.Name + "." + strings.ReplaceAll(decl.name, "_", "-")
		if first, dup := seen[key]; dup {
			d.add(errAt(decl.rng, "Names too alike", "%q and %q, at %s, differ by _ and - only, and objects outside would share a name; rename one.", decl.name, first.name, first.rng))
			continue
		}
		seen[key] = decl
	}
}

// digest covers every configuration file and every variable's value.
func (l *loader) digest() resource.Digest {
	h := sha256.New()
	sort.Slice(l.sources, func(i, j int) bool { return l.sources[i].Name < l.sources[j].Name })
	for _, s := range l.sources {
		sum := sha256.Sum256(s.Data)
		writeLine(h, "file", s.Name, hex.EncodeToString(sum[:]))
	}
	root := l.modules["."]
	for _, name := range sortedKeys(root.vars) {
		v, _ := l.ev.root.vars[name].value.UnmarkDeep()
		text := fmt.Sprintf("%#v", v)
		if b, err := ctyjson.Marshal(v, cty.DynamicPseudoType); err == nil {
			text = string(b)
		}
		if root.vars[name].sensitive {
			text = l.hash(text)
		}
		writeLine(h, "var", name, text)
	}
	return resource.Digest("sha256:" + hex.EncodeToString(h.Sum(nil)))
}

// hash hides a sensitive value behind the caller's keyed hash; without one its
// change is not seen, which is better than a digest that could be searched.
func (l *loader) hash(text string) string {
	if l.opts.Hash == nil {
		return "(sensitive)"
	}
	return l.opts.Hash(text)
}

func writeLine(h hash.Hash, parts ...string) {
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s ", len(p), p)
	}
	fmt.Fprintln(h)
}
