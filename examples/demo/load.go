package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sort"
	"strings"
	"sync"
	"time"
)

// Bounds of the load.
const (
	loadWorkers    = 32 // requests in flight
	requestTimeout = 5 * time.Second
	maxAnswer      = 1 << 20
	keptFailures   = 5
)

// load sends requests at a steady rate until it is stopped.
type load struct {
	url    string
	cancel context.CancelFunc
	done   sync.WaitGroup
	// kept reuses connections; fresh opens one per request, which also meets a
	// router that forgets to accept.
	kept, fresh *http.Client

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced when versions changes
	report   report
	versions map[string]int
}

// report is what a load has seen.
type report struct {
	sent, failed, skipped int
	slowest               time.Duration
	versions              map[string]int
	failures              []string
}

// request is one kind of request in the mix.
type request struct {
	method, path, body string
	status             int
}

// mix is sent in turn: probes, reads, and writes, which no client repeats by itself.
var mix = []request{
	{"GET", "/healthz", "", http.StatusOK},
	{"POST", "/customers", `{"name": "Ada Winter", "email": "ada@example.com"}`, http.StatusCreated},
	{"GET", "/version", "", http.StatusOK},
	{"GET", "/customers?limit=5", "", http.StatusOK},
}

// startLoad sends rate requests a second to url, alternately on kept and fresh
// connections. A request that finds all workers busy is skipped and counted.
func startLoad(ctx context.Context, url string, rate int) *load {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{
		url: url, cancel: cancel, changed: make(chan struct{}), versions: map[string]int{},
		kept:  &http.Client{Timeout: requestTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: loadWorkers}},
		fresh: &http.Client{Timeout: requestTimeout, Transport: &http.Transport{DisableKeepAlives: true}},
	}
	turns := make(chan int)
	for range loadWorkers {
		l.done.Go(func() {
			for turn := range turns {
				l.send(turn)
			}
		})
	}
	l.done.Go(func() {
		defer close(turns)
		ticker := time.NewTicker(time.Second / time.Duration(rate))
		defer ticker.Stop()
		for turn := 0; ; turn++ {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			select {
			case turns <- turn:
			default:
				l.mu.Lock()
				l.report.skipped++
				l.mu.Unlock()
			}
		}
	})
	return l
}

// send makes one request. It ends by its own timeout, not with the load, so that
// stopping the load fails no request.
func (l *load) send(turn int) {
	client := l.kept
	if turn/len(mix)%2 == 1 {
		client = l.fresh
	}
	kind := mix[turn%len(mix)]
	start := time.Now()
	version, err := kind.do(client, l.url)
	took := time.Since(start)

	l.mu.Lock()
	defer l.mu.Unlock()
	l.report.sent++
	l.report.slowest = max(l.report.slowest, took)
	if version != "" {
		l.versions[version]++
		close(l.changed)
		l.changed = make(chan struct{})
	}
	if err != nil {
		l.report.failed++
		if len(l.report.failures) < keptFailures {
			l.report.failures = append(l.report.failures, fmt.Sprintf("%s %s: %v", kind.method, kind.path, err))
		}
	}
}

// do makes the request and returns the version that the answer names, if any.
func (r request) do(client *http.Client, url string) (version string, err error) {
	call, err := http.NewRequest(r.method, url+r.path, strings.NewReader(r.body))
	if err != nil {
		return "", err
	}
	if r.body != "" {
		call.Header.Set("Content-Type", "application/json")
	}
	response, err := client.Do(call)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	content, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return "", err
	}
	if response.StatusCode != r.status {
		return "", fmt.Errorf("status %d, want %d: %s", response.StatusCode, r.status, bytes.TrimSpace(content))
	}
	var answer struct{ Version string }
	if err := json.Unmarshal(content, &answer); err != nil {
		return "", err
	}
	return answer.Version, nil
}

// waitFor waits until the version has answered n times.
func (l *load) waitFor(ctx context.Context, version string, n int, timeout time.Duration) error {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		l.mu.Lock()
		count, changed := l.versions[version], l.changed
		l.mu.Unlock()
		if count >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return fmt.Errorf("version %s answered %d times within %s, want %d", version, count, timeout, n)
		}
	}
}

// stop ends the load, waits for the requests in flight and returns what it saw.
// It may be called again.
func (l *load) stop() report {
	l.cancel()
	l.done.Wait()
	l.kept.CloseIdleConnections()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.report.versions = l.versions
	return l.report
}

// String is the report on one line.
func (r report) String() string {
	s := fmt.Sprintf("%d requests, %d failed, slowest %d ms", r.sent, r.failed, r.slowest.Milliseconds())
	if r.skipped > 0 {
		s += fmt.Sprintf(", %d not sent: all %d workers were waiting", r.skipped, loadWorkers)
	}
	var names []string
	for name := range r.versions {
		names = append(names, name)
	}
	sort.Strings(names)
	for i, name := range names {
		s += [...]string{"; ", ", "}[min(i, 1)] + fmt.Sprintf("%s answered %d times", name, r.versions[name])
	}
	return s
}

func (r report) firstFailures() string { return "  " + strings.Join(r.failures, "\n  ") }
