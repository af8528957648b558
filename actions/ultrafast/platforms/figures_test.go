package platforms

import (
	"flag"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"
)

var figures = flag.Bool("figures", false, "measure, and hold the measures to the figures")

// The figures that doors are held to.
const (
	stepFigure  = 1200 * time.Millisecond // a container step under act, over the bare program
	chainFigure = 15 * time.Second        // the reusable workflow under act on the host, all phases cached
)

// TestFigures measures what a CI system adds to the programs. `make bench-doors` runs
// it; a machine that does something else at the time measures that too.
func TestFigures(t *testing.T) {
	on(t, actHost)
	if !*figures {
		t.Skip("make bench-doors measures")
	}
	t.Run("images", imageFigures)
	t.Run("step", stepFigures)
	t.Run("chain", chainFigures)
}

// imageFigures builds all images of the scratch flavour from two directories. The
// builder holds their sizes to the limits of its table.
func imageFigures(t *testing.T) {
	copied := filepath.Join(t.TempDir(), "a longer path", "to the source")
	copyTree(t, copied)
	build := func(source string, args ...string) string {
		start := time.Now()
		out := call(t, command{dir: root(), args: append([]string{imageBuilder(t), "--flavour", "scratch", "--source", source}, args...)})
		t.Logf("built in %.1f s", time.Since(start).Seconds())
		return out
	}
	here, there := build(root()), build(copied)
	t.Logf("name, flavour, digest, compressed size\n%s", here)
	if here != there {
		t.Errorf("from another directory:\n%s", there)
	}
}

const samples = 7

func median(durations []time.Duration) time.Duration {
	slices.Sort(durations)
	return durations[len(durations)/2]
}

// stepFigures compares market in a container action with the program on its own, both
// with a result that is in the store.
func stepFigures(t *testing.T) {
	a := newAct(t)
	a.workflow(t, "market")
	a.replaced["ultrafast-ci/ultrafast@main"] = releaseTree(t)
	a.args = []string{"--var", "REPORT=" + a.report(), "--var", "STORE=" + a.store()}
	took := regexp.MustCompile(`Success - Main ultrafast-ci/ultrafast/actions/market@main \[([0-9.a-zµ]+)\]`)
	var steps, bare []time.Duration
	dir := filepath.Join(workspace(t, freeAddress(t)), project)
	for range samples {
		found := took.FindStringSubmatch(a.must(t, "push"))
		if found == nil {
			t.Fatal("act does not say how long the step took")
		}
		d, err := time.ParseDuration(found[1])
		if err != nil {
			t.Fatal(err)
		}
		steps = append(steps, d)
		start := time.Now()
		call(t, command{dir: dir, env: local, args: []string{filepath.Join(binaries(t), "market"), "add"}})
		bare = append(bare, time.Since(start))
	}
	over := median(steps) - median(bare)
	t.Logf("container step %s, bare program %s, over it %s (medians of %d; figure %s)", median(steps), median(bare), over, samples, stepFigure)
	if over > stepFigure {
		t.Errorf("a container step takes %s more than the program", over)
	}
}

func chainFigures(t *testing.T) {
	a := released(t, (*act).store)
	start := time.Now()
	a.must(t, "push")
	t.Logf("six jobs, nothing cached: %.1f s", time.Since(start).Seconds())
	var chains []time.Duration
	for range 3 {
		start := time.Now()
		a.must(t, "push")
		chains = append(chains, time.Since(start))
	}
	t.Logf("six jobs, all phases cached: %.1f s (median of %d; figure %s)", median(chains).Seconds(), len(chains), chainFigure)
	if median(chains) > chainFigure {
		t.Errorf("the cached chain takes %s", median(chains))
	}
}
