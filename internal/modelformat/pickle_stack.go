package modelformat

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

func (s *scan) push(v any) { s.stack = append(s.stack, v) }

// pop takes the top off; a stack that is too short, which only a damaged or hostile stream has, gives nil.
func (s *scan) pop() any {
	if len(s.stack) == 0 {
		return nil
	}
	v := s.stack[len(s.stack)-1]
	s.stack = s.stack[:len(s.stack)-1]
	return v
}

func (s *scan) top() any {
	if len(s.stack) == 0 {
		return nil
	}
	return s.stack[len(s.stack)-1]
}

// popMark takes everything down to the last mark.
func (s *scan) popMark() []any {
	for i := len(s.stack) - 1; i >= 0; i-- {
		if _, is := s.stack[i].(mark); is {
			items := s.stack[i+1:]
			s.stack = s.stack[:i]
			return items
		}
	}
	items := s.stack
	s.stack = s.stack[:0]
	return items
}

// maxItems is the longest tuple or dictionary whose items are remembered.
const maxItems = 64

// take copies items for a tuple; a long one is not remembered.
func take(items []any) any {
	if len(items) > maxItems {
		return nil
	}
	return append(make(tuple, 0, len(items)), items...)
}

// plain performs an opcode without argument.
func (s *scan) plain(op byte) error {
	switch op {
	case '(':
		s.push(mark{})
	case '0', 'a':
		s.pop()
	case '1', 'e', 0x90:
		s.popMark()
	case '2':
		s.push(s.top())
	case '}':
		s.push(dict{})
	case ')':
		s.push(tuple{})
	case 't':
		s.push(take(s.popMark()))
	case 0x85, 0x86, 0x87:
		n := min(int(op-0x84), len(s.stack))
		items := take(s.stack[len(s.stack)-n:])
		s.stack = s.stack[:len(s.stack)-n]
		s.push(items)
	case 'd':
		d := dict{}
		d.set(s.popMark())
		s.push(d)
	case 'l', 0x91:
		s.popMark()
		s.push(nil)
	case 's':
		v, k := s.pop(), s.pop()
		s.into([]any{k, v})
	case 'u':
		s.into(s.popMark())
	case 0x94:
		s.memo[uint64(len(s.memo))] = s.top()
	case 0x98: // READONLY_BUFFER changes nothing here
	default:
		return s.call(op)
	}
	return nil
}

// call performs the opcodes that make or name things; what is none of them pushes something of no interest.
func (s *scan) call(op byte) error {
	switch op {
	case 0x93:
		name, module := s.pop(), s.pop()
		m, isM := module.(string)
		n, isN := name.(string)
		if !isM || !isN || !plainName(m) || !plainName(n) {
			s.vague = true
			s.push(nil)
			return nil
		}
		s.push(s.imported(m, n))
	case 'R', 0x81:
		args, class := s.pop(), s.pop()
		s.push(instance(class, args))
	case 0x92:
		s.pop()
		args, class := s.pop(), s.pop()
		s.push(instance(class, args))
	case 'o':
		items := s.popMark()
		if len(items) == 0 {
			s.push(nil)
			return nil
		}
		s.push(instance(items[0], nil))
	case 'b':
		return s.build()
	case 'Q':
		s.pop()
		s.push(nil)
	default:
		s.push(nil)
	}
	return nil
}

func instance(class, args any) any {
	g, is := class.(global)
	if !is {
		return nil
	}
	o := object{class: g}
	if a, is := args.(tuple); is && len(a) > 0 {
		o.arg, _ = a[0].(string)
	}
	return o
}

// into adds pairs to the dictionary on top.
func (s *scan) into(pairs []any) {
	if d, is := s.top().(dict); is {
		d.set(pairs)
	}
}

func (d dict) set(pairs []any) {
	for i := 0; i+1 < len(pairs) && len(d) < maxItems; i += 2 {
		if k, is := pairs[i].(string); is {
			d[k] = pairs[i+1]
		}
	}
}

// arrayWrapper is the class after whose state joblib writes an array's bytes into the midst of the pickle
// (joblib/numpy_pickle.py, NumpyArrayWrapper).
const arrayWrapper = global("joblib.numpy_pickle.NumpyArrayWrapper")

func (s *scan) build() error {
	state := s.pop()
	o, is := s.top().(object)
	if !is || o.class != arrayWrapper {
		return nil
	}
	d, _ := state.(dict)
	size, objects, ok := arrayBytes(d)
	if !ok {
		return fmt.Errorf("%w: an array's shape or type cannot be read", errStream)
	}
	if objects {
		return s.inner()
	}
	s.guessed = s.guessed || d.record()
	if align := d["numpy_array_alignment_bytes"]; align != nil {
		pad, err := s.byte()
		if err != nil {
			return err
		}
		if err := s.skip(uint64(pad)); err != nil {
			return err
		}
	}
	return s.skip(size)
}

// inner follows the pickle that joblib writes for an array of objects, then goes on with the outer one.
func (s *scan) inner() error {
	if s.nested++; s.nested > maxNested {
		return errLimit
	}
	stack, memo := s.stack, s.memo
	s.stack = nil
	err := s.run()
	s.stack, s.memo = stack, memo
	s.nested--
	return err
}

// record reports whether an array's items are records, of which the name of the dtype does not tell whether they hold
// objects.
func (d dict) record() bool {
	t, _ := d["dtype"].(object)
	return strings.HasPrefix(t.arg, "V")
}

// arrayBytes is the size of an array's data by its shape and the name of its dtype, such as f8, U12 or V64.
func arrayBytes(d dict) (size uint64, objects, ok bool) {
	t, isType := d["dtype"].(object)
	shape, isShape := d["shape"].(tuple)
	if !isType || !isShape || len(t.arg) < 2 {
		return 0, false, false
	}
	n, err := strconv.ParseUint(t.arg[1:], 10, 32)
	if err != nil {
		return 0, false, false
	}
	switch t.arg[0] {
	case 'O':
		return 0, true, true
	case 'U':
		n *= 4
	}
	for _, dim := range shape {
		length, is := dim.(int64)
		if !is || length < 0 {
			return 0, false, false
		}
		over, product := bits.Mul64(n, uint64(length))
		if over != 0 {
			return 0, false, false
		}
		n = product
	}
	return n, false, true
}
