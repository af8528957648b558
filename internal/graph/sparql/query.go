// Package sparql answers SPARQL 1.1 queries over the graphs of package graph.
//
// A query goes through these files in this order: lexer.go cuts the text into
// tokens; parser.go, parser_pattern.go and parser_expr.go build the tree of
// syntax.go, which check.go checks; algebra.go turns it into the algebra of
// the standard; plan.go decides, with the estimates of estimate.go, how to
// execute that against one graph; exec.go, rows.go, path.go and select.go do
// it, with the expressions of expr.go, functions.go, cast.go, regex.go,
// compare.go, value.go, moment.go and case.go, and the aggregates of aggregate.go;
// results.go writes what came out.
//
// A query reads the graph that it is given and nothing else: SERVICE, LOAD and
// graphs that were not supplied are refused by name, there is no clock and no
// chance but what [Options] hands in. Rows come in the same order on every run.
// Every input ends in a result or an error, within [Limits].
package sparql

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/knakk/rdf"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Options say how the text of a query is read.
type Options struct {
	// File is the name that errors show; empty is "query".
	File string
	// Base is the IRI that relative IRIs are resolved against, unless the query
	// declares another.
	Base string
	// Prefixes are declared before the query declares its own. They map a
	// prefix without its colon to an IRI.
	Prefixes map[string]string
	// Now is what NOW() returns; the zero time is 1970-01-01T00:00:00Z.
	Now time.Time
	// Seed starts RAND, UUID and STRUUID: the same seed, the same numbers.
	Seed uint64
	// MaxDepth bounds the nesting of groups, expressions, paths and collections; 0
	// means [MaxDepth], which is also the most.
	MaxDepth int
}

// Limits bound one run. A field that is 0 has the default given; the time is
// bounded by the deadline of the context.
type Limits struct {
	Rows       int   // rows, or triples, of the result; default 10 million
	Memory     int64 // bytes that the run keeps, as far as they grow with the data; default 1 GiB
	PathLength int   // steps of a property path with * or +; default 1 million
}

// Defaults of [Limits].
const (
	MaxRows       = 10_000_000
	MaxMemory     = 1 << 30
	MaxPathLength = 1_000_000
)

func (l Limits) withDefaults() Limits {
	if l.Rows == 0 {
		l.Rows = MaxRows
	}
	if l.Memory == 0 {
		l.Memory = MaxMemory
	}
	if l.PathLength == 0 {
		l.PathLength = MaxPathLength
	}
	return l
}

// Query is a parsed query. It does not change and may be run by several
// goroutines at once.
type Query struct {
	tree     *selection
	prog     *program
	base     string
	prefixes map[string]string
	now      time.Time
	seed     uint64
	apart    bool // see planner
}

// Parse reads a query. A syntax error is a Finding that wraps a
// *graph.SyntaxError.
func Parse(text string, opts Options) (q *Query, err error) {
	if len(text) > MaxQuery {
		return nil, fault.New(fault.Finding, "split the query", "%s: the query is longer than %d bytes", opts.File, MaxQuery)
	}
	if opts.MaxDepth <= 0 || opts.MaxDepth > MaxDepth {
		opts.MaxDepth = MaxDepth
	}
	p := &parser{maxDepth: opts.MaxDepth, lexer: lexer{file: opts.File, text: text}, base: opts.Base, prefixes: map[string]string{}, labels: map[string]int{}}
	maps.Copy(p.prefixes, opts.Prefixes)
	defer func() {
		switch v := recover().(type) {
		case nil:
		case failure:
			q, err = nil, v.err
		default:
			panic(v)
		}
	}()
	p.run()
	tree := p.query()
	p.check(tree)
	q = &Query{tree: tree, prog: translate(tree), base: p.base, prefixes: p.prefixes, now: opts.Now, seed: opts.Seed}
	if q.now.IsZero() {
		q.now = time.Unix(0, 0).UTC()
	}
	return q, nil
}

// Kind is the form of a query and of its result.
type Kind uint8

// The query forms of section 16.
const (
	Select Kind = iota
	Ask
	Construct
	Describe
)

// String returns the keyword of the form.
func (k Kind) String() string { return [...]string{"SELECT", "ASK", "CONSTRUCT", "DESCRIBE"}[k] }

// Kind returns the form of the query.
func (q *Query) Kind() Kind { return Kind(q.tree.form) }

// Vars returns the columns of a SELECT query, in order.
func (q *Query) Vars() []string {
	if q.tree.form != formSelect {
		return nil
	}
	return q.tree.projected()
}

