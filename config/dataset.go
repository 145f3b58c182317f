package config

import (
	"fmt"
	"strconv"
	"time"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/resource"
)

// Dataset is data under a version: its content's digest.
type Dataset struct {
	Source    string `ml:"source,probe" doc:"File, folder or glob inside the project; or an s3://, gs://, azure://, https://, git::, oci:// or pvc:// address (docs/guides/data.md). The same files have the same version everywhere."`
	Format    string `ml:"format" enum:"csv|jsonl|parquet" doc:"Format of the files; by their extension when absent. .gz and .zst are seen through."`
	Target    string `ml:"target" doc:"Column that a model predicts; left out of drift."`
	ID        string `ml:"id" doc:"Column that identifies a row; left out of drift."`
	Timestamp string `ml:"timestamp" doc:"Column with the time of a row; left out of drift."`
	Exec
	Inputs  map[string]any `ml:"inputs,input=data" doc:"Datasets or splits that the preprocessing command reads, by name."`
	Columns []Column       `ml:"column,block" doc:"What a column must be. Columns that are not declared are inferred."`
	Expect  []Expectation  `ml:"expect,block" doc:"What must hold before anything downstream uses this version of the data."`
	Splits  []SplitDef     `ml:"split,block" doc:"A part of the rows, chosen by a hash of the row, so that a row never changes side as data grows."`
}

// Column declares one column.
type Column struct {
	Name     string    `ml:"name,label"`
	Type     string    `ml:"type" enum:"number|integer|string|category|bool|timestamp" doc:"Type of the values."`
	Range    []float64 `ml:"range" doc:"Least and greatest allowed value."`
	Values   []string  `ml:"values" doc:"Allowed values."`
	Nullable *bool     `ml:"nullable" doc:"Whether values may be missing. Default true."`
	Unique   bool      `ml:"unique" doc:"Whether each value may occur once only."`
}

// Expectation is one named demand on the data; all of its rules must hold.
type Expectation struct {
	Name          string               `ml:"name,label"`
	Severity      string               `ml:"severity,default=error" enum:"error|warn" doc:"warn only reports."`
	NotNull       []string             `ml:"not_null" doc:"Columns without missing values; \"*\" means all."`
	Unique        []string             `ml:"unique" doc:"Columns whose values together are a key."`
	InSet         map[string][]string  `ml:"in_set" doc:"Allowed values by column."`
	Matches       map[string]string    `ml:"matches" doc:"RE2 pattern by column."`
	Range         map[string][]float64 `ml:"range" doc:"Least and greatest value by column."`
	Type          map[string]string    `ml:"type" doc:"Type by column."`
	RowCount      *Range               `ml:"row_count" doc:"Number of rows: { min, max }."`
	Columns       []string             `ml:"columns" doc:"Exactly these columns, in any order."`
	Mean          map[string]Range     `ml:"mean" doc:"Bounds of the mean by column."`
	NullShare     map[string]float64   `ml:"null_share" doc:"Greatest share of missing values by column."`
	DistinctCount map[string]Range     `ml:"distinct_count" doc:"Bounds of the number of distinct values by column."`
	MaxDuplicates *int                 `ml:"max_duplicates,min=0" doc:"Greatest number of rows that repeat an earlier one."`
	NoOverlap     []string             `ml:"no_overlap" doc:"Key columns that must not occur on both sides of a split; \"*\" means the whole row."`
	Freshness     *Freshness           `ml:"freshness" doc:"Age of the newest row: { column, max }."`
}

// Freshness bounds the age of the newest row.
type Freshness struct {
	Column string        `ml:"column" doc:"Timestamp column."`
	Max    time.Duration `ml:"max" doc:"Greatest age."`
}

// SplitDef declares one split.
type SplitDef struct {
	Name     string  `ml:"name,label"`
	Fraction float64 `ml:"fraction,required,min=0,max=1" doc:"Share of the rows."`
	GroupBy  string  `ml:"group_by" doc:"Column whose equal values stay on one side."`
	Seed     int64   `ml:"seed" doc:"Another seed deals the rows out anew."`
}

