package keeper

import (
	"errors"
	"io/fs"
	"os"
	"sync"
)

// maxLog bounds the file of one container, in bytes. Two are kept: the one that is
// written and the one before, so that the last of what was written is there always.
const maxLog = 4 << 20

// outputLog keeps the last bytes that a container wrote. Its readers count bytes from
// the first that was ever written.
type outputLog struct {
	path string

	mu      sync.Mutex
	now     *os.File
	before  *os.File // nil until the first is full
	base    int64    // where now begins
	size    int64    // of now
	closed  bool
	changed chan struct{} // closed and replaced by each write
}

// newLog makes the file at path, mode 0600, in place of one of an earlier container.
func newLog(path string) (*outputLog, error) {
	if err := os.Remove(path + ".1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := openLog(path)
	if err != nil {
		return nil, err
	}
	return &outputLog{path: path, now: f, changed: make(chan struct{})}, nil
}

func openLog(path string) (*os.File, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}

// Write keeps p. A disk that is full loses output, and never stops the container.
func (l *outputLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0, fs.ErrClosed
	}
	if l.size >= maxLog {
		l.rotate()
	}
	n, err := l.now.WriteAt(p, l.size)
	l.size += int64(n)
	close(l.changed)
	l.changed = make(chan struct{})
	return n, err
}

// rotate begins a new file. If that cannot be, the old one is written over.
func (l *outputLog) rotate() {
	l.base += l.size
	l.size = 0
	if os.Rename(l.path, l.path+".1") != nil {
		return
	}
	f, err := openLog(l.path)
	if err != nil {
		return
	}
	if l.before != nil {
		l.before.Close()
	}
	l.before, l.now = l.now, f
}

// read reads at offset at, or at the first byte that is kept, and returns where the
// next read goes on. With nothing to read it returns no bytes, and a channel that is
// closed when there is more; a nil one if nothing will come.
func (l *outputLog) read(p []byte, at int64) (n int, next int64, more <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.before != nil && at < l.base {
		start := max(l.base-maxLog, 0)
		if st, err := l.before.Stat(); err == nil {
			start = l.base - st.Size()
		}
		at = max(at, start)
		if n, _ = l.before.ReadAt(p[:min(int64(len(p)), l.base-at)], at-start); n > 0 {
			return n, at + int64(n), nil
		}
	}
	at = max(at, l.base)
	if left := l.base + l.size - at; left > 0 {
		n, _ = l.now.ReadAt(p[:min(int64(len(p)), left)], at-l.base)
		return n, at + int64(n), nil
	}
	if l.closed {
		return 0, at, nil
	}
	return 0, at, l.changed
}

// finish says that nothing is written any more; what is kept can be read until close.
func (l *outputLog) finish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		close(l.changed)
	}
}

// tail returns at most the last n bytes.
func (l *outputLog) tail(n int64) []byte {
	l.mu.Lock()
	at := max(l.base+l.size-n, 0)
	l.mu.Unlock()
	b := make([]byte, 0, n)
	for int64(len(b)) < n {
		part := make([]byte, n-int64(len(b)))
		m, next, _ := l.read(part, at)
		if m == 0 {
			break
		}
		b, at = append(b, part[:m]...), next
	}
	return b
}

// close frees and removes the files.
func (l *outputLog) close() {
	l.finish()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now.Close()
	l.before.Close() // of none it does nothing
	_ = os.Remove(l.path)
	_ = os.Remove(l.path + ".1")
}
