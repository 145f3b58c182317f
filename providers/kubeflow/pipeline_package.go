package kubeflow

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"

	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// maxPackage bounds a compiled pipeline: the API server of Kubeflow Pipelines refuses larger ones.
const maxPackage = 16 << 20

// compiled is a pipeline as the compiler of Kubeflow Pipelines writes it: its specification (IR), and in a second document what only
// Kubernetes understands of it.
type compiled struct {
	spec     map[string]any
	platform map[string]any // nil: none
	params   map[string]declared
}

// declared is a parameter of a pipeline.
type declared struct {
	Type     string `json:"parameterType"`
	Default  any    `json:"defaultValue"`
	Optional bool   `json:"isOptional"`
}

// readPackage reads a compiled pipeline.
func readPackage(text []byte) (*compiled, error) {
	if len(text) > maxPackage {
		return nil, fmt.Errorf("it has %d bytes; %d are possible", len(text), maxPackage)
	}
	var docs []map[string]any
	in := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		b, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read its YAML: %w", err)
		}
		var doc map[string]any
		if err := yaml.Unmarshal(b, &doc); err != nil {
			return nil, fmt.Errorf("read its YAML: %w", err)
		}
		if doc != nil {
			docs = append(docs, doc)
		}
	}
	if len(docs) == 0 || len(docs) > 2 {
		return nil, fmt.Errorf("it has %d YAML documents; a compiled pipeline is one, or two with what only Kubernetes understands", len(docs))
	}
	p := &compiled{spec: docs[0]}
	if len(docs) == 2 {
		if p.platform = docs[1]; p.platform["platforms"] == nil {
			return nil, errors.New("its second document has no platforms")
		}
	}
	if p.spec["apiVersion"] == "argoproj.io/v1alpha1" {
		return nil, errors.New("it is an Argo Workflow, as version 1 of the SDK compiled it; compile it with version 2 or later")
	}
	root, ok := p.spec["root"].(map[string]any)
	if !ok || p.spec["schemaVersion"] == nil || p.spec["pipelineInfo"] == nil {
		return nil, errors.New("it is no compiled pipeline: that has root, schemaVersion and pipelineInfo")
	}
	var definitions struct {
		Parameters map[string]declared `json:"parameters"`
	}
	b, err := json.Marshal(root["inputDefinitions"])
	if err == nil {
		err = json.Unmarshal(b, &definitions)
	}
	if err != nil {
		return nil, fmt.Errorf("read its parameters: %w", err)
	}
	p.params = definitions.Parameters
	return p, nil
}

// check looks at the values that a run is to get.
func (p *compiled) check(values map[string]any) error {
	names := slices.Sorted(maps.Keys(p.params))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		d, ok := p.params[name]
		if !ok {
			return fmt.Errorf("params.%s: the pipeline has no such parameter; it has %s", name, or(strings.Join(names, ", "), "none"))
		}
		if !fits(values[name], d.Type) {
			return fmt.Errorf("params.%s: %v is %T; the pipeline wants %s", name, values[name], values[name], d.Type)
		}
	}
	var missing []string
	for _, name := range names {
		if _, given := values[name]; !given && p.params[name].Default == nil && !p.params[name].Optional {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("params: the pipeline needs %s, too", strings.Join(missing, ", "))
	}
	return nil
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// fits reports whether a value is of a parameter's type; a type that is not known here fits all.
func fits(v any, kind string) bool {
	var ok bool
	switch kind {
	case "STRING":
		_, ok = v.(string)
	case "BOOLEAN":
		_, ok = v.(bool)
	case "NUMBER_DOUBLE", "NUMBER_INTEGER":
		switch n := v.(type) {
		case int64:
			ok = true
		case float64:
			ok = kind == "NUMBER_DOUBLE" || n == math.Trunc(n)
		}
	case "LIST":
		_, ok = v.([]any)
	case "STRUCT":
		_, ok = v.(map[string]any)
	default:
		ok = true
	}
	return ok
}

// withoutCache says of every task that no earlier run's outputs may stand for its own.
func (p *compiled) withoutCache() {
	dags := []any{p.spec["root"]}
	if components, ok := p.spec["components"].(map[string]any); ok {
		dags = slices.AppendSeq(dags, maps.Values(components))
	}
	for _, d := range dags {
		component, _ := d.(map[string]any)
		dag, _ := component["dag"].(map[string]any)
		tasks, _ := dag["tasks"].(map[string]any)
		for _, t := range tasks {
			if task, ok := t.(map[string]any); ok {
				task["cachingOptions"] = map[string]any{}
			}
		}
	}
}

// source is the pipeline_spec of a run.
func (p *compiled) source() map[string]any {
	if p.platform == nil {
		return p.spec
	}
	return map[string]any{"pipeline_spec": p.spec, "platform_spec": p.platform}
}
