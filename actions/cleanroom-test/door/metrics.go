package door

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/keeper"
	"github.com/ultrafast-ci/ultrafast/steps/cleanroom"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Metrics are the verbs for measurements.
type Metrics struct {
	Show MetricsShow `cmd:"" help:"Show what the containers and tests of an environment used."`
}

// MetricsShow shows measurements.
type MetricsShow struct {
	Selector
	Detailed bool   `help:"Show each container and test. Default: as the project says, else the sums."`
	File     string `type:"path" placeholder:"FILE" help:"Write them to FILE, in the form of metrics.output_format: JSON unless the project says text."`
}

// Help shows how it is called.
func (*MetricsShow) Help() string {
	return `Of an environment that exists, what is measured now; else what the last run of tests or
the last environment left in .cleanroom/metrics.json.

Examples:
  ultrafast-cleanroom-test metrics show --detailed
  ultrafast-cleanroom-test metrics show --output json --file metrics.json`
}

// Run shows them.
func (m *MetricsShow) Run(ctx context.Context, a *app.App) error {
	r, err := openRooms(a)
	if err != nil {
		return err
	}
	e, err := r.find(ctx, m.Environment)
	if err != nil {
		return err
	}
	var got *cleanroom.Metrics
	if e != nil {
		got, err = r.measure(ctx, e)
	} else {
		got, err = r.lastMetrics()
	}
	if err != nil {
		return err
	}
	if got == nil {
		return fault.New(fault.Finding, "start containers, or run tests, first", "nothing was measured yet")
	}
	detailed := m.Detailed || r.project.Metrics.Detailed
	if !detailed {
		got = got.Brief()
	}
	if m.File != "" {
		write := writeMetrics
		if r.project.Metrics.OutputFormat == "text" {
			write = func(path string, m *cleanroom.Metrics) error { return writeMetricsText(a, path, m) }
		}
		if err := write(a.Abs(m.File), got); err != nil {
			return err
		}
		if a.Output != "json" {
			return a.Table([]any{"written", m.File})
		}
		return nil
	}
	if a.Output == "json" {
		return a.PrintJSON(got)
	}
	return showMetrics(a, got)
}

func showMetrics(a *app.App, m *cleanroom.Metrics) error {
	rows := [][]any{
		{"session", m.Session},
		{"duration", fmt.Sprintf("%.1f s", float64(m.DurationMS)/1000)},
		{"tests", fmt.Sprintf("%d executed, %d passed, %d failed", m.TestsExecuted, m.TestsPassed, m.TestsFailed)},
		{"containers", fmt.Sprintf("%d created, %d destroyed", m.ContainersCreated, m.ContainersDestroyed)},
		{"peak memory", megabytes(m.PeakMemory)},
		{"peak CPU", fmt.Sprintf("%.0f %%", m.PeakCPU)},
		{"CPU time", fmt.Sprintf("%.3f s", float64(m.Resources.CPUMS)/1000)},
		{"read", megabytes(m.Resources.ReadBytes)},
		{"written", megabytes(m.Resources.WriteBytes)},
		{"errors", m.Errors},
	}
	for _, list := range []struct {
		title string
		of    []cleanroom.Measured
	}{{"CONTAINER", m.Containers}, {"TEST", m.Tests}} {
		if len(list.of) == 0 {
			continue
		}
		rows = append(rows, []any{""}, []any{list.title, "STATUS", "WALL", "CPU", "MEMORY", "READ", "WRITTEN"})
		for _, one := range list.of {
			rows = append(rows, []any{
				one.Name, one.Status, fmt.Sprintf("%.0f ms", one.WallMS), fmt.Sprintf("%.0f ms", one.CPUMS),
				megabytes(one.PeakMemory), megabytes(one.ReadBytes), megabytes(one.WriteBytes),
			})
		}
	}
	return a.Table(rows...)
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/(1<<20)) }

// measure returns the metrics of an environment that exists, with the tests that were
// run in it last.
func (r *rooms) measure(ctx context.Context, e *keeper.Environment) (*cleanroom.Metrics, error) {
	info, err := e.Info(ctx)
	if err != nil {
		return nil, err
	}
	m := cleanroom.NewMetrics(info.ID, info.Created)
	for _, c := range info.Containers {
		m.AddContainer(c.Name, string(c.Status), c.Usage, !c.Status.Alive(), c.Status == keeper.Failed)
	}
	if last, err := r.lastMetrics(); err == nil && last != nil && last.Session == info.ID {
		for _, t := range last.Tests {
			m.AddTest(t)
		}
	}
	m.Finish(r.app.Now())
	return m, nil
}

// metricsFile is where metrics are kept (K-46).
func (r *rooms) metricsFile() string {
	if filepath.IsAbs(r.project.Metrics.MetricsFile) {
		return r.project.Metrics.MetricsFile
	}
	return filepath.Join(r.project.Dir, r.project.Metrics.MetricsFile)
}

// lastMetrics returns what was kept; nil if nothing was.
func (r *rooms) lastMetrics() (*cleanroom.Metrics, error) {
	f, err := os.Open(r.metricsFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", "read metrics")
	}
	defer f.Close()
	return cleanroom.ReadMetrics(f)
}

// keepMetrics keeps the metrics of an environment that is about to end, if the project
// wants that and anything was measured.
func (r *rooms) keepMetrics(ctx context.Context, e *keeper.Environment) error {
	if !r.project.Metrics.Enabled {
		return nil
	}
	m, err := r.measure(ctx, e)
	if err != nil || m.ContainersCreated == 0 {
		return err
	}
	return writeMetrics(r.metricsFile(), m)
}

// writeMetricsText is [writeMetrics] as people read it.
func writeMetricsText(a *app.App, path string, m *cleanroom.Metrics) error {
	var text bytes.Buffer
	to := *a
	to.Stdout = &text
	if err := showMetrics(&to, m); err != nil {
		return err
	}
	return writeFile(path, "metrics", &text)
}

// writeMetrics writes a file whole or not at all.
func writeMetrics(path string, m *cleanroom.Metrics) error {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(path, "metrics", bytes.NewReader(append(b, '\n')))
}
