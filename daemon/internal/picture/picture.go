// Package picture lays out what feeds what: boxes in columns from left to right,
// and lines between them.
//
// [Layout] is the layered drawing of Sugiyama, Tagawa and Toda (1981) in its
// plainest form: a box stands one column behind the last that feeds it, a line
// over several columns gets a place in each of them, boxes are ordered by the
// mean of their neighbours and moved to it as far as there is room. Lines that
// go back, which are feedback, run below everything else. Equal input gives an
// equal picture. It knows nothing of what boxes mean, and draws nothing.
package picture

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/continuo-ml/continuo/internal/dag"
)

// Sizes of the picture, in pixels.
const (
	BoxWidth  = 164
	BoxHeight = 52
	gapX      = 62 // between columns; a label stands there
	gapY      = 20 // between boxes
	laneGap   = 22 // between lines that go back
	margin    = 24
	passing   = 14 // height of a line that passes a column
)

// Line says that From feeds To; both are indices of boxes. Back lines order nothing.
type Line struct {
	From, To int
	Back     bool
}

// Point is a place in the picture.
type Point struct{ X, Y float64 }

// Box is where one stands: its left upper corner.
type Box struct {
	Point
	Column int
}

// Path is how one line runs.
type Path struct {
	// D is the form of the line as SVG writes it.
	D string
	// Label is the middle of the place for a word.
	Label Point
}

// Picture is a layout. Boxes and Paths are in the order in which they were asked for.
type Picture struct {
	Width, Height float64
	Boxes         []Box
	Paths         []Path
}

// node is a box, or the place where a line passes a column.
type node struct {
	box            int // -1 for a line that passes
	column         int
	y, height      float64
	before, behind []int // nodes that it is joined with
}

type layout struct {
	nodes   []*node
	columns [][]int // nodes by column, from top to bottom
	chains  [][]int // of each line, the nodes that it runs through
}

// Layout places n boxes. It errors when the lines that are not Back go round in a circle.
func Layout(n int, lines []Line) (*Picture, error) {
	columns, err := columnsOf(n, lines)
	if err != nil {
		return nil, err
	}
	l := &layout{}
	for i := range n {
		l.add(&node{box: i, column: columns[i], height: BoxHeight})
	}
	for _, e := range lines {
		l.chains = append(l.chains, l.chain(e))
	}
	l.order()
	l.place()
	return l.picture(n, lines), nil
}

// columnsOf puts each box one column behind the last that feeds it. What feeds
// only later ones moves up to just before them, so that lines are short.
func columnsOf(n int, lines []Line) ([]int, error) {
	g := dag.New[int]()
	feeds, fed := make([][]int, n), make([]bool, n)
	for i := range n {
		g.Add(i)
	}
	for _, e := range lines {
		if !e.Back {
			g.Edge(e.To, e.From)
			feeds[e.From] = append(feeds[e.From], e.To)
			fed[e.To] = true
		}
	}
	order, err := g.Order(cmp.Compare[int])
	if err != nil {
		return nil, err
	}
	column := make([]int, n)
	for _, i := range order {
		for _, j := range feeds[i] {
			column[j] = max(column[j], column[i]+1)
		}
	}
	for _, i := range slices.Backward(order) {
		if len(feeds[i]) > 0 && !fed[i] {
			next := column[feeds[i][0]]
			for _, j := range feeds[i] {
				next = min(next, column[j])
			}
			column[i] = next - 1
		}
	}
	return column, nil
}

func (l *layout) add(x *node) int {
	for len(l.columns) <= x.column {
		l.columns = append(l.columns, nil)
	}
	l.nodes = append(l.nodes, x)
	l.columns[x.column] = append(l.columns[x.column], len(l.nodes)-1)
	return len(l.nodes) - 1
}

// chain gives a line a place in each column that it passes.
func (l *layout) chain(e Line) []int {
	chain := []int{e.From}
	if !e.Back {
		for c := l.nodes[e.From].column + 1; c < l.nodes[e.To].column; c++ {
			chain = append(chain, l.add(&node{box: -1, column: c, height: passing}))
		}
		for i, at := range chain {
			next := e.To
			if i+1 < len(chain) {
				next = chain[i+1]
			}
			l.nodes[at].behind = append(l.nodes[at].behind, next)
			l.nodes[next].before = append(l.nodes[next].before, at)
		}
	}
	return append(chain, e.To)
}

const sweeps = 8

// order sorts each column by the mean place of the neighbours, forth and back.
func (l *layout) order() {
	rank := make([]float64, len(l.nodes))
	note := func(col []int) {
		for i, at := range col {
			rank[at] = (float64(i) + 0.5) / float64(len(col))
		}
	}
	for _, col := range l.columns {
		note(col)
	}
	sort := func(col []int, neighbours func(*node) []int) {
		mean := map[int]float64{}
		for _, at := range col {
			mean[at] = average(neighbours(l.nodes[at]), rank, rank[at])
		}
		slices.SortStableFunc(col, func(a, b int) int { return cmp.Compare(mean[a], mean[b]) })
		note(col)
	}
	for s := range sweeps {
		if s%2 == 0 {
			for _, col := range l.columns {
				sort(col, func(x *node) []int { return x.before })
			}
		} else {
			for _, col := range slices.Backward(l.columns) {
				sort(col, func(x *node) []int { return x.behind })
			}
		}
	}
}

