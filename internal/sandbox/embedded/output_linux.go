package embedded

import (
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// These bound the wait for the end of output. After the end of a process in a
// container, what it left behind may hold the output open for as long as it likes.
// After the end of a container nothing does, save what escaped at the weaker levels;
// only a busy machine needs the time.
const (
	besideDrainTime = 2 * time.Second
	drainTime       = 10 * time.Second
)

// output carries the streams of a container and bounds them together.
type output struct {
	to       [2]io.Writer
	limit    int64
	exceed   func()
	exceeded atomic.Bool

	mu      sync.Mutex
	written int64
	readers []*os.File
	input   *os.File
	done    sync.WaitGroup
}

func newOutput(stdout, stderr io.Writer, limit int64, exceed func()) *output {
	return &output{to: [2]io.Writer{stdout, stderr}, limit: limit, exceed: exceed}
}

// stdin returns what the payload reads: a file as it is, anything else by a pipe.
func (o *output) stdin(from io.Reader) (*os.File, error) {
	switch f := from.(type) {
	case nil:
		return os.Open(os.DevNull)
	case *os.File:
		return duplicate(f)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	o.input = w
	// It ends when the payload stops reading; a reader that blocks for ever keeps
	// only this goroutine.
	go func() {
		_, _ = io.Copy(w, from)
		w.Close()
	}()
	return r, nil
}

func duplicate(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate %s: %w", f.Name(), err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// open returns what the payload writes to, and starts to carry it.
func (o *output) open() ([]*os.File, error) {
	var ends []*os.File
	for _, to := range o.to {
		if to == nil {
			f, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
			if err != nil {
				return ends, err
			}
			ends = append(ends, f)
			continue
		}
		r, w, err := os.Pipe()
		if err != nil {
			return ends, err
		}
		ends = append(ends, w)
		o.readers = append(o.readers, r)
		o.done.Go(func() { o.carry(r, to) })
	}
	return ends, nil
}

// carry copies until the end or the limit, and then reads on, so that a payload
// is stopped by being killed and not by a full pipe.
func (o *output) carry(from io.Reader, to io.Writer) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if n > 0 && !o.write(to, b[:n]) && o.exceeded.CompareAndSwap(false, true) {
			o.exceed()
		}
		if err != nil {
			return
		}
	}
}

// write writes what the limit leaves of b and reports whether that was all. One
// call at a time: both streams may have the same writer.
func (o *output) write(to io.Writer, b []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	left := o.limit - o.written
	within := int64(len(b)) <= left
	b = b[:min(int64(len(b)), max(left, 0))]
	o.written += int64(len(b))
	// A writer that fails is its owner's loss; the payload must not notice.
	_, _ = to.Write(b)
	return within
}

// drain waits for the end of the output, but not for ever.
func (o *output) drain(most time.Duration) {
	late := time.AfterFunc(most, o.stop)
	defer late.Stop()
	o.done.Wait()
}

// stop closes our ends of all streams.
func (o *output) stop() {
	closeAll(o.readers)
	if o.input != nil {
		o.input.Close()
	}
}
