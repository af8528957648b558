package document

import (
	"strconv"

	"github.com/ultrafast-ci/ultrafast/steps/finding"
)

// Place is a position in a file; line and column count from 1, columns in
// characters for YAML and in bytes for TOML.
type Place = finding.Place

// Kind is the type of a node.
type Kind int

// The kinds. A TOML date or time is a String as it was written.
const (
	Null Kind = iota
	Bool
	Int
	Float
	String
	Seq
	Map
)

// String returns the kind in the words of an error message.
func (k Kind) String() string {
	switch k {
	case Null:
		return "nothing"
	case Bool:
		return "a boolean"
	case Int:
		return "an integer"
	case Float:
		return "a number"
	case String:
		return "a string"
	case Seq:
		return "a list"
	default:
		return "a table"
	}
}

// Node is a value with its place. One of the value fields is set, as Kind says.
// Nodes of a parsed document are shared where a YAML alias repeats them: treat
// them as read-only.
type Node struct {
	Kind Kind
	Place
	Bool  bool
	Int   int64
	Float float64
	// Text is the value of a String and the literal as written of a Bool, Int or Float.
	Text  string
	Items []*Node
	// Entries are in the order of the file; keys are unique.
	Entries []Entry
	// index finds entries by key; built by the parsers.
	index map[string]int
}

// Entry is one key of a map with the place of the key.
type Entry struct {
	Key   string
	Place Place
	Value *Node
}

// Get returns the value of key in a map, or nil.
func (n *Node) Get(key string) *Node {
	if n == nil || n.Kind != Map {
		return nil
	}
	if i, ok := n.index[key]; ok {
		return n.Entries[i].Value
	}
	if n.index == nil {
		for _, e := range n.Entries {
			if e.Key == key {
				return e.Value
			}
		}
	}
	return nil
}

// Keys returns the keys of a map in the order of the file.
func (n *Node) Keys() []string {
	keys := make([]string, 0, len(n.Entries))
	for _, e := range n.Entries {
		keys = append(keys, e.Key)
	}
	return keys
}

// Any returns the value as nil, bool, int64, float64, string, []any or
// map[string]any.
func (n *Node) Any() any {
	if n == nil {
		return nil
	}
	switch n.Kind {
	case Bool:
		return n.Bool
	case Int:
		return n.Int
	case Float:
		return n.Float
	case String:
		return n.Text
	case Seq:
		list := make([]any, 0, len(n.Items))
		for _, item := range n.Items {
			list = append(list, item.Any())
		}
		return list
	case Map:
		m := make(map[string]any, len(n.Entries))
		for _, e := range n.Entries {
			m[e.Key] = e.Value.Any()
		}
		return m
	default:
		return nil
	}
}

// put appends an entry. It reports false, and changes nothing, if the key is there already.
func (n *Node) put(key string, at Place, value *Node) bool {
	if _, ok := n.index[key]; ok {
		return false
	}
	if n.index == nil {
		n.index = map[string]int{}
	}
	n.index[key] = len(n.Entries)
	n.Entries = append(n.Entries, Entry{Key: key, Place: at, Value: value})
	return true
}

// describe names the value for a message about a wrong type.
func (n *Node) describe() string {
	switch n.Kind {
	case Bool, Int, Float:
		return n.Kind.String() + " (" + clip(n.Text) + ")"
	case String:
		return n.Kind.String() + " (" + strconv.Quote(clip(n.Text)) + ")"
	default:
		return n.Kind.String()
	}
}

// clip shortens s for a message.
func clip(s string) string {
	const most = 40
	count := 0
	for i := range s {
		if count == most {
			return s[:i] + "…"
		}
		count++
	}
	return s
}
