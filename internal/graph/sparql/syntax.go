package sparql

import "github.com/ultrafast-ci/ultrafast/internal/graph"

// The tree that the parser builds follows the text of the query: names are not
// resolved to slots, patterns stand in their order. algebra.go turns it into
// the algebra of section 18.

// form is the kind of a query.
type form uint8

const (
	formSelect form = iota
	formAsk
	formConstruct
	formDescribe
)

// selection is a query or a sub-query (productions [7] to [15]).
type selection struct {
	form      form
	distinct  bool
	reduced   bool
	star      bool
	columns   []column // SELECT; DESCRIBE names are in describe
	describe  []node
	template  []pattern // CONSTRUCT
	from      []string
	fromNamed []string
	where     *group
	groupBy   []column // name is empty if there is no AS
	having    []*expr
	orderBy   []orderKey
	limit     int64 // -1 if there is none
	offset    int64
	values    *inlineData
	at        int // position in the text
}

// column is a variable, or an expression AS a variable.
type column struct {
	name string
	expr *expr
	at   int
}

type orderKey struct {
	expr       *expr
	descending bool
}

// node is a variable or a term in a pattern. Blank nodes of a pattern are
// variables whose names start with "_:" and that nothing projects.
type node struct {
	name string // of a variable; empty for a term
	term graph.Term
}

// pattern is a subject, a predicate or path, and an object.
type pattern struct {
	s, o node
	p    node  // if path is nil
	path *path // a path that is more than one IRI
}

// pathOp is the operator of a property path (section 9.1).
type pathOp uint8

const (
	pathLink        pathOp = iota // iri
	pathInverse                   // ^elt
	pathSequence                  // elt / elt
	pathAlternative               // elt | elt
	pathZeroOrMore
	pathOneOrMore
	pathZeroOrOne
	pathNegated // !(iri|^iri): args are links and inverse links
)

type path struct {
	op   pathOp
	iri  string
	args []*path
}

// group is a GroupGraphPattern: its elements in order (production [53]).
type group struct{ elements []element }

// element is one part of a group.
type element interface{ isElement() }

type (
	// triples are patterns that stand together: one basic graph pattern, once
	// paths are rewritten.
	triples struct{ patterns []pattern }
	// union is a GroupOrUnionGraphPattern; with one branch, a nested group.
	union struct{ branches []*group }
	// optional is OPTIONAL { … }.
	optional struct{ group *group }
	// without is MINUS { … }.
	without struct{ group *group }
	// inGraph is GRAPH name { … }.
	inGraph struct {
		name  node
		group *group
	}
	// filter is FILTER expr.
	filter struct{ expr *expr }
	// bind is BIND(expr AS ?name).
	bind struct {
		expr *expr
		name string
	}
	// inlineData is VALUES; the zero Term stands for UNDEF.
	inlineData struct {
		names []string
		rows  [][]graph.Term
	}
	// subquery is { SELECT … }.
	subquery struct{ query *selection }
)

func (*triples) isElement()    {}
func (*union) isElement()      {}
func (*optional) isElement()   {}
func (*without) isElement()    {}
func (*inGraph) isElement()    {}
func (*filter) isElement()     {}
func (*bind) isElement()       {}
func (*inlineData) isElement() {}
func (*subquery) isElement()   {}

// exprOp says what an expression does. Built-in calls and operators carry
// their name in expr.name.
type exprOp uint8

const (
	exprTerm      exprOp = iota
	exprVar              // name
	exprOr               // args, two or more
	exprAnd              // args, two or more
	exprNot              // args[0]
	exprCompare          // name is one of = != < > <= >=
	exprArith            // name is one of + - * /
	exprMinus            // unary
	exprPlus             // unary
	exprIn               // args[0] IN args[1:]
	exprNotIn            // likewise
	exprBuiltin          // name is the upper-case name of a built-in
	exprCall             // name is the IRI of a function
	exprExists           // pattern
	exprNotExists        // pattern
	exprAggregate        // name, args (none for *), distinct, separator
)

type expr struct {
	op        exprOp
	name      string
	term      graph.Term
	args      []*expr
	pattern   *group
	distinct  bool
	separator string
	at        int // position in the text
}
