package sparql

import (
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode/utf8"
)

// maxPatterns bounds the compiled regular expressions that a query keeps.
const maxPatterns = 64

// regexTest is REGEX (section 17.4.3.14).
func regexTest(x *execution, a []value) (value, bool) {
	re, ok := x.pattern(a[0], a[1], a[2:])
	if !ok {
		return value{}, false
	}
	return newBoolean(re.match(a[0].text)), true
}

// matcher is a regular expression and a text that everything it matches starts
// with, by which most texts are told off without running it.
type matcher struct {
	*regexp.Regexp
	prefix string
}

func (m *matcher) match(s string) bool { return strings.HasPrefix(s, m.prefix) && m.MatchString(s) }

func newMatcher(re *regexp.Regexp) *matcher {
	m := &matcher{Regexp: re}
	tree, err := syntax.Parse(re.String(), syntax.Perl)
	if err != nil {
		return m
	}
	if tree = tree.Simplify(); tree.Op != syntax.OpConcat || len(tree.Sub) < 2 || tree.Sub[0].Op != syntax.OpBeginText {
		return m
	}
	if lit := tree.Sub[1]; lit.Op == syntax.OpLiteral && lit.Flags&syntax.FoldCase == 0 {
		// To a regular expression the replacement character is any invalid byte too.
		if prefix := string(lit.Rune); !strings.ContainsRune(prefix, utf8.RuneError) {
			m.prefix = prefix
		}
	}
	return m
}

// regexReplace is REPLACE (section 17.4.3.15; fn:replace). A pattern that
// matches the empty string is an error there, and so here.
func regexReplace(x *execution, a []value) (value, bool) {
	re, ok := x.pattern(a[0], a[1], a[3:])
	if !ok || a[2].kind != kindString || re.MatchString("") {
		return value{}, false
	}
	template, ok := replacement(a[2].text)
	if !ok {
		return value{}, false
	}
	text, last := a[0].text, 0
	var out []byte
	for _, m := range re.FindAllStringSubmatchIndex(text, -1) {
		out = append(out, text[last:m[0]]...)
		for _, part := range template {
			if part.group < 0 {
				out = append(out, part.text...)
			} else if 2*part.group+1 < len(m) && m[2*part.group] >= 0 {
				out = append(out, text[m[2*part.group]:m[2*part.group+1]]...)
			}
		}
		if last = m[1]; len(out) > maxString {
			return value{}, false
		}
	}
	return newLike(string(append(out, text[last:]...)), a[0]), true
}

// templatePart is literal text or, if group is not negative, a group of the match.
type templatePart struct {
	text  string
	group int
}

// replacement parses the replacement string of fn:replace: $N, \$ and \\.
func replacement(s string) ([]templatePart, bool) {
	var out []templatePart
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '$':
			if i++; i == len(s) || !isDigit(s[i]) {
				return nil, false
			}
			out = append(out, templatePart{group: int(s[i] - '0')})
		case s[i] == '\\':
			if i++; i == len(s) || s[i] != '$' && s[i] != '\\' {
				return nil, false
			}
			out = append(out, templatePart{text: s[i : i+1], group: -1})
		default:
			out = append(out, templatePart{text: s[i : i+1], group: -1})
		}
	}
	return out, true
}

// pattern returns the compiled regular expression for the given text.
func (x *execution) pattern(text, pattern value, flags []value) (*matcher, bool) {
	if !text.stringy() || pattern.kind != kindString || len(flags) == 1 && flags[0].kind != kindString {
		return nil, false
	}
	key := pattern.text
	if len(flags) == 1 {
		key += "\x00" + flags[0].text
	}
	if m, ok := x.patterns[key]; ok {
		return m, m != nil
	}
	var m *matcher
	if re := compilePattern(key); re != nil {
		m = newMatcher(re)
	}
	if len(x.order) == maxPatterns {
		delete(x.patterns, x.order[0])
		x.order = x.order[1:]
	}
	x.patterns[key], x.order = m, append(x.order, key)
	return m, m != nil
}

// maxPattern bounds a pattern, in bytes.
const maxPattern = 4096

// compilePattern translates a regular expression of XPath (XPath Functions and
// Operators, section 5.6) to one of Go, which runs in linear time. It returns
// nil for one that is not valid or not translatable: references to groups.
func compilePattern(key string) *regexp.Regexp {
	pattern, flags, _ := strings.Cut(key, "\x00")
	if len(pattern) > maxPattern {
		return nil
	}
	mode, literal, extended := "", false, false
	for _, f := range flags {
		switch f {
		case 'i', 's', 'm':
			mode += string(f)
		case 'x':
			extended = true
		case 'q':
			literal = true
		default:
			return nil
		}
	}
	switch {
	case literal:
		pattern = regexp.QuoteMeta(pattern)
	default:
		pattern = translatePattern(pattern, extended)
	}
	if mode != "" {
		pattern = "(?" + mode + ")" + pattern
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil
	}
	return re
}

// translatePattern rewrites what XPath spells otherwise: \i \c and their
// complements are the characters of XML names; in extended mode white space
// outside of classes is dropped; \d and \w know all of Unicode.
func translatePattern(s string, extended bool) string {
	const nameStart = `_:\p{L}`
	const nameChar = nameStart + `\-.0-9\x{B7}\p{M}`
	escapes := map[byte][2]string{ // outside and inside of a class
		'i': {`[` + nameStart + `]`, nameStart}, 'I': {`[^` + nameStart + `]`, ``},
		'c': {`[` + nameChar + `]`, nameChar}, 'C': {`[^` + nameChar + `]`, ``},
		'd': {`\p{Nd}`, `\p{Nd}`}, 'D': {`\P{Nd}`, `\P{Nd}`},
		'w': {`[^\p{P}\p{Z}\p{C}]`, `\p{L}\p{M}\p{N}\p{S}`}, 'W': {`[\p{P}\p{Z}\p{C}]`, `\p{P}\p{Z}\p{C}`},
	}
	var b strings.Builder
	class := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && i+1 < len(s):
			i++
			if e, ok := escapes[s[i]]; ok && (class == 0 || e[1] != "") {
				b.WriteString(e[min(class, 1)])
				continue
			}
			b.WriteByte('\\')
			b.WriteByte(s[i])
			continue
		case c == '[':
			if class > 0 {
				b.WriteByte('\\') // a bracket in a class is itself to Go
			}
			class = 1
		case c == ']':
			class = 0
		case extended && class == 0 && strings.IndexByte(" \t\r\n", c) >= 0:
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}
