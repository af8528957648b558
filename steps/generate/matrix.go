package generate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/document"
	"github.com/ultrafast-ci/ultrafast/internal/render"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
)

// matrixQuery is the name under which the query of a matrix is known.
const matrixQuery = "matrix"

// binding gives a column of a matrix the name of a variable.
type binding struct {
	variable, column string
	where            finding.Place
}

// ask reads everything that is asked of the graph: construct, sparql in its two
// shapes (names with queries; vars and matrix), for_each and matrix.
func (s *settings) ask(h *header, expand expander) error {
	var err error
	if s.construct, err = queries(h.construct, expand); err != nil {
		return err
	}
	if s.forEach, err = text(h.forEach, expand, "the name of a query"); err != nil {
		return err
	}
	matrix := h.matrix
	if n := h.sparql; n != nil && n.Kind == document.Map && isSecondShape(n) {
		for _, e := range n.Entries {
			switch e.Key {
			case "vars":
				err = s.questions(e.Value, expand)
			case matrixQuery:
				matrix = e.Value
			default:
				err = fault.New(fault.Finding, "use vars and matrix, or names with queries", "%s: sparql has %q beside vars or matrix", e.Place, clip(e.Key))
			}
			if err != nil {
				return err
			}
		}
	} else if s.queries, err = queries(n, expand); err != nil {
		return err
	}
	if matrix == nil {
		return nil
	}
	if h.forEach != nil {
		return fault.New(fault.Finding, "remove one of them", "%s: a template has for_each or matrix", matrix.Place)
	}
	return s.matrix(matrix, expand)
}

// isSecondShape tells {vars: […], matrix: {…}} from queries that have these names.
func isSecondShape(n *document.Node) bool {
	vars, matrix := n.Get("vars"), n.Get(matrixQuery)
	return vars != nil && vars.Kind == document.Seq || matrix != nil && matrix.Kind == document.Map
}

// questions reads a list of {name, query, default}: the first cell of the first row
// becomes the variable name.
func (s *settings) questions(n *document.Node, expand expander) error {
	if n.Kind != document.Seq {
		return wrong(n, "a list of name, query and default")
	}
	for _, item := range n.Items {
		if item.Kind != document.Map {
			return wrong(item, "name, query and default")
		}
		q := query{cell: true, node: item.Get("query")}
		for _, e := range item.Entries {
			var err error
			switch e.Key {
			case "name":
				q.name, err = text(e.Value, expand, "a name")
			case "query":
				q.text, err = text(e.Value, expand, "a SPARQL query")
			case "default":
				q.otherwise, err = valueOf(e.Value, expand)
			default:
				err = fault.New(fault.Finding, "use name, query and default", "%s: unknown key %q", e.Place, clip(e.Key))
			}
			if err != nil {
				return err
			}
		}
		if q.name == "" || q.node == nil {
			return wrong(item, "name and query")
		}
		s.queries = append(s.queries, q)
	}
	return nil
}

// matrix reads {query, bind}: one output for every row, with columns as variables.
func (s *settings) matrix(n *document.Node, expand expander) error {
	if n.Kind != document.Map {
		return wrong(n, "query and bind")
	}
	for _, e := range n.Entries {
		switch e.Key {
		case "query":
			value, err := text(e.Value, expand, "a SPARQL query")
			if err != nil {
				return err
			}
			if slices.ContainsFunc(s.queries, func(q query) bool { return q.name == matrixQuery }) {
				return fault.New(fault.Finding, "give the query another name", "%s: there is a query called %s beside the matrix", e.Place, matrixQuery)
			}
			s.queries = append(s.queries, query{name: matrixQuery, text: value, node: e.Value})
		case "bind":
			if e.Value.Kind != document.Map {
				return wrong(e.Value, "variables with their columns")
			}
			for _, b := range e.Value.Entries {
				column, err := text(b.Value, expand, "a column, as ?name")
				if err != nil {
					return err
				}
				if err := checkKey(b.Key); err != nil {
					return asFinding(fmt.Errorf("%s: %w", b.Place, err), "front matter")
				}
				s.bind = append(s.bind, binding{b.Key, strings.TrimPrefix(column, "?"), b.Value.Place})
			}
		default:
			return fault.New(fault.Finding, "use query and bind", "%s: unknown key %q", e.Place, clip(e.Key))
		}
	}
	if n.Get("query") == nil {
		return wrong(n, "a query")
	}
	s.forEach = matrixQuery
	return nil
}

// bound gives the columns of a row the names that the matrix asks for.
func (j *job) bound(vars, row *render.Map) error {
	for _, b := range j.set.bind {
		value, ok := row.Get(b.column)
		if !ok {
			hint := fault.DidYouMean(b.column, row.Keys(render.SortedOrder))
			return fault.New(fault.Finding, hint, "%s: the matrix has a row without the column ?%s", b.where, b.column)
		}
		vars.Set(b.variable, value)
	}
	return nil
}

// firstCell is the first cell of the first row, for a query that gives one value.
func (q *query) firstCell(value any) any {
	rows, ok := value.([]any)
	if !ok {
		return value // ASK
	}
	if len(rows) > 0 {
		if row, isRow := rows[0].(*render.Map); isRow && row.Len() > 0 {
			_, cell := row.At(0)
			return cell
		}
	}
	return q.otherwise
}
