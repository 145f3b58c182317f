package report

import (
	"math"
	"strings"
	"testing"
	"time"
	"unicode"

	"pgregory.net/rapid"

	"github.com/continuo-ml/continuo/resource"
)

func TestCleanKeepsWhatIsReadableAndEscapesTheRest(t *testing.T) {
	for _, tt := range []struct{ in, unicode, ascii string }{
		{"plain text", "plain text", "plain text"},
		{"recall ≥ 0.93 → 0.95…", "recall ≥ 0.93 → 0.95…", "recall >= 0.93 -> 0.95..."},
		{"Größe 価格", "Größe 価格", `Gr\u{f6}\u{df}e \u{4fa1}\u{683c}`},
		{"a\x1b[31mred", `a\u{1b}[31mred`, `a\u{1b}[31mred`},
		{"one\r\ntwo\tthree", `one\r\ntwo\tthree`, `one\r\ntwo\tthree`},
		{"exe\u202egnp\u2066x\u200b", `exe\u{202e}gnp\u{2066}x\u{200b}`, `exe\u{202e}gnp\u{2066}x\u{200b}`},
		{"bad \xff\xc3", `bad \xff\xc3`, `bad \xff\xc3`},
		{"replacement \uFFFD", "replacement \uFFFD", `replacement \u{fffd}`},
		{"c1 \u009b31m", `c1 \u{9b}31m`, `c1 \u{9b}31m`},
	} {
		if got := (Style{Unicode: true}).Clean(tt.in); got != tt.unicode {
			t.Errorf("Clean(%q) = %q, want %q", tt.in, got, tt.unicode)
		}
		if got := (Style{}).Clean(tt.in); got != tt.ascii {
			t.Errorf("ASCII Clean(%q) = %q, want %q", tt.in, got, tt.ascii)
		}
	}
}

func TestNothingCleanedCanMoveTheCursor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")) + rapid.String().Draw(t, "runes")
		for _, s := range []Style{{}, {Unicode: true}} {
			got := s.Clean(in)
			for _, r := range got {
				if !unicode.IsPrint(r) || !s.Unicode && r > '~' {
					t.Fatalf("Clean(%q) lets %U through", in, r)
				}
			}
			if again := s.Clean(got); again != got {
				t.Fatalf("Clean is not idempotent: %q became %q", got, again)
			}
		}
	})
}

func TestCutNeverExceedsItsWidth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in, n := rapid.String().Draw(t, "text"), rapid.IntRange(3, 40).Draw(t, "width")
		for _, s := range []Style{{}, {Unicode: true}} {
			if got := s.cut(in, n); textWidth(got) > n {
				t.Fatalf("cut(%q, %d) = %q takes %d columns", in, n, got, textWidth(got))
			}
		}
	})
}

func TestWrapLosesNoWord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.StringMatching(`[a-z]{1,12}`), 1, 30).Draw(t, "words")
		n := rapid.IntRange(5, 60).Draw(t, "width")
		lines := Style{}.wrap(strings.Join(words, " "), n)
		if got := strings.Join(lines, " "); got != strings.Join(words, " ") {
			t.Fatalf("wrapped into %q", lines)
		}
		for _, l := range lines {
			if len(l) > n && strings.Contains(l, " ") {
				t.Fatalf("line %q is wider than %d", l, n)
			}
		}
	})
}

func TestWideRunesCountTwice(t *testing.T) {
	for text, want := range map[string]int{"abc": 3, "価格": 4, "⛔": 2, "▶": 1, "e\u0301": 1, "😀": 2, "가": 2, "": 0} {
		if got := textWidth(text); got != want {
			t.Errorf("%q takes %d columns, want %d", text, got, want)
		}
	}
}

func TestStyleFollowsTheEnvironment(t *testing.T) {
	for _, tt := range []struct {
		name                 string
		tty, no              bool
		env                  map[string]string
		color, unicode, live bool
		width                int
	}{
		{"a terminal has colours and live lines", true, false, map[string]string{"LANG": "en_US.UTF-8"}, true, true, true, 80},
		{"a pipe is plain", false, false, map[string]string{"LANG": "C.UTF-8"}, false, true, false, 120},
		{"NO_COLOR keeps live lines", true, false, map[string]string{"NO_COLOR": "1"}, false, true, true, 80},
		{"an empty NO_COLOR counts as unset", true, false, map[string]string{"NO_COLOR": ""}, true, true, true, 80},
		{"the flag wins over CLICOLOR_FORCE", true, true, map[string]string{"CLICOLOR_FORCE": "1"}, false, true, true, 80},
		{"NO_COLOR wins over CLICOLOR_FORCE", false, false, map[string]string{"CLICOLOR_FORCE": "1", "NO_COLOR": "1"}, false, true, false, 120},
		{"CLICOLOR_FORCE colours a pipe", false, false, map[string]string{"CLICOLOR_FORCE": "1"}, true, true, false, 120},
		{"CLICOLOR_FORCE=0 does not", false, false, map[string]string{"CLICOLOR_FORCE": "0"}, false, true, false, 120},
		{"a dumb terminal is plain", true, false, map[string]string{"TERM": "dumb"}, false, true, false, 80},
		{"LC_ALL decides before LANG", true, false, map[string]string{"LC_ALL": "C", "LANG": "en_US.UTF-8"}, true, false, true, 80},
		{"COLUMNS is believed", false, false, map[string]string{"COLUMNS": "60", "LANG": "POSIX"}, false, false, false, 60},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := styleFor(tt.tty, tt.no, func(k string) string { return tt.env[k] })
			want := Style{Color: tt.color, Unicode: tt.unicode, Live: tt.live, Width: tt.width}
			if got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestHumanUnits(t *testing.T) {
	now := planTime
	for _, tt := range []struct{ got, want string }{
		{Duration(0), "0s"}, {Duration(320 * time.Millisecond), "320ms"}, {Duration(999600 * time.Microsecond), "1s"},
		{Duration(3210 * time.Millisecond), "3.2s"}, {Duration(9960 * time.Millisecond), "10s"}, {Duration(59600 * time.Millisecond), "1m"},
		{Duration(150 * time.Second), "2m30s"}, {Duration(time.Hour + 5*time.Minute), "1h5m"}, {Duration(-time.Minute), "-1m"},
		{Duration(76 * time.Hour), "3d4h"}, {Duration(48 * time.Hour), "2d"}, {Duration(24*time.Hour - time.Second), "1d"},
		{resource.Bytes(0), "0 B"}, {resource.Bytes(999), "999 B"}, {resource.Bytes(12_300), "12 KB"}, {resource.Bytes(1_260_000), "1.3 MB"}, {resource.Bytes(999_999), "1 MB"}, {resource.Bytes(5e18), "5 EB"}, {resource.Bytes(-2000), "-2 KB"},
		{Ago(time.Time{}, now), "never"}, {Ago(now.Add(-3*time.Second), now), "just now"}, {Ago(now.Add(-time.Minute), now), "1 minute ago"},
		{Ago(now.Add(-47*time.Hour), now), "47 hours ago"}, {Ago(now.Add(-120*time.Hour), now), "5 days ago"},
		{Ago(now.Add(-40*24*time.Hour), now), "2026-01-21"}, {Ago(now.Add(2*time.Hour), now), "in 2 hours"},
		{Count(0), "0"}, {Count(999), "999"}, {Count(9988), "9,988"}, {Count(-1234567), "-1,234,567"},
		{Number(0.95321), "0.9532"}, {Number(300), "300"}, {Number(1e-7), "1e-07"}, {Number(math.NaN()), "NaN"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}
