package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"sort"
	"time"

	"github.com/continuo-ml/continuo/internal/drift"
	"github.com/continuo-ml/continuo/report"
	"github.com/continuo-ml/continuo/state"
)

// recordView shows one record: where it stands and what others may use of it.
func recordView(w io.Writer, rec *state.Record, s report.Style) error {
	phase := report.PhaseCell(rec.Phase)
	fmt.Fprintf(w, "%s  %s  on %s, updated %s\n", s.Paint(report.Strong, rec.Address.String()), s.Paint(phase.Tone, phase.Text), rec.Provider, report.Ago(rec.Updated, time.Now()))
	t := report.NewTable("FIELD", "VALUE")
	t.Indent = 2
	said := ""
	if rec.Verdict != nil {
		cell := report.Cell{Text: "passed", Tone: report.Good}
		if rec.Verdict.Bad() {
			cell = report.Cell{Text: "failed", Tone: report.Bad}
		}
		if said = rec.Verdict.Message; said != cell.Text {
			cell.Text += ": " + said
		}
		t.Row(report.Cell{Text: "verdict"}, cell)
	}
	if rec.Message != "" && rec.Message != said {
		t.Text("note", rec.Message)
	}
	var out map[string]json.RawMessage
	if len(rec.Outputs) > 0 {
		if err := json.Unmarshal(rec.Outputs, &out); err != nil {
			return fmt.Errorf("outputs of %s: %w", rec.Address, err)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(out)) {
		text := report.Value(out[k])
		var measured map[string]float64
		if k == "metrics" && json.Unmarshal(out[k], &measured) == nil { // 16 digits tell nobody more than 4
			text = report.Metrics(measured, 0)
		}
		if k != "address" && text != "null" && text != "" {
			t.Text(k, text)
		}
	}
	return t.Write(w, s)
}

// signalsView shows a monitor's signals.
func signalsView(w io.Writer, signals []*state.Signal, s report.Style) error {
	t := report.NewTable("SIGNAL", "STATE", "EPOCH", "WHY")
	for _, sig := range signals {
		tone := report.Plain
		switch sig.State { //nolint:exhaustive // the other states are plain
		case "bad", "error":
			tone = report.Bad
		case "good":
			tone = report.Good
		}
		t.Row(report.Cell{Text: sig.Name}, report.Cell{Text: string(sig.State), Tone: tone}, report.Cell{Text: fmt.Sprint(sig.Epoch)}, report.Cell{Text: sig.Message})
	}
	return t.Write(w, s)
}

// driftView shows a comparison column by column, drifted ones first.
func driftView(w io.Writer, rep drift.Report, s report.Style) error {
	cols := append([]drift.Result(nil), rep.Columns...)
	sort.SliceStable(cols, func(i, j int) bool { return cols[i].Drifted && !cols[j].Drifted })
	t := report.NewTable("COLUMN", "TYPE", "METHOD", "STATISTIC", "P-VALUE", "THRESHOLD", "VERDICT").Right(3, 4, 5)
	drifted := 0
	for _, c := range cols {
		p := ""
		if c.PValue != nil {
			p = report.Number(*c.PValue)
		}
		end := report.Cell{Text: "same", Tone: report.Faint}
		if c.Drifted {
			drifted++
			end = report.Cell{Text: "drifted", Tone: report.Bad}
		}
		t.Row(report.Cell{Text: c.Column}, report.Cell{Text: c.Type}, report.Cell{Text: string(c.Method)},
			report.Cell{Text: report.Number(c.Statistic)}, report.Cell{Text: p}, report.Cell{Text: report.Number(c.Threshold)}, end)
	}
	if err := t.Write(w, s); err != nil {
		return err
	}
	tone, word := report.Good, "The data did not drift"
	if rep.Drifted {
		tone, word = report.Bad, "The data drifted"
	}
	_, err := fmt.Fprintf(w, "\n%s: %d of %d columns.\n", s.Paint(tone, word), drifted, len(cols))
	return err
}
