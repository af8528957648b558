package tera

// The tree of a template. It is built once and never changed, so any number of
// renders walk it at the same time. Offsets are bytes into the source.

type trim struct{ left, right bool } // whether a tag has a dash on that side

type node interface{ tags() (first, last trim) }

type tag struct{ at, end trim } // of a node with a body: its first and its last tag

func (t *tag) tags() (trim, trim) { return t.at, t.end }

type (
	textNode struct {
		tag
		text string
	}
	rawNode struct {
		tag
		text        string
		start, stop trim // the inner sides of both tags
	}
	commentNode struct{ tag }
	superNode   struct {
		tag
		pos int32
	}
	printNode struct {
		tag
		e *expr
	}
	setNode struct {
		tag
		pos    int32
		name   string
		global bool
		e      *expr
	}
	includeNode struct {
		tag
		pos           int32
		names         []string
		ignoreMissing bool
	}
	breakNode    struct{ tag }
	continueNode struct{ tag }
	branch       struct {
		tag  trim
		cond *expr // nil for else
		body []node
	}
	ifNode struct {
		tag
		branches []branch
	}
	forNode struct {
		tag
		pos        int32
		key, value string // key is empty unless both are named
		container  *expr
		body       []node
		orElse     []node
		hasElse    bool
	}
	filterNode struct {
		tag
		call *call
		body []node
	}
	blockNode struct {
		tag
		name string
		body []node
		pos  int32
	}
	macroNode struct {
		tag
		name   string
		params []param
		body   []node
		pos    int32
	}
)

type param struct {
	name     string
	fallback *expr // nil: required
}

type exprKind uint8

const (
	exprLiteral exprKind = iota // value
	exprPath                    // path
	exprArray                   // list
	exprConcat                  // list
	exprMath                    // op, lhs, rhs
	exprLogic                   // op, lhs, rhs
	exprIn                      // lhs, rhs, notIn
	exprTest                    // test
	exprCall                    // call
	exprMacro                   // macro
)

type op uint8

const (
	opAdd op = iota
	opSub
	opMul
	opDiv
	opMod
	opLess
	opLessEqual
	opGreater
	opGreaterEqual
	opEqual
	opNotEqual
	opAnd
	opOr
)

type expr struct {
	kind       exprKind
	op         op
	negated    bool
	notIn      bool
	hasDefault bool // the first filter is default
	pos        int32
	height     int32 // of the tree, for the bound on the recursion of a render
	value      any
	path       *path
	list       []*expr
	lhs, rhs   *expr
	test       *test
	call       *call
	macro      *macroCall
	filters    []*call
}

// plain reports whether e is a literal and nothing else.
func (e *expr) plain() bool {
	return e.kind == exprLiteral && !e.negated && len(e.filters) == 0
}

// call is a function call or a filter.
type call struct {
	pos    int32
	name   string
	args   []arg
	filter filterFunc   // nil if there is no filter of that name
	fn     functionFunc // nil if there is no function of that name
	fixed  []any        // the values of args, if all are literals
}

type arg struct {
	name string
	e    *expr
	pos  int32
}

func (c *call) arg(name string) *expr {
	for i := len(c.args) - 1; i >= 0; i-- {
		if c.args[i].name == name {
			return c.args[i].e
		}
	}
	return nil
}

type macroCall struct {
	pos         int32
	space, name string
	args        []arg
}

type test struct {
	path    *path
	name    string
	pos     int32
	fn      testFunc
	args    []*expr
	negated bool
}

// path is a variable with what follows it: a.b.0["c"][d].
type path struct {
	pos  int32
	text string
	root string
	segs []segment
	tail string // what follows the root, if it is only dots; for loop.index
}

type segment struct {
	key   string
	index int   // the key as an array index, or -1
	sub   *path // the key is the value of a variable
}
