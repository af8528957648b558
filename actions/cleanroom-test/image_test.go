package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/engine"
	"github.com/ultrafast-ci/ultrafast/internal/oci/ocitest"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// TestExecImage runs commands in one image that comes from everywhere images come from,
// on each back end that is here.
func TestExecImage(t *testing.T) {
	t.Parallel()
	path := buildDoor(t)
	for _, backend := range []string{"embedded", "docker"} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			needBackend(t, backend)
			places := newPlaces(t)
			defer places.forget(t, backend)
			run := project(t, path, "[backend]\ntype = \""+backend+"\"\n", suiteIn("layout:"+places.layout+"#tool:1"))
			for name, ref := range map[string]string{
				"layout": "layout:" + places.layout + "#tool:1", "digest": "layout:" + places.layout + "@" + places.digest,
				"archive": "tarball:" + places.archive, "registry": places.registry + "/tool:1", "registry by digest": places.registry + "/tool@" + places.digest,
			} {
				if code, out := run("exec", "--image", ref, "--", "sh", "-c", "id -u; pwd; echo $MADE $HOME; echo new >/etc/new"); code != 1 ||
					!regexp.MustCompile(`(?s)^65534\n/data\nby a test /tmp\n.*Read-only file system`).MatchString(out) {
					t.Errorf("%s: exit code %d:\n%s", name, code, out)
				}
			}
			layout := "layout:" + places.layout + "#tool:1"
			for _, c := range []struct {
				args []string
				code int
				want string
			}{
				{[]string{"--image", layout}, 0, `^the image's own command\n$`},
				{[]string{"--image", layout, "--", "sh", "-c", "exit 3"}, 3, `^$`},
				{[]string{"--image", layout, "--", "no-such-program"}, 127, `no-such-program`},
				{[]string{"--image", layout, "--timeout", "500ms", "--", "sleep", "1000"}, 125, `killed: ran longer than its limit`},
				{[]string{"--image", layout, "--memory", "8192", "--", "true"}, 2, `the policy allows 4096 MB`},
				{[]string{"--image", "layout:" + places.layout + "#tool:2", "--", "true"}, 1, `does not have it`},
				{[]string{"--image", "layout:" + places.layout + "@sha256:" + strings.Repeat("0", 64), "--", "true"}, 1, `does not have it`},
				{[]string{"--image", "UPPER CASE", "--", "true"}, 2, `write name:tag`},
			} {
				if code, out := run(append([]string{"exec"}, c.args...)...); code != c.code || !regexp.MustCompile(c.want).MatchString(out) {
					t.Errorf("%q: exit code %d, want %d and %q:\n%s", c.args, code, c.code, c.want, out)
				}
			}
			// A suite whose tests run in the image, and one with nothing of it.
			if code, out := run("run", "--source", sourceOf(t)); code != 0 || !strings.Contains(out, "1 of 1 tests passed") {
				t.Errorf("a suite in an image: exit code %d:\n%s", code, out)
			}
			// The name of a registry is pinned from then on.
			places.push(t, "tool:1", places.other)
			if code, out := run("exec", "--image", places.registry+"/tool:1"); code != 0 || out != "the image's own command\n" {
				t.Errorf("after the tag moved: exit code %d:\n%s", code, out)
			}
			places.push(t, "tool:1", places.manifest)
			if backend == "docker" {
				if code, out := run("exec", "--", "true"); code != 2 || !strings.Contains(out, "--image") {
					t.Errorf("without an image: exit code %d:\n%s", code, out)
				}
			}
		})
	}
}

