package capture

import (
	"errors"
	"fmt"
)

// ErrNotInference says that a record is neither a KServe v1 nor an Open
// Inference Protocol v2 request; it is no fault of the record.
var ErrNotInference = errors.New("not an inference request")

// Instance is one row that a model was asked about: either named values or a
// list in the order of the model's features.
type Instance struct {
	Named  map[string]any
	Values []any
}

// Instances returns the rows of a request and the predictions of its answer,
// in order. Numbers are float64 and may be NaN or infinite; a missing or
// unreadable answer gives no predictions, and the counts may differ, because
// a model may answer what it likes. KServe v1: instances/predictions. Open
// Inference Protocol v2: one tensor gives lists, several give named values.
// The error is ErrNotInference, or says what is wrong with the request.
func Instances(r Record) ([]Instance, []any, error) {
	if r.Request.Truncated {
		return nil, nil, fmt.Errorf("record %d: the request is longer than the capture limit", r.Seq)
	}
	if len(r.Request.Content()) == 0 {
		return nil, nil, ErrNotInference
	}
	decoded, err := DecodeJSON(r.Request.Content())
	if err != nil {
		return nil, nil, ErrNotInference
	}
	request, ok := decoded.(map[string]any)
	if !ok {
		return nil, nil, ErrNotInference
	}
	answer := answerObject(r.Response)
	if list, ok := request["instances"].([]any); ok {
		predictions, _ := answer["predictions"].([]any)
		return listedInstances(list), predictions, nil
	}
	inputs, ok := request["inputs"].([]any)
	if !ok {
		return nil, nil, ErrNotInference
	}
	rows, err := tensorRows(inputs)
	if err != nil {
		return nil, nil, fmt.Errorf("record %d: inputs: %w", r.Seq, err)
	}
	outputs, _ := answer["outputs"].([]any)
	return rows, tensorPredictions(outputs), nil
}

func answerObject(b Body) map[string]any {
	if b.Truncated {
		return nil
	}
	decoded, err := DecodeJSON(b.Content())
	if err != nil {
		return nil
	}
	object, _ := decoded.(map[string]any)
	return object
}

func listedInstances(list []any) []Instance {
	rows := make([]Instance, 0, len(list))
	for _, v := range list {
		switch v := v.(type) {
		case map[string]any:
			rows = append(rows, Instance{Named: v})
		case []any:
			rows = append(rows, Instance{Values: v})
		default: // a model of one feature may take bare values
			rows = append(rows, Instance{Values: []any{v}})
		}
	}
	return rows
}

// tensor is one input or output of the Open Inference Protocol, cut into rows.
type tensor struct {
	name string
	rows []any
}

func tensorRows(inputs []any) ([]Instance, error) {
	tensors := make([]tensor, 0, len(inputs))
	for i, in := range inputs {
		t, err := readTensor(in)
		if err != nil {
			return nil, fmt.Errorf("tensor %d: %w", i, err)
		}
		if i > 0 && len(t.rows) != len(tensors[0].rows) {
			return nil, fmt.Errorf("tensor %q has %d rows and %q has %d", t.name, len(t.rows), tensors[0].name, len(tensors[0].rows))
		}
		tensors = append(tensors, t)
	}
	if len(tensors) == 1 {
		return listedInstances(tensors[0].rows), nil
	}
	return namedRows(tensors), nil
}

func namedRows(tensors []tensor) []Instance {
	if len(tensors) == 0 {
		return nil
	}
	rows := make([]Instance, len(tensors[0].rows))
	for i := range rows {
		rows[i].Named = make(map[string]any, len(tensors))
		for _, t := range tensors {
			rows[i].Named[t.name] = t.rows[i]
		}
	}
	return rows
}

// tensorPredictions returns one value per row; several outputs give a map by
// name. Outputs that make no sense give none.
func tensorPredictions(outputs []any) []any {
	rows, err := tensorRows(outputs)
	if err != nil || len(outputs) == 0 {
		return nil
	}
	predictions := make([]any, len(rows))
	for i, r := range rows {
		switch {
		case r.Named != nil:
			predictions[i] = r.Named
		case len(r.Values) == 1:
			predictions[i] = r.Values[0]
		default:
			predictions[i] = r.Values
		}
	}
	return predictions
}

// readTensor cuts a tensor's data, flat or nested, along its first dimension.
// A row of one element is that element.
func readTensor(v any) (tensor, error) {
	object, ok := v.(map[string]any)
	if !ok {
		return tensor{}, errors.New("not an object")
	}
	name, _ := object["name"].(string)
	data, ok := object["data"].([]any)
	if !ok {
		return tensor{}, fmt.Errorf("%q has no data (the binary extension is not captured)", name)
	}
	flat := flatten(nil, data, 0)
	rows, width, err := rowShape(object["shape"], len(flat))
	if err != nil {
		return tensor{}, fmt.Errorf("%q: %w", name, err)
	}
	t := tensor{name: name, rows: make([]any, rows)}
	for i := range rows {
		row := flat[i*width : (i+1)*width]
		if width == 1 {
			t.rows[i] = row[0]
			continue
		}
		t.rows[i] = row
	}
	return t, nil
}

// rowShape returns how many rows of how many elements a shape has; their
// product is count.
func rowShape(shape any, count int) (rows, width int, err error) {
	dims, ok := shape.([]any)
	if !ok || len(dims) == 0 {
		return count, 1, nil // no shape: a vector
	}
	product := 1
	for i, d := range dims {
		f, ok := d.(float64)
		if !ok || f < 0 || f != float64(int(f)) || f > float64(count) && count > 0 {
			return 0, 0, fmt.Errorf("shape %v does not fit %d elements", dims, count)
		}
		if i == 0 {
			rows = int(f)
		}
		if product *= int(f); product > count {
			return 0, 0, fmt.Errorf("shape %v does not fit %d elements", dims, count)
		}
	}
	if product != count {
		return 0, 0, fmt.Errorf("shape %v does not fit %d elements", dims, count)
	}
	if rows == 0 {
		return 0, 1, nil
	}
	return rows, count / rows, nil
}

// flatten appends the leaves of nested lists in order; deeper than 16 is left
// as it is.
func flatten(dst, list []any, depth int) []any {
	for _, v := range list {
		if inner, ok := v.([]any); ok && depth < 16 {
			dst = flatten(dst, inner, depth+1)
			continue
		}
		dst = append(dst, v)
	}
	return dst
}
