package cleanroom_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"maps"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/ultrafast-ci/ultrafast/internal/oci"
	"github.com/ultrafast-ci/ultrafast/internal/oci/ocitest"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/rootfs"
	"github.com/ultrafast-ci/ultrafast/steps/cleanroom"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// pushBase sends an image with one layer to a registry and returns its digest.
func pushBase(t *testing.T, r *ocitest.Registry, repository, tag string, config map[string]any) state.Digest {
	t.Helper()
	var plain, layer bytes.Buffer
	zw := gzip.NewWriter(&layer)
	if err := state.Pack(t.Context(), io.MultiWriter(&plain, zw), fstest.MapFS{"usr/bin/interpreter": {Data: []byte("x"), Mode: 0o755}}, nil); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	repo, err := oci.OpenRepository(t.Context(), r.Host+"/"+repository, nil)
	if err != nil {
		t.Fatal(err)
	}
	put := func(mediaType string, b []byte) map[string]any {
		a := state.Artifact{Name: "x", MediaType: mediaType, Digest: state.DigestOf(b), Size: int64(len(b))}
		if err := repo.PutBlob(t.Context(), a, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }); err != nil {
			t.Fatal(err)
		}
		return map[string]any{"mediaType": mediaType, "digest": a.Digest, "size": a.Size}
	}
	encode := func(v any) []byte {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	raw := encode(map[string]any{
		"schemaVersion": 2, "mediaType": state.MediaTypeImageManifest,
		"config": put(state.MediaTypeImageConfig, encode(map[string]any{
			"os": "linux", "architecture": runtime.GOARCH, "config": config, "rootfs": map[string]any{"type": "layers", "diff_ids": []state.Digest{state.DigestOf(plain.Bytes())}},
		})),
		"layers": []any{put(state.MediaTypeImageLayerGzip, layer.Bytes())},
	})
	if err := repo.PutManifest(t.Context(), tag, raw); err != nil {
		t.Fatal(err)
	}
	return state.DigestOf(raw)
}

// withBase lets the lab build on an image of the registry.
func (l *lab) withBase(t *testing.T, reference string) {
	t.Helper()
	dir := t.TempDir()
	l.step.Bases = rootfs.New(rootfs.Options{Dir: filepath.Join(dir, "images"), LockFile: filepath.Join(dir, rootfs.LockName)})
	l.step.Package.Base = reference
}

// imageFiles returns the contents of the files of layer n, and where links lead.
func imageFiles(t *testing.T, l *lab, e *state.Entry, n int) map[string]string {
	t.Helper()
	a, ok := e.Artifact(state.ArtifactImageLayer(n))
	if !ok {
		t.Fatalf("no layer %d in %v", n, e.Artifacts)
	}
	b, err := state.ReadBlob(t.Context(), l.blobs, a)
	if err != nil {
		t.Fatal(err)
	}
	zr, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.ModTime.Unix() != 0 || h.Typeflag != tar.TypeSymlink && h.Mode != 0o644 && h.Mode != 0o755 {
			t.Errorf("%s is of %d:%d, mode %o, time %v", h.Name, h.Uid, h.Gid, h.Mode, h.ModTime)
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeDir {
			files[h.Name] = string(content) + h.Linkname
		}
	}
}

