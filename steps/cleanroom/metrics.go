package cleanroom

import (
	"cmp"
	"encoding/json"
	"io"
	"slices"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Metrics are what the containers and tests of one session used (K-45, K-46). Times
// and sizes say which unit they have; a number that could not be measured is zero.
type Metrics struct {
	Schema int `json:"schema_version"`
	// Session is the id of the environment, or of the run.
	Session    string    `json:"session_id"`
	Start      time.Time `json:"start_time"`
	End        time.Time `json:"end_time"`
	DurationMS int64     `json:"total_duration_ms"`

	TestsExecuted int `json:"tests_executed"`
	TestsPassed   int `json:"tests_passed"`
	TestsFailed   int `json:"tests_failed"`

	ContainersCreated   int `json:"containers_created"`
	ContainersDestroyed int `json:"containers_destroyed"`

	// PeakMemory is that of the container that had most, PeakCPU the processor time of
	// the busiest one over its wall time: 200 is two processors. One that ran for less
	// than [minCPUWall] is not asked.
	PeakMemory int64   `json:"peak_memory_usage_bytes"`
	PeakCPU    float64 `json:"peak_cpu_usage_percent"`
	// Resources are the sums.
	Resources ResourceUsage `json:"resource_usage"`
	Errors    int           `json:"error_count"`
	Warnings  int           `json:"warning_count"`
	// Coverage is nil where nobody measured it.
	Coverage    *float64    `json:"coverage_percentage"`
	Performance Performance `json:"performance_metrics"`

	// Containers and Tests are there if they were asked for in detail.
	Containers []Measured `json:"containers,omitempty"`
	Tests      []Measured `json:"tests,omitempty"`
}

// ResourceUsage are sums over containers.
type ResourceUsage struct {
	WallMS     int64 `json:"wall_ms"`
	CPUMS      int64 `json:"cpu_ms"`
	ReadBytes  int64 `json:"read_bytes"`
	WriteBytes int64 `json:"write_bytes"`
}

// Performance is what is derived from the rest.
type Performance struct {
	AverageTestMS  float64 `json:"average_test_ms"`
	SlowestTestMS  float64 `json:"slowest_test_ms"`
	TestsPerSecond float64 `json:"tests_per_second"`
}

// Measured is one container or test.
type Measured struct {
	Name       string  `json:"name"`
	Status     string  `json:"status"`
	WallMS     float64 `json:"wall_ms"`
	CPUMS      float64 `json:"cpu_ms"`
	PeakMemory int64   `json:"peak_memory_bytes"`
	ReadBytes  int64   `json:"read_bytes"`
	WriteBytes int64   `json:"write_bytes"`
}

// metricsSchema is the version of the form above.
const metricsSchema = 1

// NewMetrics returns the metrics of a session in which nothing happened yet.
func NewMetrics(session string, start time.Time) *Metrics {
	return &Metrics{Schema: metricsSchema, Session: session, Start: start.UTC(), End: start.UTC()}
}

// minCPUWall is the shortest wall time over which processor time is a percentage. Kernels
// may count it in ticks of 10 ms for each processor: over less, one tick is more than a
// tenth of a processor, and over a millisecond it is ten.
const minCPUWall = 100 * time.Millisecond

// AddContainer counts a container; ended says that it does not run any more, failed
// that it ended badly.
func (m *Metrics) AddContainer(name, status string, u sandbox.Usage, ended, failed bool) {
	m.ContainersCreated++
	if ended {
		m.ContainersDestroyed++
	}
	if failed {
		m.Errors++
	}
	m.PeakMemory = max(m.PeakMemory, u.PeakMemory, u.Memory)
	if u.Wall >= minCPUWall {
		m.PeakCPU = max(m.PeakCPU, rounded(100*u.CPU.Seconds()/u.Wall.Seconds()))
	}
	m.Resources.WallMS += u.Wall.Milliseconds()
	m.Resources.CPUMS += u.CPU.Milliseconds()
	m.Resources.ReadBytes += u.ReadBytes
	m.Resources.WriteBytes += u.WriteBytes
	m.Containers = append(m.Containers, Measured{
		Name: name, Status: status, WallMS: milliseconds(u.Wall), CPUMS: milliseconds(u.CPU), PeakMemory: max(u.PeakMemory, u.Memory),
		ReadBytes: u.ReadBytes, WriteBytes: u.WriteBytes,
	})
}

// AddTest counts a test. Status is "passed", "failed" or "skipped"; a test that was
// skipped was not executed.
func (m *Metrics) AddTest(t Measured) {
	m.Tests = append(m.Tests, t)
	switch t.Status {
	case "skipped":
		return
	case "passed":
		m.TestsPassed++
	default:
		m.TestsFailed++
	}
	m.TestsExecuted++
	m.Performance.SlowestTestMS = max(m.Performance.SlowestTestMS, t.WallMS)
}

// AddResults counts the tests of a results.json; asContainers also counts the processes
// that ran them, as the containers that they were.
func (m *Metrics) AddResults(r io.Reader, asContainers bool) error {
	b, err := io.ReadAll(io.LimitReader(r, maxMetrics+1))
	if err == nil && len(b) > maxMetrics {
		err = fault.New(fault.Finding, "", "the results have more than %d bytes", maxMetrics)
	}
	var doc report
	if err == nil {
		err = json.Unmarshal(b, &doc)
	}
	if err != nil {
		return fault.Wrap(err, fault.Finding, "", "read test results")
	}
	for _, t := range doc.Tests {
		if t.Flaky {
			m.Warnings++
		}
		m.AddTest(Measured{Name: t.Name, Status: string(t.Outcome), WallMS: rounded(t.Seconds * 1000)})
	}
	for _, u := range doc.Packages {
		if !asContainers || u.Status == "" {
			continue
		}
		use := sandbox.Usage{Wall: inSeconds(u.Seconds), CPU: inSeconds(u.CPUSeconds), PeakMemory: u.PeakMemory}
		m.AddContainer(u.Name, string(u.Outcome), use, true, u.Outcome == state.Failed)
	}
	return nil
}

func inSeconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// Finish ends the session and derives what is derived.
func (m *Metrics) Finish(end time.Time) {
	m.End = end.UTC()
	m.DurationMS = max(m.End.Sub(m.Start).Milliseconds(), 0)
	sum := 0.0
	for _, t := range m.Tests {
		if t.Status != "skipped" {
			sum += t.WallMS
		}
	}
	m.Performance.AverageTestMS, m.Performance.TestsPerSecond = 0, 0
	if m.TestsExecuted > 0 {
		m.Performance.AverageTestMS = rounded(sum / float64(m.TestsExecuted))
	}
	if m.DurationMS > 0 {
		m.Performance.TestsPerSecond = rounded(float64(m.TestsExecuted) * 1000 / float64(m.DurationMS))
	}
	slices.SortStableFunc(m.Tests, func(a, b Measured) int { return cmp.Compare(a.Name, b.Name) })
}

// Brief returns m without the single containers and tests.
func (m *Metrics) Brief() *Metrics {
	brief := *m
	brief.Containers, brief.Tests = nil, nil
	return &brief
}

// maxMetrics bounds a metrics file, in bytes.
const maxMetrics = 64 << 20

// ReadMetrics decodes a metrics file. A form that is not known is fault.Finding.
func ReadMetrics(r io.Reader) (*Metrics, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxMetrics+1))
	if err != nil {
		return nil, err
	}
	m := &Metrics{}
	switch err := json.Unmarshal(b, m); {
	case len(b) > maxMetrics:
		return nil, fault.New(fault.Finding, "", "the metrics have more than %d bytes", maxMetrics)
	case err != nil:
		return nil, fault.Wrap(err, fault.Finding, "remove the file: the next test run writes it anew", "read metrics")
	case m.Schema != metricsSchema:
		return nil, fault.New(fault.Finding, "remove the file: the next test run writes it anew", "the metrics have schema version %d, this program knows %d", m.Schema, metricsSchema)
	}
	return m, nil
}

func milliseconds(d time.Duration) float64 { return rounded(float64(d) / float64(time.Millisecond)) }

// rounded keeps three digits after the point: more is noise.
func rounded(f float64) float64 { return float64(int64(f*1000+0.5)) / 1000 }
