package main

import (
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/internal/drift"
	"github.com/continuo-ml/continuo/report"
	"github.com/continuo-ml/continuo/state"
)

// metricsText shows at most limit metrics, by name.
func metricsText(m map[string]float64, limit int) string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	sort.Strings(names)
	more := ""
	if len(names) > limit {
		more = fmt.Sprintf(" +%d", len(names)-limit)
		names = names[:limit]
	}
	parts := make([]string, len(names))
	for i, n := range names {
		parts[i] = n + " " + report.Number(m[n])
	}
	return strings.Join(parts, "  ") + more
}

// recordView shows one record: where it stands and what others may use of it.
func recordView(w io.Writer, rec *state.Record, s report.Style) error {
	fmt.Fprintf(w, "%s  %s  (%s)\n", s.Paint(report.Strong, rec.Address.String()), rec.Phase, rec.Provider)
	if rec.Verdict != nil {
		tone, word := report.Good, "passed"
		if rec.Verdict.Bad() {
			tone, word = report.Bad, "failed"
		}
		fmt.Fprintf(w, "  %s  %s\n", s.Paint(tone, word), s.Clean(rec.Verdict.Message))
	}
	if rec.Message != "" && (rec.Verdict == nil || rec.Verdict.Message != rec.Message) {
		fmt.Fprintf(w, "  %s\n", s.Clean(rec.Message))
	}
	var out map[string]any
	if len(rec.Outputs) > 0 {
		if err := json.Unmarshal(rec.Outputs, &out); err != nil {
			return fmt.Errorf("outputs of %s: %w", rec.Address, err)
		}
	}
	t := report.NewTable("OUTPUT", "VALUE")
	t.Indent = 2
	for _, k := range sortedKeys(out) {
		if k == "address" || out[k] == nil {
			continue
		}
		raw, err := json.Marshal(out[k])
		if err != nil {
			return err
		}
		t.Text(k, strings.Trim(string(raw), `"`))
	}
	if err := t.Write(w, s); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "  %s\n\n", s.Paint(report.Faint, "updated "+report.Ago(rec.Updated, time.Now())))
	return err
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
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
	t := report.NewTable("COLUMN", "TYPE", "METHOD", "STATISTIC", "P-VALUE", "THRESHOLD", "")
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
