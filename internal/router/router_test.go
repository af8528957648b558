package router

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/target"
)

// running is a router of a test.
type running struct {
	*Client
	url  string
	stop func() error
}

func start(t *testing.T, dir string) running {
	t.Helper()
	sockets, err := os.MkdirTemp("", "router-") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Listen: "127.0.0.1:0", AdminSocket: filepath.Join(sockets, "a.sock"), StateDir: dir}
	ready := make(chan error, 1)
	o.Ready = func(err error) error { ready <- err; return nil }
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, o) }()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	r := running{Client: NewClient(o.AdminSocket), stop: sync.OnceValue(func() error { cancel(); return <-ended })}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		_ = os.RemoveAll(sockets)
	})
	status, err := r.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.url = "http://" + status.Address
	return r
}

// version is a service that answers with its name.
func version(t *testing.T, name string, handle func(w http.ResponseWriter, r *http.Request) bool) target.Backend {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if handle == nil || handle(w, r) {
			fmt.Fprint(w, name)
		}
	}))
	t.Cleanup(s.Close)
	return target.Backend{Release: name, Weight: 1, Addresses: []string{s.Listener.Addr().String()}}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func acquire(t *testing.T, r running, ttl time.Duration) uint64 {
	t.Helper()
	epoch, err := r.Acquire(t.Context(), "test", ttl, true)
	if err != nil {
		t.Fatal(err)
	}
	return epoch
}

func (r running) mustSet(t *testing.T, epoch uint64, backends ...target.Backend) {
	t.Helper()
	if err := r.Set(t.Context(), epoch, backends); err != nil {
		t.Fatal(err)
	}
}

func TestNothingRouted(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir())
	if code, body := get(t, r.url); code != 503 || !strings.Contains(body, "no release") {
		t.Errorf("%d %q", code, body)
	}
}

func TestRestartKeepsCommittedWeights(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := start(t, dir)
	epoch := acquire(t, r, time.Minute)
	v1, v2 := version(t, "v1", nil), version(t, "v2", nil)
	r.mustSet(t, epoch, v1)
	if err := r.Commit(t.Context(), epoch); err != nil {
		t.Fatal(err)
	}
	r.mustSet(t, epoch, v2)
	if _, body := get(t, r.url); body != "v2" {
		t.Errorf("before the restart: %q", body)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = start(t, dir)
	if _, body := get(t, r.url); body != "v1" {
		t.Errorf("after the restart: %q", body)
	}
	if err := r.Set(t.Context(), epoch, []target.Backend{v2}); !errors.Is(err, ErrStale) {
		t.Errorf("a lease survived the restart: %v", err)
	}
	if next := acquire(t, r, time.Minute); next != epoch+1 {
		t.Errorf("epoch after %d is %d", epoch, next)
	}
}

func TestLapsedLeaseRestores(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir())
	v1, v2 := version(t, "v1", nil), version(t, "v2", nil)
	epoch := acquire(t, r, time.Minute)
	r.mustSet(t, epoch, v1)
	if err := r.Commit(t.Context(), epoch); err != nil {
		t.Fatal(err)
	}
	// Renewed, it lasts longer than its time, however slow this machine is.
	const ttl = 5 * time.Second
	begun := time.Now()
	epoch = acquire(t, r, ttl)
	r.mustSet(t, epoch, v2)
	every := time.NewTicker(ttl / 10)
	defer every.Stop()
	for time.Since(begun) < ttl+ttl/5 {
		<-every.C
		if err := r.Renew(t.Context(), epoch); err != nil {
			t.Fatal(err)
		}
	}
	if _, body := get(t, r.url); body != "v2" {
		t.Errorf("with the lease: %q", body)
	}
	// A short one is never renewed: whatever happens before its end, v1 comes back.
	epoch = acquire(t, r, 100*time.Millisecond)
	limit := time.After(time.Minute)
	for body := ""; body != "v1"; _, body = get(t, r.url) {
		select {
		case <-every.C:
		case <-limit:
			t.Fatal("a lapsed lease was not taken back")
		}
	}
	if err := r.Commit(t.Context(), epoch); !errors.Is(err, ErrStale) {
		t.Errorf("commit after the lapse: %v", err)
	}
}

