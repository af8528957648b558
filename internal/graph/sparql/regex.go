package sparql

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode/utf8"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// maxPatterns bounds the compiled regular expressions that a query keeps.
const maxPatterns = 64

// regexTest is REGEX (section 17.4.3.14).
func regexTest(x *execution, a []value) (value, bool) {
	re, ok := x.pattern(a[0], a[1], a[2:])
	if !ok || !x.affordable(re, a[0].text) {
		return value{}, false
	}
	return newBoolean(re.match(a[0].text)), true
}

// constantRegex compiles REGEX with a pattern that is the same in every row, or
// returns nil if it is not. Rows with the same text tend to come together.
func (pl *planner) constantRegex(s *scalar, args []evaluator) evaluator {
	x := pl.x
	var constants []value
	for i, arg := range s.args[1:] {
		if arg.op != exprTerm {
			return nil
		}
		v, _ := args[1+i]()
		constants = append(constants, v)
	}
	m, ok := x.pattern(newString(""), constants[0], constants[1:])
	if !ok {
		return func() (value, bool) { return value{}, false }
	}
	if s.args[0].op != exprVar {
		return func() (value, bool) {
			v, ok := args[0]()
			if !ok || !v.stringy() || !x.affordable(m, v.text) {
				return value{}, false
			}
			return newBoolean(m.match(v.text)), true
		}
	}
	slot := s.args[0].slot
	var last graph.ID
	var truth, isText bool
	return func() (value, bool) {
		if id := x.row[slot]; id != last || id == 0 {
			var text string
			text, isText = x.dict.Text(id)
			if isText = isText && x.affordable(m, text); isText {
				truth = m.match(text)
			}
			last = id
		}
		return newBoolean(truth), isText
	}
}

// matcher is a regular expression and a text that everything it matches starts
// with, by which most texts are told off without running it.
type matcher struct {
	*regexp.Regexp
	prefix  string
	literal bool // flag q
	size    int  // instructions of its program
}

// Bounds on matching, which nothing can interrupt: instructions of a program,
// bytes of a text times instructions (some seconds), and matches of one text.
const (
	maxProgram = 20_000
	maxWork    = 1 << 30
	maxMatches = 1 << 20
)

// affordable tells whether matching a text ends soon enough.
func (x *execution) affordable(m *matcher, text string) bool {
	if err := m.tooLong(text); err != nil {
		return x.fail(err)
	}
	x.spend(len(text) * m.size / 16)
	return true
}

// tooLong returns an error if matching a text would take too long.
func (m *matcher) tooLong(text string) error {
	if len(text) <= maxWork/m.size {
		return nil
	}
	return fault.New(fault.Finding, "match a shorter text, or with a simpler pattern",
		"a text of %d bytes is too long to be matched with %.40q", len(text), m.String())
}

func (m *matcher) match(s string) bool { return strings.HasPrefix(s, m.prefix) && m.MatchString(s) }

