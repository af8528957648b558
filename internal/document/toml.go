package document

import (
	"errors"
	"math"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"
)

// ParseTOML returns the table in text, as TOML 1.0 defines it, with inline
// tables over several lines as in TOML 1.1. file names it in errors, which are
// of kind fault.Usage. Dates and times are strings as written. A byte order mark
// at the start is skipped.
func ParseTOML(file string, text []byte) (_ *Node, err error) {
	text = withoutMark(text)
	if err := checkText(Place{File: file, Line: 1}, text); err != nil {
		return nil, err
	}
	r := &tomlReader{file: file, lines: newLines(text), tables: map[*Node]origin{}}
	defer func() {
		if p := recover(); p != nil {
			err = failure(Place{File: file}, "simplify the document", "toml: the document cannot be read (%v)", p)
		}
	}()
	r.root = &Node{Kind: Map, Place: Place{File: file, Line: 1, Column: 1}}
	r.tables[r.root] = byHeader
	r.current = r.root
	r.parser.Reset(text)
	for r.parser.NextExpression() {
		if err := r.expression(r.parser.Expression()); err != nil {
			return nil, err
		}
	}
	if err := r.parser.Error(); err != nil {
		return nil, r.syntaxError(text, err)
	}
	return r.root, nil
}

// origin is how a table or list came to be, which decides what may be added to it.
type origin int

const (
	asValue   origin = iota // inline table or list: closed
	byHeader                // [a]
	onTheWay                // a in [a.b], until its own header comes
	byDotting               // a in a.b = 1
	asTables                // [[a]]
)

// tomlReader builds the tree of one document.
type tomlReader struct {
	parser  unstable.Parser
	file    string
	lines   lines
	root    *Node
	current *Node // the table that key-values go into
	depth   int   // of current
	tables  map[*Node]origin
	nodes   int
}

// part is one part of a dotted key.
type part struct {
	name string
	at   Place
}

func (r *tomlReader) at(raw unstable.Range) Place {
	line, column := r.lines.position(int(raw.Offset))
	return Place{File: r.file, Line: line, Column: column}
}

func (r *tomlReader) syntaxError(text []byte, err error) error {
	at := Place{File: r.file}
	var positioned *unstable.ParserError
	if errors.As(err, &positioned) && cap(positioned.Highlight) <= cap(text) && cap(positioned.Highlight) > 0 {
		at = r.at(unstable.Range{Offset: uint32(cap(text) - cap(positioned.Highlight))})
	}
	return failure(at, "", "toml: %s", err.Error())
}

func (r *tomlReader) expression(n *unstable.Node) error {
	switch n.Kind {
	case unstable.Table, unstable.ArrayTable:
		return r.header(n)
	case unstable.KeyValue:
		return r.keyValue(r.current, n, r.depth)
	default:
		return nil
	}
}

// key returns the parts of a dotted key; there is at least one.
func (r *tomlReader) key(it unstable.Iterator) ([]part, error) {
	var parts []part
	for it.Next() {
		p := part{name: string(it.Node().Data), at: r.at(it.Node().Raw)}
		if len(parts) == MaxDepth {
			return nil, failure(p.at, "", "toml: nested deeper than %d levels", MaxDepth)
		}
		parts = append(parts, p)
	}
	return parts, nil
}

func (r *tomlReader) header(n *unstable.Node) error {
	parts, err := r.key(n.Key())
	if err != nil {
		return err
	}
	table := r.root
	for _, p := range parts[:len(parts)-1] {
		if table, err = r.enter(table, p, onTheWay); err != nil {
			return err
		}
	}
	last := parts[len(parts)-1]
	if err := r.count(last.at); err != nil {
		return err
	}
	r.depth = len(parts)
	if n.Kind == unstable.ArrayTable {
		return r.openElement(table, last)
	}
	return r.openTable(table, last)
}

// enter returns the table called p in parent for a header to pass through, or creates it.
func (r *tomlReader) enter(parent *Node, p part, created origin) (*Node, error) {
	child := parent.Get(p.name)
	if child == nil {
		child = &Node{Kind: Map, Place: p.at}
		r.tables[child] = created
		parent.put(p.name, p.at, child)
		return child, r.count(p.at)
	}
	switch from := r.tables[child]; {
	case from == asTables:
		return child.Items[len(child.Items)-1], nil
	case child.Kind != Map || from == asValue:
		return nil, failure(p.at, "", "key %q is %s already (line %d)", clip(p.name), child.Kind, child.Line)
	}
	return child, nil
}

func (r *tomlReader) openTable(parent *Node, p part) error {
	child := parent.Get(p.name)
	switch {
	case child == nil:
		child = &Node{Kind: Map, Place: p.at}
		parent.put(p.name, p.at, child)
	case child.Kind == Map && r.tables[child] == onTheWay:
		child.Place = p.at
	default:
		return duplicateKey(p.at, p.name)
	}
	r.tables[child] = byHeader
	r.current = child
	return nil
}

func (r *tomlReader) openElement(parent *Node, p part) error {
	list := parent.Get(p.name)
	if list == nil {
		list = &Node{Kind: Seq, Place: p.at}
		r.tables[list] = asTables
		parent.put(p.name, p.at, list)
	}
	if r.tables[list] != asTables {
		return duplicateKey(p.at, p.name)
	}
	r.current = &Node{Kind: Map, Place: p.at}
	r.tables[r.current] = byHeader
	list.Items = append(list.Items, r.current)
	return nil
}

