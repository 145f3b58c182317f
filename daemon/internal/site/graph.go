package site

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/continuo-ml/continuo/daemon/internal/picture"
	"github.com/continuo-ml/continuo/daemon/internal/status"
	"github.com/continuo-ml/continuo/engine"
	"github.com/continuo-ml/continuo/internal/dag"
	"github.com/continuo-ml/continuo/report"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// Limits of a picture that people can still read.
const (
	maxBoxes  = 60
	maxName   = 17 // characters of a name in its box
	maxCycles = 50
)

// Block is a block of the files as the graph needs it.
type Block struct {
	Addr     resource.Address
	Provider string
	Deps     []resource.Address
	Feedback []resource.SignalRef
}

// condition is how a block stands, as a word, a sign and a colour.
type condition struct {
	Word, Sign, Tone string
	rank             int // the greatest of several is what a group shows
}

var (
	planned = condition{"planned", "○", "plain", 1}
	running = condition{"running", "▶", "wait", 3}
)

// conditionOf is how a block stands; row is nil for one that was never applied.
func conditionOf(row *engine.StatusRow, runs bool) condition {
	switch {
	case runs:
		return running
	case row == nil:
		return planned
	case row.Phase == resource.PhaseFailed:
		return condition{"failed", "✗", "bad", 6}
	case row.Phase == resource.PhaseMissing:
		return condition{"missing", "✗", "bad", 6}
	case row.Verdict == "failed":
		return condition{"not passed", "✗", "bad", 5}
	case row.Alarm():
		return condition{"alarm", "!", "bad", 5}
	case row.Phase == resource.PhasePending, row.Phase == resource.PhaseRunning:
		return condition{string(row.Phase), "…", "wait", 3}
	case row.Pinned > 0:
		return condition{fmt.Sprintf("pinned at %d", row.Pinned), "◆", "wait", 2}
	case row.Verdict == "passed":
		return condition{"passed", "✓", "good", 0}
	}
	return condition{"ready", "✓", "good", 0}
}

// world is what pages show of a repository: its blocks, and how they stand.
type world struct {
	repo   string
	blocks []Block
	snap   *state.Snapshot
	rows   map[string]*engine.StatusRow
	runs   map[resource.Address]*state.Intent // what runs now
}

func newWorld(s *status.Repository, blocks []Block, snap *state.Snapshot) *world {
	w := &world{repo: s.Name, snap: snap, rows: map[string]*engine.StatusRow{}, runs: map[resource.Address]*state.Intent{}}
	for i := range s.Blocks {
		w.rows[s.Blocks[i].Address] = &s.Blocks[i]
	}
	for _, in := range snap.Intents {
		w.runs[in.Address] = in
	}
	// What the files do not declare any more is still there; and before they were
	// loaded, or when they have errors, the records know enough.
	known := map[resource.Address]bool{}
	for _, b := range blocks {
		known[b.Addr] = true
	}
	w.blocks = slices.Clone(blocks)
	for _, a := range sortedAddresses(snap.Records) {
		if rec := snap.Records[a]; !known[a] {
			w.blocks = append(w.blocks, Block{Addr: a, Provider: rec.Provider, Deps: rec.Deps})
		}
	}
	return w
}

func (w *world) condition(a resource.Address) condition {
	return conditionOf(w.rows[a.String()], w.runs[a] != nil)
}

// version is the number that a block gives on now, 0 for none.
func (w *world) version(a resource.Address) int {
	rec := w.snap.Records[a]
	if rec == nil {
		return 0
	}
	if rec.Version > 0 {
		return rec.Version
	}
	var out struct {
		Version int `json:"version"`
		Model   struct {
			Version int `json:"version"`
		} `json:"model"`
	}
	if json.Unmarshal(rec.Outputs, &out) != nil { // another shape: it has no version
		return 0
	}
	return cmp.Or(out.Version, out.Model.Version)
}

// gives is what a line from a block is labelled with: the version that it gives on.
func (w *world) gives(a resource.Address) string {
	if n := w.version(a); n > 0 {
		return fmt.Sprintf("v%d", n)
	}
	return ""
}

// content is the version of data: the beginning of its digest.
func (w *world) content(a resource.Address) string {
	rec := w.snap.Records[a]
	if rec == nil || a.Kind != "dataset" {
		return ""
	}
	var out struct {
		Digest resource.Digest `json:"digest"`
	}
	if json.Unmarshal(rec.Outputs, &out) != nil { // another shape: nothing to show
		return ""
	}
	hex := out.Digest.Hex()
	return hex[:min(5, len(hex))]
}

// drawing is a picture ready for its page.
type drawing struct {
	Width, Height float64
	Boxes         []drawnBox
	Lines         []drawnLine
	Note          string // what the picture leaves out
	Feedback      bool
}

type drawnBox struct {
	picture.Point
	Name, Full, Kind string
	Content          string // version of data, where its name leaves room
	Href             string
	State            condition
}

type drawnLine struct {
	picture.Path
	Label    string
	From, To string
	Feedback bool
}

// box is a block, or a group of them, before it has a place.
type box struct {
	name, full, kind, href string
	content                string
	state                  condition
	n                      int
}

