package modelformat

import (
	"encoding/binary"
	"errors"
	"io"
	"path"
	"strings"
)

// maxFields bounds the fields of a protobuf message that are looked at.
const maxFields = 100_000

// field is one field of a protobuf message: its number, wire type, and the value of a number.
type field struct {
	number, wire int
	value        uint64
}

var errProto = errors.New("it is no protobuf message")

// fields walks the top level of a message without reading what is nested in it. It errors when the message goes on
// behind the end of the file, or f does.
func fields(in *input, f func(field) error) error {
	off := int64(0)
	for n := 0; off < in.size; n++ {
		if n == maxFields {
			return errProto
		}
		key, w, err := uvarint(in, off)
		if err != nil {
			return err
		}
		off += int64(w)
		fl := field{number: int(key >> 3), wire: int(key & 7)}
		if fl.number == 0 || key>>3 > 1<<29 {
			return errProto
		}
		size := int64(0)
		switch fl.wire {
		case 0, 2:
			v, w, err := uvarint(in, off)
			if err != nil {
				return err
			}
			off += int64(w)
			if fl.value = v; fl.wire == 2 {
				if v > uint64(in.size-off) {
					return io.ErrUnexpectedEOF
				}
				size = int64(v)
			}
		case 1:
			size = 8
		case 5:
			size = 4
		default:
			return errProto
		}
		if err := f(fl); err != nil {
			return err
		}
		if off += size; off > in.size {
			return io.ErrUnexpectedEOF
		}
	}
	return nil
}

func uvarint(in *input, off int64) (uint64, int, error) {
	var b [binary.MaxVarintLen64]byte
	n, err := in.r.ReadAt(b[:], off)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, 0, err
	}
	v, w := binary.Uvarint(b[:n])
	switch {
	case w > 0:
		return v, w, nil
	case w == 0:
		return 0, 0, io.ErrUnexpectedEOF
	}
	return 0, 0, errProto
}

// onnxFields are the wire types of ModelProto's fields (onnx/onnx.proto).
var onnxFields = map[int]int{1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}

// onnx recognises a ModelProto: an ir_version and a graph.
func (d *detector) onnx(in *input) (bool, error) {
	named := in.ext() == ".onnx"
	if !named && (len(in.head) < 2 || in.head[0] != 8 || in.head[1] == 0 || in.head[1] > 32) {
		return false, nil
	}
	var version uint64
	graph := false
	err := fields(in, func(f field) error {
		if wire, known := onnxFields[f.number]; !known || wire != f.wire {
			return errProto
		}
		if f.number == 1 {
			version = f.value
		}
		graph = graph || f.number == 7
		return nil
	})
	switch {
	case err == nil && version > 0 && graph:
		d.is(in, ONNX, "a protobuf with ir_version %d and a graph", version)
		return true, nil
	case !named:
		return false, nil
	case errors.Is(err, io.ErrUnexpectedEOF):
		return true, in.damaged("the ONNX model ends in its midst")
	case err != nil:
		return true, in.damaged("no ONNX model: %v", err)
	}
	return true, in.damaged("no ONNX model: it has no ir_version or no graph")
}

// savedModel recognises TensorFlow's SavedModel by its file's name and content.
func (d *detector) savedModel(in *input) (bool, error) {
	switch path.Base(in.name) {
	case "saved_model.pb":
	case "saved_model.pbtxt":
		d.whole = append(d.whole, Evidence{in.name, TensorFlow, "a SavedModel in text form"})
		return true, nil
	default:
		return false, nil
	}
	graphs := 0
	err := fields(in, func(f field) error {
		switch {
		case f.number == 1 && f.wire == 0:
		case f.number == 2 && f.wire == 2:
			graphs++
		default:
			return errProto
		}
		return nil
	})
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return true, in.damaged("the SavedModel ends in its midst")
	case err != nil || graphs == 0:
		return true, in.damaged("no SavedModel: it holds no graph")
	}
	d.whole = append(d.whole, Evidence{in.name, TensorFlow, "a SavedModel"})
	return true, nil
}

// under reports whether a file lies in the folder of another.
func under(name, of string) bool {
	dir := path.Dir(of)
	return dir == "." || strings.HasPrefix(name, dir+"/")
}
