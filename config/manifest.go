package config

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/resource"
)

// Manifest is Kubernetes objects of any kind.
type Manifest struct {
	YAML    string        `ml:"yaml" doc:"The objects, one document each, such as file(\"redis.yaml\") or templatefile(…)."`
	Objects any           `ml:"objects" doc:"The objects as values instead: one, or a list of them. A plan shows what changes by paths in here, also for yaml: objects.KIND.GROUP/NAMESPACE/NAME, without group or namespace where there is none. What a Secret holds is kept as a keyed hash and never shown."`
	WaitFor []string      `ml:"wait_for,policy" doc:"Conditions that must hold besides each object being ready as its kind is: KIND/NAME:CONDITION, such as \"Certificate/web:Ready\", with =STATUS for another status than True."`
	Force   []string      `ml:"force,policy" doc:"Fields that are taken over from another field manager: KIND/NAME:PATH, such as \"Deployment/web:spec.replicas\". A conflict about any other field is an error that names its manager."`
	Prune   bool          `ml:"prune,policy,default=true" doc:"Whether objects that are no longer listed are deleted. One that was there before the block is given back instead, as by destroy: what was applied to it goes, and it stays."`
	Timeout time.Duration `ml:"timeout,policy,default=5m" doc:"How long the objects may take to become ready."`
}

// ManifestObject names one object.
type ManifestObject struct {
	APIVersion string `ml:"api_version" doc:"Group and version, such as apps/v1."`
	Kind       string `ml:"kind" doc:"Kind."`
	Namespace  string `ml:"namespace" doc:"Namespace; \"\" for an object of the whole cluster."`
	Name       string `ml:"name" doc:"Name."`
}

// ManifestOutputs is what other blocks may use of a manifest.
type ManifestOutputs struct {
	Address string           `ml:"address" doc:"Address of the manifest."`
	Objects []ManifestObject `ml:"objects" doc:"The objects: each with api_version, kind, namespace and name."`
}

func manifestKind() Kind {
	return Kind{
		Name: "manifest", Class: resource.Object,
		Doc:  "Kubernetes objects of any kind, from YAML: applied, compared with what is there, pruned when they are no longer listed, and waited for.",
		Spec: Manifest{}, Outputs: ManifestOutputs{},
		Derive: deriveManifest, Check: checkManifest,
	}
}

// deriveManifest takes the YAML or the list apart: afterwards objects is a map by name, and yaml is null.
func deriveManifest(v cty.Value) (cty.Value, []string, []Problem) {
	attr := "objects"
	var list []part
	switch {
	case set(v, "yaml") && set(v, "objects"):
		return v, nil, []Problem{{"objects", "A manifest has yaml or objects, not both", "Remove one of them."}}
	case set(v, "yaml"):
		text, ok := known(v, "yaml")
		if !ok {
			return withObjects(v, cty.DynamicVal), nil, nil
		}
		var p *Problem
		attr = "yaml"
		if list, p = readYAML(text.AsString()); p != nil {
			return v, nil, []Problem{*p}
		}
	case set(v, "objects"):
		var whole bool
		if list, whole = listed(v.GetAttr("objects")); !whole {
			return v, nil, nil
		}
	default:
		return v, nil, []Problem{{"", "A manifest needs objects", "Add yaml = file(\"FILE.yaml\"), or objects."}}
	}
	return byName(v, attr, list)
}

// part is one object and where it stands.
type part struct {
	at    string
	value cty.Value
}

// listed takes an object, or a list of them, apart; whole is false while not all of them have a name that is known.
func listed(v cty.Value) (list []part, whole bool) {
	v, _ = v.UnmarkDeep()
	if !v.IsKnown() {
		return nil, false
	}
	var values []cty.Value
	switch {
	case v.Type().IsObjectType() || v.Type().IsMapType():
		values = []cty.Value{v}
	case v.CanIterateElements():
		values = v.AsValueSlice()
	default:
		values = []cty.Value{v} // refused below
	}
	for i, e := range values {
		id, _ := identify(e)
		if !e.IsKnown() || id.unknown {
			return nil, false
		}
		list = append(list, part{ordinal(i) + " object", e})
	}
	return list, true
}

// byName makes the map of objects. A list of kind List counts as its items.
func byName(v cty.Value, attr string, list []part) (cty.Value, []string, []Problem) {
	objects, secret := map[string]cty.Value{}, []string{}
	for len(list) > 0 {
		p := list[0]
		list = list[1:]
		if items, is := itemsOf(p); is {
			list = slices.Concat(items, list)
			continue
		}
		id, why := identify(p.value)
		if why != "" {
			return v, nil, []Problem{{attr, "This is no Kubernetes object", "The " + p.at + " " + why + "."}}
		}
		key := id.String()
		if _, dup := objects[key]; dup {
			return v, nil, []Problem{{attr, "Two objects of one name", "The " + p.at + " is " + key + ", which stands here already; remove one."}}
		}
		objects[key] = p.value
		if id.kind == "Secret" && id.group == "" {
			secret = append(secret, "objects."+key+".data", "objects."+key+".stringData")
		}
	}
	if len(objects) == 0 {
		return v, nil, []Problem{{attr, "A manifest needs objects", "It holds none. Remove the block if it is not needed."}}
	}
	return withObjects(v, cty.ObjectVal(objects)), secret, nil
}

