package picture

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
)

func mustLayout(t *testing.T, n int, lines []Line) *Picture {
	t.Helper()
	p, err := Layout(n, lines)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// overlap errors on boxes that touch, or that stand out of the picture.
func overlap(p *Picture) error {
	for i, a := range p.Boxes {
		if a.X < 0 || a.Y < 0 || a.X+BoxWidth > p.Width || a.Y+BoxHeight > p.Height {
			return fmt.Errorf("box %d stands out of the picture: %+v", i, a)
		}
		for j, b := range p.Boxes[:i] {
			if a.Column == b.Column && a.Y < b.Y+BoxHeight+gapY-0.01 && b.Y < a.Y+BoxHeight+gapY-0.01 {
				return fmt.Errorf("boxes %d and %d overlap: %+v %+v", i, j, a, b)
			}
		}
	}
	return nil
}

func TestWhatIsFedStandsRightOfWhatFeedsIt(t *testing.T) {
	// data 0 → training 1 → validation 2 → deployment 3 → monitor 4, data → validation, data → monitor, monitor ⇢ training.
	lines := []Line{{0, 1, false}, {1, 2, false}, {2, 3, false}, {3, 4, false}, {0, 2, false}, {0, 4, false}, {4, 1, true}}
	p := mustLayout(t, 5, lines)
	for i, e := range lines {
		if !e.Back && p.Boxes[e.From].X+BoxWidth >= p.Boxes[e.To].X {
			t.Errorf("line %d does not run to the right: %+v %+v", i, p.Boxes[e.From], p.Boxes[e.To])
		}
	}
	if err := overlap(p); err != nil {
		t.Error(err)
	}
	// The line back leaves to the right, comes in from the left, and runs below all boxes, and the long line gets past the boxes in between.
	for i, b := range p.Boxes {
		if p.Paths[6].Label.Y < b.Y+BoxHeight {
			t.Errorf("the line back runs through box %d", i)
		}
	}
	if want := fmt.Sprintf("M%.1f", p.Boxes[4].X+BoxWidth); !strings.HasPrefix(p.Paths[6].D, want) || !strings.HasSuffix(p.Paths[6].D, fmt.Sprintf("L%.1f %.1f", p.Boxes[1].X, p.Boxes[1].Y+BoxHeight*0.8)) {
		t.Errorf("the line back: %s", p.Paths[6].D)
	}
	if strings.Count(p.Paths[5].D, "C") != 4 {
		t.Errorf("the line over three columns: %s", p.Paths[5].D)
	}
}

func TestAnInputStandsNextToWhatItFeeds(t *testing.T) {
	p := mustLayout(t, 5, []Line{{0, 1, false}, {1, 2, false}, {2, 3, false}, {4, 3, false}})
	if p.Boxes[4].Column != 2 {
		t.Errorf("column %d", p.Boxes[4].Column)
	}
}

func TestACircleIsAnErrorAndAChainIsStraight(t *testing.T) {
	if _, err := Layout(2, []Line{{0, 1, false}, {1, 0, false}}); err == nil {
		t.Error("a circle was drawn")
	}
	p := mustLayout(t, 3, []Line{{0, 1, false}, {1, 2, false}})
	if p.Boxes[0].Y != p.Boxes[1].Y || p.Boxes[1].Y != p.Boxes[2].Y {
		t.Errorf("%+v", p.Boxes)
	}
	if p := mustLayout(t, 0, nil); len(p.Boxes) != 0 {
		t.Errorf("%+v", p)
	}
}

func TestEveryPictureIsInOrderAndTheSameAgain(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test's
	began := time.Now()
	for round := range 200 {
		n := 1 + rnd.IntN(40)
		var lines []Line
		for range rnd.IntN(3 * n) {
			if a, b := rnd.IntN(n), rnd.IntN(n); a < b {
				lines = append(lines, Line{a, b, false})
			} else {
				lines = append(lines, Line{a, b, true})
			}
		}
		p := mustLayout(t, n, lines)
		if err := overlap(p); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if !reflect.DeepEqual(p, mustLayout(t, n, lines)) {
			t.Fatalf("round %d: not the same again", round)
		}
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("200 pictures took %s", took)
	}
}
