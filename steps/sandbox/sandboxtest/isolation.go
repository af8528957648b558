package sandboxtest

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// status returns the fields of /proc/self/status inside.
func (s *suite) status(t *testing.T, e sandbox.Environment) map[string]string {
	t.Helper()
	r := s.payload(t, e, "read", "/proc/self/status")
	if !r.OK() {
		t.Fatalf("%s: %s", r.ExitStatus, r.err)
	}
	return statusFields(r)
}

// statusFields are those of a proc_pid_status(5).
func statusFields(r result) map[string]string {
	fields := map[string]string{}
	for line := range strings.Lines(r.out) {
		key, value, _ := strings.Cut(line, ":")
		fields[key] = strings.TrimSpace(value)
	}
	return fields
}

func (s *suite) privileges(t *testing.T) {
	e := s.environment(t, sandbox.Limits{})
	status := s.status(t, e)
	const empty = "0000000000000000"
	for field, want := range map[string]string{
		"CapEff": empty, "CapPrm": empty, "CapInh": empty, "CapBnd": empty, "CapAmb": empty,
		"NoNewPrivs": "1", "Seccomp": "2",
	} {
		if status[field] != want {
			t.Errorf("%s is %s, want %s", field, status[field], want)
		}
	}
	user := "65534 65534"
	if s.OnlyImages {
		user = fmt.Sprint(config().UID, config().GID)
	}
	s.payload(t, e, "ids").want(t, user)
	spec := s.spec(e, "user", "ids")
	spec.UID, spec.GID = 1234, 4321
	run(t, e, spec).want(t, "1234 4321")
}

func (s *suite) noNewPrivileges(t *testing.T) {
	if got := s.status(t, s.environment(t, sandbox.Limits{}))["NoNewPrivs"]; got != "1" {
		t.Errorf("NoNewPrivs is %s", got)
	}
}

func (s *suite) namespaces(t *testing.T) {
	s.payload(t, s.environment(t, sandbox.Limits{}), "namespaces").want(t, "")
}

func (s *suite) network(t *testing.T) {
	e := s.environment(t, sandbox.Limits{})
	s.payload(t, e, "interfaces").want(t, "lo")
	// 192.0.2.0/24 is for documentation, RFC 5737: nobody answers there anyway.
	if r := s.payload(t, e, "dial", "192.0.2.1:80"); r.OK() || !strings.Contains(r.err, "unreachable") {
		t.Errorf("%s: %s, want an unreachable network", r.ExitStatus, r.err)
	}
	// What listens on the host's loopback is not there.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if r := s.payload(t, e, "dial", l.Addr().String()); r.OK() || !strings.Contains(r.err, "refused") {
		t.Errorf("%s: %s, want a refused connection", r.ExitStatus, r.err)
	}
}