func TestLease(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir())
	v1, v2 := version(t, "v1", nil), version(t, "v2", nil)
	old := acquire(t, r, time.Minute)
	r.mustSet(t, old, v1)
	if _, err := r.Acquire(t.Context(), "other", time.Minute, false); !errors.Is(err, ErrTaken) || !strings.Contains(err.Error(), "test") {
		t.Errorf("second lease: %v", err)
	}
	epoch := acquire(t, r, time.Minute)
	if epoch != old+1 {
		t.Errorf("epoch after %d is %d", old, epoch)
	}
	for verb, err := range map[string]error{
		"set": r.Set(t.Context(), old, []target.Backend{v2}), "commit": r.Commit(t.Context(), old), "renew": r.Renew(t.Context(), old),
		"release": r.Release(t.Context(), old), "shutdown": r.Shutdown(t.Context(), old), "future": r.Commit(t.Context(), epoch+1),
	} {
		if !errors.Is(err, ErrStale) || fault.KindOf(err) != fault.Unavailable {
			t.Errorf("%s with another epoch: %v", verb, err)
		}
	}
	if _, body := get(t, r.url); body != "v1" {
		t.Errorf("takeover changed the route: %q", body)
	}
	if err := r.Release(t.Context(), epoch); err != nil {
		t.Fatal(err)
	}
	if code, _ := get(t, r.url); code != 503 {
		t.Errorf("release without commit left the route: %d", code)
	}
}

func TestRefusedRoutes(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir())
	epoch := acquire(t, r, time.Minute)
	for _, b := range []target.Backend{
		{Release: "v1", Weight: 1},
		{Release: "v1", Weight: 1, Addresses: []string{"nowhere"}},
		{Release: "V 1", Weight: 1, Addresses: []string{"127.0.0.1:1"}},
		{Release: "v1", Weight: 0, Addresses: []string{"127.0.0.1:1"}},
	} {
		if err := r.Set(t.Context(), epoch, []target.Backend{b}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", b, err)
		}
	}
}

func TestShares(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir())
	epoch := acquire(t, r, time.Minute)
	v1, v2 := version(t, "v1", nil), version(t, "v2", nil)
	v1.Weight, v2.Weight = 95, 5
	r.mustSet(t, epoch, v1, v2)
	const n = 1000
	got := 0
	for range n {
		if _, body := get(t, r.url); body == "v2" {
			got++
		}
	}
	if got != n*5/100 {
		t.Errorf("%d of %d requests at 5 %%", got, n)
	}
}

func TestSmooth(t *testing.T) {
	t.Parallel()
	for _, weights := range [][]int{{1}, {0, 3}, {95, 5}, {5, 1, 1}, {333, 333, 334}, {0}} {
		order := smooth(weights)
		count := make([]int, len(weights))
		for _, i := range order {
			count[i]++
		}
		sum := 0
		for _, w := range weights {
			sum += w
		}
		for i, w := range weights {
			if sum > 0 && count[i]*sum != w*len(order) {
				t.Errorf("%v: %d occurs %d times in %d", weights, i, count[i], len(order))
			}
		}
	}
	if got := fmt.Sprint(smooth([]int{5, 1, 1})); got != "[0 0 1 0 2 0 0]" {
		t.Errorf("5:1:1 is %s, which is not smooth", got)
	}
}

