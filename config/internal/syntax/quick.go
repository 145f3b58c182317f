package syntax

import (
	"bytes"

	"github.com/hashicorp/hcl/v2"
)

// verdict is how the quick scan ended.
type verdict int

const (
	scanned verdict = iota // everything was followed and is within the limits
	refused                // a limit was passed: see diag
	unsure                 // something that only the real lexer follows
)

// Frames of the quick scan: what the innermost open bracket is.
const (
	frameParen = '('
	frameBrack = '['
	frameBrace = '{' // a block or an object: newlines separate
	frameFor   = 'f' // a for expression in braces: newlines do not
	frameInter = '$' // a template interpolation
	frameQuote = '"'
)

// scanner follows one file byte by byte. It knows the plain part of the
// language — comments, quoted strings with interpolations, brackets, numbers —
// and gives up (unsure) at anything else, so that it never counts less than the
// real lexer would.
type scanner struct {
	src  []byte
	file string
	lim  Limits
	i    int

	line, lineStart int
	tokens          int
	prefix, chain   int
	frames          []byte
	chains          []int

	pieces     []piece
	pieceStart hcl.Pos
	diag       *hcl.Diagnostic
}

func (s *scanner) run() verdict {
	s.pieceStart = hcl.InitialPos
	if len(s.src) > 0 && s.src[0] == 0xEF {
		return unsure
	}
	for s.i < len(s.src) {
		var v verdict
		if n := len(s.frames); n > 0 && s.frames[n-1] == frameQuote {
			v = s.quoted()
		} else {
			v = s.code()
		}
		if v != scanned {
			return v
		}
		switch {
		case s.tokens > s.lim.Tokens:
			return s.refuse("Too many tokens", "The file holds more than %d tokens; split it into several files.", s.lim.Tokens)
		case len(s.frames) > s.lim.Depth:
			return s.refuse("Nested too deeply", "This is nested deeper than %d levels; move inner parts into locals.", s.lim.Depth)
		case s.prefix > s.lim.PrefixRun:
			return s.refuse("Too many operators in a row", "More than %d prefix operators stand in a row here; two cancel each other out.", s.lim.PrefixRun)
		case s.chain > s.lim.Chain:
			return s.refuse("Expression too long", "More than %d operators and operands stand in one expression here; split it with locals.", s.lim.Chain)
		}
	}
	if len(s.frames) > 0 {
		return unsure
	}
	return scanned
}

func (s *scanner) refuse(summary, detail string, n int) verdict {
	at := max(s.i-1, 0)
	s.diag = limit(s.file, hcl.Pos{Line: s.line, Column: at - s.lineStart + 1, Byte: at}, summary, detail, n)
	return refused
}

func (s *scanner) open(frame byte) {
	s.frames = append(s.frames, frame)
	s.chains = append(s.chains, s.chain+1)
	s.chain, s.prefix = 0, 0
	s.tokens++
}

// close pops the frame that c ends; false when it is not the innermost one.
func (s *scanner) close(c byte) bool {
	n := len(s.frames)
	if n == 0 {
		return false
	}
	switch f := s.frames[n-1]; {
	case c == ')' && f == frameParen, c == ']' && f == frameBrack, c == '"' && f == frameQuote,
		c == '}' && (f == frameBrace || f == frameFor || f == frameInter):
	default:
		return false
	}
	s.frames, s.chain, s.chains = s.frames[:n-1], s.chains[n-1], s.chains[:n-1]
	s.prefix = 0
	s.tokens++
	return true
}

// code reads one token outside of strings.
func (s *scanner) code() verdict {
	c := s.src[s.i]
	s.i++
	switch {
	case c == ' ' || c == '\t':
	case c == '\n':
		s.newline()
	case c == '\r':
		if s.i >= len(s.src) || s.src[s.i] != '\n' {
			return unsure
		}
	case isIdentStart(c):
		for s.i < len(s.src) && isIdentPart(s.src[s.i]) {
			s.i++
		}
		if s.i < len(s.src) && s.src[s.i] >= 0x80 {
			return unsure
		}
		s.operand()
	case c >= '0' && c <= '9':
		return s.number()
	case c == '"':
		s.open(frameQuote)
		s.tokens++
	case c == '(' || c == '[':
		s.open(c)
	case c == '{':
		s.open(s.brace())
	case c == ')' || c == ']' || c == '}':
		if !s.close(c) {
			return unsure
		}
	case c == ',':
		s.tokens++
		s.chain, s.prefix = 0, 0
	case c == '#', c == '/' && s.peek('/'):
		for s.i < len(s.src) && s.src[s.i] != '\n' {
			s.i++
		}
	case c == '/' && s.peek('*'):
		return s.comment()
	case c == '<' && s.peek('<'):
		return unsure
	case c == '!' && !s.peek('='), c == '-':
		s.tokens++
		s.chain++
		s.prefix++
	case c == '+', c == '*', c == '/', c == '%', c == '=', c == '!', c == '<', c == '>',
		c == '&', c == '|', c == '?', c == ':', c == '.':
		s.operand()
	default:
		return unsure
	}
	return scanned
}

