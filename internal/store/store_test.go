package store_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/oci/ocitest"
	"github.com/ultrafast-ci/ultrafast/internal/store"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// place is where a store keeps its bytes, seen from outside.
type place interface {
	url() string
	// objects returns the digests of all that is kept.
	objects(t *testing.T) []string
	// change keeps f of the bytes under digest instead; the result undoes it.
	change(t *testing.T, digest string, f func([]byte) []byte) (undo func())
	forget(t *testing.T, digest string)
}

// eachPlace runs the contract test f for every kind of store.
func eachPlace(t *testing.T, f func(t *testing.T, p place)) {
	t.Helper()
	for name, newPlace := range map[string]func(*testing.T) place{
		"layout":                             func(t *testing.T) place { return directory(t.TempDir()) },
		"registry":                           func(t *testing.T) place { return &repository{ocitest.New(t, ocitest.WithReferrers())} },
		"registry without the referrers API": func(t *testing.T) place { return &repository{ocitest.New(t)} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, newPlace(t))
		})
	}
}

type directory string

func (d directory) url() string { return "layout:" + string(d) }

func (d directory) path(digest string) string {
	return filepath.Join(string(d), "blobs", "sha256", strings.TrimPrefix(digest, "sha256:"))
}

func (d directory) objects(t *testing.T) []string {
	entries, err := os.ReadDir(d.path(""))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, "sha256:"+e.Name())
	}
	return out
}

func (d directory) change(t *testing.T, digest string, f func([]byte) []byte) func() {
	path := d.path(digest)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, f(bytes.Clone(b)))
	return func() { write(t, path, b) }
}

func (d directory) forget(t *testing.T, digest string) {
	if err := os.Remove(d.path(digest)); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

type repository struct{ *ocitest.Registry }

func (r *repository) url() string                 { return "oci://" + r.Host + "/team/state" }
func (r *repository) objects(*testing.T) []string { return r.Objects() }
func (r *repository) change(_ *testing.T, digest string, f func([]byte) []byte) func() {
	r.Change(digest, f)
	return func() { r.Change(digest, nil) }
}
func (r *repository) forget(_ *testing.T, digest string) { r.Forget(digest) }

func open(t *testing.T, url string, opts ...store.Option) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), url, "", opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func blob(t *testing.T, s *store.Store, name, content string) state.Artifact {
	t.Helper()
	a, err := state.WriteBlob(t.Context(), s, name, state.MediaTypeTree, []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func result(artifacts ...state.Artifact) state.Result {
	return state.Result{
		Entry: state.Entry{
			Phase: phase.Generate, Outcome: state.Passed, Tool: state.Tool{Name: "generate", Version: "v1"},
			Artifacts: artifacts, Generate: &state.Generate{},
		},
		Evidence: state.Evidence{Kind: state.KindRun, Summary: "1 file", Duration: time.Second},
	}
}

func appendTo(t *testing.T, s *store.Store, chain state.State, artifacts ...state.Artifact) state.Link {
	t.Helper()
	link, err := s.Append(t.Context(), chain, result(artifacts...))
	if err != nil {
		t.Fatal(err)
	}
	return link
}

func TestChain(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, p place) {
		s := open(t, p.url())
		if s.URL() != p.url() {
			t.Errorf("URL %s, want %s", s.URL(), p.url())
		}
		var chain state.State
		for i := range 3 {
			chain = append(chain, appendTo(t, s, chain, blob(t, s, "tree", fmt.Sprint("content ", i))))
		}
		// Another process reads it.
		other := open(t, p.url())
		again, err := other.Load(t.Context(), chain.Head())
		if err != nil {
			t.Fatal(err)
		}
		if len(again) != 3 || again.Head() != chain.Head() || again[2].Evidence[0].Summary != "1 file" || again[2].Evidence[0].Subject != again.Head() {
			t.Errorf("%+v", again)
		}
		for i, link := range again {
			got, err := state.ReadBlob(t.Context(), other, link.Entry.Artifacts[0])
			if err != nil || string(got) != fmt.Sprint("content ", i) {
				t.Errorf("%q %v", got, err)
			}
			if err := other.Verify(t.Context(), &link.Entry); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestDigestsAreTheSameEverywhere holds the promise that a state means the same
// whatever store it lies in.
func TestDigestsAreTheSameEverywhere(t *testing.T) {
	t.Parallel()
	heads := map[state.Digest]bool{}
	for _, url := range []string{directory(t.TempDir()).url(), (&repository{ocitest.New(t)}).url()} {
		s := open(t, url)
		chain := state.State{appendTo(t, s, nil, blob(t, s, "tree", "x"))}
		chain = append(chain, appendTo(t, s, chain)) // an entry without artifacts
		heads[chain.Head()] = true
	}
	if len(heads) != 1 {
		t.Errorf("%v", heads)
	}
}

// TestEveryByteCounts changes one byte of each blob and manifest of a chain in
// turn, then cuts it: reading the chain and its artifacts must find each change.
func TestEveryByteCounts(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, p place) {
		link := appendTo(t, open(t, p.url()), nil, blob(t, open(t, p.url()), "tree", "the content"))
		readAll := func() error {
			s := open(t, p.url())
			chain, err := s.Load(t.Context(), link.Digest)
			if err != nil {
				return err
			}
			_, err = state.ReadBlob(t.Context(), s, chain[0].Entry.Artifacts[0])
			return err
		}
		if err := readAll(); err != nil {
			t.Fatalf("untouched: %v", err)
		}
		changed := 0
		for _, digest := range p.objects(t) {
			if digest == string(state.DigestOf(state.EmptyBlob)) {
				continue // the layer of a manifest without artifacts; nobody reads it
			}
			changed++
			for name, f := range map[string]func([]byte) []byte{
				"one bit":       func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
				"one byte less": func(b []byte) []byte { return b[:len(b)-1] },
				"one byte more": func(b []byte) []byte { return append(b, ' ') },
			} {
				undo := p.change(t, digest, f)
				if err := readAll(); fault.KindOf(err) != fault.Finding {
					t.Errorf("%s in %s: %v", name, digest, err)
				}
				undo()
			}
		}
		if err := readAll(); err != nil || changed != 5 {
			t.Errorf("restored: %v; %d blobs changed", err, changed)
		}
	})
}

func TestArtifactNamedInError(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, p place) {
		a := blob(t, open(t, p.url()), "tree", "the content")
		p.change(t, string(a.Digest), func([]byte) []byte { return []byte("the c0ntent") })
		s := open(t, p.url())
		_, err := s.Open(t.Context(), a)
		if fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), `artifact "tree"`) {
			t.Errorf("%v", err)
		}
		missing := a
		missing.Digest = state.DigestOf([]byte("never written"))
		if _, err := s.Open(t.Context(), missing); fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), `"tree"`) {
			t.Errorf("%v", err)
		}
		if _, err := s.Append(t.Context(), nil, result(missing)); fault.KindOf(err) != fault.Internal {
			t.Errorf("an entry whose artifact was never written: %v", err)
		}
		missing.Digest = "sha256:../../etc/passwd"
		if _, err := s.Open(t.Context(), missing); fault.KindOf(err) != fault.Finding {
			t.Errorf("%v", err)
		}
	})
}

