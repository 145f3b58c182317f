package report

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Duration renders d with the two units that matter: "320ms", "3.2s", "2m30s",
// "1h5m", "3d4h".
func Duration(d time.Duration) string {
	if d < 0 {
		return "-" + Duration(-d)
	}
	switch {
	case d < time.Millisecond:
		return "0s"
	case d < time.Second-time.Millisecond/2:
		return strconv.FormatInt(d.Round(time.Millisecond).Milliseconds(), 10) + "ms"
	case d < 10*time.Second-50*time.Millisecond:
		return strings.TrimSuffix(strconv.FormatFloat(d.Seconds(), 'f', 1, 64), ".0") + "s"
	}
	sec := int64(d.Round(time.Second) / time.Second)
	switch {
	case sec < 60:
		return fmt.Sprintf("%ds", sec)
	case sec < 3600:
		return two(sec/60, "m", sec%60, "s")
	}
	if mins := (sec + 30) / 60; mins < 24*60 {
		return two(mins/60, "h", mins%60, "m")
	}
	hours := (sec + 1800) / 3600
	return two(hours/24, "d", hours%24, "h")
}

func two(a int64, unit string, b int64, small string) string {
	if b == 0 {
		return fmt.Sprintf("%d%s", a, unit)
	}
	return fmt.Sprintf("%d%s%d%s", a, unit, b, small)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// Ago renders how long before now t was: "just now", "3 minutes ago", "2 hours
// ago", "5 days ago", and the date when that is more than 30 days. A zero t is
// "never"; one in the future is "in 2 hours".
func Ago(t, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	d := now.Sub(t)
	if d < 0 {
		if d > -time.Minute {
			return "now"
		}
		return "in " + longDuration(-d)
	}
	switch {
	case d < 10*time.Second:
		return "just now"
	case d > 30*24*time.Hour:
		return t.UTC().Format("2006-01-02")
	}
	return longDuration(d) + " ago"
}

// ShortAgo is [Ago] for tables: "now", "3m ago", "2h ago", "5d ago".
func ShortAgo(t, now time.Time) string {
	d := now.Sub(t)
	switch {
	case t.IsZero():
		return ""
	case d < 10*time.Second:
		return "now"
	case d < time.Minute:
		return fmt.Sprintf("%ds ago", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm ago", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh ago", d/time.Hour)
	case d < 100*24*time.Hour:
		return fmt.Sprintf("%dd ago", d/(24*time.Hour))
	}
	return t.UTC().Format("2006-01-02")
}

func longDuration(d time.Duration) string {
	switch {
	case d < time.Minute:
		return plural(int(d/time.Second), "second")
	case d < time.Hour:
		return plural(int(d/time.Minute), "minute")
	case d < 48*time.Hour:
		return plural(int(d/time.Hour), "hour")
	}
	return plural(int(d/(24*time.Hour)), "day")
}

// Count renders n with commas between thousands: "9,988".
func Count(n int) string {
	s := strconv.Itoa(n)
	neg := strings.HasPrefix(s, "-")
	s = strings.TrimPrefix(s, "-")
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	if neg {
		return "-" + s
	}
	return s
}

func plural(n int, what string) string { return Plural(n, what, what+"s") }

// Plural renders a number with its noun: "1 block", "2 blocks".
func Plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return Count(n) + " " + many
}

// Number renders a measurement with four significant digits, whole numbers
// whole: "0.9532", "300".
func Number(f float64) string {
	if f == math.Trunc(f) && math.Abs(f) < 1e9 {
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	return strconv.FormatFloat(f, 'g', 4, 64)
}

// Metrics renders up to limit values by name, "accuracy 0.95, recall 0.9"; limit 0
// means all.
func Metrics(values map[string]float64, limit int) string {
	names := slices.Sorted(maps.Keys(values))
	more := 0
	if limit > 0 && len(names) > limit {
		more = len(names) - limit
		names = names[:limit]
	}
	parts := make([]string, len(names))
	for i, k := range names {
		parts[i] = k + " " + Number(values[k])
	}
	if more > 0 {
		parts = append(parts, fmt.Sprintf("%d more", more))
	}
	return strings.Join(parts, ", ")
}
