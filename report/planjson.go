package report

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/resource"
)

// planDocument is the plan's public JSON form. It names every field itself, so
// that what apply keeps for itself cannot slip out with a new field.
type planDocument struct {
	FormatVersion string               `json:"format_version"`
	Lineage       string               `json:"lineage"`
	Serial        uint64               `json:"serial"`
	ConfigDigest  resource.Digest      `json:"config_digest"`
	Commit        string               `json:"commit"`
	Created       string               `json:"created"`
	Complete      bool                 `json:"complete"`
	Summary       planner.Summary      `json:"summary"`
	Steps         []stepDocument       `json:"steps"`
	Drift         []planner.DriftEntry `json:"drift"`
	Diagnostics   []planner.Diagnostic `json:"diagnostics"`
}

type stepDocument struct {
	Address      resource.Address   `json:"address"`
	Kind         string             `json:"kind"`
	Provider     string             `json:"provider"`
	Action       resource.Action    `json:"action"`
	Reasons      []resource.Reason  `json:"reasons"`
	Before       json.RawMessage    `json:"before"`
	After        json.RawMessage    `json:"after"`
	AfterUnknown []string           `json:"after_unknown"`
	Changes      []planner.Change   `json:"changes"`
	Needs        []resource.Address `json:"needs"`
	GatedBy      []resource.Address `json:"gated_by"`
	Gate         []string           `json:"gate,omitempty"`
	From         *resource.Address  `json:"from,omitempty"`
}

// PlanJSON writes the plan as one JSON document on one line: every step that
// does something, every no-op that has a reason. Arrays are never null; values
// of sensitive changes are masked, whoever made the plan; what only apply needs
// is left out.
func PlanJSON(w io.Writer, p *planner.Plan) error {
	doc := planDocument{
		FormatVersion: p.FormatVersion, Lineage: p.Lineage, Serial: p.Serial,
		ConfigDigest: p.ConfigDigest, Commit: p.Commit, Created: p.Created.UTC().Format("2006-01-02T15:04:05.999999999Z07:00"),
		Complete: p.Complete, Summary: p.Summary,
		Steps:       make([]stepDocument, 0, len(p.Steps)),
		Drift:       make([]planner.DriftEntry, 0, len(p.Drift)),
		Diagnostics: notNil(p.Diagnostics),
	}
	for _, st := range p.Steps {
		if st.Action == resource.Noop && len(st.Reasons) == 0 {
			continue
		}
		doc.Steps = append(doc.Steps, stepDocument{
			Address: st.Address, Kind: st.Kind, Provider: st.Provider, Action: st.Action,
			Reasons: notNil(st.Reasons), Before: rawOrNull(st.Before), After: rawOrNull(st.After),
			AfterUnknown: notNil(st.AfterUnknown), Changes: maskedChanges(st.Changes),
			Needs: notNil(st.Needs), GatedBy: notNil(st.GatedBy), Gate: st.Gate, From: st.From,
		})
	}
	for _, d := range p.Drift {
		d.Changes = maskedChanges(d.Changes)
		doc.Drift = append(doc.Drift, d)
	}
	return writeJSON(w, doc)
}

func maskedChanges(in []planner.Change) []planner.Change {
	out := make([]planner.Change, len(in))
	for i, c := range in {
		c.Old, c.New = rawOrNull(c.Old), rawOrNull(c.New)
		if c.Sensitive {
			c.Old, c.New = masked(c.Old), masked(c.New)
		}
		out[i] = c
	}
	return out
}

func masked(raw json.RawMessage) json.RawMessage {
	if string(raw) == "null" {
		return raw
	}
	return json.RawMessage(`"` + sensitiveText + `"`)
}

func rawOrNull(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 {
		return json.RawMessage("null")
	}
	return raw
}

func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// writeJSON writes v on one line, without HTML escapes: "recall ≥ 0.93" and
// "a < b" stay readable.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}
