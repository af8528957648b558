package cleanroom_test

import (
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/steps/cleanroom"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

func TestPolicyCheck(t *testing.T) {
	t.Parallel()
	open := cleanroom.Policy{AllowHostNetwork: true, AllowPrivileged: true}
	for _, c := range []struct {
		name   string
		policy cleanroom.Policy
		demand cleanroom.Demand
		want   []string // each in the message; none: allowed
	}{
		{"nothing", cleanroom.DefaultPolicy(), cleanroom.Demand{}, nil},
		{"at the bounds", cleanroom.DefaultPolicy(), cleanroom.Demand{Limits: sandbox.Limits{Memory: 4096 << 20, CPUs: 8}}, nil},
		{"all at once", cleanroom.DefaultPolicy(), cleanroom.Demand{Limits: sandbox.Limits{Memory: 4097 << 20, CPUs: 8.5}, HostNetwork: true, Privileged: true},
			[]string{"4097 MB: the policy allows 4096 MB", "8.5 processors: the policy allows 8", "enforces isolation", "privileged container: the policy does not allow"}},
		{"no bounds", open, cleanroom.Demand{Limits: sandbox.Limits{Memory: 1 << 50, CPUs: 1000}}, nil},
		{"allowed, and not there", open, cleanroom.Demand{HostNetwork: true, Privileged: true}, []string{"network of the host: the policy allows it, but no back end", "container: the policy allows it, but no back end"}},
		{"not enforced, not allowed", cleanroom.Policy{}, cleanroom.Demand{HostNetwork: true}, []string{"network of the host: the policy does not allow it"}},
	} {
		err := c.policy.Check(c.demand)
		if (err == nil) != (c.want == nil) || err != nil && (fault.KindOf(err) != fault.Usage || fault.HintOf(err) == "") {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not say %q", c.name, err, want)
			}
		}
	}
}

func TestPolicyVerify(t *testing.T) {
	t.Parallel()
	asked := sandbox.Limits{Memory: 256 << 20, PIDs: 10, CPUs: 1.5}
	full := func(list ...sandbox.Enforcement) sandbox.Effective {
		return sandbox.Effective{Level: sandbox.Full, Enforced: list}
	}
	for _, c := range []struct {
		name  string
		least sandbox.Level
		got   sandbox.Effective
		notes int
		want  string
	}{
		{"as asked", sandbox.Full, full(sandbox.Enforcement{Name: "memory", Value: "memory.max 268435456", By: "cgroup v2"}, sandbox.Enforcement{Name: "pids", Value: "10", By: "cgroup v2"}), 0, ""},
		{"less", sandbox.Full, full(sandbox.Enforcement{Name: "memory", Value: "memory.max 4096", By: "cgroup v2"}), 0, ""},
		{"no number", sandbox.Full, full(sandbox.Enforcement{Name: "memory", Value: "as asked", By: "x"}), 0, ""},
		{"more memory", sandbox.Full, full(sandbox.Enforcement{Name: "memory", Value: "memory.max 268435457", By: "cgroup v2"}), 0, "memory of 268435457 is in force"},
		{"more processes", sandbox.None, full(sandbox.Enforcement{Name: "pids", Value: "11 of the user", By: "rlimit"}), 0, "pids of 11"},
		{"no memory limit", sandbox.Full, full(sandbox.Enforcement{Name: "memory", Value: "memory.max max", By: "cgroup v2"}), 0, "memory is not limited"},
		{"negative", sandbox.Full, full(sandbox.Enforcement{Name: "memory", Value: "-1 bytes, swap included, for each container", By: "the engine"}), 0, "memory is not limited"},
		{"share, v2", sandbox.Full, full(sandbox.Enforcement{Name: "cpu", Value: "cpu.max 150000 100000", By: "cgroup v2"}), 0, ""},
		{"larger share, v2", sandbox.Full, full(sandbox.Enforcement{Name: "cpu", Value: "cpu.max 160000 100000", By: "cgroup v2"}), 0, "cpu of 1.6"},
		{"any share, v2", sandbox.Full, full(sandbox.Enforcement{Name: "cpu", Value: "cpu.max max 100000", By: "cgroup v2"}), 0, "cpu is not limited"},
		{"share, v1", sandbox.Full, full(sandbox.Enforcement{Name: "cpu", Value: "cpu.cfs_quota_us 150000", By: "cgroup v1"}), 0, ""},
		{"any share, v1", sandbox.Full, full(sandbox.Enforcement{Name: "cpu", Value: "cpu.cfs_quota_us -1", By: "cgroup v1"}), 0, "cpu is not limited"},
		{"share of an engine", sandbox.Full, full(sandbox.Enforcement{Name: "cpu", Value: "2 processors for each container", By: "the engine"}), 0, "cpu of 2"},
		{"processor time", sandbox.Full, full(sandbox.Enforcement{Name: "cpu", Value: "300 s of processor time for each process", By: "rlimit"}), 0, ""},
		{"not enforced", sandbox.None, full(sandbox.Enforcement{Name: "memory", Value: "level none", By: "not enforced"}), 1, ""},
		{"weaker", sandbox.Full, sandbox.Effective{Level: sandbox.Reduced}, 0, "isolation reduced is in force where full"},
		{"no network", sandbox.Full, full(sandbox.Enforcement{Name: "network", Value: "that of the host", By: "not enforced"}), 0, "network is not isolated"},
	} {
		notes, err := cleanroom.DefaultPolicy().Verify(c.least, asked, c.got)
		if len(notes) != c.notes || (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || fault.KindOf(err) != fault.Unavailable) {
			t.Errorf("%s: %q, %v", c.name, notes, err)
		}
	}
}
