package config

import (
	"fmt"
	"sort"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/resource"
)

// Kind says all that the language, the planner and the engine need to know of
// one kind of block. Nothing outside this package's kind files branches on a
// kind's name.
type Kind struct {
	Name  string
	Class resource.Class
	// Doc opens the kind's page in docs/reference: what it is, in a sentence or two.
	Doc string
	// Spec and Outputs are zero structs; their tags are the schema of the body
	// and of what other blocks may use.
	Spec, Outputs any
	// Probes name the content digests that a provider reads at plan time:
	// "content" of a dataset's source, "code" of a command's sources.
	Probes []string
	// ProbeCodes are the reason codes for a moved probe.
	ProbeCodes map[string]resource.Code
	// Plan returns the outputs that are known before the step ran. Attributes
	// that it leaves out are unknown until then. prior is null for a new block.
	Plan func(spec cty.Value, probes map[string]string, prior cty.Value) map[string]cty.Value
	// Derive gives a decoded body the form in which it is planned, stored and applied
	// (a manifest's YAML as its objects), and lists the paths in it that are secret by
	// what they are. nil for kinds whose body is as written. It must cope with
	// unknown values.
	Derive func(spec cty.Value) (value cty.Value, secret []string, problems []Problem)
	// Check finds what the schema alone cannot: values that contradict each
	// other. It must cope with unknown values.
	Check func(spec cty.Value) []Problem
	// Triggers reads what may ask for a fresh run from a known `retrain` block;
	// nil for kinds without one.
	Triggers func(spec cty.Value) (resource.Triggers, error)
	// Gate renders what must hold for a judging block to open, one condition
	// each, as people read it: "recall ≥ 0.93". nil for kinds that are no gate.
	Gate func(spec cty.Value) []string
	// Retries is the number of further attempts after an errored run; nil = 0.
	Retries func(spec cty.Value) int
	// Versioned says that a successful run makes a model version.
	Versioned bool
	// PinAttr is the attribute that rollback pins ("model"), or "".
	PinAttr string
	// KeepAttr is data that belongs to the version which the block in KeepWith
	// serves (a monitor's reference to its deployment's model): while that version
	// was trained on older data of the same dataset, it stays as it was applied.
	KeepAttr, KeepWith string
	// Notify lists the addresses of the notifiers that are told when a signal
	// turns; nil for kinds without alerts.
	Notify func(spec cty.Value) []string
	// Signals lists the signal names that a monitor may give, as output attributes.
	Signals []string

	body, outputs *resource.Schema
	outputsType   cty.Type  // what a reference to a block gives
	unknown       cty.Value // that, before anything is known
}

// Problem is a contradiction found by Kind.Check. Path names the attribute or
// block ("split", "rollout.steps").
type Problem struct {
	Path, Summary, Detail string
}

// Body is the schema of the kind's own attributes and blocks, without the
// meta-arguments and without providers' nested blocks: see [Project.Body].
func (k *Kind) Body() *resource.Schema { return k.body }

// OutputSchema is the schema of the kind's outputs.
func (k *Kind) OutputSchema() *resource.Schema { return k.outputs }

// Kinds is the list of kinds, by name.
type Kinds map[string]*Kind

// Names lists the kinds' names, sorted.
func (ks Kinds) Names() []string {
	names := make([]string, 0, len(ks))
	for n := range ks {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// newKinds reads the schemas off the kinds' structs. It errors on a struct that
// cannot stand in HCL or a kind that is listed twice.
func newKinds(list []Kind) (Kinds, error) {
	ks := make(Kinds, len(list))
	for _, k := range list {
		if _, dup := ks[k.Name]; dup {
			return nil, fmt.Errorf("kind %q is listed twice", k.Name)
		}
		body, err := resource.SchemaOf(k.Spec)
		if err != nil {
			return nil, fmt.Errorf("kind %q: %w", k.Name, err)
		}
		out, err := resource.SchemaOf(k.Outputs)
		if err != nil {
			return nil, fmt.Errorf("outputs of kind %q: %w", k.Name, err)
		}
		k.body, k.outputs = body, out
		k.outputsType = out.Type()
		k.unknown = unknownObject(k.outputsType)
		ks[k.Name] = &k
	}
	return ks, nil
}

// unknownObject is an object of which only the attributes' names and types are known.
func unknownObject(t cty.Type) cty.Value {
	attrs := make(map[string]cty.Value, len(t.AttributeTypes()))
	for n, at := range t.AttributeTypes() {
		attrs[n] = cty.UnknownVal(at)
	}
	return cty.ObjectVal(attrs)
}
