package shacl

import (
	"context"
	"slices"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Limits bound one validation. A field that is 0 has the default given; the
// time is bounded by the deadline of the context.
type Limits struct {
	// Results is the number of results after which validation stops; the report
	// says that it did. Default [MaxResults].
	Results int
	// Work is the number of triples and nodes that may be looked at, each as
	// often as it is. More is an error. Default [MaxWork].
	Work int64
}

// Defaults of [Limits].
const (
	MaxResults = 10_000
	MaxWork    = 2_000_000_000
)

const (
	checkEvery = 4096    // steps between two looks at the context
	maxKnown   = 1 << 21 // answers that are remembered, about 100 MB
	// maxDetails bounds the nested results that explain one result, at all levels.
	maxDetails = 16
)

// Validate applies the shapes to a data graph, the default graph of data
// (section 3.4). A report that does not conform is no error; an error means
// that there is no verdict: a limit was reached or the context ended.
func (s *Shapes) Validate(ctx context.Context, data *graph.Graph, limits Limits) (*Report, error) {
	if limits.Results == 0 {
		limits.Results = MaxResults
	}
	if limits.Work == 0 {
		limits.Work = MaxWork
	}
	v := &validation{
		ctx: ctx, data: data, shapes: s, left: limits.Work, limits: limits,
		dict: data.Dictionary().Extend(), constants: map[graph.ID]constant{},
		classes: map[graph.ID]map[graph.ID]struct{}{}, known: map[judgement]bool{},
	}
	// A term that the data does not have gets a number that matches nothing: a
	// node may be validated that is in no triple (section 2.1.3.1).
	for i, t := range s.constants {
		if t.Kind == graph.Blank {
			// Blank nodes of two graphs are two nodes, whatever their labels; no
			// label of a node has a blank in it.
			t.Value = "shapes " + t.Value
		}
		id := v.dict.Intern(t)
		v.ids = append(v.ids, id)
		v.constants[id] = constant(i)
	}
	v.typ = v.dict.Intern(graph.NewIRI(graph.RDF + "type"))
	v.subClassOf = v.dict.Intern(graph.NewIRI(rdfs + "subClassOf"))
	out := &collector{limit: limits.Results + 1}
	err := catch(func() {
		for _, shape := range s.all {
			for _, focus := range v.focusNodes(shape) {
				if !out.full() {
					v.run(shape, focus, out)
				}
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return newReport(out.results, limits.Results), nil
}

// validation is one run over one data graph. Its methods panic with a failure.
type validation struct {
	ctx    context.Context
	data   *graph.Graph
	shapes *Shapes
	limits Limits
	left   int64 // work that may still be done
	steps  int

	dict      *graph.Dictionary
	ids       []graph.ID // of constants
	constants map[graph.ID]constant

	typ, subClassOf graph.ID
	classes         map[graph.ID]map[graph.ID]struct{} // a class and those below it
	known           map[judgement]bool
	remembered      int // members of classes and known
}

// judgement is the question whether a node conforms to a shape.
type judgement struct {
	shape int
	node  graph.ID
}

func (v *validation) term(id graph.ID) graph.Term { return v.dict.Term(id) }

func (v *validation) step() { v.work(1) }

// work counts n steps against the limit.
func (v *validation) work(n int) {
	if v.left -= int64(n); v.left < 0 {
		panic(failure{fault.New(fault.Finding, "validate less data, or simplify paths with * and +",
			"validation takes more than %d steps", v.limits.Work)})
	}
	if v.steps += n; v.steps >= checkEvery {
		v.steps = 0
		if v.ctx.Err() != nil {
			panic(failure{context.Cause(v.ctx)})
		}
	}
}

// focusNodes returns the nodes that the targets of a shape choose, each once
// (section 2.1.3).
func (v *validation) focusNodes(s *shape) []graph.ID {
	if s.deactivated {
		return nil
	}
	var out distinct
	for _, t := range s.targets {
		id := v.ids[t.term]
		switch t.kind {
		case targetNode:
			out.add(id)
		case targetClass:
			for _, class := range v.below(id) {
				out.add(v.along(class, v.typ, true)...)
			}
		case targetSubjectsOf, targetObjectsOf:
			v.data.Match(0, id, 0, func(s, _, o graph.ID) bool {
				v.step()
				if t.kind == targetSubjectsOf {
					out.add(s)
				} else {
					out.add(o)
				}
				return true
			})
		}
	}
	return out.list
}

// below returns a class and its subclasses at any distance in the data graph.
func (v *validation) below(class graph.ID) []graph.ID {
	var out distinct
	out.add(class)
	for i := 0; i < len(out.list); i++ {
		out.add(v.along(out.list[i], v.subClassOf, true)...)
	}
	return out.list
}

// isInstance tells whether a node is a SHACL instance of a class (section 1.1).
func (v *validation) isInstance(node, class graph.ID) bool {
	set := v.classes[class]
	if set == nil {
		below := v.below(class)
		set = make(map[graph.ID]struct{}, len(below))
		for _, id := range below {
			set[id] = struct{}{}
		}
		if v.remembered += len(set); v.remembered <= maxKnown {
			v.classes[class] = set
		}
	}
	return !v.data.Match(node, v.typ, 0, func(_, _, o graph.ID) bool {
		v.step()
		_, found := set[o]
		return !found
	})
}

// run validates a focus node against a shape and collects the results.
func (v *validation) run(s *shape, focus graph.ID, out *collector) {
	v.step()
	if s.deactivated {
		return
	}
	c := checking{v: v, shape: s, focus: focus, values: []graph.ID{focus}, out: out}
	if s.path != nil {
		c.values = v.values(s.path, focus, false)
	}
	for _, k := range s.constraints {
		if out.full() {
			return
		}
		v.work(1 + len(c.values))
		k.check(&c)
	}
}

// conforms tells whether a node conforms to a shape (section 3.5): validation
// gives no result, of whatever severity.
func (v *validation) conforms(s *shape, node graph.ID) bool {
	question := judgement{s.index, node}
	if answer, ok := v.known[question]; ok {
		v.step()
		return answer
	}
	out := &collector{limit: 1, verdict: true}
	v.run(s, node, out)
	answer := len(out.results) == 0
	if v.remembered < maxKnown {
		v.remembered++
		v.known[question] = answer
	}
	return answer
}

func (v *validation) conformsToAny(shapes []*shape, node graph.ID) bool {
	return slices.ContainsFunc(shapes, func(s *shape) bool { return v.conforms(s, node) })
}

// collector takes results until it has enough.
type collector struct {
	results []Result
	limit   int
	// verdict means that only the number of results counts: none is explained.
	verdict bool
	// allowance is how many more results may explain another one, shared by all
	// levels; nil at the outermost level, where every result has its own.
	allowance *int
}

func (c *collector) full() bool {
	return len(c.results) >= c.limit || c.allowance != nil && *c.allowance <= 0
}

// checking is one focus node against one shape.
type checking struct {
	v      *validation
	shape  *shape
	focus  graph.ID
	values []graph.ID
	out    *collector
}

func (c *checking) full() bool { return c.out.full() }

// report adds a result, completed with what holds for the shape.
func (c *checking) report(r Result) {
	if c.full() {
		return
	}
	r.Focus, r.Shape, r.ShapeName = c.v.term(c.focus), c.shape.node, c.shape.name
	r.Severity, r.Messages = c.shape.severity, c.shape.messages
	if r.Path == "" && c.shape.path != nil {
		r.Path = c.shape.path.text
	}
	if c.out.allowance != nil {
		*c.out.allowance--
	}
	c.out.results = append(c.out.results, r)
}

// explain returns why a node does not conform to shapes, for people (section
// 3.6.2.6). Where only the verdict is asked for it returns nothing.
func (c *checking) explain(node graph.ID, shapes ...*shape) []Result {
	if c.out.verdict {
		return nil
	}
	allowance := c.out.allowance
	if allowance == nil {
		n := maxDetails
		allowance = &n
	}
	out := &collector{limit: maxDetails, allowance: allowance}
	for _, s := range shapes {
		c.v.run(s, node, out)
	}
	sortResults(out.results)
	return out.results
}