func withObjects(v, objects cty.Value) cty.Value {
	attrs := maps.Clone(v.AsValueMap())
	attrs["yaml"], attrs["objects"] = cty.NullVal(cty.String), objects
	return cty.ObjectVal(attrs)
}

// identity is what tells Kubernetes objects apart: the version is only how one is written.
type identity struct {
	group, kind, namespace, name string
	unknown                      bool
	odd                          string // an attribute that ought to be text and is something else
}

// String is the name as kubectl writes it: Deployment.apps/web, with a namespace in between if there is one.
func (i identity) String() string {
	s := i.kind
	if i.group != "" {
		s += "." + i.group
	}
	if i.namespace != "" {
		s += "/" + i.namespace
	}
	return s + "/" + i.name
}

// identify reads an object's identity; why says what is wrong with it.
func identify(v cty.Value) (id identity, why string) {
	if v.IsNull() || !v.IsKnown() || !v.Type().IsObjectType() && !v.Type().IsMapType() {
		return id, "is no object with apiVersion, kind and metadata"
	}
	version := id.text(v, "apiVersion")
	id.kind = id.text(v, "kind")
	meta := member(v, "metadata")
	id.name, id.namespace = id.text(meta, "name"), id.text(meta, "namespace")
	id.unknown = id.unknown || meta != cty.NilVal && !meta.IsKnown()
	if id.unknown {
		return id, ""
	}
	if group, _, has := strings.Cut(version, "/"); has {
		id.group = group
	}
	switch {
	case id.odd != "":
		return id, "has a " + id.odd + " that is no text; in YAML, n, y, no, on and numbers need quotes"
	case version == "" || id.kind == "":
		return id, "has no apiVersion or no kind"
	case id.name == "" && id.text(meta, "generateName") != "":
		return id, "has generateName: each apply would make another one; give it a name"
	case id.name == "":
		return id, "(" + id.kind + ") has no metadata.name"
	case strings.ContainsAny(id.kind+id.group+id.name+id.namespace, "/ \n\t"):
		return id, "has a name that cannot be one: " + id.String()
	}
	return id, ""
}

func (i *identity) text(v cty.Value, name string) string {
	a := member(v, name)
	if a == cty.NilVal {
		return ""
	}
	if !a.IsKnown() {
		i.unknown = true
		return ""
	}
	if a.IsNull() {
		return ""
	}
	if a.Type() != cty.String {
		i.odd = name
		return ""
	}
	return a.AsString()
}

// member is an attribute of an object or map, or NilVal.
func member(v cty.Value, name string) cty.Value {
	switch {
	case v == cty.NilVal || v.IsNull() || !v.IsKnown():
	case v.Type().IsObjectType() && v.Type().HasAttribute(name):
		return v.GetAttr(name)
	case v.Type().IsMapType() && v.HasIndex(cty.StringVal(name)).True():
		return v.Index(cty.StringVal(name))
	}
	return cty.NilVal
}

// itemsOf takes kubectl's lists apart.
func itemsOf(p part) ([]part, bool) {
	kind, items := member(p.value, "kind"), member(p.value, "items")
	if kind == cty.NilVal || items == cty.NilVal || kind.Type() != cty.String || !kind.IsKnown() || kind.IsNull() || !strings.HasSuffix(kind.AsString(), "List") || !items.CanIterateElements() {
		return nil, false
	}
	var out []part
	for i, e := range items.AsValueSlice() {
		out = append(out, part{ordinal(i) + " item of the " + p.at, e})
	}
	return out, true
}

// target names a field or condition of objects: KIND.GROUP/NAMESPACE/NAME:WHAT, group and namespace if need be.
var target = regexp.MustCompile(`^[A-Z][A-Za-z0-9]*(\.[a-z0-9.-]+)?(/[^/:\s]+){1,2}:[^\s:]+$`)

func checkManifest(v cty.Value) []Problem {
	for _, pair := range [][2]string{{"wait_for", "Certificate/web:Ready"}, {"force", "Deployment/web:spec.replicas"}} {
		attr, example := pair[0], pair[1]
		l, ok := known(v, attr)
		if !ok {
			continue
		}
		for _, e := range l.AsValueSlice() {
			if e.IsKnown() && (e.IsNull() || !target.MatchString(e.AsString())) {
				return []Problem{{attr, "This names nothing of an object", "Write the object and what of it, such as \"" + example + "\"."}}
			}
		}
	}
	return nil
}