func (s *suite) dial(t *testing.T) {
	e := s.environment(t, sandbox.Limits{})
	port, err := e.Port(8080)
	if err != nil {
		t.Fatal(err)
	}
	if s.Level == sandbox.Full && port != 8080 {
		t.Errorf("port %d, want the preferred one", port)
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	if c, err := e.Dial(deadline(t), "tcp", address); err == nil {
		c.Close()
		t.Error("a dial to nobody succeeds")
	}
	s.running(t, e, s.spec(e, "service", "listen", address))
	for _, host := range []string{"127.0.0.1", "localhost", "service"} {
		c, err := e.Dial(deadline(t), "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(c)
		c.Close()
		if err != nil || string(b) != "hello" {
			t.Errorf("%s answers %q, %v", host, b, err)
		}
	}
	// Containers of one environment reach each other, by name where files are private.
	s.payload(t, e, "dial", address).want(t, "hello")
	if s.Level == sandbox.Full {
		s.payload(t, e, "dial", net.JoinHostPort("service", strconv.Itoa(port))).want(t, "hello")
	}
	other, err := e.Port(port)
	if err != nil || other == port {
		t.Errorf("port %d, %v: something listens there", other, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if c, err := e.Dial(ctx, "tcp", address); err == nil {
		c.Close()
		t.Error("a cancelled dial succeeds")
	}
}

func (s *suite) ports(t *testing.T) {
	e := s.environment(t, sandbox.Limits{})
	for _, preferred := range []int{0, 8081} {
		if port, err := e.Port(preferred); err != nil || port < 1 || port > 65535 {
			t.Errorf("port %d, %v", port, err)
		}
	}
	if _, err := e.Port(70000); err == nil {
		t.Error("port 70000 exists")
	}
}

func (s *suite) hostFiles(t *testing.T) {
	e := s.environment(t, sandbox.Limits{})
	secret := filepath.Join(t.TempDir(), "secret")
	keep(t, secret, "secret")
	for _, path := range []string{secret, "/etc/shadow", "/proc/kcore", "/dev/mem"} {
		if r := s.payload(t, e, "read", path); r.OK() && r.out != "" {
			t.Errorf("%s can be read", path)
		}
	}
	dirs := []string{filepath.Dir(secret), "/root", "/home"}
	if s.OnlyImages {
		s.ownGroup(t, e)
	} else {
		dirs = append(dirs, "/sys/fs/cgroup")
	}
	for _, dir := range dirs {
		if r := s.payload(t, e, "list", dir); r.OK() && r.out != "" {
			t.Errorf("%s can be listed: %s", dir, r.out)
		}
	}
	if s.Level < sandbox.Full {
		return
	}
	r := s.payload(t, e, "list", "/")
	got := strings.Fields(r.out)
	for _, name := range []string{"root", "home", "work", "boot", "srv", "mnt", "run", "sys"} {
		if s.Root == "" && !s.OnlyImages && slices.Contains(got, name) {
			t.Errorf("/%s is inside: %q", name, got)
		}
	}
}

// ownGroup: an engine shows its containers their own control group, by which runtimes
// find their limits. It must show no other, and nothing of it may be written.
func (s *suite) ownGroup(t *testing.T, e sandbox.Environment) {
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/memory"} {
		r := s.payload(t, e, "list", dir)
		for name := range strings.FieldsSeq(r.out) {
			if strings.Contains(name, "docker") || strings.Contains(name, "libpod") || strings.Contains(name, ".slice") || len(name) >= 64 {
				t.Errorf("a group of others is below %s: %s", dir, name)
			}
		}
		for _, file := range []string{"/cgroup.procs", "/memory.max", "/memory.limit_in_bytes"} {
			if r := s.payload(t, e, "write", dir+file, "0"); r.OK() {
				t.Errorf("%s can be written", dir+file)
			}
		}
	}
}

func (s *suite) readOnlyRoot(t *testing.T) {
	e := s.environment(t, sandbox.Limits{})
	for _, path := range []string{"/new", "/usr/new", "/etc/passwd", "/etc/new", "/dev/new", "/proc/sys/kernel/hostname", "/proc/sysrq-trigger"} {
		if r := s.payload(t, e, "write", path, "x"); r.OK() {
			t.Errorf("%s can be written", path)
		}
	}
	for _, path := range []string{"/tmp/new", "/dev/shm/new", "/dev/null"} {
		s.payload(t, e, "write", path, "x").want(t, "")
	}
}

func (s *suite) otherProcesses(t *testing.T) {
	e := s.environment(t, sandbox.Limits{})
	seesOthers(t, e)
	mark := markOf(t)
	other, err := s.new(t).Create(deadline(t), sandbox.EnvironmentSpec{Name: "neighbour-" + mark})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(context.Background())
	s.running(t, other, s.spec(other, "neighbour", "tree", mark))
	r := s.payload(t, e, "processes")
	if strings.Contains(r.out, mark) {
		t.Error("processes of another environment can be seen")
	}
	if !strings.Contains(r.out, payloadArg) {
		t.Errorf("a process does not see itself: %s", r.err)
	}
}