// Ordered tells whether the query has an ORDER BY of its own: sub-queries order
// nothing but what LIMIT leaves of them.
func (q *Query) Ordered() bool { return len(q.tree.orderBy) > 0 }

// Dataset returns the IRIs of FROM and of FROM NAMED, resolved (section 13.2). If
// there are any, they alone are what the query reads.
func (q *Query) Dataset() (from, named []string) {
	return slices.Clone(q.tree.from), slices.Clone(q.tree.fromNamed)
}

// Result is what a query gives. Only the fields of its Kind are set.
type Result struct {
	Kind Kind
	// Vars are the columns of SELECT.
	Vars []string
	// Rows hold one term per column; nil is unbound. They are in the order of
	// ORDER BY and, where that leaves it open, in an order that depends on the
	// graph and the query alone.
	Rows [][]rdf.Term
	// Boolean is the answer to ASK.
	Boolean bool
	// Triples of CONSTRUCT and DESCRIBE, each once.
	Triples []rdf.Triple

	prefixes map[string]string
}

// Run evaluates the query over a graph and the named graphs beside it. What
// exceeds a limit is a Finding that names the limit; a cancelled context ends
// the run after the step at hand, of which the longest is to match one long text.
func (q *Query) Run(ctx context.Context, g *graph.Graph, limits Limits) (*Result, error) {
	x, root, err := q.prepare(ctx, g, limits)
	if err != nil {
		return nil, err
	}
	out := &Result{Kind: q.Kind(), prefixes: q.prefixes}
	switch q.tree.form {
	case formSelect:
		x.selectRows(q, root, out)
	case formAsk:
		root.run(func() bool { out.Boolean = true; return false })
	case formConstruct:
		x.construct(q, root, out)
	case formDescribe:
		x.describe(q, root, out)
	}
	if x.err != nil {
		return nil, x.err
	}
	return out, nil
}

// Explain returns how the query would be executed, as indented lines.
func (q *Query) Explain(g *graph.Graph) (string, error) {
	_, root, err := q.prepare(context.Background(), g, Limits{})
	if err != nil {
		return "", err
	}
	e := &explainer{names: q.prog.names}
	root.explain(e)
	return e.b.String(), nil
}

func (q *Query) prepare(ctx context.Context, g *graph.Graph, limits Limits) (*execution, *selectRunner, error) {
	if len(q.tree.from) > 0 || len(q.tree.fromNamed) > 0 {
		var err error
		if g, err = g.Dataset(q.tree.from, q.tree.fromNamed); err != nil {
			return nil, nil, err
		}
	}
	x := &execution{
		ctx: ctx, limits: limits.withDefaults(), g: g, active: g.Index, dict: g.Dictionary().Extend(),
		row: make([]graph.ID, len(q.prog.names)), base: make([]graph.ID, len(q.prog.names)),
		patterns: map[string]*matcher{}, labels: map[string]value{},
		random: q.seed, baseIRI: q.base, now: q.now,
	}
	if !x.checkContext() {
		return nil, nil, x.err
	}
	pl := &planner{x: x, prog: q.prog, stats: g.Index, budget: maxEstimates, apart: q.apart}
	return x, pl.selection(q.prog.root, env{}), x.err
}

// maxEstimates bounds the work of planning.
const maxEstimates = 200_000

// limitRows counts a row or triple of the result.
func (x *execution) limitRows(n int) bool {
	if n > x.limits.Rows {
		return x.fail(fault.New(fault.Finding, "raise the limit of rows, or add LIMIT to the query",
			"the query gives more than %d rows", x.limits.Rows))
	}
	return true
}

func (x *execution) selectRows(q *Query, root *selectRunner, out *Result) {
	out.Vars = q.Vars()
	slots := q.prog.root.slots
	var ids []graph.ID
	count := 0
	root.run(func() bool {
		for _, slot := range slots {
			ids = append(ids, x.row[slot])
		}
		count++
		return x.limitRows(count) && x.charge(24+60*len(slots))
	})
	cells := make([]rdf.Term, len(ids))
	newConverter(x.dict).convert(ids, cells)
	out.Rows = make([][]rdf.Term, count)
	for i := range out.Rows {
		out.Rows[i] = cells[i*len(slots) : (i+1)*len(slots) : (i+1)*len(slots)]
	}
}

// converter makes the terms of a result. Terms that come again soon share one
// value.
type converter struct {
	d     *graph.Dictionary
	cache []rdf.Term // by the last bits of the number
	of    []graph.ID // whose term that is
	want  []graph.ID
	at    []int
	terms []graph.Term
}

// A block of terms is read from the dictionary at once, and as many are kept.
const convertBlock, convertRecent = 128, 1024

