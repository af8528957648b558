package sparql_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/internal/graph/sparql"
	"github.com/ultrafast-ci/ultrafast/internal/graph/turtle"
)

// services returns a Turtle document of about n triples: services with
// endpoints with fields, as the conformance data's generator makes it.
func services(n int) []byte {
	var b bytes.Buffer
	b.WriteString("@prefix : <http://ex.org/v#> .\n@prefix d: <http://ex.org/d/> .\n@prefix xsd: <http://www.w3.org/2001/XMLSchema#> .\n")
	types := []string{"xsd:string", "xsd:integer", "xsd:boolean", "xsd:dateTime", "xsd:decimal"}
	methods := []string{"GET", "POST", "PUT", "DELETE"}
	for s, count := 0, 0; count < n; s++ {
		block := s / 50 * 50
		fmt.Fprintf(&b, "d:svc%d a :Service ; :name \"service %d\" ; :team d:team%d ; :tier %d ", s, s, s%40, s%4)
		count += 4
		for _, x := range []int{s - 3, s - 1} {
			if x >= block {
				fmt.Fprintf(&b, "; :dependsOn d:svc%d ", x)
				count++
			}
		}
		b.WriteString(".\n")
		for e := s * 4; e < s*4+4; e++ {
			fmt.Fprintf(&b, "d:ep%d a :Endpoint ; :of d:svc%d ; :path \"/v1/r%d\" ; :method %q ; :returns d:type%d .\n", e, s, e, methods[e%4], e%200)
			count += 5
			if e%10 == 0 {
				fmt.Fprintf(&b, "d:ep%d :doc \"Docs of endpoint %d\"@en . d:page%d :docPath \"/v1/r%d\" .\n", e, e, e, e)
				count += 2
			}
			for f := e * 3; f < e*3+3; f++ {
				fmt.Fprintf(&b, "d:f%d a :Field ; :fieldOf d:ep%d ; :fname \"id_%d\" ; :ftype %s ; :required %t .\n", f, e, f, types[f%5], f%2 == 1)
				count += 5
			}
		}
	}
	return b.Bytes()
}

func buildServices(tb testing.TB, n int) *graph.Graph {
	tb.Helper()
	b := graph.NewBuilder()
	if err := turtle.Load(bytes.NewReader(services(n)), turtle.Options{File: "services"}, b); err != nil {
		tb.Fatal(err)
	}
	return b.Build()
}

// benchQueries returns the benchmark queries by name.
func benchQueries(tb testing.TB) map[string]string {
	tb.Helper()
	dir := conformance(tb, "sparql-bench")
	files, err := filepath.Glob(filepath.Join(dir, "*.rq"))
	if err != nil {
		tb.Fatal(err)
	}
	out := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		out[strings.TrimSuffix(filepath.Base(file), ".rq")] = string(text)
	}
	return out
}

func BenchmarkQuery(b *testing.B) {
	sizes := []int{10_000, 100_000}
	if os.Getenv("BENCH_GRAPH_LARGE") != "" {
		sizes = append(sizes, 1_000_000)
	}
	queries := benchQueries(b)
	for _, n := range sizes {
		g := buildServices(b, n)
		for name, text := range queries {
			q, err := sparql.Parse(text, sparql.Options{})
			if err != nil {
				b.Fatal(err)
			}
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				rows := 0
				for b.Loop() {
					r, err := q.Run(context.Background(), g, sparql.Limits{})
					if err != nil {
						b.Fatal(err)
					}
					rows = len(r.Rows) + len(r.Triples)
				}
				b.ReportMetric(float64(rows), "rows")
			})
		}
	}
}