func average(of []int, values []float64, other float64) float64 {
	if len(of) == 0 {
		return other
	}
	sum := 0.0
	for _, i := range of {
		sum += values[i]
	}
	return sum / float64(len(of))
}

// place gives each node its height in the picture: as near to its neighbours as the column has room.
func (l *layout) place() {
	for _, col := range l.columns {
		y := 0.0
		for _, at := range col {
			l.nodes[at].y = y
			y += l.nodes[at].height + gapY
		}
	}
	middle := make([]float64, len(l.nodes))
	for s := range 2 * sweeps {
		for i, x := range l.nodes {
			middle[i] = x.y + x.height/2
		}
		cols := l.columns
		if s%2 == 1 {
			cols = slices.Clone(cols)
			slices.Reverse(cols)
		}
		for _, col := range cols {
			l.settle(col, middle, s%2 == 1)
		}
	}
	top := math.Inf(1)
	for _, x := range l.nodes {
		top = min(top, x.y)
	}
	for _, x := range l.nodes {
		x.y += margin - top
	}
}

// settle moves the nodes of a column to where their neighbours are, and then
// apart: groups that overlap are placed around the mean of what their members want.
func (l *layout) settle(col []int, middle []float64, back bool) {
	type group struct {
		members      []int
		want, height float64 // want: sum over members of the wanted top of the group
	}
	var groups []*group
	for _, at := range col {
		x := l.nodes[at]
		of := x.before
		if back {
			of = x.behind
		}
		want := average(of, middle, middle[at]) - x.height/2
		groups = append(groups, &group{[]int{at}, want, x.height})
		for len(groups) > 1 {
			a, b := groups[len(groups)-2], groups[len(groups)-1]
			if a.want/float64(len(a.members))+a.height+gapY <= b.want/float64(len(b.members)) {
				break
			}
			a.want += b.want - (a.height+gapY)*float64(len(b.members))
			a.members, a.height = append(a.members, b.members...), a.height+gapY+b.height
			groups = groups[:len(groups)-1]
		}
	}
	for _, g := range groups {
		y := g.want / float64(len(g.members))
		for _, at := range g.members {
			x := l.nodes[at]
			x.y = y
			y += x.height + gapY
			middle[at] = x.y + x.height/2
		}
	}
}

func (l *layout) picture(n int, lines []Line) *Picture {
	p := &Picture{Boxes: make([]Box, n), Paths: make([]Path, len(lines))}
	left := func(x *node) float64 { return margin + float64(x.column)*(BoxWidth+gapX) }
	for _, x := range l.nodes {
		if x.box >= 0 {
			p.Boxes[x.box] = Box{Point{left(x), x.y}, x.column}
		}
		p.Width = max(p.Width, left(x)+BoxWidth+margin)
		p.Height = max(p.Height, x.y+x.height+margin)
	}
	bottom, lane := p.Height-margin, 0
	for i, e := range lines {
		if e.Back {
			lane++
			y := bottom + float64(lane)*laneGap
			p.Paths[i] = under(p.Boxes[e.From], p.Boxes[e.To], y)
			p.Height = max(p.Height, y+margin)
			continue
		}
		p.Paths[i] = l.path(l.chains[i], left)
	}
	return p
}

// path runs from the right of the first box through the passing places to the left of the last.
func (l *layout) path(chain []int, left func(*node) float64) Path {
	from := l.nodes[chain[0]]
	at := Point{left(from) + BoxWidth, from.y + from.height/2}
	p := Path{D: fmt.Sprintf("M%.1f %.1f", at.X, at.Y)}
	for i, next := range chain[1:] {
		x := l.nodes[next]
		to := Point{left(x), x.y + x.height/2}
		if i == 0 {
			p.Label = Point{(at.X + to.X) / 2, (at.Y + to.Y) / 2}
		}
		mid := (at.X + to.X) / 2
		p.D += fmt.Sprintf(" C%.1f %.1f %.1f %.1f %.1f %.1f", mid, at.Y, mid, to.Y, to.X, to.Y)
		if at = to; x.box < 0 {
			at.X += BoxWidth
			p.D += fmt.Sprintf(" L%.1f %.1f", at.X, at.Y)
		}
	}
	return p
}

// under runs from the right of one box down beside its column, below everything,
// and up beside the column of the other into its left: between columns there are
// no boxes that it could be taken to come from.
func under(from, to Box, y float64) Path {
	const beside, bend, low = 14, 8, BoxHeight * 0.8
	a, b := Point{from.X + BoxWidth, from.Y + low}, Point{to.X, to.Y + low}
	right, left := a.X+beside, b.X-beside
	return Path{
		D: fmt.Sprintf("M%.1f %.1f L%.1f %.1f Q%.1f %.1f %.1f %.1f L%.1f %.1f Q%.1f %.1f %.1f %.1f L%.1f %.1f Q%.1f %.1f %.1f %.1f L%.1f %.1f Q%.1f %.1f %.1f %.1f L%.1f %.1f",
			a.X, a.Y, right-bend, a.Y, right, a.Y, right, a.Y+bend,
			right, y-bend, right, y, right-bend, y,
			left+bend, y, left, y, left, y-bend,
			left, b.Y+bend, left, b.Y, left+bend, b.Y, b.X, b.Y),
		Label: Point{(right + left) / 2, y},
	}
}