func newConverter(d *graph.Dictionary) *converter {
	return &converter{
		d: d, cache: make([]rdf.Term, convertRecent), of: make([]graph.ID, convertRecent),
		want: make([]graph.ID, 0, convertBlock), at: make([]int, 0, convertBlock), terms: make([]graph.Term, convertBlock),
	}
}

// convert writes the terms with the given numbers to out, nil for 0.
func (c *converter) convert(ids []graph.ID, out []rdf.Term) {
	for from := 0; from < len(ids); from += convertBlock {
		c.want, c.at = c.want[:0], c.at[:0]
		for i := from; i < min(from+convertBlock, len(ids)); i++ {
			id := ids[i]
			switch n := id % convertRecent; {
			case id == 0:
				out[i] = nil
			case c.of[n] == id:
				out[i] = c.cache[n]
			default:
				c.want, c.at = append(c.want, id), append(c.at, i)
			}
		}
		c.d.Terms(c.want, c.terms[:len(c.want)])
		for i, id := range c.want {
			n := id % convertRecent
			if c.of[n] != id {
				c.of[n], c.cache[n] = id, c.terms[i].RDF()
			}
			out[c.at[i]] = c.cache[n]
		}
	}
}

// tripleSet collects the triples of a result, each once.
type tripleSet struct {
	x   *execution
	set rowSet
	row [3]graph.ID

	subject, property graph.ID // the last that were found fit to be one
}

func (t *tripleSet) add(s, p, o graph.ID) bool {
	if p != t.property {
		if t.x.dict.Kind(p) != graph.IRI {
			return true // not a triple: section 16.2 leaves it out
		}
		t.property = p
	}
	if s != t.subject {
		if kind := t.x.dict.Kind(s); kind != graph.IRI && kind != graph.Blank {
			return true
		}
		t.subject = s
	}
	if o == 0 {
		return true
	}
	t.row = [3]graph.ID{s, p, o}
	if _, isNew := t.set.add(t.row[:]); !isNew {
		return true
	}
	return t.x.limitRows(t.set.count) && t.x.charge(200)
}

func (t *tripleSet) result() []rdf.Triple {
	const block = 3 * convertBlock // of numbers
	c, terms := newConverter(t.x.dict), make([]rdf.Term, block)
	out := make([]rdf.Triple, 0, t.set.count)
	for ids := range slices.Chunk(t.set.rows, block) {
		c.convert(ids, terms)
		for i := 0; i < len(ids); i += 3 {
			out = append(out, rdf.Triple{Subj: terms[i].(rdf.Subject), Pred: terms[i+1].(rdf.Predicate), Obj: terms[i+2].(rdf.Object)})
		}
	}
	return out
}

// construct fills in the template (section 16.2).
func (x *execution) construct(q *Query, root *selectRunner, out *Result) {
	triples := &tripleSet{x: x, set: rowSet{x: x, width: 3}}
	blanks := map[int]graph.ID{} // of the current solution
	fill := func(r ref) graph.ID {
		switch {
		case r.slot < 0:
			return x.dict.Intern(r.term)
		case q.prog.isBlank(r.slot):
			if blanks[r.slot] == 0 {
				blanks[r.slot] = x.intern(x.freshBlank())
			}
			return blanks[r.slot]
		}
		return x.row[r.slot]
	}
	root.run(func() bool {
		clear(blanks)
		for _, t := range q.prog.template {
			if !triples.add(fill(t.s), fill(t.p), fill(t.o)) {
				return false
			}
		}
		return x.tick()
	})
	out.Triples = triples.result()
}

// describe gives the concise bounded description of each resource: its
// triples, and those of the blank nodes that they lead to (section 16.4 leaves
// the choice to the engine).
func (x *execution) describe(q *Query, root *selectRunner, out *Result) {
	var queue []graph.ID
	seen := map[graph.ID]bool{}
	want := func(id graph.ID) {
		if id != 0 && !seen[id] {
			seen[id] = true
			queue = append(queue, id)
		}
	}
	root.run(func() bool {
		for _, r := range q.prog.describe {
			if r.slot < 0 {
				want(x.dict.Intern(r.term))
			} else {
				want(x.row[r.slot])
			}
		}
		return x.charge(16)
	})
	triples := &tripleSet{x: x, set: rowSet{x: x, width: 3}}
	for i := 0; i < len(queue) && x.err == nil; i++ {
		x.g.Match(queue[i], 0, 0, func(s, p, o graph.ID) bool {
			if x.dict.Kind(o) == graph.Blank {
				want(o)
			}
			return x.tick() && triples.add(s, p, o)
		})
	}
	out.Triples = triples.result()
}
