package report

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"sync"

	"github.com/continuo-ml/continuo/resource"
)

// Events writes events as JSON, one a line. It may be used by several
// goroutines at once.
type Events struct {
	mu  sync.Mutex
	enc *json.Encoder
	err error
}

// EventJSON writes events to w.
func EventJSON(w io.Writer) *Events {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return &Events{enc: enc}
}

// eventLine shadows the numbers of an event, which may be what JSON cannot say:
// a loss is NaN just when it matters most.
type eventLine struct {
	resource.Event
	Step    any            `json:"step,omitempty"`
	Of      any            `json:"of,omitempty"`
	Values  map[string]any `json:"values,omitempty"`
	Seconds any            `json:"seconds,omitempty"`
	Data    map[string]any `json:"data,omitempty"`
}

// Handle writes one event. Numbers that are not finite are null. After a write
// has failed nothing more is written; see Close.
func (e *Events) Handle(ev resource.Event) {
	line := eventLine{Event: ev, Step: numberOrNil(ev.Step), Of: numberOrNil(ev.Of), Seconds: numberOrNil(ev.Seconds)}
	if len(ev.Values) > 0 {
		line.Values = make(map[string]any, len(ev.Values))
		for k, f := range ev.Values {
			line.Values[k] = finite(f)
		}
	}
	if len(ev.Data) > 0 {
		line.Data, _ = finite(ev.Data).(map[string]any)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err == nil {
		if err := e.enc.Encode(line); err != nil {
			e.err = fmt.Errorf("write event: %w", err)
		}
	}
}

// Close returns the first error of writing; it does not close the writer.
func (e *Events) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}

func numberOrNil(f float64) any {
	if f == 0 {
		return nil
	}
	return finite(f)
}

// finite replaces numbers that JSON has no word for by null, at any depth.
func finite(v any) any {
	switch x := v.(type) {
	case float64:
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return nil
		}
	case map[string]float64:
		out := make(map[string]any, len(x))
		for k, e := range x {
			out[k] = finite(e)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(x))
		for k, e := range x {
			out[k] = finite(e)
		}
		return out
	case []any:
		out := make([]any, len(x))
		for i, e := range x {
			out[i] = finite(e)
		}
		return out
	}
	return v
}
