package files

import (
	"fmt"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// ignoreName is the file that holds ignore rules, at any level. It is never listed itself, so that
// editing a comment in it moves no digest.
const ignoreName = ".mlignore"

// maxIgnoreBytes bounds one ignore file.
const maxIgnoreBytes = 1 << 20

// alwaysIgnored reports names that no rule can bring back: the program's own folder, version control,
// caches of interpreters and package managers, and the dangling lock links (".#name") of editors.
func alwaysIgnored(name string, isDir bool) bool {
	switch name {
	case ".ml", ".git", "__pycache__":
		// A worktree's .git is a file that names its repository: as little content as the folder.
		return isDir || name == ".git"
	case ".venv", "node_modules", ignoreName:
		return true
	}
	return strings.HasSuffix(name, ".pyc") || strings.HasPrefix(name, ".#")
}

// rule is one line of an ignore file, gitignore(5).
type rule struct {
	glob    string // pattern in doublestar's syntax
	literal bool   // glob holds no wildcard: compare
	suffix  string // the pattern is "*"+suffix: compare the end
	negate  bool   // "!pattern"
	dirOnly bool   // "pattern/"
	byName  bool   // no slash but a trailing one: matches the last element at any depth
}

// ruleChain holds the rules of one folder, behind it those of the folders above.
type ruleChain struct {
	parent *ruleChain
	dir    string // folder of the ignore file; "." is the root
	rules  []rule
}

// ignored reports whether the rules leave out path p, whose last element is name. The last matching
// line of the deepest file decides.
func (c *ruleChain) ignored(p, name string, isDir bool) bool {
	if alwaysIgnored(name, isDir) {
		return true
	}
	for ; c != nil; c = c.parent {
		rel := relTo(c.dir, p)
		for i := len(c.rules) - 1; i >= 0; i-- {
			if r := &c.rules[i]; r.matches(rel, name, isDir) {
				return !r.negate
			}
		}
	}
	return false
}

func (r *rule) matches(rel, name string, isDir bool) bool {
	if r.dirOnly && !isDir {
		return false
	}
	subject := rel
	if r.byName {
		subject = name
	}
	switch {
	case r.literal:
		return subject == r.glob
	case r.suffix != "":
		return strings.HasSuffix(subject, r.suffix)
	}
	return doublestar.MatchUnvalidated(r.glob, subject)
}

// relTo returns p relative to dir; p is dir itself or lies under it.
func relTo(dir, p string) string {
	if dir == "." {
		return p
	}
	return strings.TrimPrefix(strings.TrimPrefix(p, dir), "/")
}

// parseIgnore reads the rules of the ignore file called where; its error names file and line.
func parseIgnore(where string, text []byte) ([]rule, error) {
	var rules []rule
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		r, ok := parseRule(strings.TrimRight(line, "\r\n"))
		if !ok {
			continue
		}
		if !r.literal && !doublestar.ValidatePattern(r.glob) {
			return nil, fmt.Errorf("%s:%d: bad pattern %q; it follows the syntax of .gitignore", where, n, strings.TrimSpace(line))
		}
		rules = append(rules, r)
	}
	return rules, nil
}

// parseRule reads one line; false means that it holds no rule.
func parseRule(line string) (rule, bool) {
	line = trimTrailingSpace(line)
	if line == "" || line[0] == '#' {
		return rule{}, false
	}
	var r rule
	if line[0] == '!' {
		r.negate = true
		line = line[1:]
	}
	if strings.HasSuffix(line, "/") {
		r.dirOnly = true
		line = strings.TrimSuffix(line, "/")
	}
	r.byName = !strings.Contains(line, "/")
	line = strings.TrimPrefix(line, "/")
	if line == "" {
		return rule{}, false
	}
	if !strings.ContainsAny(line, `*?[\`) {
		r.literal, r.glob = true, line
		return r, true
	}
	if r.byName && strings.HasPrefix(line, "*") && !strings.ContainsAny(line[1:], `*?[\`) {
		r.suffix = line[1:]
	}
	// git gives braces no meaning, doublestar does; and in git "a/**" is what lies in a, not a itself.
	r.glob = strings.NewReplacer("{", `\{`, "}", `\}`, `\{`, `\{`, `\}`, `\}`).Replace(line)
	if strings.HasSuffix(r.glob, "/**") {
		r.glob += "/*"
	}
	return r, true
}

// trimTrailingSpace drops spaces at the end unless a backslash keeps them.
func trimTrailingSpace(s string) string {
	for strings.HasSuffix(s, " ") && !strings.HasSuffix(s, `\ `) {
		s = s[:len(s)-1]
	}
	return s
}
