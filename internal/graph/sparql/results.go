package sparql

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/knakk/rdf"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Formats are the names that [Result.Write] knows.
var Formats = []string{"json", "csv", "tsv", "table", "nt"}

// Write writes the result in the format of the given name; a graph, which none of
// the others can hold, is N-Triples in every format. Another result that the
// format cannot hold is a Usage error.
func (r *Result) Write(w io.Writer, format string) error {
	out := bufio.NewWriter(w)
	var err error
	switch {
	case r.Kind == Construct || r.Kind == Describe:
		r.writeNTriples(out)
	case format == "json":
		err = r.writeJSON(out)
	case format == "csv" && r.Kind == Select:
		r.writeCSV(out)
	case format == "tsv" && r.Kind == Select:
		r.writeTSV(out)
	case format == "table":
		r.writeTable(out)
	default:
		return fault.New(fault.Usage, "use json or table", "%s cannot hold the result of %s", format, r.Kind)
	}
	if err != nil {
		return err
	}
	return out.Flush()
}

// plain returns the plain value of a term of a result; the zero Term for nil.
func plain(t rdf.Term) graph.Term {
	if t == nil {
		return graph.Term{}
	}
	p, err := graph.FromRDF(t)
	if err != nil {
		panic(fmt.Sprintf("sparql: a result holds %v: %v", t, err)) // Run makes no such result
	}
	return p
}

func (r *Result) writeNTriples(w *bufio.Writer) {
	var buf []byte
	for _, t := range r.Triples {
		buf = graph.AppendTriple(buf[:0], plain(t.Subj), plain(t.Pred), plain(t.Obj))
		w.Write(buf) // the first error is kept and returned by Flush
	}
}

// writeJSON writes SPARQL 1.1 Query Results JSON Format, one solution a line.
func (r *Result) writeJSON(w *bufio.Writer) error {
	if r.Kind == Ask {
		fmt.Fprintf(w, "{\"head\":{},\"boolean\":%t}\n", r.Boolean)
		return nil
	}
	w.WriteString(`{"head":{"vars":[`)
	names := make([]string, len(r.Vars))
	for i, v := range r.Vars {
		if i > 0 {
			w.WriteByte(',')
		}
		names[i] = quoteJSON(v)
		w.WriteString(names[i])
	}
	w.WriteString(`]},"results":{"bindings":[`)
	for i, row := range r.Rows {
		if i > 0 {
			w.WriteByte(',')
		}
		w.WriteString("\n{")
		first := true
		for j, t := range row {
			if t == nil {
				continue
			}
			if !first {
				w.WriteByte(',')
			}
			first = false
			w.WriteString(names[j])
			w.WriteByte(':')
			writeJSONTerm(w, plain(t))
		}
		w.WriteByte('}')
	}
	w.WriteString("\n]}}\n")
	return nil
}

func writeJSONTerm(w *bufio.Writer, t graph.Term) {
	w.WriteString(`{"type":"`)
	switch t.Kind {
	case graph.IRI:
		w.WriteString("uri")
	case graph.Blank:
		w.WriteString("bnode")
	default:
		w.WriteString("literal")
	}
	w.WriteString(`","value":`)
	w.WriteString(quoteJSON(t.Value))
	switch {
	case t.Lang != "":
		w.WriteString(`,"xml:lang":`)
		w.WriteString(quoteJSON(t.Lang))
	case t.Kind == graph.Literal && t.Datatype != graph.XSDString:
		w.WriteString(`,"datatype":`)
		w.WriteString(quoteJSON(t.Datatype))
	}
	w.WriteByte('}')
}

