package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
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

// contents are the digests of every configuration file and every variable's
// value, by "NAME" and "var.NAME"; those of sensitive ones are keyed.
func (l *loader) contents() map[string]resource.Digest {
	out := make(map[string]resource.Digest, len(l.sources))
	for _, s := range l.sources {
		out[s.Name] = resource.DigestOf(s.Data)
	}
	root := l.modules["."]
	for name, decl := range root.vars {
		v, _ := l.ev.root.vars[name].value.UnmarkDeep()
		text := fmt.Sprintf("%#v", v)
		if b, err := ctyjson.Marshal(v, cty.DynamicPseudoType); err == nil {
			text = string(b)
		}
		if decl.sensitive {
			text = l.hash(text)
		}
		out["var."+name] = resource.DigestOf([]byte(text))
	}
	return out
}

// digestOf is one digest of all contents.
func digestOf(contents map[string]resource.Digest) resource.Digest {
	h := sha256.New()
	for _, name := range sortedKeys(contents) {
		fmt.Fprintf(h, "%d:%s %s\n", len(name), name, contents[name])
	}
	return resource.Digest("sha256:" + hex.EncodeToString(h.Sum(nil)))
}

// MovedSince lists the files and variables ("var.NAME") whose content differs from
// an earlier one, sorted.
func (p *Project) MovedSince(before map[string]resource.Digest) []string {
	moved := map[string]bool{}
	for name, d := range before {
		moved[name] = p.Contents[name] != d
	}
	for name := range p.Contents {
		_, was := before[name]
		moved[name] = moved[name] || !was
	}
	return slices.DeleteFunc(sortedKeys(moved), func(n string) bool { return !moved[n] })
}

// hash hides a sensitive value behind the caller's keyed hash; without one its
// change is not seen, which is better than a digest that could be searched.
func (l *loader) hash(text string) string {
	if l.opts.Hash == nil {
		return "(sensitive)"
	}
	return l.opts.Hash(text)
}
