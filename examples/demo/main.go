// Command demo takes the example project orders to a running service, changes
// its model and replaces the running version under load.
//
// It works in a copy below -dir and calls the built program as a person would,
// by its command line. It fails if one request of the load fails, and it leaves
// nothing running, also when it is interrupted.
//
//	go run ./examples/demo -bin build/bin -dir build/demo
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// Bounds of the demo.
const (
	runTimeout   = 10 * time.Minute // one run of all phases, from empty caches
	downTimeout  = time.Minute
	checkTimeout = 10 * time.Second
	requestRate  = 200 // requests a second
	wantAnswers  = 50  // answers of the new version before the load may end
)

func main() {
	bin := flag.String("bin", "build/bin", "directory of the built programs")
	dir := flag.String("dir", "build/demo", "directory to work in")
	sources := flag.String("examples", "examples", "directory of the examples")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, *bin, *dir, *sources, os.Stdout)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		fmt.Fprintf(os.Stderr, "✗ demo: interrupted: %v\n", err)
		os.Exit(130)
	default:
		fmt.Fprintf(os.Stderr, "✗ demo: %v\n", err)
		os.Exit(1)
	}
}

// run is the demo, from the copy to the end of the last process.
func run(ctx context.Context, bin, dir, sources string, out io.Writer) (err error) {
	log := newTimeline(out)
	dir, err = filepath.Abs(dir)
	if err != nil {
		return err
	}
	work, err := prepare(dir, sources)
	if err != nil {
		return fmt.Errorf("preparing %s: %w", dir, err)
	}
	tool, err := newTool(bin, dir, work.project, out)
	if err != nil {
		return err
	}
	// An earlier demo may have been killed.
	if err := tool.down(ctx); err != nil {
		return err
	}
	if err := refuses(ctx, work.address); err != nil {
		return fmt.Errorf("before the demo: %w", err)
	}
	log.line("prepare", "ok", "copied to %s, serving on %s", dir, work.address)

	defer func() {
		if e := end(ctx, tool, work, dir); e != nil {
			err = errors.Join(err, e)
			return
		}
		if err == nil {
			log.line("demo", "ok", "nothing left running, everything in %s", log.elapsed())
		}
	}()
	if made, err := tool.keygen(ctx); err != nil {
		return err
	} else if made {
		log.line("keygen", "ok", "signing key in %s, outside the workspace", tool.trust)
	}
	return releases(ctx, tool, work, log)
}

// releases puts both versions live, the second under load.
func releases(ctx context.Context, tool *tool, work *workspace, log *timeline) error {
	log.line(firstVersion, "..", "from model/orders.ttl")
	if err := tool.run(ctx); err != nil {
		return fmt.Errorf("version %s: %w", firstVersion, err)
	}

	load := startLoad(ctx, "http://"+work.address, requestRate)
	defer load.stop()
	log.line("load", "..", "%d requests a second, half of them on fresh connections", requestRate)

	if err := work.change(); err != nil {
		return fmt.Errorf("changing the model: %w", err)
	}
	log.line(secondVersion, "..", "field note of order, entity shipment")
	if err := tool.run(ctx); err != nil {
		return fmt.Errorf("version %s: %w", secondVersion, err)
	}
	reached := load.waitFor(ctx, secondVersion, wantAnswers, checkTimeout)
	report := load.stop()
	log.line("load", outcome(report.failed == 0), "%s", report)
	switch {
	case report.failed > 0:
		return fmt.Errorf("%d of %d requests failed while the version changed:\n%s", report.failed, report.sent, report.firstFailures())
	case reached != nil:
		return reached
	}

	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	if err := checkSecondVersion(ctx, "http://"+work.address); err != nil {
		return fmt.Errorf("version %s: %w", secondVersion, err)
	}
	log.line(secondVersion, "ok", "serves the new field and the new entity")
	return nil
}

// end stops what runs, also after an interruption, and looks whether that is so.
func end(ctx context.Context, tool *tool, work *workspace, dir string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), downTimeout)
	defer cancel()
	if err := tool.down(ctx); err != nil {
		return err
	}
	if err := refuses(ctx, work.address); err != nil {
		return fmt.Errorf("after deploy down: %w", err)
	}
	return noProcess(dir, tool.program)
}

// timeline prints one line an event, with the seconds since the start.
type timeline struct {
	out   io.Writer
	start time.Time
}

func newTimeline(out io.Writer) *timeline { return &timeline{out: out, start: time.Now()} }

func (t *timeline) line(subject, outcome, format string, args ...any) {
	fmt.Fprintf(t.out, "%6.1fs %-15s %-4s %s\n", time.Since(t.start).Seconds(), subject, outcome, fmt.Sprintf(format, args...))
}

func (t *timeline) elapsed() string { return fmt.Sprintf("%.1f s", time.Since(t.start).Seconds()) }

func outcome(ok bool) string {
	if ok {
		return "ok"
	}
	return "FAIL"
}
