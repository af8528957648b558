package main

import (
	"bufio"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"
)

// report is everything that one run found out.
type report struct {
	date    time.Time
	engines []engine
	missing []string
	sizes   []measured
}

// write writes the report as Markdown.
func (r *report) write(to io.Writer) error {
	w := bufio.NewWriter(to)
	fmt.Fprintf(w, "# The graph engine and its peers\n\nWritten by `make bench-graph` on %s, %s/%s, %d processors.\n",
		r.date.UTC().Format(time.DateOnly), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	fmt.Fprintf(w, "Times are medians in milliseconds, measured inside each engine's process, all engines in turn;\n"+
		"a ratio is ultrafast's time divided by the peer's, so less than 1 is faster than the peer.\n"+
		"A query is parsed, planned and run anew each time, and all its rows are read.\n\n")
	for _, e := range r.engines {
		fmt.Fprintf(w, "- %s: %s\n", e.name, e.version)
	}
	for _, m := range r.missing {
		fmt.Fprintf(w, "- %s\n", m)
	}
	for i := range r.sizes {
		r.size(w, &r.sizes[i])
	}
	r.summary(w)
	if len(r.sizes) > 1 {
		r.growth(w)
	}
	return w.Flush()
}

// row writes cells as a row of a table; the first is the row's name.
func row(w io.Writer, cells ...string) { fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | ")) }

func head(w io.Writer, cells ...string) {
	row(w, cells...)
	fmt.Fprintf(w, "|---|%s\n", strings.Repeat("--:|", len(cells)-1))
}

func (r *report) size(w io.Writer, m *measured) {
	fmt.Fprintf(w, "\n## %d triples\n\n", m.triples)
	columns := []string{"", "rows"}
	for _, e := range r.engines {
		columns = append(columns, e.name)
	}
	for _, e := range r.engines[1:] {
		columns = append(columns, "ratio to "+e.name)
	}
	head(w, columns...)
	line := func(name, rows string, values []string, ratios []float64) {
		cells := append([]string{name, rows}, values...)
		for _, ratio := range ratios {
			cells = append(cells, fmt.Sprintf("%.2f", ratio))
		}
		row(w, cells...)
	}
	line("load", "", each(m.load, milliseconds), ratios(m.load))
	for _, q := range m.queries {
		line(q.name, fmt.Sprint(q.rows), each(q.medians, milliseconds), ratios(q.medians))
	}
	if !slices.Contains(m.peak, 0) {
		line("peak MB after loading", "", each(m.loaded, megabytes), ratios(m.loaded))
		line("peak MB after all queries", "", each(m.peak, megabytes), ratios(m.peak))
	}
}

// summary writes the ratios of all queries at all sizes.
func (r *report) summary(w io.Writer) {
	if len(r.engines) < 2 {
		return
	}
	fmt.Fprintf(w, "\n## Ratios of all queries\n\n")
	head(w, "to", "size", "least", "median", "largest", "of query", "load")
	for i, e := range r.engines[1:] {
		for _, m := range r.sizes {
			type named struct {
				ratio float64
				name  string
			}
			var all []named
			for _, q := range m.queries {
				all = append(all, named{ratios(q.medians)[i], q.name})
			}
			slices.SortFunc(all, func(a, b named) int {
				if a.ratio < b.ratio {
					return -1
				}
				return 1
			})
			last := all[len(all)-1]
			middle := (all[(len(all)-1)/2].ratio + all[len(all)/2].ratio) / 2
			row(w, e.name, fmt.Sprint(m.triples), fmt.Sprintf("%.2f", all[0].ratio), fmt.Sprintf("%.2f", middle),
				fmt.Sprintf("%.2f", last.ratio), last.name, fmt.Sprintf("%.2f", ratios(m.load)[i]))
		}
	}
}

// growth writes how much longer everything takes at the last size than at the
// first. All sizes took turns too, so that the medians can be compared.
func (r *report) growth(w io.Writer) {
	first, last := &r.sizes[0], &r.sizes[len(r.sizes)-1]
	fmt.Fprintf(w, "\n## Growth from %d to %d triples\n\nQuotients of the medians.\n\n", first.triples, last.triples)
	columns := []string{""}
	for _, e := range r.engines {
		columns = append(columns, e.name)
	}
	head(w, columns...)
	line := func(name string, from, to []time.Duration) {
		cells := []string{name}
		for i := range from {
			cells = append(cells, fmt.Sprintf("%.1f", float64(to[i])/float64(from[i])))
		}
		row(w, cells...)
	}
	line("load", first.load, last.load)
	for i, q := range first.queries {
		line(q.name, q.medians, last.queries[i].medians)
	}
}

// ratios divides the first value by each of the others.
func ratios[T ~int64](values []T) []float64 {
	var out []float64
	for _, v := range values[1:] {
		out = append(out, float64(values[0])/float64(v))
	}
	return out
}

func each[T any](values []T, text func(T) string) []string {
	var out []string
	for _, v := range values {
		out = append(out, text(v))
	}
	return out
}

func milliseconds(d time.Duration) string {
	ms := float64(d) / 1e6
	if ms >= 100 {
		return fmt.Sprintf("%.0f", ms)
	}
	return fmt.Sprintf("%.3g", ms)
}

func megabytes(n int64) string { return fmt.Sprintf("%.0f", float64(n)/1e6) }