// dead is an address on which nothing listens.
func dead(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestErrorsAreCharged: a failed attempt counts against the release that failed
// also when the user never saw it.
func TestErrorsAreCharged(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir())
	epoch := acquire(t, r, time.Minute)
	good := version(t, "good", func(w http.ResponseWriter, req *http.Request) bool {
		b, _ := io.ReadAll(req.Body)
		return string(b) == strings.Repeat("x", len(b))
	})
	bad := target.Backend{Release: "bad", Weight: 1, Addresses: []string{dead(t)}}
	r.mustSet(t, epoch, bad, good)
	for i := range 10 {
		res, err := http.Post(r.url, "text/plain", strings.NewReader(strings.Repeat("x", 1+i*12000))) // the last are streamed
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != 200 {
			t.Errorf("request %d: %d", i, res.StatusCode)
		}
		_ = res.Body.Close()
	}
	status, err := r.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, g := status.Releases[0], status.Releases[1]
	if b.Errors == 0 || b.Errors != b.Requests || b.Retried != b.Errors || g.Requests != 10 || g.Errors != 0 {
		t.Errorf("bad %+v, good %+v", b, g)
	}
	if b.Requests > 2 { // it is ejected for a second
		t.Errorf("bad got %d requests although it was ejected", b.Requests)
	}
}

// TestLostAnswer: a GET is repeated, a POST is not, since it may have had its effect.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir())
	epoch := acquire(t, r, time.Minute)
	var calls atomic.Int32
	bad := version(t, "bad", func(w http.ResponseWriter, _ *http.Request) bool {
		calls.Add(1)
		c, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = c.Close()
		}
		return false
	})
	r.mustSet(t, epoch, bad)
	if code, _ := get(t, r.url); code != 502 || calls.Load() != 2 {
		t.Errorf("GET: %d after %d attempts", code, calls.Load())
	}
	calls.Store(0)
	res, err := http.Post(r.url, "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != 502 || calls.Load() != 1 {
		t.Errorf("POST: %d after %d attempts", res.StatusCode, calls.Load())
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir())
	epoch := acquire(t, r, time.Minute)
	var seen http.Header
	var host, query string
	r.mustSet(t, epoch, version(t, "v1", func(_ http.ResponseWriter, req *http.Request) bool {
		seen, host, query = req.Header.Clone(), req.Host, req.URL.RawQuery
		return true
	}))
	req, err := http.NewRequest(http.MethodGet, r.url+"/a?b=%zz;c", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "orders.example"
	req.Header.Set("X-Forwarded-For", "6.6.6.6")
	req.Header.Set("Connection", "X-Secret")
	req.Header.Set("X-Secret", "1")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if host != "orders.example" || query != "b=%zz;c" {
		t.Errorf("host %q, query %q", host, query)
	}
	if seen.Get("X-Forwarded-For") != "127.0.0.1" || seen.Get("X-Forwarded-Host") != "orders.example" || seen.Get("X-Forwarded-Proto") != "http" {
		t.Errorf("forwarded: %v", seen)
	}
	if seen.Get("X-Secret") != "" {
		t.Error("a hop-by-hop header was passed on")
	}
}

// TestUpgrade: an upgraded connection passes bytes both ways and counts as in flight.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir())
	epoch := acquire(t, r, time.Minute)
	r.mustSet(t, epoch, version(t, "v1", func(w http.ResponseWriter, _ *http.Request) bool {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return true
		}
		defer c.Close()
		fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_ = rw.Flush()
		_, _ = io.Copy(c, rw)
		return false
	}))
	c, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	in := bufio.NewReader(c)
	res, err := http.ReadResponse(in, nil)
	if err != nil || res.StatusCode != 101 {
		t.Fatalf("%+v, %v", res, err)
	}
	fmt.Fprint(c, "hello\n")
	if line, err := in.ReadString('\n'); err != nil || line != "hello\n" {
		t.Errorf("%q, %v", line, err)
	}
	if left, err := r.Drain(t.Context(), "v1", 50*time.Millisecond); err != nil || left != 1 {
		t.Errorf("in flight: %d, %v", left, err)
	}
	_ = c.Close()
	if left, err := r.Drain(t.Context(), "v1", 5*time.Second); err != nil || left != 0 {
		t.Errorf("in flight after the end: %d, %v", left, err)
	}
}

