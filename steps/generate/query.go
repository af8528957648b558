package generate

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/internal/graph/sparql"
	"github.com/ultrafast-ci/ultrafast/internal/render"
)

// dataset answers the queries of one template. It is safe for concurrent use.
type dataset struct {
	graph   *graph.Graph
	options sparql.Options
	limits  Limits
}

// Query implements render.Querier. Rows of a query that asks for no order are
// sorted, so the order of statements in a model decides nothing (spec B3, N-19).
func (d *dataset) Query(ctx context.Context, text string) (any, error) {
	limits := d.limits.withDefaults()
	ctx, cancel := limits.within(ctx, "the query")
	defer cancel()
	o := d.options
	o.File = "the query" // its lines are not those of the template
	q, err := sparql.Parse(text, o)
	if err != nil {
		return nil, err
	}
	result, err := q.Run(ctx, d.graph, limits.engine())
	if err != nil {
		return nil, err
	}
	switch result.Kind {
	case sparql.Ask:
		return result.Boolean, nil
	case sparql.Select:
		return rows(result, !q.Ordered())
	default:
		return triples(result)
	}
}

// row is a row of a result while it is being sorted.
type row struct {
	cells *render.Map
	key   string
}

func values(all []row) []any {
	out := make([]any, 0, len(all))
	for _, r := range all {
		out = append(out, r.cells)
	}
	return out
}

func rows(result *sparql.Result, sort bool) (any, error) {
	all := make([]row, 0, len(result.Rows))
	for _, terms := range result.Rows {
		cells := render.NewRow()
		var key []byte
		for i, t := range terms {
			if t == nil { // unbound: the row has no such key
				key = append(key, 0)
				continue
			}
			term, err := graph.FromRDF(t)
			if err != nil {
				return nil, err
			}
			cells.Set(result.Vars[i], cell(term))
			key = append(term.AppendNTriples(append(key, 1)), 0)
		}
		all = append(all, row{cells, string(key)})
	}
	if sort {
		slices.SortStableFunc(all, func(a, b row) int { return compareRows(a, b, result.Vars) })
	}
	return values(all), nil
}

// triples makes maps of what CONSTRUCT and DESCRIBE give, in the order of their terms.
func triples(result *sparql.Result) (any, error) {
	all := make([]row, 0, len(result.Triples))
	for _, t := range result.Triples {
		s, errS := graph.FromRDF(t.Subj)
		p, errP := graph.FromRDF(t.Pred)
		o, errO := graph.FromRDF(t.Obj)
		if err := errors.Join(errS, errP, errO); err != nil {
			return nil, err
		}
		m := render.NewMap()
		m.Set("subject", cell(s))
		m.Set("predicate", cell(p))
		m.Set("object", cell(o))
		all = append(all, row{m, string(graph.AppendTriple(nil, s, p, o))})
	}
	slices.SortFunc(all, func(a, b row) int { return strings.Compare(a.key, b.key) })
	return values(all), nil
}

// compareRows orders rows by their columns from the left: unbound, booleans,
// numbers by value, texts; rows that look alike by their terms.
func compareRows(a, b row, vars []string) int {
	for _, name := range vars {
		x, _ := a.cells.Get(name)
		y, _ := b.cells.Get(name)
		if c := compareCells(x, y); c != 0 {
			return c
		}
	}
	return strings.Compare(a.key, b.key)
}

func compareCells(x, y any) int {
	kindX, numberX, textX := ranked(x)
	kindY, numberY, textY := ranked(y)
	return cmp.Or(cmp.Compare(kindX, kindY), cmp.Compare(numberX, numberY), strings.Compare(textX, textY))
}

// ranked makes a cell comparable: by kind, then number, then text.
func ranked(v any) (kind int, number float64, text string) {
	switch v := v.(type) {
	case bool:
		if v {
			return 1, 1, ""
		}
		return 1, 0, ""
	case int64:
		return 2, float64(v), ""
	case float64:
		return 2, v, ""
	case string:
		return 3, 0, v
	default:
		return 0, 0, ""
	}
}

// cell makes a template value of a term (spec B2): booleans and numbers are
// typed, all else is its text. A literal whose form does not fit its datatype
// is text too.
func cell(t graph.Term) any {
	switch t.Kind {
	case graph.Blank:
		return "_:" + t.Value
	case graph.IRI:
		return t.Value
	}
	kind, ok := strings.CutPrefix(t.Datatype, graph.XSD)
	if !ok {
		return t.Value
	}
	text := strings.TrimSpace(t.Value)
	switch {
	case kind == "boolean":
		switch text {
		case "true", "1":
			return true
		case "false", "0":
			return false
		}
	case slices.Contains(integerTypes, kind):
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n
		}
	case kind == "decimal" || kind == "double" || kind == "float":
		if f, err := strconv.ParseFloat(text, 64); err == nil && !math.IsInf(f, 0) && !math.IsNaN(f) {
			return f
		}
	}
	return t.Value
}

// integerTypes are xsd:integer and the types derived from it (XML Schema 1.1
// Datatypes, section 3.4).
var integerTypes = []string{
	"integer", "int", "long", "short", "byte", "nonNegativeInteger", "positiveInteger", "nonPositiveInteger",
	"negativeInteger", "unsignedInt", "unsignedLong", "unsignedShort", "unsignedByte",
}

var _ render.Querier = (*dataset)(nil)
