package report

import (
	"net/url"
	"strings"
	"unicode/utf8"
)

// Text from files, people and systems stands in a comment only as a code span or in a fence. Escapes of single characters would not do:
// forges look for mentions, numbers of issues, addresses and commands in what an escape turned back into text, and each for others.

// maxCode is how much of one text, in runes, a code span shows.
const maxCode = 240

// mdCode is text as a code span: on one line, and with more backticks around it than it has in a row.
func mdCode(text string) string {
	text = cutRunes(Style{Unicode: true}.Clean(text), maxCode)
	if text == "" {
		text = `""`
	}
	ticks := strings.Repeat("`", longestRun(text, '`')+1)
	if text[0] == '`' || text[len(text)-1] == '`' || text[0] == ' ' && text[len(text)-1] == ' ' {
		text = " " + text + " " // these two are not shown
	}
	return ticks + text + ticks
}

// mdCell is text as a code span in a table, where a bar ends the cell even in code, and what escapes it differs from forge to forge.
func mdCell(text string) string { return mdCode(strings.ReplaceAll(text, "|", "│")) }

// mdFence puts lines into a fence that is longer than any run of backticks in them. They are clean already, and end with a newline.
func mdFence(language, lines string) string {
	fence := strings.Repeat("`", max(3, longestRun(lines, '`')+1))
	return fence + language + "\n" + lines + fence + "\n"
}

// Fenced is text for a comment in which nothing is markup, or mentions anybody.
func Fenced(text string) string {
	return mdFence("text", strings.TrimRight(strings.ToValidUTF8(text, "�"), "\n")+"\n")
}

// mdDetails folds a body, which ends with a newline. The title is ours: it is HTML.
func mdDetails(title, body string) string {
	return "<details>\n<summary>" + title + "</summary>\n\n" + body + "\n</details>\n"
}

// mdPlain is text that callers of this package wrote themselves. Whatever could mean something to a forge makes it a code span.
func mdPlain(text string) string {
	text = strings.TrimSpace(text) // four blanks would make it a block of code
	for _, word := range strings.Fields(text) {
		word = strings.TrimLeft(strings.TrimRight(word, ".,;:)"), "(")
		if strings.Trim(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'") != "" && strings.Trim(word, "0123456789") != "" {
			return mdCode(text)
		}
	}
	if strings.ContainsAny(text, "\n\r\t") || !cleanUnicode(text) {
		return mdCode(text)
	}
	return text
}

// mdLink is a link to a page of the web, or its address as code when it is something else.
func mdLink(words, address string) string {
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || strings.ContainsAny(address, " <>()[]\\`\"'|") || !cleanUnicode(address) {
		return words + ": " + mdCode(address)
	}
	return "[" + words + "](<" + u.String() + ">)"
}

func longestRun(text string, of byte) int {
	longest, run := 0, 0
	for i := range len(text) {
		if text[i] != of {
			run = 0
			continue
		}
		run++
		longest = max(longest, run)
	}
	return longest
}

func cutRunes(text string, n int) string {
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	for i := range text {
		if n--; n == 0 {
			return text[:i] + "…"
		}
	}
	return text
}

// markerStart begins the hidden first line of a comment.
const markerStart = "<!-- continuo plan "

// Marker is the hidden first line of the comment for the project at a path of its repository: what it is found by, to be edited in place.
// "" and "." are the repository's root. Nothing in a path can end the line, or the HTML comment that it is.
func Marker(project string) string {
	var b strings.Builder
	b.WriteString(markerStart)
	for _, c := range []byte(projectPath(project)) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '/', c == '.', c == '_':
			b.WriteByte(c)
		default:
			const hex = "0123456789ABCDEF"
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return b.String() + " -->"
}

func projectPath(p string) string {
	if p = strings.Trim(p, "/"); p == "" {
		return "."
	}
	return p
}
