package inside

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// joined are two ends of one connection.
func joined(t *testing.T) (a, b *Mux, fromA, fromB chan []byte) {
	t.Helper()
	x, y := net.Pipe()
	a, b = NewMux(x), NewMux(y)
	fromA, fromB = make(chan []byte, 16), make(chan []byte, 16)
	var both sync.WaitGroup
	both.Go(func() { _ = a.Serve(x, func(m []byte) { fromB <- m }) })
	both.Go(func() { _ = b.Serve(y, func(m []byte) { fromA <- m }) })
	t.Cleanup(func() {
		x.Close()
		y.Close()
		both.Wait()
	})
	return a, b, fromA, fromB
}

func opened(t *testing.T, a, b *Mux, id uint32) (x, y *Stream) {
	t.Helper()
	x, err := a.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	if y, err = b.Open(id); err != nil {
		t.Fatal(err)
	}
	return x, y
}

func TestMuxCarries(t *testing.T) {
	t.Parallel()
	a, b, fromA, _ := joined(t)
	if err := a.Send(Request{Signal: &Signal{Process: 7, Number: 9}}); err != nil {
		t.Fatal(err)
	}
	var r Request
	if err := json.Unmarshal(<-fromA, &r); err != nil || r.Signal == nil || r.Signal.Process != 7 {
		t.Errorf("%+v, %v", r, err)
	}
	x, y := opened(t, a, b, 3)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // four windows
	go func() {
		_, _ = x.Write(sent)
		_ = x.CloseWrite()
	}()
	got, err := io.ReadAll(y)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes of %d arrived, %v", len(got), len(sent), err)
	}
	// The other direction is open still.
	go func() {
		_, _ = y.Write([]byte("back"))
		_ = y.CloseWrite()
	}()
	if got, err := io.ReadAll(x); err != nil || string(got) != "back" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestMuxNobodyWaits: a stream that nobody reads holds back itself alone.
func TestMuxNobodyWaits(t *testing.T) {
	t.Parallel()
	a, b, _, _ := joined(t)
	stuck, _ := opened(t, a, b, 1)
	x, y := opened(t, a, b, 3)
	if n, err := stuck.Write(make([]byte, window)); n != window || err != nil {
		t.Fatalf("%d bytes of a window were written, %v", n, err)
	}
	if err := stuck.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := stuck.Write(make([]byte, window)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes were written beyond it, %v; want a deadline", n, err)
	}
	go func() {
		_, _ = x.Write([]byte("through"))
		_ = x.CloseWrite()
	}()
	if got, err := io.ReadAll(y); err != nil || string(got) != "through" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestMuxDeadlinesAndClose(t *testing.T) {
	t.Parallel()
	a, b, _, _ := joined(t)
	x, y := opened(t, a, b, 1)
	if err := x.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	var timeout net.Error
	if _, err := x.Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("a read after its deadline: %v", err)
	}
	if err := y.Close(); err != nil {
		t.Fatal(err)
	}
	if err := x.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := x.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a read of a stream that was reset: %v", err)
	}
	// Its number is free again, at both ends.
	opened(t, a, b, 1)
	if _, err := a.Open(1); err == nil {
		t.Error("a stream is opened twice")
	}
}

// TestMuxEnd: with the connection all that waits ends.
func TestMuxEnd(t *testing.T) {
	t.Parallel()
	x, y := net.Pipe()
	m := NewMux(x)
	ended := make(chan error, 1)
	go func() { ended <- m.Serve(x, func([]byte) {}) }()
	s, err := m.Open(1)
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	go func() {
		_, err := s.Read(make([]byte, 1))
		read <- err
	}()
	y.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, c := range []chan error{ended, read} {
		select {
		case err := <-c:
			if err == nil {
				t.Error("no error")
			}
		case <-ctx.Done():
			t.Fatal("it waits for ever")
		}
	}
	if _, err := m.Open(3); err == nil {
		t.Error("a stream opens after the end")
	}
}

// FuzzMux: whatever arrives is refused or taken, in bounded memory.
func FuzzMux(f *testing.F) {
	frame := func(kind byte, id uint32, content []byte) []byte {
		b := append([]byte{kind}, binary.BigEndian.AppendUint32(nil, id)...)
		return append(binary.BigEndian.AppendUint32(b, uint32(len(content))), content...)
	}
	f.Add(frame(frameData, 1, []byte("x")))
	f.Add(append(frame(frameCredit, 1, []byte{0, 0, 0, 9}), frame(frameEnd, 1, nil)...))
	f.Add(frame(frameControl, 0, []byte(`{"Hello":{}}`)))
	f.Add([]byte{frameData, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		m := NewMux(io.Discard)
		s, err := m.Open(1)
		if err != nil {
			t.Fatal(err)
		}
		if m.Serve(bytes.NewReader(b), func([]byte) {}) == nil {
			t.Error("the end is no error")
		}
		got, _ := io.ReadAll(io.LimitReader(s, 2*window))
		if len(got) > window {
			t.Errorf("%d bytes without a credit", len(got))
		}
	})
}