func (r *tomlReader) keyValue(table *Node, n *unstable.Node, depth int) error {
	parts, err := r.key(n.Key())
	if err != nil {
		return err
	}
	for _, p := range parts[:len(parts)-1] {
		child := table.Get(p.name)
		if child != nil && r.tables[child] != byDotting {
			return failure(p.at, "", "key %q is %s already (line %d) and cannot be added to here", clip(p.name), child.Kind, child.Line)
		}
		if table, err = r.enter(table, p, byDotting); err != nil {
			return err
		}
	}
	last := parts[len(parts)-1]
	value, err := r.value(last.at, n.Value(), depth+len(parts))
	if err != nil {
		return err
	}
	if !table.put(last.name, last.at, value) {
		return duplicateKey(last.at, last.name)
	}
	return nil
}

func (r *tomlReader) count(at Place) error {
	if r.nodes++; r.nodes > MaxNodes {
		return failure(at, "", "toml: document has more than %d values", MaxNodes)
	}
	return nil
}

// value converts one value. The parser keeps no place for a list: it gets that of its key.
func (r *tomlReader) value(near Place, n *unstable.Node, depth int) (*Node, error) {
	at := near
	if n.Raw.Length > 0 {
		at = r.at(n.Raw)
	}
	if depth > MaxDepth {
		return nil, failure(at, "", "toml: nested deeper than %d levels", MaxDepth)
	}
	if err := r.count(at); err != nil {
		return nil, err
	}
	text := string(n.Data)
	switch n.Kind {
	case unstable.String:
		return &Node{Kind: String, Text: text, Place: at}, nil
	case unstable.Bool:
		return &Node{Kind: Bool, Bool: text == "true", Text: text, Place: at}, nil
	case unstable.Integer, unstable.Float:
		return number(at, text)
	case unstable.LocalDate, unstable.LocalTime, unstable.LocalDateTime, unstable.DateTime:
		if !validTime(n.Kind, text) {
			return nil, failure(at, "", "toml: %s is not a date or time", clip(text))
		}
		return &Node{Kind: String, Text: text, Place: at}, nil
	case unstable.Array:
		out := &Node{Kind: Seq, Place: at, Items: []*Node{}}
		for it := n.Children(); it.Next(); {
			item, err := r.value(at, it.Node(), depth+1)
			if err != nil {
				return nil, err
			}
			out.Items = append(out.Items, item)
		}
		return out, nil
	case unstable.InlineTable:
		out := &Node{Kind: Map, Place: at}
		for it := n.Children(); it.Next(); {
			if err := r.keyValue(out, it.Node(), depth); err != nil {
				return nil, err
			}
		}
		// Closed from here on, and so are the tables that dotted keys made in it:
		// nothing outside can reach them but through this one.
		return out, nil
	default:
		return nil, failure(at, "", "toml: %s is not accepted here", n.Kind)
	}
}

// Numbers of the TOML 1.0 grammar; the parser delimits them leniently.
var (
	decimalInt  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[+-]?(0|[1-9](_?[0-9])*)$`) })
	prefixedInt = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^0(x[0-9A-Fa-f](_?[0-9A-Fa-f])*|o[0-7](_?[0-7])*|b[01](_?[01])*)$`)
	})
	decimal = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[+-]?(0|[1-9](_?[0-9])*)(\.[0-9](_?[0-9])*)?([eE][+-]?[0-9](_?[0-9])*)?$`)
	})
)

func number(at Place, text string) (*Node, error) {
	plain := strings.ReplaceAll(text, "_", "")
	switch {
	case decimalInt().MatchString(text), prefixedInt().MatchString(text):
		base := 0
		if decimalInt().MatchString(text) {
			base = 10
		}
		value, err := strconv.ParseInt(plain, base, 64)
		if err != nil {
			return nil, failure(at, "quote it if it is text", "toml: integer %s does not fit 64 bits", clip(text))
		}
		return &Node{Kind: Int, Int: value, Text: text, Place: at}, nil
	case decimal().MatchString(text):
		value, err := strconv.ParseFloat(plain, 64)
		if err != nil || math.IsInf(value, 0) {
			return nil, failure(at, "", "toml: number %s is too large", clip(text))
		}
		return &Node{Kind: Float, Float: value, Text: text, Place: at}, nil
	case strings.HasSuffix(text, "inf"), strings.HasSuffix(text, "nan"):
		return nil, failure(at, "", "toml: %s is not a finite number", clip(text))
	default:
		return nil, failure(at, "quote it if it is text", "toml: %s is not a number", clip(text))
	}
}

func validTime(kind unstable.Kind, text string) bool {
	layouts := map[unstable.Kind][]string{
		unstable.LocalDate:     {"2006-01-02"},
		unstable.LocalTime:     {"15:04:05", "15:04"},
		unstable.LocalDateTime: {"2006-01-02T15:04:05", "2006-01-02T15:04"},
		unstable.DateTime:      {"2006-01-02T15:04:05Z07:00", "2006-01-02T15:04Z07:00"},
	}
	text = strings.Replace(strings.ToUpper(text), " ", "T", 1)
	for _, layout := range layouts[kind] {
		if _, err := time.Parse(layout, text); err == nil {
			return true
		}
	}
	return false
}