// TestEnvironmentOnEngine has every verb that works in an environment that outlives
// commands do so on a container engine, and what is left of a keeper that is killed go.
func TestEnvironmentOnEngine(t *testing.T) {
	t.Parallel()
	path := buildDoor(t)
	for _, backend := range []string{"docker", "podman"} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			needBackend(t, backend)
			places := newPlaces(t)
			defer places.forget(t, backend)
			image := "layout:" + places.layout + "#tool:1"
			run := project(t, path, "[backend]\ntype = \""+backend+"\"\n", suiteIn(image))
			room := fmt.Sprintf("door-%d", time.Now().UnixNano())
			does := func(code int, want string, args ...string) string {
				t.Helper()
				got, out := run(args...)
				if got != code || !regexp.MustCompile(want).MatchString(out) {
					t.Fatalf("%q: exit code %d, want %d and %q:\n%s", args, got, code, want, out)
				}
				return out
			}
			does(0, `back end +`+backend, "environment", "create", "--name", room, "--memory", "2048")
			defer func() { run("environment", "delete", "--name", room, "--force") }()
			does(0, room+` +running +full +`+backend, "environment", "list")
			does(0, `container +one`, "container", "start", image, "--name", "one", "--", "sh", "-c", "echo said; sleep 1000")
			does(0, `one +generic +running`, "container", "list")
			does(0, `(?m)^name +: one`, "exec", "--environment", room, "--image", image, "--", "sh", "-c", "echo name : one")
			does(125, `does not see the files of this machine`, "exec", "--environment", room, "--", "true")
			does(0, `containers +2 created`, "metrics", "show")
			does(0, `^said\n`, "container", "logs", "one")
			does(0, `stopped +one`, "container", "stop", "one", "--force")
			does(0, `1 of 1 tests passed`, "test", "run", "--environment", room, "--source", sourceOf(t))
			does(0, `passed`, "test", "results")
			does(0, `removed +`+room, "environment", "delete", "--name", room)
			does(0, `^No environments`, "environment", "list")
		})
	}
}

// suiteIn is a project whose tests run in an image.
func suiteIn(image string) string {
	return "[[cleanroom.suite]]\nrunner = \"sh\"\nimage = \"" + image + "\"\n"
}

// sourceOf is a tree with a test that passes in the image alone.
func sourceOf(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "one_test.sh"), []byte("test \"$MADE\" = 'by a test' && test -x /bin/busybox && test ! -e /usr/bin\n"))
	return dir
}

// needBackend skips a test for which there is no back end here.
func needBackend(t *testing.T, name string) {
	t.Helper()
	if name != "embedded" {
		e, err := engine.Open(engine.Find(name), "")
		if err == nil {
			defer e.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			err = e.Ping(ctx)
		}
		if err != nil {
			t.Skipf("no %s to test with: %v", name, err)
		}
		return
	}
	c, err := embedded.New(embedded.Options{StateDir: t.TempDir()}).Probe(t.Context())
	if err != nil || c.Level < sandbox.Full {
		t.Skipf("isolation full cannot be reached here: %v, %q", err, c.Refused)
	}
}

// buildDoor links the door so that containers can run a part of it.
func buildDoor(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ultrafast-cleanroom-test")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the door: %v: %s", err, out)
	}
	return path
}

// project returns what runs the door in a project with that configuration, and a cache
// of its own. What it returns begins with the output, and ends with the errors.
func project(t *testing.T, path, config, ggen string) func(args ...string) (code int, out string) {
	t.Helper()
	dir, cache := t.TempDir(), t.TempDir()
	for name, content := range map[string]string{"ggen.toml": ggen, ".cleanroom/config.toml": config} {
		write(t, filepath.Join(dir, name), []byte(content))
	}
	return func(args ...string) (int, string) {
		t.Helper()
		var out, errs bytes.Buffer
		cmd := exec.CommandContext(t.Context(), path, args...)
		cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &errs
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + cache, "XDG_CACHE_HOME=" + cache, "DOCKER_HOST=" + os.Getenv("DOCKER_HOST"), "CONTAINER_HOST=" + os.Getenv("CONTAINER_HOST")}
		if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode(), out.String() + errs.String()
	}
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// places is where one image is, of each test its own: a busybox with a directory and
// variables.
type places struct {
	layout, archive, registry, digest string
	manifest, other                   []byte // other names no layer
}

