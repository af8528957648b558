package sandboxtest

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// usage looks at what a container has used while it runs and after its end.
func (s *suite) usage(t *testing.T) {
	const memory, written = 48 << 20, 2 << 20
	e := s.environment(t, sandbox.Limits{})
	m := sandbox.Mount{Kind: sandbox.ReadWrite, Source: t.TempDir(), Target: "/data"}
	spec := s.spec(e, "worker", "work", itoa(memory), filepath.Join(e.Path("worker", m), "file"), itoa(written))
	spec.Mounts = append(spec.Mounts, m)
	c := s.running(t, e, spec)
	u, err := c.Usage(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	if u.Wall <= 0 || u.Wall > Patience {
		t.Errorf("wall time %s", u.Wall)
	}
	for _, f := range []struct {
		name             string
		got, least, most int64
	}{
		{"cpu", int64(u.CPU), int64(20 * time.Millisecond), int64(Patience)},
		{"memory", u.Memory, memory, 20 * memory},
		{"memory", u.PeakMemory, memory, 20 * memory},
		{"pids", int64(u.PIDs), 1, 200},
		{"io", u.WriteBytes, written, 100 * written},
	} {
		// What cannot be measured is zero; what is said has to be true.
		if measured := slices.Contains(s.Measured, f.name); measured && f.got == 0 || f.got != 0 && (f.got < f.least || f.got > f.most) {
			t.Errorf("%s: %d, want %d or somewhat more; %+v", f.name, f.got, f.least, u)
		}
	}
	more, err := c.Usage(deadline(t))
	if err != nil || more.CPU < u.CPU || more.Wall < u.Wall || more.PeakMemory < u.PeakMemory || more.WriteBytes < u.WriteBytes {
		t.Errorf("first %+v, then %+v, %v", u, more, err)
	}
	// Its main process ends by itself, so that all that it used is known.
	if err := c.Signal(terminate); err != nil {
		t.Fatal(err)
	}
	st, err := c.Wait(deadline(t))
	if err != nil || st.CPU < u.CPU || st.Wall < u.Wall || st.PeakMemory < u.PeakMemory || st.WriteBytes < u.WriteBytes {
		t.Errorf("%+v at the end, after %+v, %v", st, u, err)
	}
	last, err := c.Usage(deadline(t))
	want := sandbox.Usage{Wall: st.Wall, CPU: st.CPU, PeakMemory: st.PeakMemory, ReadBytes: st.ReadBytes, WriteBytes: st.WriteBytes}
	if err != nil || last != want {
		t.Errorf("after the end: %+v, want %+v; %v", last, want, err)
	}
}