func quoteJSON(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic(fmt.Sprintf("sparql: encode a string: %v", err)) // every string has a JSON form
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// writeCSV writes SPARQL 1.1 Query Results CSV Format (section 3): values
// without their types, lines ended by CR LF.
func (r *Result) writeCSV(w *bufio.Writer) {
	for i, v := range r.Vars {
		if i > 0 {
			w.WriteByte(',')
		}
		w.WriteString(v)
	}
	w.WriteString("\r\n")
	for _, row := range r.Rows {
		for i, t := range row {
			if i > 0 {
				w.WriteByte(',')
			}
			p := plain(t)
			if p.Kind == graph.Blank {
				w.WriteString("_:")
			}
			if strings.ContainsAny(p.Value, "\",\r\n") {
				p.Value = `"` + strings.ReplaceAll(p.Value, `"`, `""`) + `"`
			}
			w.WriteString(p.Value)
		}
		w.WriteString("\r\n")
	}
}

// writeTSV writes SPARQL 1.1 Query Results TSV Format (section 4): terms as
// in SPARQL and Turtle.
func (r *Result) writeTSV(w *bufio.Writer) {
	for i, v := range r.Vars {
		if i > 0 {
			w.WriteByte('\t')
		}
		w.WriteString("?" + v)
	}
	w.WriteByte('\n')
	for _, row := range r.Rows {
		for i, t := range row {
			if i > 0 {
				w.WriteByte('\t')
			}
			w.WriteString(shortTerm(plain(t), nil))
		}
		w.WriteByte('\n')
	}
}

// shortTerm returns a term as SPARQL writes it, numbers without quotation
// marks and, if prefixes are given, IRIs as prefixed names.
func shortTerm(t graph.Term, prefixes []prefix) string {
	if t.Kind == graph.Literal {
		v := valueOf(t, 0)
		switch {
		case t.Datatype == xsdInteger && v.kind == kindInteger, t.Datatype == xsdDecimal && strings.Contains(t.Value, ".") && !strings.HasSuffix(t.Value, ".") && v.kind == kindDecimal,
			t.Datatype == xsdDouble && v.kind == kindDouble && strings.ContainsAny(t.Value, "eE"):
			return t.Value
		}
		return strings.ReplaceAll(t.String(), "\t", `\t`)
	}
	if t.Kind == graph.IRI {
		for _, p := range prefixes {
			if local, ok := strings.CutPrefix(t.Value, p.iri); ok && simpleLocal(local) {
				return p.name + ":" + local
			}
		}
	}
	return t.String()
}

type prefix struct{ name, iri string }

// simpleLocal tells whether a local name needs no escape.
func simpleLocal(s string) bool {
	for i, r := range s {
		if !graph.IsNameChar(r) || i == 0 && r == '-' {
			return false
		}
	}
	return true
}

// maxCell bounds a cell of a table, in characters.
const maxCell = 80

// writeTable writes columns for people.
func (r *Result) writeTable(w *bufio.Writer) {
	if r.Kind == Ask {
		fmt.Fprintln(w, r.Boolean)
		return
	}
	prefixes := r.sortedPrefixes()
	lines := [][]string{r.Vars}
	width := make([]int, len(r.Vars))
	for i, v := range r.Vars {
		width[i] = utf8.RuneCountInString(v)
	}
	for _, row := range r.Rows {
		line := make([]string, len(row))
		for i, t := range row {
			line[i] = cell(shortTerm(plain(t), prefixes))
			width[i] = max(width[i], utf8.RuneCountInString(line[i]))
		}
		lines = append(lines, line)
	}
	for n, line := range lines {
		var b strings.Builder
		for i, c := range line {
			if i > 0 {
				b.WriteString("  ")
			}
			b.WriteString(c)
			b.WriteString(strings.Repeat(" ", width[i]-utf8.RuneCountInString(c)))
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
		if n == 0 {
			var rule []string
			for _, n := range width {
				rule = append(rule, strings.Repeat("-", n))
			}
			fmt.Fprintln(w, strings.Join(rule, "  "))
		}
	}
}

// cell makes a term printable on one line.
func cell(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
	if utf8.RuneCountInString(s) > maxCell {
		s = string([]rune(s)[:maxCell-1]) + "…"
	}
	return s
}

// sortedPrefixes returns the declared prefixes, longest IRI first.
func (r *Result) sortedPrefixes() []prefix {
	var out []prefix
	for name, iri := range r.prefixes {
		out = append(out, prefix{name, iri})
	}
	slices.SortFunc(out, func(a, b prefix) int {
		return cmp.Or(cmp.Compare(len(b.iri), len(a.iri)), strings.Compare(a.name, b.name))
	})
	return out
}
