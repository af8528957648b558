// Command start measures what it costs to start each binary: its size, and the time
// from exec to exit of --help. It runs the binaries in turn, round after round, so
// that noise falls on all alike, and prints medians next to a bare /bin/true.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"
)

func main() {
	bin := flag.String("bin", "build/bin", "directory of the binaries")
	rounds := flag.Int("rounds", 21, "measurements of each")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *bin, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "bench-start:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin string, rounds int) error {
	commands := [][]string{{"/bin/true"}}
	for _, name := range []string{"market", "generate", "cleanroom-test", "validate", "deploy"} {
		commands = append(commands, []string{filepath.Join(bin, "ultrafast-"+name), "--help"})
	}
	commands = append(commands, []string{filepath.Join(bin, "ultrafast"), "--help"})

	times := make([][]time.Duration, len(commands))
	for range rounds {
		for i, argv := range commands {
			start := time.Now()
			if err := exec.CommandContext(ctx, argv[0], argv[1:]...).Run(); err != nil {
				return fmt.Errorf("%v: %w", argv, err)
			}
			times[i] = append(times[i], time.Since(start))
		}
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "binary\tMB\tmedian ms\tmin ms\t")
	for i, argv := range commands {
		info, err := os.Stat(argv[0])
		if err != nil {
			return err
		}
		slices.Sort(times[i])
		fmt.Fprintf(w, "%s\t%.1f\t%.1f\t%.1f\t\n", filepath.Base(argv[0]), float64(info.Size())/1e6, ms(times[i][rounds/2]), ms(times[i][0]))
	}
	return w.Flush()
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
