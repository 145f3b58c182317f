package watch

import (
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/internal/gateway/capture"
)

// request is a captured request as monitors see it.
type request struct {
	seq         uint64
	id          string
	time        time.Time
	method      string
	status      int
	latency     time.Duration
	instances   []capture.Instance
	predictions []any
	// inference says that the request asked for predictions and its body could be read.
	inference bool
}

// readRequest reads a record. decode asks for its instances, which costs more than the rest.
func readRequest(r capture.Record, decode bool) request {
	q := request{
		seq: r.Seq, id: r.ID, time: r.Time, method: r.Method, status: r.Status,
		latency: time.Duration(r.LatencyMS * float64(time.Millisecond)),
	}
	if !decode || !q.answered() {
		return q
	}
	instances, predictions, err := capture.Instances(r)
	if err != nil { // not an inference request, or one that nobody could read
		return q
	}
	q.instances, q.predictions, q.inference = instances, predictions, true
	return q
}

// answered says that the client got what it asked for.
func (q request) answered() bool { return q.status >= 200 && q.status < 300 }

// work says that the request made the model work, other than a probe of its health or of its metadata.
func (q request) work() bool {
	switch q.method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return false
	}
	return true
}

// asNumber reads a feature's or a prediction's value as a number. Booleans are 0 and 1; text counts if it spells a number.
func asNumber(v any) (float64, bool) {
	var f float64
	switch v := v.(type) {
	case float64:
		f = v
	case bool:
		if v {
			f = 1
		}
	case string:
		var err error
		s := strings.TrimSpace(v)
		if f, err = strconv.ParseFloat(s, 64); err != nil {
			switch strings.ToLower(s) {
			case "true":
				f = 1
			case "false":
				f = 0
			default:
				return 0, false
			}
		}
	default:
		return 0, false
	}
	return f, !math.IsNaN(f) && !math.IsInf(f, 0)
}

// asText reads a value as a category, spelt as a file would.
func asText(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, v != ""
	case bool:
		return strconv.FormatBool(v), true
	case float64:
		if math.IsNaN(v) {
			return "", false
		}
		return strconv.FormatFloat(v, 'g', -1, 64), true
	}
	return "", false
}

// errNoScalar: a prediction is a list or an object without a field that is known to hold the answer.
var errNoScalar = errors.New("predictions are neither values nor objects with a field prediction, label or class")

// answer is the one value of a prediction: the prediction itself, or the field of an object that says what was predicted.
func answer(v any, names ...string) (any, error) {
	switch v := v.(type) {
	case map[string]any:
		for _, n := range append(names, "prediction", "label", "class") {
			if a, ok := v[n]; ok && n != "" {
				return answer(a)
			}
		}
		return nil, errNoScalar
	case []any:
		if len(v) == 1 {
			return answer(v[0])
		}
		return nil, errNoScalar
	}
	return v, nil
}
