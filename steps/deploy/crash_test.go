//go:build unix

package deploy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// load sends GETs and POSTs, on kept and on new connections, until stop.
type load struct {
	requests, failed atomic.Int64
	mu               sync.Mutex
	first            string
	stop             func()
}

func startLoad(t *testing.T, listen string) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{}
	var workers sync.WaitGroup
	for i := range 4 {
		workers.Go(func() {
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: i%2 == 0}, Timeout: 10 * time.Second}
			defer client.CloseIdleConnections()
			pace := time.NewTicker(10 * time.Millisecond)
			defer pace.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-pace.C:
				}
				l.requests.Add(1)
				if err := ask(client, listen, i < 2); err != nil {
					l.failed.Add(1)
					l.mu.Lock()
					if l.first == "" {
						l.first = err.Error()
					}
					l.mu.Unlock()
				}
			}
		})
	}
	l.stop = sync.OnceFunc(func() { cancel(); workers.Wait() })
	t.Cleanup(l.stop)
	return l
}

func ask(client *http.Client, listen string, post bool) error {
	url := "http://" + listen + "/version"
	var res *http.Response
	var err error
	if post {
		res, err = client.Post(url, "text/plain", bytes.NewReader(make([]byte, 500)))
	} else {
		res, err = client.Get(url)
	}
	if err != nil {
		return err
	}
	body, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return err
	}
	if res.StatusCode != 200 || !strings.HasPrefix(string(body), "v") {
		return fmt.Errorf("status %d, body %.80q", res.StatusCode, body)
	}
	return nil
}

func (l *load) check(t *testing.T) {
	t.Helper()
	l.stop()
	t.Logf("%d requests", l.requests.Load())
	if n := l.failed.Load(); n != 0 || l.requests.Load() == 0 {
		t.Errorf("%d of %d requests failed; the first: %s", n, l.requests.Load(), l.first)
	}
}

// TestTwentySwitchesUnderLoad: twenty deploys fail no request.
func TestTwentySwitchesUnderLoad(t *testing.T) {
	dir, listen := environment(t)
	mustRun(t, dir, listen, "v0")
	l := startLoad(t, listen)
	for i := range 20 {
		version := fmt.Sprintf("v%d", i+1)
		mustRun(t, dir, listen, version)
		if got := served(t, listen); got != version {
			t.Errorf("serves %q, not %q", got, version)
		}
	}
	l.check(t)
}

// TestKilledAtAnyTimeUnderLoad kills the deploying process after more and more
// time, so also in the middle of effects.
func TestKilledAtAnyTimeUnderLoad(t *testing.T) {
	dir, listen := environment(t)
	mustRun(t, dir, listen, "v0")
	s, _, _ := newStep(dir, listen, "v0", "good")
	l := startLoad(t, listen)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	survived := 0
	for n := 1; n <= 80 && survived < 3; n++ {
		cmd := exec.Command(self, "deploy", dir, listen, fmt.Sprintf("v%d", n), "0", servicePath, "15s")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := time.AfterFunc(time.Duration(n)*3*time.Millisecond, func() { _ = cmd.Process.Kill() })
		if cmd.Wait() == nil {
			survived++
		}
		kill.Stop()
		if _, err := s.Resume(t.Context()); err != nil {
			t.Fatalf("recover after %d: %v", n, err)
		}
		st, err := s.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if run := running(t, s); len(run) != 1 || run[0] != st.Serving {
			t.Errorf("killed after %d ms: %v run, %q serves", 3*n, run, st.Serving)
		}
	}
	l.check(t)
}

