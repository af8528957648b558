// Package ocitest runs an OCI registry in the test's own process, on a loopback
// port, and can make it lie: change what it answers, forget what it holds, ask for
// a password. It never leaves the machine and keeps everything in memory.
package ocitest

import (
	"crypto/subtle"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/klauspost/compress/zstd"
)

// Registry is a running registry.
type Registry struct {
	// Host is its address, "127.0.0.1:port".
	Host string

	handler        http.Handler
	mu             sync.Mutex
	objects        []string
	changed        map[string]func([]byte) []byte
	forgotten      map[string]bool
	referrers      bool
	user, password string
	requests       int
}

// Option changes a registry.
type Option func(*Registry)

// WithReferrers lets the registry have the referrers API of the OCI distribution
// specification 1.1.
func WithReferrers() Option {
	return func(r *Registry) { r.referrers = true }
}

// WithPassword lets the registry refuse everyone else, by basic authentication.
func WithPassword(user, password string) Option {
	return func(r *Registry) { r.user, r.password = user, password }
}

// New starts a registry that stops when the test ends.
func New(t testing.TB, opts ...Option) *Registry {
	t.Helper()
	r := &Registry{changed: map[string]func([]byte) []byte{}, forgotten: map[string]bool{}}
	for _, opt := range opts {
		opt(r)
	}
	r.handler = registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(r.referrers))
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.Host = server.Listener.Addr().String()
	return r
}

// Objects returns the digests of all blobs and manifests that were sent, sorted.
func (r *Registry) Objects() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.Sort(r.objects)
	r.objects = slices.Compact(r.objects)
	return slices.Clone(r.objects)
}

// Change lets the registry answer f of the bytes under digest; nil ends that.
func (r *Registry) Change(digest string, f func([]byte) []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f == nil {
		delete(r.changed, digest)
		return
	}
	r.changed[digest] = f
}

// Forget lets the registry not find digest any more.
func (r *Registry) Forget(digest string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgotten[digest] = true
}

// Requests returns how many requests the registry has answered.
func (r *Registry) Requests() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.requests
}

// ServeHTTP answers as the registry does, lies included.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	last := path.Base(req.URL.Path)
	r.mu.Lock()
	r.requests++
	change, forgotten := r.changed[last], r.forgotten[last]
	if req.Method == http.MethodPut {
		for _, d := range []string{last, req.URL.Query().Get("digest")} {
			if strings.HasPrefix(d, "sha256:") {
				r.objects = append(r.objects, d)
			}
		}
	}
	r.mu.Unlock()
	switch {
	case !r.welcome(req):
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
	case forgotten && req.Method != http.MethodPut:
		http.NotFound(w, req)
	case change != nil && req.Method == http.MethodGet:
		answer := httptest.NewRecorder()
		r.handler.ServeHTTP(answer, req)
		body := change(answer.Body.Bytes())
		for name, values := range answer.Header() {
			w.Header()[name] = values
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(answer.Code)
		_, _ = w.Write(body) // a client that hung up is the test's business
	default:
		r.handler.ServeHTTP(w, req)
	}
}

func (r *Registry) welcome(req *http.Request) bool {
	if r.user == "" {
		return true
	}
	user, password, ok := req.BasicAuth()
	return ok && subtle.ConstantTimeCompare([]byte(user+":"+password), []byte(r.user+":"+r.password)) == 1
}

// Zstd returns b compressed as layers of newer builders are.
func Zstd(t testing.TB, b []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(b, nil)
}
