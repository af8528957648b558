package document

import (
	"errors"
	"math"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// ParseYAML returns the one document in text. file names it in errors, which
// are of kind fault.Usage. An empty document is a Null node.
func ParseYAML(file string, text []byte) (*Node, error) { return ParseYAMLAt(file, 1, text) }

// ParseYAMLAt is [ParseYAML] for text that begins at the given line of file,
// counted from 1: front matter after its "---" begins at line 2.
func ParseYAMLAt(file string, line int, text []byte) (_ *Node, err error) {
	text = withoutMark(text)
	c := &yamlReader{file: file, offset: line - 1, anchors: map[string]anchored{}}
	if err := checkText(c.at(nil), text); err != nil {
		return nil, err
	}
	// The library panics on some malformed input; a document must never take the process with it.
	defer func() {
		if r := recover(); r != nil {
			err = failure(c.at(nil), "simplify the document", "yaml: the document cannot be read (%v)", r)
		}
	}()
	tokens := lexer.Tokenize(string(text))
	if err := c.checkKeys(tokens); err != nil {
		return nil, err
	}
	if err := c.checkDepth(tokens); err != nil {
		return nil, err
	}
	f, err := parser.Parse(tokens, 0)
	if err != nil {
		return nil, c.syntaxError(err)
	}
	return c.document(f)
}

// checkText refuses what neither parser should see.
func checkText(at Place, text []byte) error {
	if len(text) > MaxSize {
		return failure(Place{File: at.File}, "", "document has %d bytes; at most %d are read", len(text), MaxSize)
	}
	return checkUTF8(at, text)
}

type anchored struct {
	node  *Node
	nodes int // size of the tree below node, itself included
}

// yamlReader turns the library's tree into nodes.
type yamlReader struct {
	file    string
	offset  int
	anchors map[string]anchored
	nodes   int // so far, aliases counted as what they repeat
}

func (c *yamlReader) at(tk *token.Token) Place {
	if tk == nil || tk.Position == nil {
		return Place{File: c.file, Line: c.offset + 1}
	}
	return Place{File: c.file, Line: c.offset + tk.Position.Line, Column: tk.Position.Column}
}

// checkKeys bounds the keys: the library takes quadratic time in those of one map.
func (c *yamlReader) checkKeys(tokens token.Tokens) error {
	keys := 0
	for _, tk := range tokens {
		if tk != nil && (tk.Type == token.MappingValueType || tk.Type == token.MappingKeyType) {
			if keys++; keys > MaxKeys {
				return failure(c.at(tk), "", "yaml: more than %d keys", MaxKeys)
			}
		}
	}
	return nil
}

// checkDepth bounds nesting before the library's recursive parser sees the
// tokens. Block nesting is told by columns: a token closes every construct that
// began at its column or right of it. A list at the column of its own key hides
// one level, so the true depth may be twice the bound, which is still harmless.
func (c *yamlReader) checkDepth(tokens token.Tokens) error {
	var blocks []int
	flow := 0
	for _, tk := range tokens {
		if tk == nil || tk.Position == nil {
			continue
		}
		column := tk.Position.Column
		if flow == 0 {
			for len(blocks) > 0 && blocks[len(blocks)-1] >= column {
				blocks = blocks[:len(blocks)-1]
			}
		}
		switch tk.Type {
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow = max(0, flow-1)
		case token.SequenceEntryType, token.MappingKeyType, token.MappingValueType, token.TagType, token.AnchorType:
			if flow == 0 {
				blocks = append(blocks, column)
			}
		}
		if flow+len(blocks) > MaxDepth {
			return failure(c.at(tk), "", "yaml: nested deeper than %d levels", MaxDepth)
		}
	}
	return nil
}

// syntaxError keeps the message and the place of an error of the library, and
// leaves out its picture of the source.
func (c *yamlReader) syntaxError(err error) error {
	var positioned interface {
		GetToken() *token.Token
		GetMessage() string
	}
	if errors.As(err, &positioned) {
		return failure(c.at(positioned.GetToken()), "", "yaml: %s", positioned.GetMessage())
	}
	message, _, _ := strings.Cut(err.Error(), "\n")
	return failure(c.at(nil), "", "yaml: %s", message)
}

func (c *yamlReader) document(f *ast.File) (*Node, error) {
	root := &Node{Place: c.at(nil)}
	seen := false
	for _, doc := range f.Docs {
		body := doc.Body
		if _, isDirective := body.(*ast.DirectiveNode); isDirective || body == nil {
			continue
		}
		if seen {
			return nil, failure(c.at(body.GetToken()), "split the file", "yaml: a second document begins; a file holds one")
		}
		seen = true
		n, err := c.node(body, 0)
		if err != nil {
			return nil, err
		}
		root = n
	}
	return root, nil
}

func (c *yamlReader) node(n ast.Node, depth int) (*Node, error) {
	if n == nil {
		return &Node{Place: c.at(nil)}, nil
	}
	at := c.at(n.GetToken())
	if depth > MaxDepth {
		return nil, failure(at, "", "yaml: nested deeper than %d levels", MaxDepth)
	}
	if err := c.count(at, 1); err != nil {
		return nil, err
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		return c.mapping(at, n.Values, depth)
	case *ast.MappingValueNode:
		return c.mapping(at, []*ast.MappingValueNode{n}, depth)
	case *ast.SequenceNode:
		return c.sequence(at, n, depth)
	case *ast.AnchorNode:
		return c.anchor(n, depth)
	case *ast.AliasNode:
		return c.alias(at, n)
	case *ast.TagNode:
		return c.tag(at, n, depth)
	default:
		return c.scalar(at, n)
	}
}

func (c *yamlReader) count(at Place, n int) error {
	if c.nodes += n; c.nodes > MaxNodes {
		return failure(at, "", "yaml: document has more than %d nodes, aliases expanded", MaxNodes)
	}
	return nil
}

func (c *yamlReader) scalar(at Place, n ast.Node) (*Node, error) {
	out := &Node{Place: at}
	switch n := n.(type) {
	case *ast.NullNode:
	case *ast.BoolNode:
		out.Kind, out.Bool, out.Text = Bool, n.Value, n.Token.Value
	case *ast.IntegerNode:
		value, ok := n.Value.(int64)
		if u, isUint := n.Value.(uint64); isUint && u <= 1<<63-1 {
			value, ok = int64(u), true
		}
		if !ok {
			return nil, failure(at, "quote it if it is text", "yaml: integer %s does not fit 64 bits", clip(n.Token.Value))
		}
		out.Kind, out.Int, out.Text = Int, value, n.Token.Value
	case *ast.FloatNode:
		if math.IsInf(n.Value, 0) || math.IsNaN(n.Value) {
			return nil, failure(at, "", "yaml: %s is not a finite number", clip(n.Token.Value))
		}
		out.Kind, out.Float, out.Text = Float, n.Value, n.Token.Value
	case *ast.StringNode:
		out.Kind, out.Text = String, n.Value
	case *ast.LiteralNode:
		out.Kind, out.Text = String, n.Value.Value
	case *ast.InfinityNode, *ast.NanNode:
		return nil, failure(at, "", "yaml: %s is not a finite number", clip(n.GetToken().Value))
	default:
		return nil, failure(at, "", "yaml: %s is not accepted here", strings.ToLower(n.Type().String()))
	}
	return out, nil
}

func (c *yamlReader) sequence(at Place, n *ast.SequenceNode, depth int) (*Node, error) {
	out := &Node{Kind: Seq, Place: at, Items: make([]*Node, 0, len(n.Values))}
	for _, value := range n.Values {
		item, err := c.node(value, depth+1)
		if err != nil {
			return nil, err
		}
		out.Items = append(out.Items, item)
	}
	return out, nil
}

func (c *yamlReader) mapping(at Place, values []*ast.MappingValueNode, depth int) (*Node, error) {
	out := &Node{Kind: Map, Place: at}
	for i, entry := range values {
		keyAt := c.at(entry.Key.GetToken())
		if i == 0 {
			out.Place = keyAt // the library's own token for a block map is its first ":"
		}
		key, err := c.key(keyAt, entry.Key)
		if err != nil {
			return nil, err
		}
		value, err := c.node(entry.Value, depth+1)
		if err != nil {
			return nil, err
		}
		if !out.put(key, keyAt, value) {
			return nil, duplicateKey(keyAt, key)
		}
	}
	return out, nil
}

func duplicateKey(at Place, key string) error {
	return failure(at, "remove one of them", "key %q occurs twice", clip(key))
}

// key returns a map key as text; a number or boolean is its literal.
func (c *yamlReader) key(at Place, key ast.MapKeyNode) (string, error) {
	if key.IsMergeKey() {
		return "", failure(at, "write the keys out", "yaml: the merge key << is not accepted")
	}
	switch key.(type) {
	case *ast.StringNode, *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.NullNode, *ast.InfinityNode, *ast.NanNode:
		return key.GetToken().Value, nil
	}
	return "", failure(at, "", "yaml: a key must be a plain or quoted word")
}

func (c *yamlReader) anchor(n *ast.AnchorNode, depth int) (*Node, error) {
	before := c.nodes
	value, err := c.node(n.Value, depth+1)
	if err != nil {
		return nil, err
	}
	// Registered after its value: an anchor cannot hold itself.
	c.anchors[n.Name.GetToken().Value] = anchored{node: value, nodes: c.nodes - before}
	return value, nil
}

func (c *yamlReader) alias(at Place, n *ast.AliasNode) (*Node, error) {
	name := n.Value.GetToken().Value
	a, ok := c.anchors[name]
	if !ok {
		return nil, failure(at, "", "yaml: alias *%s has no anchor before it", clip(name))
	}
	if err := c.count(at, a.nodes); err != nil {
		return nil, err
	}
	return a.node, nil
}

// tag applies the core schema's tags; others have no meaning here.
func (c *yamlReader) tag(at Place, n *ast.TagNode, depth int) (*Node, error) {
	value, err := c.node(n.Value, depth+1)
	if err != nil {
		return nil, err
	}
	switch name := n.Start.Value; token.ReservedTagKeyword(name) {
	case token.StringTag:
		if value.Kind == Seq || value.Kind == Map {
			return nil, failure(at, "", "yaml: tag %s on %s", name, value.Kind)
		}
		return &Node{Kind: String, Text: value.Text, Place: value.Place}, nil
	case token.IntegerTag:
		return want(at, name, value, Int)
	case token.FloatTag:
		if value.Kind == Int {
			return &Node{Kind: Float, Float: float64(value.Int), Text: value.Text, Place: value.Place}, nil
		}
		return want(at, name, value, Float)
	case token.BooleanTag:
		return want(at, name, value, Bool)
	case token.NullTag:
		return want(at, name, value, Null)
	case token.MappingTag:
		return want(at, name, value, Map)
	case token.SequenceTag:
		return want(at, name, value, Seq)
	default:
		return nil, failure(at, "", "yaml: tag %s is not accepted", clip(name))
	}
}

func want(at Place, tag string, value *Node, kind Kind) (*Node, error) {
	if value.Kind != kind {
		return nil, failure(at, "", "yaml: tag %s on %s", tag, value.describe())
	}
	return value, nil
}