// A compiled program on a base: the base's layer first, its settings where ours say
// nothing, its digest an input; twice the same image, from two directories.
func TestPackageOnBase(t *testing.T) {
	t.Parallel()
	r := ocitest.New(t)
	digest := pushBase(t, r, "team/base", "1.2", map[string]any{"User": "1000", "Env": []string{"PATH=/usr/bin"}, "WorkingDir": "/srv", "Cmd": []string{"sh"}})
	var images []state.Digest
	for range 2 {
		l := newLab(t)
		l.withBase(t, r.Host+"/team/base:1.2")
		l.step.Package.Args, l.step.Package.Env, l.step.Package.Files = []string{"-v"}, map[string]string{"MODE": "x"}, []string{"static/**", "store/*.go"}
		res, err := l.run(t, with(map[string]string{"static/css/a.css": "a {}", "static/b": "b", "other": "o"}))
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, res.Entry.Cleanroom.Image)
		if want := []state.Input{{Name: cleanroom.InputBase, Digest: digest}}; !reflect.DeepEqual(res.Entry.Inputs, want) {
			t.Errorf("inputs %v, want %v", res.Entry.Inputs, want)
		}
		if got, want := res.Evidence.Facts["package.base"], r.Host+"/team/base:1.2@"+string(digest); got != want {
			t.Errorf("fact %q, want %q", got, want)
		}
		if got := slices.Sorted(maps.Keys(imageFiles(t, l, &res.Entry, 1))); !slices.Equal(got, []string{"app/static/b", "app/static/css/a.css", "app/store/put.go", "app/store/put_test.go"}) {
			t.Errorf("files %v", got)
		}
		if got := slices.Sorted(maps.Keys(imageFiles(t, l, &res.Entry, 2))); !slices.Equal(got, []string{"shop"}) {
			t.Errorf("program %v", got)
		}
		cfg, err := oci.Client{}.Config(t.Context(), l.blobs, &res.Entry)
		if err != nil {
			t.Fatal(err)
		}
		want := state.ImageConfig{
			User: "1000", Env: []string{"PATH=/usr/bin", "MODE=x"}, Entrypoint: []string{"/shop"}, Cmd: []string{"-v"}, WorkingDir: "/app", Ports: []string{"8080/tcp"},
			Labels: map[string]string{"org.opencontainers.image.title": "shop", "org.opencontainers.image.base.name": r.Host + "/team/base:1.2", "org.opencontainers.image.base.digest": string(digest)},
			OS:     "linux", Architecture: runtime.GOARCH,
		}
		if !reflect.DeepEqual(cfg, want) {
			t.Errorf("configuration %+v\nwant %+v", cfg, want)
		}
	}
	if images[0] != images[1] {
		t.Errorf("two images: %v", images)
	}
}

// The resume key of a step on a base is another when the base is: a tag that has moved
// makes a new image.
func TestPackageKey(t *testing.T) {
	t.Parallel()
	r := ocitest.New(t)
	var keys []string
	for _, user := range []string{"1", "2"} {
		pushBase(t, r, "team/base", "1", map[string]any{"User": user})
		l := newLab(t)
		l.withBase(t, r.Host+"/team/base:1")
		key, err := l.step.Key(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key["base"])
	}
	if keys[0] == "" || keys[0] == keys[1] {
		t.Errorf("keys %v", keys)
	}
}

func TestPackageUser(t *testing.T) {
	t.Parallel()
	r := ocitest.New(t)
	for i, c := range []struct{ own, base, want string }{
		{"", "", "65532:65532"}, {"", "0", "65532:65532"}, {"", "0:7", "65532:65532"}, {"", "node", "65532:65532"}, {"", "1000:1000", "1000:1000"}, {"7:8", "1000", "7:8"},
	} {
		tag := "t" + string(rune('a'+i))
		pushBase(t, r, "team/base", tag, map[string]any{"User": c.base})
		l := newLab(t)
		l.step.Toolchain = hostLanguage
		l.withBase(t, r.Host+"/team/base:"+tag)
		l.step.Package.User = c.own
		res, err := l.run(t, map[string]string{"a_test.sh": "exit 0\n"})
		if err != nil {
			t.Fatal(err)
		}
		if cfg, err := (oci.Client{}).Config(t.Context(), l.blobs, &res.Entry); err != nil || cfg.User != c.want {
			t.Errorf("own %q on base %q gives %q, want %q (%v)", c.own, c.base, cfg.User, c.want, err)
		}
	}
}

