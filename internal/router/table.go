package router

import (
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/target"
)

// eject is how long an endpoint that failed gets no requests while another can
// take them.
const eject = time.Second

// maxKnown bounds how many releases are counted; the oldest idle one that has no
// weight goes first.
const maxKnown = 64

// release is what the router knows of a release. It outlives weight changes.
type release struct {
	name                      string
	requests, errors, retried atomic.Uint64
	inFlight                  atomic.Int64
	latency                   histogram
	turn                      atomic.Uint64
	// idle gets a token when the last request in flight ends.
	idle chan struct{}
	// born orders releases by age.
	born uint64
}

func (r *release) enter() { r.inFlight.Add(1) }

func (r *release) leave() {
	if r.inFlight.Add(-1) == 0 {
		r.signal()
	}
}

func (r *release) signal() {
	select {
	case r.idle <- struct{}{}:
	default:
	}
}

// endpoint is one address of a release.
type endpoint struct {
	address string
	// ejected is the end of its exclusion in nanoseconds since the Unix epoch.
	ejected atomic.Int64
}

// member is a release in a snapshot.
type member struct {
	*release
	endpoints []*endpoint
}

// choose returns an endpoint that is not ejected and not the one to avoid, or nil.
func (m member) choose(now int64, avoid *endpoint) *endpoint {
	start := m.turn.Add(1)
	for i := range uint64(len(m.endpoints)) {
		e := m.endpoints[(start+i)%uint64(len(m.endpoints))]
		if e != avoid && e.ejected.Load() <= now {
			return e
		}
	}
	return nil
}

// snapshot is an immutable route: members, and the order in which they take
// turns. One turn of order gives every member exactly its share.
type snapshot struct {
	backends []target.Backend
	members  []member
	order    []int
}

// table holds the present snapshot. Requests read it without a lock.
type table struct {
	current atomic.Pointer[snapshot]
	turn    atomic.Uint64

	mu    sync.Mutex
	known map[string]*release
	born  uint64
}

func newTable() *table {
	t := &table{known: map[string]*release{}}
	t.current.Store(&snapshot{})
	return t
}

// set replaces the route at once. Backends were checked before.
func (t *table) set(backends []target.Backend) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &snapshot{backends: slices.Clone(backends)}
	weights := make([]int, 0, len(backends))
	for _, b := range backends {
		m := member{release: t.learn(b.Release)}
		for _, a := range b.Addresses {
			m.endpoints = append(m.endpoints, &endpoint{address: a})
		}
		s.members = append(s.members, m)
		weights = append(weights, b.Weight)
	}
	s.order = smooth(weights)
	t.current.Store(s)
	t.forget(s)
}

func (t *table) learn(name string) *release {
	r, ok := t.known[name]
	if !ok {
		t.born++
		r = &release{name: name, idle: make(chan struct{}, 1), born: t.born}
		t.known[name] = r
	}
	return r
}

func (t *table) forget(s *snapshot) {
	for len(t.known) > maxKnown {
		var oldest *release
		for _, r := range t.known {
			routed := slices.ContainsFunc(s.members, func(m member) bool { return m.release == r })
			if !routed && r.inFlight.Load() == 0 && (oldest == nil || r.born < oldest.born) {
				oldest = r
			}
		}
		if oldest == nil {
			return
		}
		delete(t.known, oldest.name)
	}
}

// pick chooses the release and endpoint of the next attempt and counts it as in
// flight, or returns false when nothing is routed. Endpoints that failed lately,
// and the one to avoid, are taken only when there is no other.
func (t *table) pick(avoid *endpoint) (member, *endpoint, bool) {
	for {
		s := t.current.Load()
		if len(s.order) == 0 {
			return member{}, nil, false
		}
		m, e := s.pick(t.turn.Add(1), avoid)
		m.enter()
		// A drain that began between the two loads has read the counter before it
		// was raised. So look again: if the route changed, this pick does not count.
		if t.current.Load() == s {
			return m, e, true
		}
		m.leave()
	}
}

func (s *snapshot) pick(turn uint64, avoid *endpoint) (member, *endpoint) {
	now := time.Now().UnixNano()
	n := uint64(len(s.order))
	for i := range n {
		m := s.members[s.order[(turn+i)%n]]
		if e := m.choose(now, avoid); e != nil {
			return m, e
		}
	}
	m := s.members[s.order[turn%n]]
	return m, m.endpoints[turn%uint64(len(m.endpoints))]
}

// served returns the counters of every known release, sorted by name.
func (t *table) served() []target.Served {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]target.Served, 0, len(t.known))
	for _, r := range t.known {
		out = append(out, target.Served{
			Release: r.name, Requests: r.requests.Load(), Errors: r.errors.Load(), Retried: r.retried.Load(),
			InFlight: r.inFlight.Load(), P50: r.latency.quantile(0.50), P99: r.latency.quantile(0.99),
		})
	}
	slices.SortFunc(out, func(a, b target.Served) int { return strings.Compare(a.Release, b.Release) })
	return out
}

func (t *table) release(name string) (*release, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, ok := t.known[name]
	return r, ok
}

// smooth returns an order of indices in which index i occurs weights[i]/gcd
// times, spread evenly: smooth weighted round-robin as nginx does it
// (nginx commit 52327e0627f4). Its length is at most the sum of the weights.
func smooth(weights []int) []int {
	total, divisor := 0, 0
	for _, w := range weights {
		total += w
		divisor = gcd(w, divisor)
	}
	if total == 0 {
		return nil
	}
	total /= divisor
	order := make([]int, 0, total)
	credit := make([]int, len(weights))
	for range total {
		best := -1
		for i, w := range weights {
			credit[i] += w / divisor
			if w > 0 && (best < 0 || credit[i] > credit[best]) {
				best = i
			}
		}
		credit[best] -= total
		order = append(order, best)
	}
	return order
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// A histogram counts durations in buckets whose bounds grow by 2^(1/4), about
// 19 %, from 50 µs to over 14 minutes.
type histogram struct{ counts [buckets]atomic.Uint64 }

const (
	buckets   = 96
	smallest  = 50 * time.Microsecond
	perOctave = 4
)

func (h *histogram) add(d time.Duration) {
	i := 0
	if d > smallest {
		i = int(math.Ceil(perOctave * math.Log2(float64(d)/float64(smallest))))
	}
	h.counts[min(i, buckets-1)].Add(1)
}

// quantile returns the upper bound of the bucket that holds the q-quantile, or
// zero if nothing was counted.
func (h *histogram) quantile(q float64) time.Duration {
	var counts [buckets]uint64
	var total uint64
	for i := range h.counts {
		counts[i] = h.counts[i].Load()
		total += counts[i]
	}
	rank := uint64(math.Ceil(q * float64(total)))
	var seen uint64
	for i, n := range counts {
		if seen += n; n > 0 && seen >= rank {
			return time.Duration(float64(smallest) * math.Exp2(float64(i)/perOctave))
		}
	}
	return 0
}
