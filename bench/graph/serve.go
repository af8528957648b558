package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/internal/graph/sparql"
	"github.com/ultrafast-ci/ultrafast/internal/graph/turtle"
)

// serve answers requests with the engine of this repository: see [session].
func serve(ctx context.Context, in io.Reader, out io.Writer) error {
	var g *graph.Graph
	requests := bufio.NewScanner(in)
	answers := json.NewEncoder(out)
	for requests.Scan() {
		var r request
		if err := json.Unmarshal(requests.Bytes(), &r); err != nil {
			return err
		}
		var a answer
		var err error
		if r.Load != "" {
			g, a, err = load(r.Load)
		} else {
			a, err = query(ctx, g, r)
		}
		if err != nil {
			return err
		}
		if err := answers.Encode(a); err != nil {
			return err
		}
	}
	return requests.Err()
}

func load(path string) (*graph.Graph, answer, error) {
	start := time.Now()
	f, err := os.Open(path)
	if err != nil {
		return nil, answer{}, err
	}
	defer f.Close()
	b := graph.NewBuilder()
	if err := turtle.Load(f, turtle.Options{File: path}, b); err != nil {
		return nil, answer{}, err
	}
	g := b.Build()
	return g, answer{Times: []int64{int64(time.Since(start))}, Rows: g.Len()}, nil
}

// query parses, plans and runs the query each time, as the others do.
func query(ctx context.Context, g *graph.Graph, r request) (answer, error) {
	var a answer
	for left := r.Budget; len(a.Times) == 0 || left > 0 && len(a.Times) < 50; left -= a.Times[len(a.Times)-1] {
		start := time.Now()
		q, err := sparql.Parse(r.Query, sparql.Options{})
		if err != nil {
			return a, err
		}
		result, err := q.Run(ctx, g, sparql.Limits{})
		if err != nil {
			return a, err
		}
		a.Rows = len(result.Rows) + len(result.Triples)
		a.Times = append(a.Times, int64(time.Since(start)))
	}
	return a, nil
}
