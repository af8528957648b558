// Command render compares the Tera engine of internal/render with its peers, and a
// run of generate with unpacking the same tree.
//
// The engines take turns, workload by workload and round by round, so that the noise
// of a machine falls on all alike and ratios can be trusted where times cannot.
// Engines that give other bytes end the run.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

type options struct {
	binary, work, results string
	rounds, files         int
	budget                time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.binary, "bin", "", "the generate binary, for the run of many files; empty leaves that out")
	flag.StringVar(&o.work, "work", filepath.Join("build", "bench-render"), "folder for peers and trees")
	flag.StringVar(&o.results, "results", "", "file for the results; empty for none")
	flag.IntVar(&o.rounds, "rounds", 15, "turns of each engine at each workload, after one that does not count")
	flag.IntVar(&o.files, "files", 5000, "files of the run of generate, from a graph of 20 triples for each")
	flag.DurationVar(&o.budget, "budget", 60*time.Millisecond, "time of a turn")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench-render:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	var report strings.Builder
	out := io.MultiWriter(os.Stdout, &report)
	fmt.Fprintf(out, "# Rendering, side by side\n\n%s %s/%s, %d processors\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	if err := engines(ctx, o, out); err != nil {
		return err
	}
	if o.binary != "" {
		if err := manyFiles(ctx, o, out); err != nil {
			return err
		}
	}
	if o.results == "" {
		return nil
	}
	return os.WriteFile(o.results, []byte(report.String()), 0o644)
}

// contender is an engine with its turns at the present workload.
type contender struct {
	name   string
	engine engine
	turns  []measure
}

func engines(ctx context.Context, o options, out io.Writer) error {
	all := []*contender{
		{name: "tera (ours)", engine: &inProcess{compile: ours}},
		{name: "text/template", engine: &inProcess{compile: standard}},
		{name: "minijinja-go 2.24.0", engine: &inProcess{compile: jinja}},
		{name: "pongo2 6.0.0", engine: &inProcess{compile: django}},
	}
	js, err := startNode(ctx, filepath.Join(o.work, "node"))
	if err != nil {
		fmt.Fprintf(out, "\n%s is left out: %v\n", nodeVersion, err)
	} else {
		defer js.close()
		all = append(all, &contender{name: nodeVersion, engine: js})
	}
	for _, w := range workloads() {
		if err := compete(ctx, o, &w, all); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		fmt.Fprintf(out, "\n## %s\n\n| engine | µs per render, median | least | of text/template | allocations |\n|---|---|---|---|---|\n", w.name)
		for _, c := range all {
			m := median(c.turns)
			allocs := "not counted"
			if m.allocs >= 0 {
				allocs = fmt.Sprintf("%.0f", m.allocs)
			}
			least := slices.MinFunc(c.turns, func(a, b measure) int { return cmp.Compare(a.perRender, b.perRender) })
			fmt.Fprintf(out, "| %s | %.1f | %.1f | %.2f | %s |\n", c.name, micro(m.perRender), micro(least.perRender), ratios(c.turns, all[1].turns), allocs)
		}
	}
	return nil
}

// compete has all engines take turns at a workload.
func compete(ctx context.Context, o options, w *workload, all []*contender) error {
	var want string
	for i, c := range all {
		got, err := c.engine.prepare(w)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		if i == 0 {
			want = got
		}
		if where := same(want, got); where != "" {
			return fmt.Errorf("%s and %s do not agree %s", all[0].name, c.name, where)
		}
		c.turns = nil
	}
	for round := range o.rounds + 1 {
		for _, c := range all {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			m, err := c.engine.turn(o.budget)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			if round > 0 {
				c.turns = append(c.turns, m)
			}
		}
	}
	return nil
}

func micro(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func median(all []measure) measure {
	sorted := slices.SortedFunc(slices.Values(all), func(a, b measure) int { return cmp.Compare(a.perRender, b.perRender) })
	return sorted[len(sorted)/2]
}

// ratios is the median of the ratios of turns of one round.
func ratios(all, base []measure) float64 {
	var out []float64
	for i := range all {
		out = append(out, float64(all[i].perRender)/float64(base[i].perRender))
	}
	slices.Sort(out)
	return out[len(out)/2]
}
