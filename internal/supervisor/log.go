package supervisor

import (
	"os"
	"sync"
)

// boundedLog is a file that never grows beyond its limit: a full one is renamed
// to ".1" and a new one begun, so between one and two limits of output are kept.
type boundedLog struct {
	path  string
	limit int64

	mu   sync.Mutex
	file *os.File
	size int64
}

func openLog(path string, limit int64) (*boundedLog, error) {
	l := &boundedLog{path: path, limit: limit}
	if err := l.open(); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *boundedLog) open() error {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close() // nothing was written
		return err
	}
	l.file, l.size = f, info.Size()
	return nil
}

// Write never fails: a full disk must not stop the service, whose output would
// then have nowhere to go.
func (l *boundedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size > 0 && l.size+int64(len(p)) > l.limit {
		l.rotate()
	}
	if l.file != nil {
		n, _ := l.file.Write(p)
		l.size += int64(n)
	}
	return len(p), nil
}

func (l *boundedLog) rotate() {
	if l.file != nil {
		_ = l.file.Close()
		l.file = nil
	}
	if os.Rename(l.path, l.path+".1") != nil {
		_ = os.Remove(l.path) // where it cannot be kept, the bound counts more
	}
	_ = l.open() // on failure output is dropped until the next rotation
}

func (l *boundedLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}
