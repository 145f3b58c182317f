package modelformat

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode"
)

// Limits of one pickle.
const (
	maxOps     = 4_000_000
	maxBytes   = 256 << 20 // read, arrays included
	maxStack   = 1 << 18
	maxKept    = 16 << 20 // text that is remembered
	maxString  = 512      // longer text cannot be a name, and is not remembered
	maxImports = 256
	maxLine    = 64 << 10
	maxNested  = 8
)

var (
	errLimit  = errors.New("it is larger than what is looked at")
	errStream = errors.New("its opcodes make no sense")
)

// scan follows the opcodes of a pickle as far as it must to know which names it imports: text, tuples and
// dictionaries of text, and the memo. Everything else is a nil on the stack. Nothing is ever called.
type scan struct {
	r       *bufio.Reader
	read    int64
	ops     int
	kept    int
	stack   []any
	memo    map[uint64]any
	imports map[string]bool
	vague   bool // a name was not written in the stream, or there were too many
	guessed bool // an array's size may be another: records can hold objects
	nested  int
}

type (
	mark   struct{}
	tuple  []any
	global string // module.name
	// object is an instance of class, and a dtype's instance knows its first argument.
	object struct {
		class global
		arg   string
	}
	dict map[string]any
)

func newScan(r io.Reader) *scan {
	return &scan{r: bufio.NewReaderSize(r, 64<<10), memo: map[uint64]any{}, imports: map[string]bool{}}
}

func (s *scan) names() []string { return slices.Sorted(maps.Keys(s.imports)) }

// run reads one pickle up to its STOP.
func (s *scan) run() error {
	s.stack, s.memo = s.stack[:0], map[uint64]any{}
	for {
		op, err := s.byte()
		if err != nil {
			return err
		}
		if s.ops++; s.ops > maxOps {
			return errLimit
		}
		if op == '.' {
			return nil
		}
		if err := s.step(op); err != nil {
			return err
		}
		if len(s.stack) > maxStack || len(s.memo) > maxStack || s.kept > maxKept {
			return errLimit
		}
	}
}

func (s *scan) step(op byte) error {
	switch argumentOf(op) {
	case argNone:
		return s.plain(op)
	case arg1:
		return s.fixed(op, 1)
	case arg2:
		return s.fixed(op, 2)
	case arg4:
		return s.fixed(op, 4)
	case arg8:
		return s.fixed(op, 8)
	case argLine:
		return s.lineOp(op)
	case argTwoLines:
		return s.globalOp(op)
	case argText1:
		return s.text(1)
	case argText4:
		return s.text(4)
	case argText8:
		return s.text(8)
	case argData1:
		return s.data(1)
	case argData4:
		return s.data(4)
	case argData8:
		return s.data(8)
	case argInvalid:
	}
	return fmt.Errorf("%w: 0x%02x at byte %d is none", errStream, op, s.read-1)
}

func (s *scan) byte() (byte, error) {
	b, err := s.r.ReadByte()
	if err != nil {
		return 0, ended(err)
	}
	if s.read++; s.read > maxBytes {
		return 0, errLimit
	}
	return b, nil
}

func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// number reads n bytes, least significant first.
func (s *scan) number(n int) (uint64, error) {
	var b [8]byte
	if _, err := io.ReadFull(s.r, b[:n]); err != nil {
		return 0, ended(err)
	}
	s.read += int64(n)
	return binary.LittleEndian.Uint64(b[:]), nil
}

func (s *scan) skip(n uint64) error {
	if n > maxBytes || s.read+int64(n) > maxBytes {
		return errLimit
	}
	s.read += int64(n)
	for n > 0 {
		got, err := s.r.Discard(int(min(n, 1<<20)))
		n -= uint64(got)
		if err != nil {
			return ended(err)
		}
	}
	return nil
}

// line reads up to a line break, which it leaves out.
func (s *scan) line() (string, error) {
	var b []byte
	for {
		c, err := s.byte()
		if err != nil {
			return "", err
		}
		if c == '\n' {
			return string(b), nil
		}
		if len(b) == maxLine {
			return "", fmt.Errorf("%w: a line of over %d bytes", errStream, maxLine)
		}
		b = append(b, c)
	}
}

func (s *scan) fixed(op byte, n int) error {
	v, err := s.number(n)
	if err != nil {
		return err
	}
	switch op {
	case 'h', 'j':
		s.push(s.memo[v])
	case 'q', 'r':
		s.memo[v] = s.top()
	case 0x80:
		if v > 5 {
			return fmt.Errorf("%w: protocol %d", errStream, v)
		}
	case 0x82, 0x83, 0x84: // a name from a registry of the reading program
		s.vague = true
		s.push(nil)
	case 'K', 'M':
		s.push(int64(v))
	case 'J':
		s.push(int64(int32(v)))
	case 0x95: // a frame: only a hint for readers
	default:
		s.push(nil)
	}
	return nil
}

func (s *scan) lineOp(op byte) error {
	l, err := s.line()
	if err != nil {
		return err
	}
	switch op {
	case 'g', 'p':
		var n uint64
		if _, err := fmt.Sscanf(l, "%d", &n); err != nil {
			return fmt.Errorf("%w: memo entry %.20q", errStream, l)
		}
		if op == 'p' {
			s.memo[n] = s.top()
			return nil
		}
		s.push(s.memo[n])
	case 'S':
		s.push(s.keep(strings.Trim(l, `'"`)))
	case 'V':
		s.push(s.keep(l))
	case 'I':
		var n int64
		if _, err := fmt.Sscanf(l, "%d", &n); err != nil {
			return fmt.Errorf("%w: number %.20q", errStream, l)
		}
		s.push(n)
	default:
		s.push(nil)
	}
	return nil
}

func (s *scan) globalOp(op byte) error {
	module, err := s.line()
	if err != nil {
		return err
	}
	name, err := s.line()
	if err != nil {
		return err
	}
	if !plainName(module) || !plainName(name) {
		return fmt.Errorf("%w: %.40q and %.40q name no class", errStream, module, name)
	}
	if op == 'i' {
		s.popMark()
		s.push(object{class: s.imported(module, name)})
		return nil
	}
	s.push(s.imported(module, name))
	return nil
}

// plainName accepts what Python can import: identifiers with dots. Anything else is no pickle, or one made to confuse.
func plainName(n string) bool {
	return n != "" && len(n) <= maxString && !strings.ContainsFunc(n, func(r rune) bool {
		return r != '.' && r != '_' && r != '<' && r != '>' && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})
}

func (s *scan) imported(module, name string) global {
	g := global(module + "." + name)
	if len(s.imports) < maxImports {
		s.imports[string(g)] = true
	} else if !s.imports[string(g)] {
		s.vague = true
	}
	return g
}

func (s *scan) length(n int) (uint64, error) {
	v, err := s.number(n)
	if err == nil && v > maxBytes {
		err = errLimit
	}
	return v, err
}

func (s *scan) text(n int) error {
	size, err := s.length(n)
	if err != nil {
		return err
	}
	if size > maxString {
		s.push(nil)
		return s.skip(size)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(s.r, b); err != nil {
		return ended(err)
	}
	s.read += int64(size)
	s.push(s.keep(string(b)))
	return nil
}

func (s *scan) keep(t string) any {
	if len(t) > maxString {
		return nil
	}
	s.kept += len(t) + 16
	return t
}

func (s *scan) data(n int) error {
	size, err := s.length(n)
	if err != nil {
		return err
	}
	s.push(nil)
	return s.skip(size)
}