// TestAfterPowerFailure: when router, supervisors and services are gone, the next
// deploy brings up one release, also when it is the one that served.
func TestAfterPowerFailure(t *testing.T) {
	t.Parallel()
	dir, listen := environment(t)
	mustRun(t, dir, listen, "v1")
	for _, version := range []string{"v1", "v2"} {
		procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil || len(procs) == 0 {
			t.Skip("needs /proc")
		}
		for _, p := range procs {
			var pid int
			b, err := os.ReadFile(p)
			if err == nil && bytes.Contains(b, []byte(dir)) {
				if _, err := fmt.Sscanf(p, "/proc/%d/", &pid); err != nil || syscall.Kill(pid, syscall.SIGKILL) != nil {
					t.Fatalf("kill %s", p)
				}
			}
		}
		for { // until the kernel has freed the port
			c, err := net.Dial("tcp", listen)
			if err != nil {
				break
			}
			_ = c.Close()
		}
		mustRun(t, dir, listen, version)
		if got := served(t, listen); got != version {
			t.Errorf("serves %q, not %q", got, version)
		}
		s, _, _ := newStep(dir, listen, version, "good")
		if run := running(t, s); len(run) != 1 {
			t.Errorf("%v run", run)
		}
	}
}

// die runs a deploy in another process that is killed at its n-th boundary, and
// reports whether it survived.
func die(t *testing.T, verb, dir, listen, version string, n int, leaseTTL string) bool {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, verb, dir, listen, version, fmt.Sprint(n), servicePath, leaseTTL)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err = cmd.Run()
	if err == nil {
		return true
	}
	if got := err.Error(); got != "signal: killed" {
		t.Fatalf("deploy killed at %d: %s: %s", n, got, stderr.String())
	}
	return false
}

// TestKilledAnywhereUnderLoad kills the deploying process at every boundary, the
// recovery too at every third, and recovers. No request fails, exactly one
// release runs afterwards, and it is the one that serves.
func TestKilledAnywhereUnderLoad(t *testing.T) {
	dir, listen := environment(t)
	mustRun(t, dir, listen, "v0")
	s, _, _ := newStep(dir, listen, "v0", "good")
	l := startLoad(t, listen)
	serving := "v0"
	n := 1
	for ; ; n++ {
		if n > 100 {
			t.Fatal("no run survives")
		}
		version := fmt.Sprintf("v%d", n)
		survived := die(t, "deploy", dir, listen, version, n, "15s")
		if !survived && n%3 == 0 {
			die(t, "resume", dir, listen, version, 1+n%4, "15s")
		}
		o, err := s.Resume(t.Context())
		if err != nil {
			t.Fatalf("recover after %d: %v", n, err)
		}
		got := served(t, listen)
		if got != serving && got != version {
			t.Errorf("killed at %d: serves %q, before %q, new %q", n, got, serving, version)
		}
		st, err := s.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if run := running(t, s); st.Interrupted != nil || len(run) != 1 || run[0] != st.Serving || (o.Serving != "" && o.Serving != st.Serving) {
			t.Errorf("killed at %d: %v run, %q serves, outcome %+v, interrupted %+v", n, run, st.Serving, o, st.Interrupted)
		}
		serving = got
		if survived {
			break
		}
	}
	t.Logf("%d boundaries", n-1)
	if n < 20 {
		t.Errorf("only %d boundaries", n-1)
	}
	l.check(t)
	history, err := s.History()
	if err != nil || len(history) < n/2 {
		t.Errorf("%d records, %v", len(history), err)
	}
}

// TestRouterAloneTakesBack: after a kill between switch and commit, with no
// recovery, the router returns to the committed release by itself.
func TestRouterAloneTakesBack(t *testing.T) {
	t.Parallel()
	dir, listen := environment(t)
	mustRun(t, dir, listen, "v0")
	var at int
	for n := 1; at == 0; n++ {
		version := fmt.Sprintf("v%d", n)
		if die(t, "deploy", dir, listen, version, n, "3s") {
			t.Fatal("no kill left the traffic switched")
		}
		if served(t, listen) == version {
			at = n
		}
	}
	s, _, _ := newStep(dir, listen, "v0", "good")
	st, err := s.Status(t.Context())
	if err != nil || st.Interrupted == nil {
		t.Fatalf("%+v, %v", st, err)
	}
	deadline := time.Now().Add(10 * time.Second) // the lease lasts 3 s
	for served(t, listen) != "v0" {
		if time.Now().After(deadline) {
			t.Fatal("the router did not take the traffic back")
		}
		time.Sleep(20 * time.Millisecond)
	}
	if _, err := s.Abort(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := running(t, s); len(got) != 1 {
		t.Errorf("%v run", got)
	}
}