// TestSwitchesUnderLoad: twenty switches, each drained, fail no request, and no
// release is called after its drain.
func TestSwitchesUnderLoad(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir())
	epoch := acquire(t, r, time.Minute)
	var drained [2]atomic.Bool
	var late atomic.Int32
	var releases []target.Backend
	for i := range 2 {
		releases = append(releases, version(t, fmt.Sprintf("v%d", i), func(http.ResponseWriter, *http.Request) bool {
			if drained[i].Load() {
				late.Add(1)
			}
			time.Sleep(2 * time.Millisecond)
			return true
		}))
	}
	r.mustSet(t, epoch, releases[0])
	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	var requests, failed atomic.Int32
	for range 4 {
		load.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				res, err := client.Post(r.url, "text/plain", bytes.NewReader(make([]byte, 100)))
				requests.Add(1)
				if err != nil || res.StatusCode != 200 {
					failed.Add(1)
					continue
				}
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
			}
		})
	}
	for i := range 20 {
		from, to := i%2, 1-i%2
		drained[to].Store(false)
		r.mustSet(t, epoch, releases[to])
		if left, err := r.Drain(t.Context(), releases[from].Release, 5*time.Second); err != nil || left != 0 {
			t.Errorf("switch %d: %d left, %v", i, left, err)
		}
		drained[from].Store(true)
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	load.Wait()
	if failed.Load() != 0 || late.Load() != 0 || requests.Load() < 100 {
		t.Errorf("%d of %d requests failed, %d came after the drain", failed.Load(), requests.Load(), late.Load())
	}
}

func TestAddressInUse(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	var reported error
	o := Options{Listen: l.Addr().String(), AdminSocket: filepath.Join(dir, "a.sock"), StateDir: dir, Ready: func(err error) error { reported = err; return nil }}
	err = Run(t.Context(), o)
	if fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), l.Addr().String()) || fault.HintOf(err) == "" || reported == nil {
		t.Errorf("%v, hint %q, reported %v", err, fault.HintOf(err), reported)
	}
	if _, err := os.Stat(o.AdminSocket); err == nil {
		t.Error("the socket is left behind")
	}
	if o.Listen = "nonsense"; fault.KindOf(Run(t.Context(), o)) != fault.Usage {
		t.Error("a nonsensical address is not a usage error")
	}
}

// TestStarterGone: a router whose starter died before it was ready ends.
func TestStarterGone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	gone := errors.New("gone")
	o := Options{Listen: "127.0.0.1:0", AdminSocket: filepath.Join(dir, "a.sock"), StateDir: dir, Ready: func(error) error { return gone }}
	if err := Run(t.Context(), o); !errors.Is(err, gone) {
		t.Errorf("%v", err)
	}
}

func TestDamagedState(t *testing.T) {
	t.Parallel()
	for _, content := range []string{"", "{", `{"schema":2}`, `{"schema":1,"stable":[{"release":"x","weight":1}]}`} {
		path := filepath.Join(t.TempDir(), stateFile)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := load(path); fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v", content, err)
		}
	}
}

func TestHistogram(t *testing.T) {
	t.Parallel()
	var h histogram
	if h.quantile(0.5) != 0 {
		t.Error("an empty histogram has a median")
	}
	for i := range 100 {
		h.add(time.Duration(i+1) * time.Millisecond)
	}
	h.add(24 * time.Hour) // beyond the last bucket
	for q, want := range map[float64]time.Duration{0.5: 51 * time.Millisecond, 0.98: 99 * time.Millisecond} {
		if got := h.quantile(q); got < want || got > want*5/4 {
			t.Errorf("quantile %v is %s, not within a bucket above %s", q, got, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"schema":1,"epoch":3,"stable":[{"release":"v1","weight":1,"addresses":["127.0.0.1:80"]}]}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := decode(bytes.NewReader(b)); err == nil {
			newTable().set(s.Stable)
		}
	})
}

// BenchmarkRequest is one request through the router, client and release included.
func BenchmarkRequest(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }))
	defer s.Close()
	t := newTable()
	t.set([]target.Backend{{Release: "v1", Weight: 1, Addresses: []string{s.Listener.Addr().String()}}})
	front := httptest.NewServer(newProxy(t, time.Minute, slog.New(slog.DiscardHandler)))
	defer front.Close()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			res, err := client.Get(front.URL)
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
		}
	})
}
