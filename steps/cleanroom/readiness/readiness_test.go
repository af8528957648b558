package readiness_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/cleanroom/readiness"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

func dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

// server answers connection number n, from 1, with answer.
func server(t *testing.T, answer func(n int, c net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for n := 1; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				answer(n, c)
			}()
		}
	}()
	return l.Addr().String()
}

// redis reads one command and answers line.
func redis(line string) func(int, net.Conn) {
	return func(_ int, c net.Conn) {
		r := bufio.NewReader(c)
		for range 3 {
			if _, err := r.ReadString('\n'); err != nil {
				return
			}
		}
		_, _ = io.WriteString(c, line+"\r\n")
	}
}

// postgres reads a start-up message and answers with a message.
func postgres(kind byte, body string) func(int, net.Conn) {
	return func(_ int, c net.Conn) {
		var length [4]byte
		if _, err := io.ReadFull(c, length[:]); err != nil {
			return
		}
		if _, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(length[:])-4)); err != nil {
			return
		}
		m := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4))
		_, _ = c.Write(append(m, body...))
	}
}

func TestProbes(t *testing.T) {
	t.Parallel()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ready" {
			http.Error(w, "no", http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(web.Close)
	site := strings.TrimPrefix(web.URL, "http://")
	for _, c := range []struct {
		name  string
		probe readiness.Probe
		want  string // part of the error; empty for none
	}{
		{"open port", readiness.TCP(site), ""},
		{"closed port", readiness.TCP("127.0.0.1:1"), "refused"},
		{"redis", readiness.Redis(server(t, redis("+PONG"))), ""},
		{"redis with a password", readiness.Redis(server(t, redis("-NOAUTH Authentication required."))), ""},
		{"redis loads", readiness.Redis(server(t, redis("-LOADING Redis is loading"))), "LOADING"},
		{"redis hangs up", readiness.Redis(server(t, func(int, net.Conn) {})), ""},
		{"postgres", readiness.Postgres(server(t, postgres('R', "\x00\x00\x00\x0a"))), ""},
		{"postgres starts", readiness.Postgres(server(t, postgres('E', "SFATAL\x00C57P03\x00Mthe database system is starting up\x00\x00"))), "57P03"},
		{"postgres knows no user", readiness.Postgres(server(t, postgres('E', "SFATAL\x00C28000\x00Mno pg_hba.conf entry\x00\x00"))), ""},
		{"postgres bloats", readiness.Postgres(server(t, func(_ int, c net.Conn) { _, _ = c.Write([]byte("E\xff\xff\xff\xff")); _, _ = io.Copy(io.Discard, c) })), "bytes"},
		{"not postgres", readiness.Postgres(server(t, func(_ int, c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400\r\n"); _, _ = io.Copy(io.Discard, c) })), "not PostgreSQL"},
		{"http", readiness.HTTP(site, "/ready"), ""},
		{"http, not yet", readiness.HTTP(site, "/"), "503"},
		{"not http", readiness.HTTP(server(t, func(_ int, c net.Conn) { _, _ = io.WriteString(c, "+PONG\r\n") }), "/"), "malformed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			err := c.probe.Try(ctx, dial)
			switch {
			case c.name == "redis hangs up":
				if err == nil {
					t.Error("a server that says nothing is ready")
				}
			case (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want):
				t.Errorf("%s: %v, want %q", c.probe, err, c.want)
			}
		})
	}
}

// TestSilent: a server that accepts and says nothing does not hold a probe up.
func TestSilent(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	address := server(t, func(_ int, c net.Conn) {
		cancel()
		_, _ = io.Copy(io.Discard, c)
	})
	if err := readiness.Redis(address).Try(ctx, dial); err == nil {
		t.Error("a silent server is ready")
	}
}

// TestStirred: a service that does something is asked at once, however long the pauses
// have become.
func TestStirred(t *testing.T) {
	t.Parallel()
	const most = 100
	asked, stirred := make(chan struct{}, 1), make(chan struct{}, 1)
	loading := redis("-LOADING")
	address := server(t, func(n int, c net.Conn) {
		if n > most {
			redis("+PONG")(n, c)
			return
		}
		loading(n, c)
		asked <- struct{}{}
	})
	go func() {
		for range most {
			<-asked
			stirred <- struct{}{}
		}
	}()
	wait := readiness.Wait{Timeout: 10 * time.Second, InARow: 1, Stirred: stirred}
	if err := wait.For(t.Context(), readiness.Redis(address), dial); err != nil {
		t.Error(err)
	}
}

// TestInARow: one good answer between two bad ones is not enough.
func TestInARow(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	address := server(t, func(n int, c net.Conn) {
		asked.Store(int64(n))
		if n == 2 || n > 3 {
			redis("+PONG")(n, c)
		} else {
			redis("-LOADING")(n, c)
		}
	})
	if err := (readiness.Wait{}).For(t.Context(), readiness.Redis(address), dial); err != nil {
		t.Fatal(err)
	}
	if n := asked.Load(); n != 5 {
		t.Errorf("ready after question %d, want 5", n)
	}
}

func TestWaitEnds(t *testing.T) {
	t.Parallel()
	closed := readiness.TCP("127.0.0.1:1")
	ended := make(chan struct{})
	close(ended)
	if err := (readiness.Wait{Ended: ended}).For(t.Context(), closed, dial); !errors.Is(err, readiness.ErrEnded) {
		t.Errorf("dead service: %v", err)
	}
	err := readiness.Wait{Timeout: time.Millisecond}.For(t.Context(), closed, dial)
	if err == nil || !strings.Contains(err.Error(), "not ready after 1ms") || !strings.Contains(err.Error(), "a connection to 127.0.0.1:1") {
		t.Errorf("timeout: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (readiness.Wait{}).For(ctx, closed, dial); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// room is a container in which every process ends with code.
type room struct {
	sandbox.Container
	code int
}

func (r room) Name() string { return "db" }

func (r room) Exec(_ context.Context, spec sandbox.ExecSpec) (sandbox.ExitStatus, error) {
	_, err := io.WriteString(spec.Stderr, "no such table")
	return sandbox.ExitStatus{Code: r.code}, err
}

func TestCommand(t *testing.T) {
	t.Parallel()
	if err := readiness.Command(room{}, "check", "it").Try(t.Context(), dial); err != nil {
		t.Error(err)
	}
	p := readiness.Command(room{code: 3}, "check", "it")
	if err := p.Try(t.Context(), dial); err == nil || !strings.Contains(err.Error(), "exit code 3: no such table") {
		t.Errorf("%s: %v", p, err)
	}
}