// A tree of a language that is not compiled goes in as it was tested, with its
// dependencies where the language looks for them.
func TestPackageTree(t *testing.T) {
	t.Parallel()
	r := ocitest.New(t)
	pushBase(t, r, "team/base", "1", map[string]any{"Entrypoint": []string{"/usr/bin/interpreter"}, "Cmd": []string{"repl"}})
	for kind, c := range map[cleanroom.Kind]struct {
		file, env string
	}{
		cleanroom.JavaScript: {"app/node_modules/greet/package.json", ""},
		cleanroom.Python:     {"deps/py/greet.py", "PYTHONPATH=/deps/py"},
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			from := indexes[kind].serve(t)
			var images []state.Digest
			for range 2 {
				l := newPreparedLab(t, kind, from)
				l.withBase(t, r.Host+"/team/base:1")
				l.step.Package.Args = []string{"/app/main"}
				res, err := l.run(t, from.files)
				if err != nil {
					t.Fatalf("%v\n%v", err, res.Evidence.Findings)
				}
				images = append(images, res.Entry.Cleanroom.Image)
				deps, tree := imageFiles(t, l, &res.Entry, 1), imageFiles(t, l, &res.Entry, 2)
				if deps[c.file] == "" {
					t.Errorf("no %s among %v", c.file, slices.Sorted(maps.Keys(deps)))
				}
				for name := range deps {
					if strings.Contains(name, "__pycache__") || strings.HasSuffix(name, "RECORD") {
						t.Errorf("the image has %s, which may differ", name)
					}
				}
				for name, text := range from.files {
					if tree["app/"+name] != text {
						t.Errorf("the image has %q as %s", tree["app/"+name], name)
					}
				}
				if len(tree) != len(from.files) {
					t.Errorf("the tree has %v", slices.Sorted(maps.Keys(tree)))
				}
				cfg, err := oci.Client{}.Config(t.Context(), l.blobs, &res.Entry)
				if err != nil || cfg.WorkingDir != "/app" || cfg.Entrypoint[0] != "/usr/bin/interpreter" || cfg.Cmd[0] != "/app/main" || strings.Join(cfg.Env, " ") != c.env {
					t.Errorf("configuration %+v (%v)", cfg, err)
				}
			}
			if images[0] != images[1] {
				t.Errorf("two images: %v", images)
			}
		})
	}
}

// What cannot become an image is said before anything is built.
func TestPackageRefuses(t *testing.T) {
	t.Parallel()
	r := ocitest.New(t)
	pushBase(t, r, "team/base", "1", nil)
	shell := map[string]string{"a_test.sh": "exit 0\n"}
	for name, c := range map[string]struct {
		files  map[string]string
		change func(l *lab)
		kind   fault.Kind
		want   string
	}{
		"entry point without base": {shell, func(l *lab) { l.step.Package.Entrypoint = []string{"sh"} }, fault.Usage, "has an entry point and no base"},
		"unknown base":             {shell, func(l *lab) { l.withBase(t, r.Host+"/team/base:2") }, fault.Finding, "no such image"},
		"name of a directory":      {shop, func(l *lab) { l.withBase(t, r.Host+"/team/base:1"); l.step.Package.Name = "usr" }, fault.Usage, "take the place of a directory"},
		"name of our directory":    {shop, func(l *lab) { l.step.Package.Name, l.step.Package.Files = "app", []string{"*.go"} }, fault.Usage, "take the place of a directory"},
		"absolute pattern":         {shell, func(l *lab) { l.step.Package.Files = []string{"/etc/*"} }, fault.Usage, "/etc/*"},
		"pattern upwards":          {shell, func(l *lab) { l.step.Package.Files = []string{"a/../../b"} }, fault.Usage, "a/../../b"},
		"variable":                 {shell, func(l *lab) { l.step.Package.Env = map[string]string{"A B": "c"} }, fault.Usage, `"A B"`},
		"nothing matches":          {shell, func(l *lab) { l.step.Package.Files = []string{"static/**"} }, fault.Finding, `"static/**"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			if !strings.HasPrefix(name, "name of") {
				l.step.Toolchain = hostLanguage
			}
			c.change(l)
			res, err := l.run(t, c.files)
			if fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) || res.Entry.Cleanroom != nil {
				t.Errorf("%v with %+v", err, res.Entry)
			}
		})
	}
}
