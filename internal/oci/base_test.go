package oci_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/ultrafast-ci/ultrafast/internal/oci"
	"github.com/ultrafast-ci/ultrafast/internal/oci/ocitest"
	"github.com/ultrafast-ci/ultrafast/internal/store"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// baseImage returns a base with one zstd layer, as a registry would give it.
func baseImage(t *testing.T, s *store.Store) state.BaseImage {
	t.Helper()
	var tar bytes.Buffer
	if err := state.Pack(t.Context(), &tar, fstest.MapFS{"usr/bin/node": {Data: []byte("interpreter"), Mode: 0o755}}, nil); err != nil {
		t.Fatal(err)
	}
	layer, err := state.WriteBlob(t.Context(), s, state.ArtifactImageLayer(0), "application/vnd.oci.image.layer.v1.tar+zstd", ocitest.Zstd(t, tar.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(map[string]any{
		"os": "linux", "architecture": "arm64", "variant": "v8",
		"config": map[string]any{
			"User": "1000", "Env": []string{"PATH=/usr/bin", "NODE_VERSION=22"}, "Entrypoint": []string{"/usr/bin/node"}, "Cmd": []string{"repl"},
			"WorkingDir": "/home", "Labels": map[string]string{"org.opencontainers.image.title": "node"}, "OnBuild": []string{"RUN x"}, "StopSignal": "SIGQUIT",
		},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []state.Digest{state.DigestOf(tar.Bytes())}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return state.BaseImage{Name: "docker.io/library/node:22", Digest: state.DigestOf(raw), RawConfig: raw, Layers: []state.Artifact{layer}}
}

func TestBuildOn(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	base := baseImage(t, s)
	roots := []fs.FS{
		fstest.MapFS{"deps/a": {Data: []byte("a")}},
		fstest.MapFS{"app/main.js": {Data: []byte("main")}, "app/bin": {Data: []byte("main.js"), Mode: fs.ModeSymlink | 0o777}},
	}
	cfg := state.ImageConfig{Env: []string{"PATH=/app:/usr/bin", "MODE=x"}, Cmd: []string{"/app/main.js"}, WorkingDir: "/app", Labels: map[string]string{"a": "b"}}
	artifacts, err := oci.Client{}.BuildOn(t.Context(), s, base, roots, cfg)
	if err != nil {
		t.Fatal(err)
	}
	e := &state.Entry{Phase: phase.Cleanroom, Artifacts: artifacts}
	e.Normalize()
	if a, _ := e.Artifact("image/layer/0"); a != base.Layers[0] {
		t.Errorf("the layer of the base became %+v", a)
	}
	if _, ok := e.Artifact("image/layer/2"); !ok {
		t.Errorf("no third layer in %v", e.Artifacts)
	}
	got, err := oci.Client{}.Config(t.Context(), s, e)
	if err != nil {
		t.Fatal(err)
	}
	want := state.ImageConfig{
		User: "1000", Env: []string{"PATH=/app:/usr/bin", "NODE_VERSION=22", "MODE=x"}, Entrypoint: []string{"/usr/bin/node"}, Cmd: []string{"/app/main.js"},
		WorkingDir: "/app", Labels: map[string]string{"a": "b"}, OS: "linux", Architecture: "arm64",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("configuration %+v\nwant %+v", got, want)
	}
	a, _ := e.Artifact(state.ArtifactImageConfig)
	raw, err := state.ReadBlob(t.Context(), s, a)
	if err != nil || strings.Contains(string(raw), "OnBuild") || !strings.Contains(string(raw), `"variant":"v8"`) || !strings.Contains(string(raw), "SIGQUIT") {
		t.Errorf("configuration %s (%v)", raw, err)
	}
	dir := t.TempDir()
	ref, err := oci.Client{}.Push(t.Context(), s, e, "layout:"+dir)
	if err != nil {
		t.Fatal(err)
	}
	_, digest, _ := strings.Cut(ref, "@")
	h, err := v1.NewHash(digest)
	if err != nil {
		t.Fatal(err)
	}
	image, err := layout.Path(dir).Image(h)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(image, validate.Fast); err != nil {
		t.Error(err)
	}
	// An entry point of ours goes without the arguments of the base.
	cfg.Cmd, cfg.Entrypoint = nil, []string{"/app/main"}
	if artifacts, err = (oci.Client{}).BuildOn(t.Context(), s, base, roots, cfg); err != nil {
		t.Fatal(err)
	}
	if got, err = (oci.Client{}).Config(t.Context(), s, &state.Entry{Artifacts: artifacts}); err != nil || got.Cmd != nil || got.Entrypoint[0] != "/app/main" {
		t.Errorf("%+v %v", got, err)
	}
}

// Links that lead out of the image are refused: what they show is not in it.
func TestBuildOnLinks(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for to, ok := range map[string]bool{"b": true, "../b": true, "sub/../b": true, "../../b": false, "/etc/passwd": false, `..\b`: false, "": false} {
		root := fstest.MapFS{"app/a": {Data: []byte(to), Mode: fs.ModeSymlink | 0o777}}
		_, err := oci.Client{}.BuildOn(t.Context(), s, state.BaseImage{}, []fs.FS{root}, config)
		if (err == nil) != ok || err != nil && fault.KindOf(err) != fault.Finding {
			t.Errorf("link to %q: %v", to, err)
		}
	}
}

// A base whose configuration does not fit its layers makes no image.
func TestBuildOnBadBase(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for name, change := range map[string]func(*state.BaseImage){
		"layers":  func(b *state.BaseImage) { b.Layers = nil },
		"config":  func(b *state.BaseImage) { b.RawConfig = []byte("{") },
		"nothing": func(b *state.BaseImage) { b.RawConfig = nil },
		"many": func(b *state.BaseImage) {
			for range 127 {
				b.Layers = append(b.Layers, b.Layers[0])
			}
		},
	} {
		base := baseImage(t, s)
		change(&base)
		if _, err := (oci.Client{}).BuildOn(t.Context(), s, base, []fs.FS{files()}, config); fault.KindOf(err) != fault.Finding {
			t.Errorf("%s: %v", name, err)
		}
	}
}
