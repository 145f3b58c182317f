package state

import (
	"sync"

	"github.com/zclconf/go-cty/cty"
)

// Decoder decodes records' outputs and remembers them: a plan asks for those of
// a block as often as others refer to it, first to refresh and then to plan. The
// zero Decoder is ready, and a nil one remembers nothing. It may be used by
// several goroutines at once.
type Decoder struct{ byRecord sync.Map }

// Outputs decodes a record's outputs as type t; callers give one record the same
// type each time. NilVal means that the record has none, or none that can be
// read as t.
func (d *Decoder) Outputs(rec *Record, t cty.Type) cty.Value {
	if rec == nil || len(rec.Outputs) == 0 {
		return cty.NilVal
	}
	if d == nil {
		return decodeOutputs(rec, t)
	}
	if v, ok := d.byRecord.Load(rec); ok {
		if cv, ok := v.(cty.Value); ok {
			return cv
		}
	}
	v := decodeOutputs(rec, t)
	d.byRecord.Store(rec, v)
	return v
}

func decodeOutputs(rec *Record, t cty.Type) cty.Value {
	v, err := DecodeValue(rec.Outputs, t)
	if err != nil {
		return cty.NilVal
	}
	return v
}
