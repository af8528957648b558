package store_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/store"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

func open(t *testing.T, dir string) *store.Layout {
	t.Helper()
	l, err := store.Open(t.Context(), "layout:"+dir, "")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func blob(t *testing.T, l *store.Layout, name, content string) state.Artifact {
	t.Helper()
	a, err := state.WriteBlob(t.Context(), l, name, state.MediaTypeTree, []byte(content))
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

func TestChain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	var chain state.State
	for i := range 3 {
		link, err := l.Append(t.Context(), chain, result(blob(t, l, "tree", fmt.Sprint("content ", i))))
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, link)
	}
	// Another process reads it.
	again, err := open(t, dir).Load(t.Context(), chain.Head())
	if err != nil {
		t.Fatal(err)
	}
	if len(again) != 3 || again.Head() != chain.Head() || again[2].Evidence[0].Summary != "1 file" || again[2].Evidence[0].Subject != again.Head() {
		t.Errorf("%+v", again)
	}
	r, err := l.Open(t.Context(), again[1].Entry.Artifacts[0])
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if b, err := io.ReadAll(r); err != nil || string(b) != "content 1" {
		t.Errorf("%q %v", b, err)
	}
}

// TestEveryByteCounts changes one byte of each blob of a chain in turn: reading the
// chain and its artifacts must find each of them.
func TestEveryByteCounts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	link, err := l.Append(t.Context(), nil, result(blob(t, l, "tree", "the content")))
	if err != nil {
		t.Fatal(err)
	}
	readAll := func() error {
		chain, err := l.Load(t.Context(), link.Digest)
		if err != nil {
			return err
		}
		_, err = state.ReadBlob(t.Context(), l, chain[0].Entry.Artifacts[0])
		return err
	}
	if err := readAll(); err != nil {
		t.Fatalf("untouched: %v", err)
	}
	blobs, err := filepath.Glob(filepath.Join(dir, "blobs", "sha256", "*"))
	if err != nil || len(blobs) < 5 {
		t.Fatalf("%v %v", blobs, err)
	}
	changed := 0
	for _, path := range blobs {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(b, state.EmptyBlob) {
			continue // the layer of a manifest without artifacts; nobody reads it
		}
		changed++
		bad := bytes.Clone(b)
		bad[len(bad)/2] ^= 1
		write(t, path, bad)
		if err := readAll(); fault.KindOf(err) != fault.Finding {
			t.Errorf("changed byte in %s: %v", b, err)
		}
		write(t, path, b)
	}
	if err := readAll(); err != nil || changed < 5 {
		t.Errorf("restored: %v; %d blobs changed", err, changed)
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

func TestArtifactNamedInError(t *testing.T) {
	t.Parallel()
	l := open(t, t.TempDir())
	a := blob(t, l, "tree", "the content")
	write(t, filepath.Join(strings.TrimPrefix(l.URL(), "layout:"), "blobs", "sha256", a.Digest.Hex()), []byte("the c0ntent"))
	_, err := l.Open(t.Context(), a)
	if fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), `artifact "tree"`) {
		t.Errorf("%v", err)
	}
	missing := a
	missing.Digest = state.DigestOf([]byte("never written"))
	if _, err := l.Open(t.Context(), missing); fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), `"tree"`) {
		t.Errorf("%v", err)
	}
}

func TestRemember(t *testing.T) {
	t.Parallel()
	l := open(t, t.TempDir())
	a := blob(t, l, "tree", "x")
	link, err := l.Append(t.Context(), nil, result(a))
	if err != nil {
		t.Fatal(err)
	}
	key := state.DigestOf([]byte("key"))
	if _, ok, err := l.Lookup(t.Context(), key); ok || err != nil {
		t.Errorf("%v %v", ok, err)
	}
	if err := l.Remember(t.Context(), key, link.Digest); err != nil {
		t.Fatal(err)
	}
	got, ok, err := l.Lookup(t.Context(), key)
	if !ok || err != nil || got.Digest != link.Digest || len(got.Evidence) != 1 {
		t.Errorf("%+v %v %v", got, ok, err)
	}
	// An entry whose artifact is gone is no hit.
	if err := os.Remove(filepath.Join(strings.TrimPrefix(l.URL(), "layout:"), "blobs", "sha256", a.Digest.Hex())); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := l.Lookup(t.Context(), key); ok || err != nil {
		t.Errorf("%v %v", ok, err)
	}
}

func TestManyWriters(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const writers = 16
	heads := make([]state.Digest, writers)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			l, err := store.Open(t.Context(), "layout:"+dir, "")
			if err != nil {
				t.Error(err)
				return
			}
			link, err := l.Append(t.Context(), nil, result(blob(t, l, "tree", fmt.Sprint(i))))
			if err != nil {
				t.Error(err)
			}
			heads[i] = link.Digest
		})
	}
	wg.Wait()
	l := open(t, dir)
	for i, head := range heads {
		chain, err := l.Load(t.Context(), head)
		if err != nil || len(chain[0].Evidence) != 1 {
			t.Errorf("writer %d: %v", i, err)
		}
	}
}

func TestDiscardedBlobLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	w, err := l.Create(t.Context(), state.MediaTypeLog)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, "half")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"tmp", "blobs/sha256"} {
		left, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil || len(left) != 0 {
			t.Errorf("%s: %v %v", sub, left, err)
		}
	}
}

func TestUnreadable(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), "layout:"+file, ""); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("a file as store: %v", err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "index.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), "layout:"+dir, ""); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("a damaged index: %v", err)
	}
	for _, url := range []string{"", "layout:", "/dir", "s3://bucket"} {
		if _, err := store.Open(t.Context(), url, ""); fault.KindOf(err) != fault.Usage {
			t.Errorf("%q: %v", url, err)
		}
	}
	l := open(t, t.TempDir())
	if _, err := l.Load(t.Context(), state.DigestOf(nil)); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("unknown head: %v", err)
	}
}