func (s *scanner) operand() {
	s.tokens++
	s.chain++
	s.prefix = 0
}

func (s *scanner) peek(c byte) bool { return s.i < len(s.src) && s.src[s.i] == c }

// newline ends a line: a separator at the top level and in blocks and objects,
// and where a piece may end.
func (s *scanner) newline() {
	s.line++
	s.lineStart = s.i
	s.tokens++
	if n := len(s.frames); n == 0 || s.frames[n-1] == frameBrace {
		s.chain, s.prefix = 0, 0
	}
	if len(s.frames) == 0 && s.i-s.pieceStart.Byte >= pieceBytes {
		s.pieces = append(s.pieces, piece{s.pieceStart, s.i})
		s.pieceStart = hcl.Pos{Line: s.line, Column: 1, Byte: s.i}
	}
}

// brace tells a for expression from a block or object, by the word after it.
func (s *scanner) brace() byte {
	j := s.i
	for j < len(s.src) {
		switch c := s.src[j]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			j++
			continue
		case c == '#', c == '/' && j+1 < len(s.src) && s.src[j+1] == '/':
			for j < len(s.src) && s.src[j] != '\n' {
				j++
			}
			continue
		case c == '/' && j+1 < len(s.src) && s.src[j+1] == '*':
			end := bytes.Index(s.src[j+2:], []byte("*/"))
			if end < 0 {
				return frameFor
			}
			j += end + 4
			continue
		}
		break
	}
	if j+3 < len(s.src) && string(s.src[j:j+3]) == "for" && !isIdentPart(s.src[j+3]) {
		return frameFor
	}
	return frameBrace
}

func (s *scanner) comment() verdict {
	for s.i++; s.i+1 < len(s.src); s.i++ {
		switch {
		case s.src[s.i] == '\n':
			s.line++
			s.lineStart = s.i + 1
		case s.src[s.i] == '*' && s.src[s.i+1] == '/':
			s.i += 2
			return scanned
		}
	}
	return unsure
}

// number reads a literal; its exponent is checked before anything parses it.
func (s *scanner) number() verdict {
	start := s.i - 1
	for s.i < len(s.src) {
		c := s.src[s.i]
		sign := (c == '+' || c == '-') && (s.src[s.i-1] == 'e' || s.src[s.i-1] == 'E')
		if !sign && c != '.' && c != 'e' && c != 'E' && (c < '0' || c > '9') {
			break
		}
		s.i++
	}
	if big(s.src[start:s.i], s.lim.Exponent) {
		return s.refuse("Number out of range", "Numbers go up to 1e%d; write a smaller one.", s.lim.Exponent)
	}
	s.operand()
	return scanned
}

// quoted reads inside a quoted string up to its end or to an interpolation.
func (s *scanner) quoted() verdict {
	for s.i < len(s.src) {
		c := s.src[s.i]
		s.i++
		switch c {
		case '"':
			s.close('"')
			s.operand()
			return scanned
		case '\\':
			if s.i >= len(s.src) || s.src[s.i] == '\n' || s.src[s.i] == '\r' {
				return unsure
			}
			s.i++
		case '\n':
			return unsure
		case '%':
			if s.peek('{') || s.peek('%') {
				return unsure
			}
		case '$':
			switch {
			case s.peek('$'):
				return unsure
			case s.peek('{'):
				s.i++
				s.open(frameInter)
				s.tokens++
				return scanned
			}
		}
	}
	return unsure
}

func isIdentStart(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
}

func isIdentPart(c byte) bool {
	return isIdentStart(c) || c >= '0' && c <= '9' || c == '-'
}
