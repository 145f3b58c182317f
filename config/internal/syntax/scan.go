package syntax

import (
	"bytes"
	"fmt"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// Limits bound what a file may ask of the parser.
type Limits struct {
	Bytes     int // of one file
	Tokens    int // of one file
	Depth     int // of brackets, templates and template directives
	PrefixRun int // of `!` and `-` in front of one operand
	Chain     int // of tokens between two separators at one depth
	Exponent  int // of ten, of a number literal, either sign
}

// piece is a stretch of whole top-level lines.
type piece struct {
	start hcl.Pos
	end   int
}

// pieceBytes is the least size of a piece: small enough that two cores share a
// file of a megabyte, large enough that a piece costs nothing by itself.
const pieceBytes = 2 << 10

// Scan measures src, native syntax, against the limits. It returns nil or the
// diagnostics that say which limit was passed and where.
func Scan(src []byte, filename string, lim Limits) hcl.Diagnostics {
	_, diags := scanFile(src, filename, lim)
	return diags
}

// scanFile is Scan, and cuts the file into pieces that can be parsed apart.
func scanFile(src []byte, filename string, lim Limits) ([]piece, hcl.Diagnostics) {
	if d := checkBytes(src, filename, lim); d != nil {
		return nil, hcl.Diagnostics{d}
	}
	s := scanner{src: src, file: filename, lim: lim, line: 1}
	switch s.run() {
	case scanned:
		return append(s.pieces, piece{s.pieceStart, len(src)}), nil
	case refused:
		return nil, hcl.Diagnostics{s.diag}
	}
	// Something that the quick scan does not follow (a heredoc, a template
	// directive, a syntax error): let the real lexer count, if its token list
	// cannot grow beyond the limit.
	if n := tokensAtMost(src); n > lim.Tokens {
		return nil, hcl.Diagnostics{limit(filename, hcl.InitialPos, "Too many tokens", "The file holds more than %d tokens; split it into several files.", lim.Tokens)}
	}
	toks, _ := hclsyntax.LexConfig(src, filename, hcl.InitialPos)
	if d := checkTokens(toks, lim); d != nil {
		return nil, hcl.Diagnostics{d}
	}
	return []piece{{hcl.InitialPos, len(src)}}, nil
}

// ScanTemplate measures the template text of a JSON string.
func ScanTemplate(text []byte, rng hcl.Range, lim Limits) *hcl.Diagnostic {
	if n := tokensAtMost(text); n > lim.Tokens {
		return limit(rng.Filename, rng.Start, "Too many tokens", "The template holds more than %d tokens; split it.", lim.Tokens)
	}
	toks, _ := hclsyntax.LexTemplate(text, rng.Filename, rng.Start)
	return checkTokens(toks, lim)
}

func limit(filename string, at hcl.Pos, summary, detail string, args ...any) *hcl.Diagnostic {
	end := at
	end.Byte++
	end.Column++
	return &hcl.Diagnostic{
		Severity: hcl.DiagError, Summary: summary, Detail: fmt.Sprintf(detail, args...),
		Subject: &hcl.Range{Filename: filename, Start: at, End: end},
	}
}

// checkBytes refuses what no file may hold: too many bytes, bytes that are not
// UTF-8, NUL, and the invisible characters that show code in another order than
// it is read.
func checkBytes(src []byte, filename string, lim Limits) *hcl.Diagnostic {
	if len(src) > lim.Bytes {
		return limit(filename, hcl.InitialPos, "File too large", "The file has %d bytes; at most %d are read. Split it, or keep data in files of its own.", len(src), lim.Bytes)
	}
	if i := bytes.IndexByte(src, 0); i >= 0 {
		return limit(filename, posAt(src, i), "Invalid character", "The file holds a NUL byte, so it is not text, or it is UTF-16. Save it as UTF-8.")
	}
	if !utf8.Valid(src) {
		return limit(filename, posAt(src, firstInvalid(src)), "Invalid character", "The file is not valid UTF-8 here. Save it as UTF-8.")
	}
	if i := hidden(src); i >= 0 {
		return limit(filename, posAt(src, i), "Invalid character", "Here stands an invisible character that changes the direction of text, which can hide what a file does. Remove it, or write it as an escape such as \\u202e.")
	}
	return nil
}

// hidden finds a bidirectional control (U+202A–202E, U+2066–2069): all are
// encoded E2 80 AA–AE or E2 81 A6–A9.
func hidden(src []byte) int {
	for i := 0; ; {
		j := bytes.IndexByte(src[i:], 0xE2)
		if j < 0 || i+j+2 >= len(src) {
			return -1
		}
		i += j
		b, c := src[i+1], src[i+2]
		if b == 0x80 && c >= 0xAA && c <= 0xAE || b == 0x81 && c >= 0xA6 && c <= 0xA9 {
			return i
		}
		i++
	}
}

func firstInvalid(src []byte) int {
	for i := 0; i < len(src); {
		r, n := utf8.DecodeRune(src[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return len(src)
}

// posAt is the position of byte i, its column counted in runes.
func posAt(src []byte, i int) hcl.Pos {
	line := 1 + bytes.Count(src[:i], []byte{'\n'})
	start := bytes.LastIndexByte(src[:i], '\n') + 1
	return hcl.Pos{Line: line, Column: 1 + utf8.RuneCount(src[start:i]), Byte: i}
}

// tokensAtMost is an upper bound of the number of tokens: every run of letters
// and digits, every line end and every other visible character counts as one.
func tokensAtMost(src []byte) int {
	n, word := 0, false
	for _, c := range src {
		w := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c >= 0x80
		if w && !word || !w && c != ' ' && c != '\t' && c != '\r' {
			n++
		}
		word = w
	}
	return n
}

// checkTokens is the exact measure, over the real lexer's tokens.
func checkTokens(toks hclsyntax.Tokens, lim Limits) *hcl.Diagnostic {
	if len(toks) > lim.Tokens {
		t := toks[lim.Tokens]
		return limit(t.Range.Filename, t.Range.Start, "Too many tokens", "The file holds more than %d tokens; split it into several files.", lim.Tokens)
	}
	c := counter{lim: lim}
	for i, t := range toks {
		if d := c.token(t, toks, i); d != nil {
			return d
		}
	}
	return nil
}

// counter follows depth, runs and chains over tokens.
type counter struct {
	lim        Limits
	directives int
	prefix     int
	chains     []int // tokens since the last separator, per open bracket
	block      []bool
	chain      int
}

func (c *counter) token(t hclsyntax.Token, toks hclsyntax.Tokens, i int) *hcl.Diagnostic {
	at := func(summary, detail string, n int) *hcl.Diagnostic {
		return limit(t.Range.Filename, t.Range.Start, summary, detail, n)
	}
	if t.Type != hclsyntax.TokenEOF && t.Type != hclsyntax.TokenComment {
		c.chain++
	}
	kind := t.Type
	if kind == hclsyntax.TokenComment && bytes.HasSuffix(t.Bytes, []byte("\n")) {
		kind = hclsyntax.TokenNewline // the lexer makes one token of both
	}
	switch kind {
	case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen,
		hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl, hclsyntax.TokenOQuote, hclsyntax.TokenOHeredoc:
		c.chains = append(c.chains, c.chain)
		c.block = append(c.block, t.Type == hclsyntax.TokenOBrace && !nextIs(toks, i, "for"))
		c.chain = 0
		if t.Type == hclsyntax.TokenTemplateControl && (nextIs(toks, i, "if") || nextIs(toks, i, "for")) {
			c.directives++
		}
		if t.Type == hclsyntax.TokenTemplateControl && (nextIs(toks, i, "endif") || nextIs(toks, i, "endfor")) {
			c.directives--
		}
	case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen,
		hclsyntax.TokenTemplateSeqEnd, hclsyntax.TokenCQuote, hclsyntax.TokenCHeredoc:
		if n := len(c.chains); n > 0 {
			c.chain, c.chains, c.block = c.chains[n-1], c.chains[:n-1], c.block[:n-1]
		}
	case hclsyntax.TokenComma, hclsyntax.TokenQuotedLit, hclsyntax.TokenStringLit:
		c.chain = 0
	case hclsyntax.TokenNewline:
		if n := len(c.block); n == 0 || c.block[n-1] {
			c.chain, c.prefix = 0, 0
		}
	case hclsyntax.TokenNumberLit:
		if big(t.Bytes, c.lim.Exponent) {
			return at("Number out of range", "Numbers go up to 1e%d; write a smaller one.", c.lim.Exponent)
		}
	}
	switch t.Type {
	case hclsyntax.TokenBang, hclsyntax.TokenMinus:
		c.prefix++
	case hclsyntax.TokenNewline, hclsyntax.TokenComment:
	default:
		c.prefix = 0
	}
	switch {
	case len(c.chains)+c.directives > c.lim.Depth:
		return at("Nested too deeply", "This is nested deeper than %d levels; move inner parts into locals.", c.lim.Depth)
	case c.prefix > c.lim.PrefixRun:
		return at("Too many operators in a row", "More than %d prefix operators stand in a row here; two cancel each other out.", c.lim.PrefixRun)
	case c.chain > c.lim.Chain:
		return at("Expression too long", "More than %d operators and operands stand in one expression here; split it with locals.", c.lim.Chain)
	}
	return nil
}

func nextIs(toks hclsyntax.Tokens, i int, word string) bool {
	for i++; i < len(toks); i++ {
		switch t := toks[i]; t.Type {
		case hclsyntax.TokenNewline, hclsyntax.TokenComment:
			continue
		case hclsyntax.TokenIdent:
			return string(t.Bytes) == word
		}
		return false
	}
	return false
}

// big says whether a number literal has a larger exponent, or more digits, than max.
func big(lit []byte, max int) bool {
	i := bytes.IndexAny(lit, "eE")
	if i < 0 {
		return len(lit) > max
	}
	if i > max {
		return true
	}
	exp := bytes.TrimLeft(bytes.TrimLeft(lit[i+1:], "+-"), "0")
	if len(exp) > 6 {
		return true
	}
	n := 0
	for _, d := range exp {
		n = n*10 + int(d-'0')
	}
	return n > max
}
