//go:build e2e && linux

package gitops

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/report"
	"github.com/continuo-ml/continuo/resource"
)

// hostileComment is the comment of a plan whose names and values try to mention somebody, link, and be markup.
func hostileComment(victim string, number int) (string, error) {
	p := &planner.Plan{FormatVersion: planner.FormatVersion, Complete: true, Created: time.Unix(0, 0), Commit: "@" + victim}
	for i, n := range []string{
		"@" + victim, "`@" + victim + "`", "```\n@" + victim + "\n```", "\n\n@" + victim, "<b>@" + victim + "</b>", "</details>@" + victim, "&#64;" + victim, "--> @" + victim,
		fmt.Sprintf("#%d", number), fmt.Sprintf("!%d", number), "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[x](javascript:alert(1))", "![x](https://evil.example/p.png)", "https://evil.example", "www.evil.example", "a@b.example", "\u202egnp.exe", "| a | b |",
	} {
		value, err := json.Marshal(n)
		if err != nil {
			return "", err
		}
		p.Steps = append(p.Steps, &planner.Step{
			Address: resource.Address{Kind: "check", Name: "x", Key: fmt.Sprintf("[%d]", i)}, Kind: "check", Action: resource.RunIt, Provider: n, Gate: []string{n},
			Reasons: []resource.Reason{{Code: resource.ReasonConfigChanged, Path: n, Old: n, New: n + "2", By: n, Message: n}, {Code: resource.ReasonFailedBefore, Message: n}},
			Changes: []planner.Change{{Path: n, Old: value, New: json.RawMessage("null")}},
		})
		p.Diagnostics = append(p.Diagnostics, planner.Diagnostic{Severity: "warning", Summary: n, Detail: n, File: n, Line: 1})
		p.Summary.Run++
	}
	var b bytes.Buffer
	err := report.Markdown(&b, p, report.MarkdownOptions{})
	return b.String(), err
}
