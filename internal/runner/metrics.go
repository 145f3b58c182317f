package runner

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
)

const (
	maxMetricsBytes = 1 << 20
	maxMetricName   = 256
)

// Metrics is what the command wrote to ML_METRICS. Every number is finite.
type Metrics struct {
	Values map[string]float64 `json:"values"`
	// Slices holds metrics of parts of the data: column, value of that column, metric. It is the file's key `slices`.
	Slices map[string]map[string]map[string]float64 `json:"slices,omitempty"`
}

// ReadMetrics reads the metrics of the run in dir. The error names the key that is wrong, and wraps fs.ErrNotExist if there is no file.
func ReadMetrics(dir string) (Metrics, error) {
	f, err := openFolder(dir)
	if err != nil {
		return Metrics{}, err
	}
	path := f.path(metricsFile)
	b, err := readRegular(path, maxMetricsBytes)
	if errors.Is(err, os.ErrNotExist) {
		return Metrics{}, fmt.Errorf(`the command wrote no metrics (write {"accuracy": 0.95, …} to ML_METRICS): %w`, os.ErrNotExist)
	}
	if err != nil {
		return Metrics{}, fmt.Errorf("read metrics: %w", err)
	}
	m, err := ParseMetrics(b)
	if err != nil {
		return Metrics{}, fmt.Errorf("metrics %s: %w", path, err)
	}
	return m, nil
}

// ParseMetrics reads the content of a metrics file: an object of finite numbers, and under `slices` objects of them two levels deeper.
// A key given twice is an error, because a gate must not depend on which of them wins.
func ParseMetrics(b []byte) (Metrics, error) {
	if len(bytes.TrimSpace(b)) == 0 {
		return Metrics{}, errors.New("the file is empty")
	}
	p := metricsParser{d: json.NewDecoder(bytes.NewReader(quoteNonFinite(b)))}
	p.d.UseNumber()
	m := Metrics{Values: map[string]float64{}}
	if err := p.open(""); err != nil {
		return Metrics{}, err
	}
	err := p.members("", func(at, key string) error {
		if key != "slices" {
			return p.number(at, key, m.Values)
		}
		m.Slices = map[string]map[string]map[string]float64{}
		return p.slices(at, m.Slices)
	})
	if err != nil {
		return Metrics{}, err
	}
	if _, err := p.d.Token(); !errors.Is(err, io.EOF) {
		return Metrics{}, errors.New("something follows the closing brace; the file holds one JSON object")
	}
	return m, nil
}

type metricsParser struct{ d *json.Decoder }

// open reads the brace that begins the object at the key path.
func (p *metricsParser) open(at string) error {
	t, err := p.token()
	if err != nil {
		return err
	}
	if t != json.Delim('{') {
		return fmt.Errorf("%s is %s; an object is needed", place(at), describe(t))
	}
	return nil
}

// members calls on for each key of an object whose brace has been read, and reads the closing one.
func (p *metricsParser) members(at string, on func(at, key string) error) error {
	seen := map[string]bool{}
	for {
		t, err := p.token()
		if err != nil {
			return err
		}
		key, ok := t.(string)
		if !ok {
			return nil // The closing brace: the decoder lets nothing else stand here.
		}
		if word, ok := nonFinite(key); ok {
			return fmt.Errorf("%s has %s as a key; a key is a text in quotes", place(at), word)
		}
		where := key
		if at != "" {
			where = at + "." + key
		}
		switch {
		case key == "" || len(key) > maxMetricName:
			return fmt.Errorf("%s has a key of %d bytes; 1 to %d are allowed", place(at), len(key), maxMetricName)
		case seen[key]:
			return fmt.Errorf("%s is given twice", place(where))
		}
		seen[key] = true
		if err := on(where, key); err != nil {
			return err
		}
	}
}

func (p *metricsParser) slices(at string, into map[string]map[string]map[string]float64) error {
	if err := p.open(at); err != nil {
		return err
	}
	return p.members(at, func(at, column string) error {
		into[column] = map[string]map[string]float64{}
		if err := p.open(at); err != nil {
			return err
		}
		return p.members(at, func(at, value string) error {
			into[column][value] = map[string]float64{}
			if err := p.open(at); err != nil {
				return err
			}
			return p.members(at, func(at, key string) error { return p.number(at, key, into[column][value]) })
		})
	})
}

func (p *metricsParser) number(at, key string, into map[string]float64) error {
	t, err := p.token()
	if err != nil {
		return err
	}
	n, ok := t.(json.Number)
	if !ok {
		return fmt.Errorf("%s is %s; a finite number is needed", place(at), describe(t))
	}
	v, err := strconv.ParseFloat(n.String(), 64)
	if err != nil || math.IsInf(v, 0) || math.IsNaN(v) {
		return fmt.Errorf("%s is %s; a finite number is needed", place(at), clip(n.String(), 40))
	}
	into[key] = v
	return nil
}

func (p *metricsParser) token() (json.Token, error) {
	t, err := p.d.Token()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("not valid JSON at byte %d: %w", p.d.InputOffset(), err)
	}
	return t, nil
}

func place(at string) string {
	if at == "" {
		return "the file"
	}
	return strconv.Quote(at)
}

func describe(t json.Token) string {
	switch t := t.(type) {
	case json.Delim:
		if t == '[' {
			return "a list"
		}
		return "an object"
	case string:
		if word, ok := nonFinite(t); ok {
			return word
		}
		return "the text " + strconv.Quote(clip(t, 40))
	case bool:
		return strconv.FormatBool(t)
	case json.Number:
		return "the number " + clip(t.String(), 40)
	}
	return "null"
}

// mark stands before a non-finite number that was made a string. Only the words of an error depend on it.
const mark = "\x7f\x7fnon-finite "

func nonFinite(s string) (string, bool) {
	if len(s) > len(mark) && s[:len(mark)] == mark {
		return s[len(mark):], true
	}
	return "", false
}

// quoteNonFinite turns NaN, Infinity and -Infinity, which Python's json module writes although JSON does not have them, into strings, so
// that the error can name the key instead of a byte.
func quoteNonFinite(b []byte) []byte {
	if !bytes.Contains(b, []byte("NaN")) && !bytes.Contains(b, []byte("Infinity")) {
		return b
	}
	var out []byte
	inString := false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case inString && c == '\\' && i+1 < len(b):
			out = append(out, c, b[i+1])
			i++
			continue
		case c == '"':
			inString = !inString
		case !inString:
			if word := wordAt(b[i:]); word != "" {
				out = append(out, '"')
				out = append(out, mark+word...)
				out = append(out, '"')
				i += len(word) - 1
				continue
			}
		}
		out = append(out, b[i])
	}
	return out
}

func wordAt(b []byte) string {
	for _, w := range []string{"NaN", "Infinity", "-Infinity"} {
		if bytes.HasPrefix(b, []byte(w)) {
			return w
		}
	}
	return ""
}
