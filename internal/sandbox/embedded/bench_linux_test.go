package embedded_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// times reports the median and the least of what was measured: on a busy machine
// the mean says more of the others than of this.
func times(b *testing.B, all []time.Duration) {
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "ms/median")
	b.ReportMetric(float64(all[0].Microseconds())/1000, "ms/least")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkStart is the time until a container's payload is executed, with an
// environment that is there, for each kind of root.
func BenchmarkStart(b *testing.B) {
	for name, c := range map[string]struct {
		spec    sandbox.EnvironmentSpec
		command string
	}{
		"host":       {sandbox.EnvironmentSpec{Name: "bench"}, "/usr/bin/true"},
		"no network": {sandbox.EnvironmentSpec{Name: "bench", Network: sandbox.NetworkNone}, "/usr/bin/true"},
	} {
		b.Run(name, func(b *testing.B) {
			e, err := embedded.New(embedded.Options{StateDir: b.TempDir()}).Create(b.Context(), c.spec)
			if err != nil {
				b.Fatal(err)
			}
			defer e.Close(context.Background())
			if e.Effective().Level < sandbox.Full {
				b.Skipf("level full cannot be reached here: %q", e.Effective().Why)
			}
			var all []time.Duration
			for b.Loop() {
				begin := time.Now()
				c, err := e.Start(b.Context(), sandbox.ContainerSpec{Name: "true", Argv: []string{c.command}})
				all = append(all, time.Since(begin))
				if err != nil {
					b.Fatal(err)
				}
				if st, err := c.Wait(b.Context()); err != nil || !st.OK() {
					b.Fatal(st, err)
				}
			}
			times(b, all)
		})
	}
}

// BenchmarkExecBeside is one more process in a running container, from the call to
// its end.
func BenchmarkExecBeside(b *testing.B) {
	e := newEnvironment(b, embedded.Options{StateDir: b.TempDir()}, "bench")
	c, err := e.Start(b.Context(), sandbox.ContainerSpec{Name: "main", Argv: []string{"sleep", "1000000"}})
	if err != nil {
		b.Fatal(err)
	}
	var all []time.Duration
	for b.Loop() {
		begin := time.Now()
		if st, err := c.Exec(b.Context(), sandbox.ExecSpec{Argv: []string{"/usr/bin/true"}}); err != nil || !st.OK() {
			b.Fatal(st, err)
		}
		all = append(all, time.Since(begin))
	}
	times(b, all)
}
