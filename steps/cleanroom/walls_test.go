package cleanroom_test

import (
	"os"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

func TestMain(m *testing.M) {
	if embedded.Reexec() {
		return
	}
	os.Exit(m.Run())
}

// prisoner tries what the walls must stop, and what they must allow.
const prisoner = `package store

import (
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

func TestNetwork(t *testing.T) {
	if c, err := net.DialTimeout("tcp", "192.0.2.1:80", time.Second); err == nil || !strings.Contains(err.Error(), "unreachable") {
		t.Errorf("the network can be reached: %v, %v", c, err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := net.Dial("tcp", l.Addr().String()); err != nil {
		t.Errorf("loopback does not work: %v", err)
	}
}

func TestFiles(t *testing.T) {
	if err := os.WriteFile("put.go", []byte("x"), 0o600); err == nil {
		t.Error("the tree can be written")
	}
	if err := os.WriteFile(os.Getenv("GOROOT")+"/VERSION", []byte("x"), 0o600); err == nil {
		t.Error("the toolchain can be written")
	}
	if os.Getuid() == 0 {
		t.Error("tests run as root")
	}
	if _, err := os.Stat(FORBIDDEN); err == nil {
		t.Error("a file of the host can be seen")
	}
	if err := os.WriteFile(t.TempDir()+"/x", []byte("x"), 0o600); err != nil {
		t.Error(err)
	}
}
`

// walls returns a back end that reaches the level, or skips the test.
func walls(t *testing.T, level sandbox.Level) *embedded.Backend {
	t.Helper()
	back := embedded.New(embedded.Options{StateDir: t.TempDir(), MaxLevel: &level})
	caps, err := back.Probe(t.Context())
	if err != nil || caps.Level < level {
		t.Skipf("no isolation level %s here: %v %v", level, caps.Refused, err)
	}
	return back
}

func TestRunBehindWalls(t *testing.T) {
	t.Parallel()
	for _, level := range []sandbox.Level{sandbox.Full, sandbox.Reduced, sandbox.None} {
		t.Run(level.String(), func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.step.Backend, l.step.MinIsolation = walls(t, level), level
			files := with(nil)
			if level == sandbox.Full {
				files["store/prisoner_test.go"] = strings.ReplaceAll(prisoner, "FORBIDDEN", `"`+l.temp+`"`)
			}
			res, err := l.step.Run(t.Context(), l.state(t, files), l.blobs)
			if err != nil {
				t.Fatalf("%v\n%s", err, l.artifact(t, res.Evidence, "log"))
			}
			if res.Entry.Outcome != state.Passed || res.Evidence.Facts["isolation.level"] != level.String() || res.Evidence.Backend != embedded.Name {
				t.Errorf("%s at %s", res.Entry.Outcome, res.Evidence.Facts["isolation.level"])
			}
			if left, err := os.ReadDir(l.temp); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v (%v)", left, err)
			}
			if level == sandbox.Full {
				return
			}
			checkImage(t, l, &res.Entry)
		})
	}
}

// The claim says nothing of walls: it is the same at every level.
func TestClaimIsTheSameAtEveryLevel(t *testing.T) {
	t.Parallel()
	claims := map[string]bool{}
	for _, level := range []sandbox.Level{sandbox.Full, sandbox.None} {
		l := newLab(t)
		l.step.Backend = walls(t, level)
		res, err := l.step.Run(t.Context(), l.state(t, shop), l.blobs)
		if err != nil {
			t.Fatal(err)
		}
		res.Entry.Normalize()
		b, err := res.Entry.Claim()
		if err != nil {
			t.Fatal(err)
		}
		claims[string(b)] = true
	}
	if len(claims) != 1 {
		t.Errorf("%d claims: %v", len(claims), claims)
	}
}

func TestRunStopsBehindWalls(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.step.Backend = walls(t, sandbox.Full)
	l.step.Limits.PIDs = 1 // the go command cannot start a thread
	res, err := l.step.Run(t.Context(), l.state(t, shop), l.blobs)
	if fault.KindOf(err) != fault.Finding || res.Entry.Cleanroom != nil && res.Entry.Cleanroom.Image != "" {
		t.Errorf("got %v, %+v", err, res.Entry)
	}
}