func TestRemember(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, p place) {
		s := open(t, p.url())
		key := state.DigestOf([]byte("key"))
		if _, ok, err := s.Lookup(t.Context(), key); ok || err != nil {
			t.Errorf("%v %v", ok, err)
		}
		var last state.Link
		for _, content := range []string{"x", "y"} { // the second takes the place of the first
			last = appendTo(t, s, nil, blob(t, s, "tree", content))
			if err := s.Remember(t.Context(), key, last.Digest); err != nil {
				t.Fatal(err)
			}
		}
		got, ok, err := open(t, p.url()).Lookup(t.Context(), key)
		if !ok || err != nil || got.Digest != last.Digest || len(got.Evidence) != 1 {
			t.Errorf("%+v %v %v", got, ok, err)
		}
		if err := s.Remember(t.Context(), key, state.DigestOf([]byte("never written"))); err == nil {
			t.Error("remembered what is not there")
		}
		// An entry whose artifact is gone is no hit.
		p.forget(t, string(last.Entry.Artifacts[0].Digest))
		if _, ok, err := open(t, p.url()).Lookup(t.Context(), key); ok || err != nil {
			t.Errorf("%v %v", ok, err)
		}
	})
}

// TestEvidence adds to one entry from several goroutines.
func TestEvidence(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, p place) {
		s := open(t, p.url())
		link := appendTo(t, s, nil)
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				ev := state.Evidence{Subject: link.Digest, Kind: state.KindSignature, Summary: fmt.Sprint(i)}
				for range 2 { // the same again changes nothing
					if _, err := s.AddEvidence(t.Context(), ev); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		chain, err := open(t, p.url()).Load(t.Context(), link.Digest)
		if err != nil || len(chain[0].Evidence) != 6 || chain[0].Evidence[0].Kind != state.KindRun {
			t.Errorf("%+v %v", chain, err)
		}
		if _, err := s.AddEvidence(t.Context(), state.Evidence{Subject: state.DigestOf(nil)}); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("evidence for an entry that is not there: %v", err)
		}
	})
}

