package router

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// startWith runs a router with one release that reads whole bodies.
func startWith(t *testing.T, o Options) string {
	t.Helper()
	sockets, err := os.MkdirTemp("", "router-")
	if err != nil {
		t.Fatal(err)
	}
	o.Listen, o.AdminSocket, o.StateDir = "127.0.0.1:0", filepath.Join(sockets, "a.sock"), t.TempDir()
	ready, ended := make(chan error, 1), make(chan error, 1)
	o.Ready = func(err error) error { ready <- err; return nil }
	ctx, cancel := context.WithCancel(context.Background())
	go func() { ended <- Run(ctx, o) }()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		_ = os.RemoveAll(sockets)
	})
	r := running{Client: NewClient(o.AdminSocket)}
	r.mustSet(t, acquire(t, r, time.Minute), version(t, "v1", func(w http.ResponseWriter, r *http.Request) bool {
		_, err := io.Copy(io.Discard, r.Body)
		return err == nil
	}))
	status, err := r.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return status.Address
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestSlowBody: a client that stops sending its body loses its connection, whether
// the body is held in memory or streamed; one that goes on does not, however long
// the whole body takes.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	const patience = 300 * time.Millisecond
	address := startWith(t, Options{BodyTimeout: patience})
	for name, head := range map[string]string{
		"buffered": "Content-Length: 1000\r\n\r\n", "large": "Content-Length: 1000000\r\n\r\n", "chunked": "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
	} {
		c := dial(t, address)
		if _, err := fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\n%s", head); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if res.StatusCode < 400 {
			t.Errorf("%s: status %d", name, res.StatusCode)
		}
	}
	c := dial(t, address)
	if _, err := fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	for begun := time.Now(); time.Since(begun) < 3*patience; {
		if _, err := fmt.Fprint(c, "1\r\nx\r\n"); err != nil {
			t.Fatal(err)
		}
		<-time.After(patience / 10) // the client's own pace
	}
	if _, err := fmt.Fprint(c, "0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if res, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("steady client: %v, %v", res, err)
	}
}

// TestConnectionLimit: over the limit a connection waits until another one ends.
func TestConnectionLimit(t *testing.T) {
	t.Parallel()
	address := startWith(t, Options{MaxConnections: 1})
	first, second := dial(t, address), dial(t, address)
	ask := func(c net.Conn) (int, error) {
		if _, err := fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return 0, err
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return 0, err
		}
		return res.StatusCode, nil
	}
	if code, err := ask(first); code != http.StatusOK {
		t.Fatal(code, err)
	}
	answered := make(chan error, 1)
	go func() {
		code, err := ask(second)
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("status %d", code)
		}
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Fatalf("answered over the limit, %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

// TestSlowBodyIsNobodysFault: the release is neither charged nor avoided.
func TestSlowBodyIsNobodysFault(t *testing.T) {
	t.Parallel()
	address := startWith(t, Options{BodyTimeout: 100 * time.Millisecond})
	c := dial(t, address)
	if _, err := fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || res.StatusCode != http.StatusRequestTimeout {
		t.Fatalf("%v, %v", res, err)
	}
	if code, body := get(t, "http://"+address); code != http.StatusOK || body != "v1" {
		t.Errorf("next request: %d %q", code, body)
	}
}