func newPlaces(t *testing.T) *places {
	t.Helper()
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("no busybox to make an image of: install busybox-static")
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	add := func(h tar.Header, content []byte) {
		h.Size = int64(len(content))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"bin/", "etc/", "data/", "tmp/"} {
		add(tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}, nil)
	}
	add(tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755}, busybox)
	for _, name := range []string{"sh", "id", "sleep", "true", "echo"} {
		add(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox"}, nil)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	p := &places{layout: filepath.Join(t.TempDir(), "layout"), archive: filepath.Join(t.TempDir(), "image.tar")}
	blob := func(mediaType string, b []byte) map[string]any {
		digest := fmt.Sprintf("%x", sha256.Sum256(b))
		write(t, filepath.Join(p.layout, "blobs", "sha256", digest), b)
		return map[string]any{"mediaType": mediaType, "digest": "sha256:" + digest, "size": len(b)}
	}
	marshal := func(v any) []byte {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	layers := []any{blob("application/vnd.oci.image.layer.v1.tar", layer.Bytes())}
	config := blob("application/vnd.oci.image.config.v1+json", marshal(map[string]any{
		"os": "linux", "architecture": runtime.GOARCH,
		"config": map[string]any{"Cmd": []string{"echo", "the image's own command"}, "WorkingDir": "/data", "Env": []string{"MADE=by a test", "FOR=" + t.Name()}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []any{layers[0].(map[string]any)["digest"]}},
	}))
	const manifest = "application/vnd.oci.image.manifest.v1+json"
	p.manifest = marshal(map[string]any{"schemaVersion": 2, "mediaType": manifest, "config": config, "layers": layers})
	p.other = marshal(map[string]any{"schemaVersion": 2, "mediaType": manifest, "config": config, "layers": []any{}})
	named := blob(manifest, p.manifest)
	named["annotations"] = map[string]string{"org.opencontainers.image.ref.name": "tool:1"}
	p.digest = named["digest"].(string)
	write(t, filepath.Join(p.layout, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`))
	write(t, filepath.Join(p.layout, "index.json"), marshal(map[string]any{"schemaVersion": 2, "manifests": []any{named}}))
	var archive bytes.Buffer
	w = tar.NewWriter(&archive)
	if err := w.AddFS(os.DirFS(p.layout)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, p.archive, archive.Bytes())

	p.registry = ocitest.New(t).Host
	for _, d := range append(layers, config) {
		digest := d.(map[string]any)["digest"].(string)
		b, err := os.ReadFile(filepath.Join(p.layout, "blobs", "sha256", strings.TrimPrefix(digest, "sha256:")))
		if err != nil {
			t.Fatal(err)
		}
		p.send(t, http.MethodPost, "blobs/uploads/?digest="+digest, "application/octet-stream", b)
	}
	p.push(t, "tool:1", p.manifest)
	return p
}

// forget has an engine forget the image.
func (p *places) forget(t *testing.T, backend string) {
	if backend == "embedded" {
		return
	}
	e, err := engine.Open(engine.Find(backend), "")
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for _, manifest := range [][]byte{p.manifest, p.other} {
		for _, name := range []string{"ultrafast", "ultrafast-image"} {
			if err := e.RemoveImage(context.Background(), fmt.Sprintf("localhost/%s:%x", name, sha256.Sum256(manifest))); err != nil {
				t.Error(err)
			}
		}
	}
}

// push gives a tag of the registry a manifest.
func (p *places) push(t *testing.T, name string, manifest []byte) {
	t.Helper()
	_, tag, _ := strings.Cut(name, ":")
	p.send(t, http.MethodPut, "manifests/"+tag, "application/vnd.oci.image.manifest.v1+json", manifest)
}

func (p *places) send(t *testing.T, method, path, mediaType string, b []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+p.registry+"/v2/tool/"+path, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", mediaType)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusCreated {
		t.Fatalf("%s %s: %s", method, path, res.Status)
	}
}
