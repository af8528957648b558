package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// wholeRuns compares whole commands that each make a sandbox, run true in it and remove
// all of it.
func wholeRuns(ctx context.Context, b *bench) error {
	tool := b.binary
	commands := []struct {
		name string
		argv []string
	}{
		{"true, without a sandbox", []string{"/bin/true"}},
		{"cleanroom-test --help", []string{tool, "--help"}},
		{"cleanroom-test exec -- true", []string{tool, "exec", "--", "true"}},
		{"bwrap true", []string{"bwrap", "--unshare-all", "--ro-bind", b.root, "/", "--proc", "/proc", "--dev", "/dev", "/bin/true"}},
	}
	times := make([][]time.Duration, len(commands))
	for round := range b.rounds + 1 {
		for i, c := range commands {
			if c.argv[0] == "bwrap" && !installed("bwrap") {
				continue
			}
			begin := time.Now()
			if out, err := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...).CombinedOutput(); err != nil {
				return fmt.Errorf("%s: %w\n%s", c.name, err, out)
			}
			if round > 0 { // the first fills caches
				times[i] = append(times[i], time.Since(begin))
			}
		}
	}
	b.printf("\n## A whole command\n\n| | ms, median | least |\n|---|---|---|\n")
	for i, c := range commands {
		if len(times[i]) > 0 {
			b.printf("| %s | %.1f | %.1f |\n", c.name, median(times[i], ms), least(times[i], ms))
		}
	}
	b.printf("\nAsked: 30 ms.\n")
	return nil
}

func installed(name string) bool {
	_, err := exec.LookPath(name)
	return err == nil
}

// inParallel calls f for every number below n, so many at a time.
func inParallel(n, workers int, f func(i int) error) error {
	errs := make([]error, n)
	next := make(chan int)
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for i := range next {
				errs[i] = f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	group.Wait()
	return errors.Join(errs...)
}

// manyCommands runs 200 short commands, 8 at a time, in containers of one environment and
// without: the difference is what a sandbox adds to each.
func manyCommands(ctx context.Context, b *bench) error {
	const commands, workers, rounds = 200, 8, 5
	env, err := embedded.New(embedded.Options{StateDir: b.state}).Create(ctx, sandbox.EnvironmentSpec{Name: "bench-many", MinIsolation: sandbox.Full})
	if err != nil {
		return err
	}
	defer env.Close(context.WithoutCancel(ctx))
	var with, without []time.Duration
	for range rounds {
		begin := time.Now()
		if err := inParallel(commands, workers, func(int) error {
			return exec.CommandContext(ctx, filepath.Join(b.root, "bin", "busybox"), "true").Run()
		}); err != nil {
			return err
		}
		without = append(without, time.Since(begin))
		begin = time.Now()
		if err := inParallel(commands, workers, func(i int) error {
			c, err := env.Start(ctx, sandbox.ContainerSpec{Name: "c" + strconv.Itoa(i), Root: b.root, Argv: []string{"/bin/true"}})
			if err != nil {
				return err
			}
			st, err := c.Wait(ctx)
			if err == nil && !st.OK() {
				err = errors.New(st.String())
			}
			return err
		}); err != nil {
			return err
		}
		with = append(with, time.Since(begin))
	}
	added := (median(with, ms) - median(without, ms)) / commands
	b.printf("\n## %d commands, %d at a time\n\n| | ms, median of %d |\n|---|---|\n| without a sandbox | %.0f |\n| in a container each | %.0f |\n| added to each command | %.1f |\n\nAsked, of test files: 10 ms added to each.\n",
		commands, workers, rounds, median(without, ms), median(with, ms), added)
	return nil
}
