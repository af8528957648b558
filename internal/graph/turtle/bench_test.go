package turtle_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/internal/graph/turtle"
)

// document returns a Turtle document of n small records.
func document(n int) []byte {
	var b bytes.Buffer
	b.WriteString("@prefix : <http://example.org/v#> .\n@prefix d: <http://example.org/d/> .\n")
	for i := range n {
		fmt.Fprintf(&b, "d:f%d a :Field ; :of d:e%d ; :name \"id_%d\" ; :required %t ; :rank %d .\n", i, i/3, i, i%2 == 0, i%100)
	}
	return b.Bytes()
}

func BenchmarkLoad(b *testing.B) {
	text := document(20_000)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		g := graph.NewBuilder()
		if err := turtle.Load(bytes.NewReader(text), turtle.Options{}, g); err != nil {
			b.Fatal(err)
		}
		if n := g.Build().Len(); n != 100_000 {
			b.Fatal(n)
		}
	}
}