// DatasetOutputs is what other blocks may use of a dataset.
type DatasetOutputs struct {
	Data
	Columns []string       `ml:"columns" doc:"Names of the columns."`
	Split   map[string]any `ml:"split" doc:"The splits by name, each with digest, path and rows."`
}

func datasetKind() Kind {
	return Kind{
		Name: "dataset", Class: resource.Object,
		Doc:  "Data under a version. The version is the digest of its content: the same bytes rewritten change nothing, new bytes behind the same path do.",
		Spec: Dataset{}, Outputs: DatasetOutputs{},
		Probes:     []string{"content", "code"}, // code when a command makes the data
		ProbeCodes: map[string]resource.Code{"content": resource.ReasonDataChanged, "code": resource.ReasonCodeChanged},
		Check:      checkDataset,
		Plan:       planDataset,
	}
}

func checkDataset(v cty.Value) []Problem {
	ps := execProblems(v)
	switch {
	case set(v, "source") && set(v, "command"):
		ps = append(ps, Problem{"command", "A dataset has a source or a command, not both", "Remove one: source names data that exists, command makes it."})
	case !set(v, "source") && !set(v, "command"):
		ps = append(ps, Problem{"", "A dataset needs a source", "Add source = \"FILE\" (a file, folder or glob), or a command that makes the data."})
	}
	sum := 0.0
	for _, s := range blocks(v, "split") {
		if f, ok := known(s, "fraction"); ok {
			n, _ := f.AsBigFloat().Float64()
			sum += n
		}
	}
	if sum > 1+1e-9 {
		ps = append(ps, Problem{"split", "Splits take more than all rows", fmt.Sprintf("The fractions add up to %s; make them add up to 1 or less.", strconv.FormatFloat(sum, 'g', 4, 64))})
	}
	for _, c := range blocks(v, "column") {
		if r, ok := known(c, "range"); ok && r.CanIterateElements() && r.LengthInt() != 2 {
			ps = append(ps, Problem{"column", "A range has two ends", "Write range = [least, greatest]."})
		}
	}
	return ps
}

// planDataset: the names of the splits are written; the digest is what the probe
// read, and a split's digest follows from it and from how the split is dealt.
// Rows are counted by apply.
func planDataset(spec cty.Value, probes map[string]string, _ cty.Value) map[string]cty.Value {
	out := map[string]cty.Value{}
	content, read := probes["content"]
	if read {
		out["digest"] = cty.StringVal(content)
	}
	if all := spec.GetAttr("split"); !all.IsKnown() {
		return out
	}
	splits := map[string]cty.Value{}
	for _, s := range blocks(spec, "split") {
		name := s.GetAttr("name")
		if !name.IsKnown() {
			return out
		}
		digest := cty.UnknownVal(cty.String)
		if def, ok := splitDef(s); ok && read {
			digest = cty.StringVal(string(def.Digest(resource.Digest(content), splitStart(spec, def.Name))))
		}
		splits[name.AsString()] = cty.ObjectVal(map[string]cty.Value{
			"address": cty.UnknownVal(cty.String),
			"name":    name,
			"digest":  digest,
			"path":    cty.UnknownVal(cty.String),
			"rows":    cty.UnknownVal(cty.Number),
		})
	}
	out["split"] = cty.ObjectVal(splits)
	return out
}

func splitDef(v cty.Value) (SplitDef, bool) {
	var d SplitDef
	return d, v.IsWhollyKnown() && resource.Decode(v, &d) == nil
}

// splitStart is the sum of the fractions before the split called name.
func splitStart(spec cty.Value, name string) float64 {
	sum := 0.0
	for _, s := range blocks(spec, "split") {
		d, ok := splitDef(s)
		if !ok || d.Name == name {
			break
		}
		sum += d.Fraction
	}
	return sum
}

// Digest is the version of a split: of the data it is cut from and of how it is
// cut. start is the sum of the fractions declared before it.
func (d SplitDef) Digest(data resource.Digest, start float64) resource.Digest {
	return resource.Parts{
		"data": string(data), "group_by": d.GroupBy, "seed": strconv.FormatInt(d.Seed, 10),
		"from": strconv.FormatFloat(start, 'g', 12, 64), "to": strconv.FormatFloat(start+d.Fraction, 'g', 12, 64),
	}.Digest()
}
