// Command cleanroom compares the embedded sandbox with its peers: from the moment at which
// a container is asked for to the first instruction of the program in it, and to the end.
//
// The peers take turns, round by round, so that the noise of a machine falls on all alike
// and ratios can be trusted where times cannot. A peer that is not on the machine, or does
// not work there, is named and left out.
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
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/inside"
)

type options struct {
	binary, work, results string
	rounds                int
}

// A section measures one thing and reports it; -only runs some of them.
type section struct {
	name string
	run  func(context.Context, *bench) error
}

var sections = []section{
	{"start", starts},
	{"exec", wholeRuns},
	{"many", manyCommands},
	{"files", manyFiles},
	{"services", withServices},
	{"docker", overRawClient},
	{"at-once", manyEnvironments},
}

// bench is what the sections share.
type bench struct {
	options
	out io.Writer
	// root is the root of containers: busybox and the probe.
	root, state string
}

func main() {
	if embedded.Reexec() || inside.Reexec() {
		return
	}
	var o options
	only := flag.String("only", "", "sections to run, separated by commas: "+names()+"; empty means all")
	flag.StringVar(&o.binary, "bin", filepath.Join("build", "bin"), "directory of the binaries")
	flag.StringVar(&o.work, "work", filepath.Join("build", "bench-cleanroom"), "folder for the root of containers and for the peers' state")
	flag.StringVar(&o.results, "results", "", "file for the results; empty for none")
	flag.IntVar(&o.rounds, "rounds", 21, "turns of each peer, after one that does not count")
	flag.Parse()
	// The reaper is one more container; what it would remove is removed here. The host's
	// network is where services listen, whatever this process runs in.
	if err := errors.Join(os.Setenv("TESTCONTAINERS_RYUK_DISABLED", "true"), os.Setenv("TESTCONTAINERS_HOST_OVERRIDE", "127.0.0.1")); err != nil {
		fmt.Fprintln(os.Stderr, "bench-cleanroom:", err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := measure(ctx, o, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench-cleanroom:", err)
		os.Exit(1)
	}
}

// names are those of the sections.
func names() string {
	var list []string
	for _, s := range sections {
		list = append(list, s.name)
	}
	return strings.Join(list, ", ")
}

// measure runs the sections and keeps what they report.
func measure(ctx context.Context, o options, only string) (err error) {
	var report strings.Builder
	if o.work, err = filepath.Abs(o.work); err != nil {
		return err
	}
	if o.binary, err = filepath.Abs(filepath.Join(o.binary, "ultrafast-cleanroom-test")); err != nil {
		return err
	}
	b := &bench{options: o, out: io.MultiWriter(os.Stdout, &report), root: filepath.Join(o.work, "root"), state: filepath.Join(o.work, "state")}
	if err := b.makeRoot(ctx); err != nil {
		return err
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	load, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(load), " ")
	b.printf("# The clean room, side by side\n\n%s %s/%s, Linux %s, %d processors, user %d, load %s at the start, %d rounds\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, strings.TrimSpace(string(kernel)), runtime.NumCPU(), os.Getuid(), first, o.rounds)
	var failed []error
	for _, s := range sections {
		if only != "" && !strings.Contains(","+only+",", ","+s.name+",") {
			continue
		}
		// What fails is told among the results, and is no reason to lose the others.
		if err := b.bounded(ctx, s); err != nil {
			b.printf("\nNot measured, %s: %v\n", s.name, err)
			failed = append(failed, fmt.Errorf("%s: %w", s.name, err))
		}
	}
	if o.results != "" {
		failed = append(failed, os.WriteFile(o.results, []byte(report.String()), 0o644))
	}
	return errors.Join(failed...)
}

// sectionTime bounds one section.
const sectionTime = 3 * time.Minute

func (b *bench) bounded(ctx context.Context, s section) error {
	ctx, cancel := context.WithTimeout(ctx, sectionTime)
	defer cancel()
	return s.run(ctx, b)
}

func (b *bench) printf(format string, args ...any) { fmt.Fprintf(b.out, format, args...) }

// makeRoot makes the root that all peers run: the probe, and a true of busybox.
func (b *bench) makeRoot(ctx context.Context) error {
	for _, d := range []string{"bin", "dev", "proc", "sys", "tmp", "etc", "run"} {
		if err := os.MkdirAll(filepath.Join(b.root, d), 0o755); err != nil {
			return err
		}
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(b.root, "probe"), "./probe")
	build.Dir = filepath.Join("bench", "cleanroom")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the probe: %w\n%s", err, out)
	}
	busybox, err := os.ReadFile(filepath.Join("build", "busybox", runtime.GOARCH))
	if err != nil {
		return errors.Join(err, errors.New("images/busybox.sh brings busybox"))
	}
	if err := os.WriteFile(filepath.Join(b.root, "bin", "busybox"), busybox, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"true", "sh"} {
		if err := os.Symlink("busybox", filepath.Join(b.root, "bin", name)); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}
