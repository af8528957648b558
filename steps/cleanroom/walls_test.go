package cleanroom_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/toolchain"
	"github.com/ultrafast-ci/ultrafast/steps/cleanroom"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// scratch is removed when the tests have ended.
var scratch string

func TestMain(m *testing.M) {
	if embedded.Reexec() {
		return
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "cleanroom-test-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		scratch = dir
		return m.Run()
	}())
}

// sealedToolchain is the Go installation of the host with a library of its own,
// as the doors wire it; made once, in some 20 s.
var sealedToolchain = sync.OnceValues(func() (cleanroom.Toolchain, error) {
	tool, err := hostToolchain()
	if err != nil {
		return tool, err
	}
	found := toolchain.Toolchain{Root: tool.Root, Version: tool.Version, OS: tool.OS, Arch: tool.Arch, Digest: tool.Digest}
	tool.Library = func(ctx context.Context, env, flags []string) (string, bool, error) {
		return found.Library(ctx, scratch, env, flags)
	}
	return tool, nil
})

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

// newWalledLab returns a lab whose back end reaches the level and no higher one,
// or skips the test.
func newWalledLab(t *testing.T, level sandbox.Level) *lab {
	t.Helper()
	if testing.Short() {
		t.Skip("compiles the standard library")
	}
	back := embedded.New(embedded.Options{StateDir: t.TempDir(), MaxLevel: &level})
	caps, err := back.Probe(t.Context())
	if err != nil || caps.Level < level {
		t.Skipf("no isolation level %s here: %v %v", level, caps.Refused, err)
	}
	l := newLab(t)
	l.step.Backend = back
	l.step.Toolchain = func(context.Context, cleanroom.Kind) (cleanroom.Toolchain, error) { return sealedToolchain() }
	return l
}

func TestRunBehindWalls(t *testing.T) {
	t.Parallel()
	for _, level := range []sandbox.Level{sandbox.Full, sandbox.Reduced, sandbox.None} {
		t.Run(level.String(), func(t *testing.T) {
			t.Parallel()
			l := newWalledLab(t, level)
			l.step.MinIsolation = level
			files := with(nil)
			if level == sandbox.Full {
				files["store/prisoner_test.go"] = strings.ReplaceAll(prisoner, "FORBIDDEN", `"`+l.temp+`"`)
			}
			res, err := l.step.Run(t.Context(), l.state(t, files), l.blobs)
			if err != nil {
				t.Fatal(err)
			}
			if res.Entry.Outcome != state.Passed || res.Evidence.Facts["isolation.level"] != level.String() || res.Evidence.Backend != embedded.Name {
				t.Errorf("%s at %s", res.Entry.Outcome, res.Evidence.Facts["isolation.level"])
			}
			t.Logf("build %s s, test %s s, vet %s s, library %s", res.Evidence.Facts["build.seconds"], res.Evidence.Facts["test.seconds"], res.Evidence.Facts["vet.seconds"], res.Evidence.Facts["cache.std"])
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
		l := newWalledLab(t, level)
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
	l := newWalledLab(t, sandbox.Full)
	l.step.Limits.PIDs = 1 // the go command cannot start a thread
	res, err := l.step.Run(t.Context(), l.state(t, shop), l.blobs)
	if fault.KindOf(err) != fault.Finding || res.Entry.Cleanroom != nil && res.Entry.Cleanroom.Image != "" {
		t.Errorf("got %v, %+v", err, res.Entry)
	}
}
