package cleanroom_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/cleanroom"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

func TestMetrics(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	m := cleanroom.NewMetrics("env-1", start)
	m.AddContainer("db", "running", sandbox.Usage{Wall: 10 * time.Second, CPU: 15 * time.Second, Memory: 7 << 20, PeakMemory: 9 << 20, ReadBytes: 5, WriteBytes: 6}, false, false)
	m.AddContainer("job", "failed", sandbox.Usage{Wall: time.Second, CPU: time.Second / 2, PeakMemory: 1 << 20, ReadBytes: 1}, true, true)
	// A tick of 10 ms in a millisecond is no ten processors; but it is processor time.
	m.AddContainer("brief", "stopped", sandbox.Usage{Wall: time.Millisecond, CPU: 10 * time.Millisecond}, true, false)
	m.AddTest(cleanroom.Measured{Name: "b", Status: "passed", WallMS: 10})
	m.AddTest(cleanroom.Measured{Name: "a", Status: "failed", WallMS: 30})
	m.AddTest(cleanroom.Measured{Name: "c", Status: "skipped", WallMS: 1000})
	m.Finish(start.Add(4 * time.Second))
	want := cleanroom.ResourceUsage{WallMS: 11_001, CPUMS: 15_510, ReadBytes: 6, WriteBytes: 6}
	if m.Resources != want || m.PeakMemory != 9<<20 || m.PeakCPU != 150 || m.ContainersCreated != 3 || m.ContainersDestroyed != 2 || m.Errors != 1 || m.DurationMS != 4000 {
		t.Errorf("%+v", m)
	}
	if m.TestsExecuted != 2 || m.TestsPassed != 1 || m.TestsFailed != 1 || (m.Performance != cleanroom.Performance{AverageTestMS: 20, SlowestTestMS: 30, TestsPerSecond: 0.5}) {
		t.Errorf("%+v", m)
	}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	got, err := cleanroom.ReadMetrics(bytes.NewReader(b))
	if err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("read %+v, %v", got, err)
	}
	if b := m.Brief(); b.Tests != nil || b.Containers != nil || b.TestsExecuted != 2 || m.Tests == nil {
		t.Errorf("brief %+v", b)
	}
	for _, bad := range []string{"", "{", `{"schema_version": 9}`, `{"schema_version": 1, "tests_executed": "x"}`} {
		if _, err := cleanroom.ReadMetrics(strings.NewReader(bad)); fault.KindOf(err) != fault.Finding {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