func pageOf(repo string, a resource.Address) string {
	return "/r/" + repo + "/b/" + url.PathEscape(a.String())
}

// draw lays the graph out. A project of more blocks than a picture holds is
// drawn in groups: instances of a block together, or all blocks of a kind.
func (w *world) draw() (*drawing, error) {
	group := func(a resource.Address) string { return a.String() }
	note := ""
	if len(w.blocks) > maxBoxes {
		group = func(a resource.Address) string { return a.Block().String() }
		note = report.Count(len(w.blocks)) + " blocks: instances of one block are drawn as one."
		if w.groups(group) > maxBoxes {
			group = func(a resource.Address) string { return a.Kind }
			note = report.Count(len(w.blocks)) + " blocks are too many for a picture: it shows one box for each kind. The table has them all."
		}
	}
	boxes, lines, labels := w.collect(group)
	pic, err := layOut(len(boxes), lines)
	if err != nil {
		return nil, err
	}
	d := &drawing{Width: pic.Width, Height: pic.Height, Note: note}
	for i, b := range boxes {
		d.Boxes = append(d.Boxes, drawnBox{Point: pic.Boxes[i].Point, Name: cut(b.name, maxName), Full: b.full, Kind: b.kind, Content: fitting(b.content, b.name), Href: b.href, State: b.state})
	}
	for i, e := range lines {
		back := strings.HasPrefix(labels[i], feedbackMark)
		d.Feedback = d.Feedback || back
		d.Lines = append(d.Lines, drawnLine{Path: pic.Paths[i], Label: strings.TrimPrefix(labels[i], feedbackMark), From: boxes[e.From].full, To: boxes[e.To].full, Feedback: back})
	}
	return d, nil
}

func (w *world) groups(by func(resource.Address) string) int {
	seen := map[string]bool{}
	for _, b := range w.blocks {
		seen[by(b.Addr)] = true
	}
	return len(seen)
}

// feedbackMark begins the label of a line that orders nothing.
const feedbackMark = "\x00"

// collect makes the boxes and the lines between them, each once.
func (w *world) collect(group func(resource.Address) string) (boxes []box, lines []picture.Line, labels []string) {
	at := map[string]int{}
	for _, b := range w.blocks {
		key := group(b.Addr)
		i, ok := at[key]
		if !ok {
			i = len(boxes)
			at[key] = i
			boxes = append(boxes, box{name: key, full: key, kind: b.Addr.Kind, href: "/r/" + w.repo + "?q=" + url.QueryEscape(key) + "#blocks"})
		}
		x := &boxes[i]
		if x.n++; x.n == 1 {
			x.name = nameOf(b.Addr)
			x.full, x.href = b.Addr.String(), pageOf(w.repo, b.Addr)
			x.state, x.content = w.condition(b.Addr), w.content(b.Addr)
			continue
		}
		x.full, x.href = key, "/r/"+w.repo+"?q="+url.QueryEscape(key)+"#blocks"
		x.content = ""
		x.name = strings.TrimPrefix(key, x.kind+".") + " ×" + report.Count(x.n)
		if c := w.condition(b.Addr); c.rank > x.state.rank {
			x.state = c
		}
	}
	seen := map[string]bool{}
	add := func(from, to resource.Address, label string, back bool) {
		f, ok := at[group(from)]
		t, ok2 := at[group(to)]
		if !ok || !ok2 || f == t {
			return
		}
		if boxes[f].n > 1 && !back {
			label = "" // of many, no version is the version
		}
		if back {
			label = feedbackMark + label
		}
		if key := fmt.Sprint(f, t, back); !seen[key] {
			seen[key] = true
			lines = append(lines, picture.Line{From: f, To: t, Back: back})
			labels = append(labels, label)
		}
	}
	for _, b := range w.blocks {
		for _, d := range b.Deps {
			add(d, b.Addr, w.gives(d), false)
		}
		for _, f := range b.Feedback {
			add(f.Address, b.Addr, f.Signal, true)
		}
	}
	return boxes, lines, labels
}

// nameOf is an address without its kind, which the box shows anyway.
func nameOf(a resource.Address) string {
	return strings.Replace(a.String(), a.Kind+".", "", 1)
}

// layOut places boxes. Groups may feed each other in a circle, although no block
// does: a line that closes one is drawn as going back.
func layOut(n int, lines []picture.Line) (*picture.Picture, error) {
	for range maxCycles {
		pic, err := picture.Layout(n, lines)
		var circle *dag.CycleError[int]
		if !errors.As(err, &circle) {
			return pic, err
		}
		for i, e := range lines {
			if e.To == circle.Path[0] && e.From == circle.Path[1] {
				lines[i].Back = true
			}
		}
	}
	return nil, errors.New("the blocks feed each other in too many circles for a picture")
}

// fitting is text if it has room beside a name.
func fitting(text, name string) string {
	if utf8.RuneCountInString(text)+utf8.RuneCountInString(name) >= maxName {
		return ""
	}
	return text
}

// cut shortens text to n characters.
func cut(text string, n int) string {
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	r := []rune(text)
	return string(r[:n-1]) + "…"
}
