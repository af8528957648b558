// Command graph compares the RDF and SPARQL engine of internal/graph with its
// peers. Every engine holds the benchmark graph in a process of its own and
// measures itself; they take turns, query by query, round by round and size
// by size, so that the noise of a machine falls on all alike and ratios can be
// trusted where times cannot. Engines that disagree about the number of rows end the run.
//
// It prints what it found and writes the same to a file.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// options are the flags.
type options struct {
	data    string // folder with generate.py and the queries
	work    string // where peers and graphs are kept
	results string
	sizes   string
	rounds  int
	loads   int
	budget  time.Duration
	install bool
	serve   bool
}

func main() {
	conformance := os.Getenv("ULTRAFAST_CONFORMANCE")
	if conformance == "" {
		conformance = filepath.Join("..", "shared", "conformance")
	}
	var o options
	flag.StringVar(&o.data, "data", filepath.Join(conformance, "sparql-bench"), "folder of generate.py and the queries")
	flag.StringVar(&o.work, "work", filepath.Join("build", "bench-graph"), "folder for peers and graphs")
	flag.StringVar(&o.results, "results", filepath.Join("bench", "graph", "RESULTS.md"), "file for the results; empty for none")
	flag.StringVar(&o.sizes, "sizes", "100000,1000000", "triples of the graphs")
	flag.IntVar(&o.rounds, "rounds", 7, "turns of each engine at each query, after one that does not count")
	flag.IntVar(&o.loads, "loads", 3, "times that each engine loads each graph")
	flag.DurationVar(&o.budget, "budget", 50*time.Millisecond, "time of a turn; it runs the query once at least")
	flag.BoolVar(&o.install, "install", true, "install missing peers with npm and pip")
	flag.BoolVar(&o.serve, "serve", false, "be the engine: answer requests on standard input")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	run := compare
	if o.serve {
		run = func(ctx context.Context, _ options) error { return serve(ctx, os.Stdin, os.Stdout) }
	}
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench-graph:", err)
		os.Exit(1)
	}
}

func compare(ctx context.Context, o options) error {
	queries, err := filepath.Glob(filepath.Join(o.data, "*.rq"))
	if err != nil {
		return err
	}
	if len(queries) == 0 {
		fmt.Printf("bench-graph: skipped, as %s has no queries\n", o.data)
		return nil
	}
	found, missing, err := engines(ctx, o.work, o.install)
	if err != nil {
		return err
	}
	r := &report{date: time.Now(), engines: found, missing: missing}
	var files []string
	for _, text := range strings.Split(o.sizes, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n <= 0 {
			return fmt.Errorf("-sizes %q: %q is not a number of triples", o.sizes, text)
		}
		file, err := generate(ctx, o, n)
		if err != nil {
			return err
		}
		files = append(files, file)
	}
	if r.sizes, err = measure(ctx, o, found, files, queries); err != nil {
		return err
	}
	out := io.Writer(os.Stdout)
	if o.results != "" {
		f, err := os.Create(o.results)
		if err != nil {
			return err
		}
		err = r.write(io.MultiWriter(out, f))
		return errors.Join(err, f.Close())
	}
	return r.write(out)
}

// generate makes the graph of about n triples unless it is there.
func generate(ctx context.Context, o options, n int) (string, error) {
	file := filepath.Join(o.work, fmt.Sprintf("graph-%d.ttl", n))
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	if err := os.MkdirAll(o.work, 0o755); err != nil {
		return "", err
	}
	partial := file + ".partial"
	cmd := exec.CommandContext(ctx, "python3", filepath.Join(o.data, "generate.py"), strconv.Itoa(n), partial)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("generate.py: %w", err)
	}
	return file, os.Rename(partial, file)
}

// measured are the results at one size; times and sizes are those of the
// engines, in their order.
type measured struct {
	triples int
	load    []time.Duration
	loaded  []int64 // peak bytes after loading
	peak    []int64 // and after all queries
	queries []queryTimes
}

type queryTimes struct {
	name    string
	rows    int
	medians []time.Duration
}

// measure loads every graph into every engine and runs every query on all of
// them in turns: over all engines, and over all sizes, so that growth can be
// trusted as ratios can.
func measure(ctx context.Context, o options, found []engine, files, queries []string) (sizes []measured, err error) {
	var sessions [][]*session // of each size, of each engine
	defer func() {
		for _, s := range slices.Concat(sessions...) {
			s.close()
		}
	}()
	for _, file := range files {
		m, opened, err := loadAll(ctx, o, found, file)
		sessions = append(sessions, opened)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		sizes = append(sizes, m)
	}
	for _, path := range queries {
		q, err := takeTurns(o, sessions, path)
		if err != nil {
			return nil, err
		}
		for i := range sizes {
			sizes[i].queries = append(sizes[i].queries, q[i])
		}
	}
	for i, opened := range sessions {
		for _, s := range opened {
			sizes[i].peak = append(sizes[i].peak, s.peak())
		}
	}
	return sizes, nil
}

// loadAll loads the file into new processes of all engines in turn, and
// returns the last of each, also with an error.
func loadAll(ctx context.Context, o options, found []engine, file string) (m measured, opened []*session, err error) {
	loads := make([][]int64, len(found))
	m.loaded = make([]int64, len(found))
	for turn := range o.loads {
		for i, e := range found {
			s, err := open(ctx, e)
			if err != nil {
				return m, opened, err
			}
			opened = append(opened, s)
			a, err := s.ask(request{Load: file})
			if err != nil {
				return m, opened, err
			}
			if m.triples == 0 {
				m.triples = a.Rows
			} else if m.triples != a.Rows {
				return m, opened, fmt.Errorf("%s loads %d triples, others %d", e.name, a.Rows, m.triples)
			}
			loads[i] = append(loads[i], a.Times...)
			m.loaded[i] = max(m.loaded[i], s.peak())
			if turn+1 < o.loads { // the last process stays for the queries
				s.close()
				opened = opened[:len(opened)-1]
			}
		}
	}
	for i := range found {
		m.load = append(m.load, median(loads[i]))
	}
	return m, opened, nil
}

// takeTurns runs one query on every engine and size, round by round, and
// returns its times at each size.
func takeTurns(o options, sessions [][]*session, path string) ([]queryTimes, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	name := strings.TrimSuffix(filepath.Base(path), ".rq")
	out := make([]queryTimes, len(sessions))
	times := make([][][]int64, len(sessions))
	for size, opened := range sessions {
		out[size] = queryTimes{name: name, rows: -1}
		times[size] = make([][]int64, len(opened))
	}
	for round := range o.rounds + 1 {
		for size, opened := range sessions {
			for i, s := range opened {
				a, err := s.ask(request{Query: string(text), Budget: int64(o.budget)})
				if err != nil {
					return nil, fmt.Errorf("%s: %w", name, err)
				}
				if out[size].rows < 0 {
					out[size].rows = a.Rows
				} else if out[size].rows != a.Rows {
					return nil, fmt.Errorf("%s: %s gives %d rows, others %d", name, s.engine.name, a.Rows, out[size].rows)
				}
				if round > 0 { // the first is to warm up
					times[size][i] = append(times[size][i], a.Times...)
				}
			}
		}
	}
	for size := range times {
		for _, t := range times[size] {
			out[size].medians = append(out[size].medians, median(t))
		}
	}
	return out, nil
}

func median(ns []int64) time.Duration {
	slices.Sort(ns)
	return time.Duration(ns[len(ns)/2])
}
