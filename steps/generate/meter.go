package generate

import "sync"

// Advance is told that done of total parts are there, and which was the last. It is
// called by one goroutine at a time.
type Advance func(done, total int, last string)

// meter counts the parts of a run. A nil meter counts nothing.
type meter struct {
	tell Advance

	mu          sync.Mutex
	done, total int
}

// newMeter returns a meter of so many parts; nil if nobody listens.
func newMeter(tell Advance, total int) *meter {
	if tell == nil {
		return nil
	}
	return &meter{tell: tell, total: total}
}

// expect adds n parts, as soon as they are known.
func (m *meter) expect(n int) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total += n
}

// did counts one part.
func (m *meter) did(what string) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done++
	m.tell(m.done, m.total, what)
}