func TestManyWriters(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, p place) {
		const writers = 16
		heads := make([]state.Digest, writers)
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() {
				s, err := store.Open(t.Context(), p.url(), "")
				if err != nil {
					t.Error(err)
					return
				}
				defer s.Close()
				a, err := state.WriteBlob(t.Context(), s, "tree", state.MediaTypeTree, []byte(fmt.Sprint(i)))
				if err != nil {
					t.Error(err)
				}
				link, err := s.Append(t.Context(), nil, result(a))
				if err != nil {
					t.Error(err)
				}
				heads[i] = link.Digest
			})
		}
		wg.Wait()
		s := open(t, p.url())
		for i, head := range heads {
			chain, err := s.Load(t.Context(), head)
			if err != nil || len(chain[0].Evidence) != 1 {
				t.Errorf("writer %d: %v", i, err)
			}
		}
	})
}

func TestDiscardedBlobLeavesNothing(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, p place) {
		s := open(t, p.url())
		w, err := s.Create(t.Context(), state.MediaTypeLog)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(w, "half")
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if left := p.objects(t); len(left) != 0 {
			t.Errorf("%v", left)
		}
		if d, ok := p.(directory); ok {
			if left, err := os.ReadDir(filepath.Join(string(d), "tmp")); err != nil || len(left) != 0 {
				t.Errorf("%v %v", left, err)
			}
		}
	})
}

func TestUnknownHead(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, p place) {
		if _, err := open(t, p.url()).Load(t.Context(), state.DigestOf(nil)); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("%v", err)
		}
	})
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, p place) {
		s := open(t, p.url())
		a := blob(t, s, "tree", "x")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Open(ctx, a); fault.KindOf(err) != fault.Interrupted {
			t.Errorf("%v", err)
		}
	})
}

// TestNothingStaysBehind looks for the local copy of a registry's blobs.
func TestNothingStaysBehind(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	s, err := store.Open(t.Context(), (&repository{ocitest.New(t)}).url(), "")
	if err != nil {
		t.Fatal(err)
	}
	blob(t, s, "tree", "x")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) != 0 {
		t.Errorf("%v %v", left, err)
	}
}

// TestReadableByAll: what root makes in a container action is uploaded by another user.
func TestReadableByAll(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("windows has no such modes")
	}
	dir := filepath.Join(t.TempDir(), "state")
	s := open(t, "layout:"+dir)
	appendTo(t, s, nil, blob(t, s, "a", "text"))
	seen := 0
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o004 == 0 {
			t.Errorf("%s has the mode %s", name, info.Mode())
		}
		seen++
		return err
	})
	if err != nil || seen < 8 {
		t.Errorf("%d files: %v", seen, err)
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	p := &repository{ocitest.New(t, ocitest.WithPassword("gitlab-ci-token", "secret"))}
	with := func(user, password string) store.Option {
		return store.WithCredentials(func(registry string) (string, string, bool) { return user, password, registry == p.Host })
	}
	s := open(t, p.url(), with("gitlab-ci-token", "secret"))
	link := appendTo(t, s, nil, blob(t, s, "tree", "x"))
	if _, err := s.Load(t.Context(), link.Digest); err != nil {
		t.Error(err)
	}
	s = open(t, p.url(), with("gitlab-ci-token", "wr0ng-token"))
	_, err := s.Load(t.Context(), link.Digest)
	if fault.KindOf(err) != fault.Usage || !strings.Contains(fault.HintOf(err), "docker login "+p.Host) {
		t.Errorf("%v, hint %q", err, fault.HintOf(err))
	}
	if strings.Contains(fmt.Sprint(err), "wr0ng-token") {
		t.Errorf("the password is in the message: %v", err)
	}
}

func TestUnreadable(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	damaged := t.TempDir()
	if err := os.WriteFile(filepath.Join(damaged, "index.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]fault.Kind{
		"layout:" + file:           fault.Unavailable,
		"layout:" + damaged:        fault.Unavailable,
		"oci://127.0.0.1:1/state":  fault.Unavailable, // nobody listens there
		"":                         fault.Usage,
		"layout:":                  fault.Usage,
		"/dir":                     fault.Usage,
		"s3://bucket":              fault.Usage,
		"oci://":                   fault.Usage,
		"oci://ghcr.io":            fault.Usage,
		"oci://ghcr.io/Upper/Case": fault.Usage,
		"oci://ghcr.io/a:tag":      fault.Usage,
	} {
		if _, err := store.Open(t.Context(), url, ""); fault.KindOf(err) != want {
			t.Errorf("%q: %v, want kind %v", url, err, want)
		}
	}
}

// TestReadTwice reads an artifact of a registry twice and expects one transfer.
func TestReadTwice(t *testing.T) {
	t.Parallel()
	p := &repository{ocitest.New(t)}
	a := blob(t, open(t, p.url()), "tree", "x")
	s := open(t, p.url())
	before := p.Requests()
	for range 2 {
		r, err := s.Open(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(r); err != nil || string(b) != "x" {
			t.Errorf("%q %v", b, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if n := p.Requests() - before; n != 1 {
		t.Errorf("%d requests", n)
	}
}
