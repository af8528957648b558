package sandboxtest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// Killed says how to kill runs of a back end.
type Killed struct {
	// Runs is how many.
	Runs int
	// Creator returns a command that calls [Churn] with a name that has mark in it.
	Creator func(t *testing.T, mark string) *exec.Cmd
	// Backend sees the environments of all creators; it has to be a [sandbox.Collector].
	Backend sandbox.Backend
	// Leftovers is as in [Options].
	Leftovers func(t *testing.T, mark string) []string
	// Later says that an engine carries out what a creator asked for, and notices that it
	// is gone, a moment after its end: one collection may then be too early.
	Later bool
}

// atOnce is how many environments a creator has at one time.
const atOnce = 3

// Churn makes environments whose names begin with name, runs payloads in them that have
// mark among their arguments, and closes them, several at once, until the process is
// killed. Before each step it writes a line to stdout. It is the body of the program that
// [Killed.Creator] starts. The payloads run in image, of an [Images], if one is named.
func Churn(ctx context.Context, backend sandbox.Backend, image, name, exe, mark string, stdout io.Writer) error {
	var group sync.WaitGroup
	var mu sync.Mutex
	step := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintln(stdout, what)
	}
	errs := make([]error, atOnce)
	for i := range atOnce {
		group.Go(func() {
			for errs[i] == nil {
				errs[i] = churn(ctx, backend, image, name+"-"+strconv.Itoa(i), exe, mark, step)
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// churn is the life of one environment.
func churn(ctx context.Context, backend sandbox.Backend, image, name, exe, mark string, step func(string)) (err error) {
	step("create")
	e, err := backend.Create(ctx, sandbox.EnvironmentSpec{Name: name})
	if err != nil {
		return err
	}
	defer func() {
		step("close")
		err = errors.Join(err, e.Close(context.WithoutCancel(ctx)))
	}()
	s := &suite{Options: Options{Executable: filepath.Clean(exe), Image: image, OnlyImages: image != ""}}
	for i, args := range [][]string{{"tree", mark}, {"exit", "0"}} {
		step("start")
		c, err := e.Start(ctx, s.spec(e, "churn-"+strconv.Itoa(i), args...))
		if err != nil {
			return err
		}
		if args[0] == "exit" {
			step("wait")
			if _, err := c.Wait(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// KilledRuns kills creators at random moments, before or after what they started, and
// has the back end collect: nothing may be left, seen from outside.
func KilledRuns(t *testing.T, k Killed) {
	t.Helper()
	collector, ok := k.Backend.(sandbox.Collector)
	if !ok {
		t.Fatalf("%s cannot collect", k.Backend.Name())
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	kills := map[string]int{}
	var marks, all []string
	collected := 0
	for i := range k.Runs {
		mark := "k" + strconv.Itoa(i) + "x" + markOf(t)[5:]
		marks = append(marks, mark)
		kills[k.kill(t, random, mark)]++
		if random.IntN(2) == 0 && i < k.Runs-1 {
			continue // the next collection has more to do
		}
		n, left := k.collect(t, collector, marks)
		collected += n
		for _, l := range left {
			t.Errorf("run %d: left after the collection: %s", i, l)
		}
		all = append(all, marks...)
		marks = nil
	}
	if k.Later { // what an engine made after the last look at it
		n, left := k.collect(t, collector, all)
		collected += n
		for _, l := range left {
			t.Errorf("left at the end: %s", l)
		}
	}
	t.Logf("%s: %d runs killed (%v), %d environments collected", k.Backend.Name(), k.Runs, kills, collected)
}

// collect has the back end collect, and returns how many environments it removed and what
// is left of those with the marks: for an engine that is later, when nothing is or the
// Patience of the suite ends.
func (k Killed) collect(t *testing.T, collector sandbox.Collector, marks []string) (removed int, left []string) {
	t.Helper()
	for ctx := deadline(t); ; {
		names, err := collector.GC(ctx)
		if err != nil {
			return removed, append(left, "the collection failed: "+err.Error())
		}
		removed, left = removed+len(names), nil
		for _, mark := range marks {
			left = append(left, k.left(t, mark)...)
		}
		if len(left) == 0 || !k.Later || ctx.Err() != nil {
			return removed, left
		}
	}
}

// kill starts a creator and kills it after some of its steps, and says how.
func (k Killed) kill(t *testing.T, random *rand.Rand, mark string) string {
	t.Helper()
	cmd := k.Creator(t, mark)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	steps := bufio.NewScanner(out)
	// The fewer steps the likelier: there is most to lose at the beginning.
	for range random.IntN(1 + random.IntN(40)) {
		if !steps.Scan() {
			_ = cmd.Wait()
			t.Fatalf("the creator ended by itself: %s", &stderr)
		}
	}
	how := "creator first"
	if below := descendantsOf(cmd.Process.Pid); len(below) > 0 && random.IntN(2) == 0 {
		how = "another process first"
		if p, err := os.FindProcess(below[random.IntN(len(below))]); err == nil {
			_ = p.Kill()
		}
		steps.Scan() // the creator goes on, or says why it cannot
	}
	_ = cmd.Process.Kill()
	// Not all of the output: what it started may hold that open, which is what is
	// looked for later.
	_, _ = cmd.Process.Wait()
	out.Close()
	return how
}

// left lists what has mark, in a name, among its arguments, its open files or its mounts.
// What the kernel ends with a creator needs a moment to end.
func (k Killed) left(t *testing.T, mark string) []string {
	t.Helper()
	until := time.Now().Add(5 * time.Second)
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for ; ; <-again.C {
		var list []string
		for _, l := range marked(t, mark) {
			list = append(list, "process "+l)
		}
		list = append(list, holders(mark)...)
		if k.Leftovers != nil {
			list = append(list, k.Leftovers(t, mark)...)
		}
		if len(list) == 0 || time.Now().After(until) {
			return list
		}
	}
}

// holders are the processes that have an open file, a directory or a mount with mark in
// its path: supervisors and inits, whose arguments do not have it.
func holders(mark string) []string {
	var list []string
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		if mounts, err := os.ReadFile(dir + "/mountinfo"); err == nil && bytes.Contains(mounts, []byte(mark)) {
			list = append(list, dir+" has a mount")
		}
		links, _ := filepath.Glob(dir + "/fd/*")
		for _, l := range append(links, dir+"/cwd", dir+"/root") {
			if to, err := os.Readlink(l); err == nil && strings.Contains(to, mark) {
				list = append(list, fmt.Sprintf("%s is %s", l, to))
			}
		}
	}
	return list
}

// descendantsOf returns the processes below pid, by their parents in /proc.
func descendantsOf(pid int) []int {
	children := map[int][]int{}
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		b, err := os.ReadFile(file)
		end := bytes.LastIndexByte(b, ')')
		if err != nil || end < 0 {
			continue
		}
		fields := strings.Fields(string(b[end+1:]))
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil || len(fields) < 2 {
			continue
		}
		parent, err := strconv.Atoi(fields[1])
		if err == nil {
			children[parent] = append(children[parent], child)
		}
	}
	var below []int
	for next := []int{pid}; len(next) > 0; next = next[1:] {
		below = append(below, children[next[0]]...)
		next = append(next, children[next[0]]...)
	}
	slices.Sort(below)
	return below
}