// newMatcher returns nil for an expression whose program is too large.
func newMatcher(re *regexp.Regexp) *matcher {
	tree, err := syntax.Parse(re.String(), syntax.Perl)
	if err != nil {
		return nil
	}
	tree = tree.Simplify()
	program, err := syntax.Compile(tree)
	if err != nil || len(program.Inst) > maxProgram {
		return nil
	}
	m := &matcher{Regexp: re, size: len(program.Inst)}
	if tree.Op != syntax.OpConcat || len(tree.Sub) < 2 || tree.Sub[0].Op != syntax.OpBeginText {
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
	if !ok || a[2].kind != kindString || re.MatchString("") || !x.affordable(re, a[0].text) {
		return value{}, false
	}
	template := []templatePart{{text: a[2].text, group: -1}}
	if !re.literal {
		if template, ok = replacement(a[2].text, re.NumSubexp()); !ok {
			return value{}, false
		}
	}
	text, last := a[0].text, 0
	matches := re.FindAllStringSubmatchIndex(text, maxMatches+1)
	if len(matches) > maxMatches {
		x.fail(fault.New(fault.Finding, "replace in a shorter text", "REPLACE finds %.40q more than %d times in one text", re.String(), maxMatches))
		return value{}, false
	}
	var out []byte
	for _, m := range matches {
		out = append(out, text[last:m[0]]...)
		for _, part := range template {
			if part.group < 0 {
				out = append(out, part.text...)
			} else if 2*part.group+1 < len(m) && m[2*part.group] >= 0 {
				out = append(out, text[m[2*part.group]:m[2*part.group+1]]...)
			}
		}
		if last = m[1]; !x.shortEnough(len(out)) {
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

// replacement parses the replacement string of fn:replace: $N, \$ and \\. N has
// as many digits as make a group that the pattern has, and one at least.
func replacement(s string, groups int) ([]templatePart, bool) {
	var out []templatePart
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '$':
			if i++; i == len(s) || !isDigit(s[i]) {
				return nil, false
			}
			n := int(s[i] - '0')
			for i+1 < len(s) && isDigit(s[i+1]) && 10*n+int(s[i+1]-'0') <= groups {
				i++
				n = 10*n + int(s[i]-'0')
			}
			out = append(out, templatePart{group: n})
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
	if m != nil && len(flags) == 1 {
		m.literal = strings.Contains(flags[0].text, "q")
	}
	x.spend(1 << 20) // it took about that long
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
// outside of classes is dropped; \d and \w know all of Unicode; a class may have
// another one taken from it. \b and (?…) are not XPath's, but are let through as
// most engines do.
func translatePattern(s string, extended bool) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && i+1 < len(s):
			i++
			if e, ok := classEscapes[s[i]]; ok {
				b.WriteString(e[0])
				continue
			}
			b.WriteByte('\\')
			b.WriteByte(s[i])
			continue
		case c == '[':
			class, n := translateClass(s[i:], 0)
			b.WriteString(class)
			i += n - 1
			continue
		case extended && strings.IndexByte(" \t\r\n", c) >= 0:
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

// classEscapes are the multi-character escapes (XML Schema Datatypes, appendix
// F.1.1), outside and inside of a class.
var classEscapes = func() map[byte][2]string {
	const nameStart = `_:\p{L}`
	const nameChar = nameStart + `\-.0-9\x{B7}\p{M}`
	return map[byte][2]string{
		'i': {`[` + nameStart + `]`, nameStart}, 'I': {`[^` + nameStart + `]`, ``},
		'c': {`[` + nameChar + `]`, nameChar}, 'C': {`[^` + nameChar + `]`, ``},
		'd': {`\p{Nd}`, `\p{Nd}`}, 'D': {`\P{Nd}`, `\P{Nd}`},
		'w': {`[^\p{P}\p{Z}\p{C}]`, `\p{L}\p{M}\p{N}\p{S}`}, 'W': {`[\p{P}\p{Z}\p{C}]`, `\p{P}\p{Z}\p{C}`},
	}
}()

// translateClass translates the class that s starts with and returns its length.
// One that does not end stays so, for the compiler to refuse.
func translateClass(s string, depth int) (class string, length int) {
	var b strings.Builder
	b.WriteByte('[')
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			i++
			if e := classEscapes[s[i]][1]; e != "" {
				b.WriteString(e)
				continue
			}
			b.WriteByte('\\')
			b.WriteByte(s[i])
		case c == ']':
			b.WriteByte(']')
			return b.String(), i + 1
		case c == '-' && i > 1 && depth < maxClasses && strings.HasPrefix(s[i+1:], "["):
			less, n := translateClass(s[i+1:], depth+1)
			if i += 1 + n; i >= len(s) || s[i] != ']' {
				return "[", len(s)
			}
			return subtractClass(b.String()+"]", less), i + 1
		case c == '[':
			b.WriteString(`\[`) // a bracket in a class is itself to Go
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), len(s)
}

// maxClasses bounds the classes that are taken from each other.
const maxClasses = 16

// subtractClass returns the class of the characters that are in a and not in b.
func subtractClass(a, b string) string {
	from, okA := runesOf(a)
	less, okB := runesOf(b)
	if !okA || !okB {
		return "["
	}
	var out strings.Builder
	emit := func(lo, hi rune) {
		if lo <= hi {
			fmt.Fprintf(&out, `\x{%X}-\x{%X}`, lo, hi)
		}
	}
	for i := 0; i < len(from); i += 2 {
		lo, hi := from[i], from[i+1]
		for j := 0; j < len(less) && lo <= hi; j += 2 {
			if less[j+1] < lo || less[j] > hi {
				continue
			}
			emit(lo, less[j]-1)
			lo = less[j+1] + 1
		}
		emit(lo, hi)
	}
	if out.Len() == 0 {
		return `[^\x00-\x{10FFFF}]`
	}
	return "[" + out.String() + "]"
}

// runesOf returns the ranges of a class, ascending.
func runesOf(class string) ([]rune, bool) {
	tree, err := syntax.Parse(class, syntax.Perl)
	if err != nil {
		return nil, false
	}
	switch tree.Op {
	case syntax.OpCharClass:
		return tree.Rune, true
	case syntax.OpLiteral:
		return []rune{tree.Rune[0], tree.Rune[0]}, true
	case syntax.OpAnyChar:
		return []rune{0, utf8.MaxRune}, true
	case syntax.OpNoMatch:
		return nil, true
	}
	return nil, false
}
