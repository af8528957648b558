//go:build unix

package local_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/oci"
	"github.com/ultrafast-ci/ultrafast/internal/router"
	"github.com/ultrafast-ci/ultrafast/internal/store"
	"github.com/ultrafast-ci/ultrafast/internal/supervisor"
	"github.com/ultrafast-ci/ultrafast/internal/target/local"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
	"github.com/ultrafast-ci/ultrafast/steps/target"
	"github.com/ultrafast-ci/ultrafast/steps/target/targettest"
)

// servicePath is the service that the tests put into images.
var servicePath string

// TestMain is also the router's and the supervisor's process: the target starts
// this test binary again.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && (os.Args[1] == "router" || os.Args[1] == "supervise") {
		os.Exit(child(os.Args[1], os.Args[2:]))
	}
	dir, err := os.MkdirTemp("", "local-test-")
	if err != nil {
		panic(err)
	}
	servicePath = filepath.Join(dir, "service")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", servicePath, "./testdata/service")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("%v: %s", err, out))
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func child(what string, args []string) int {
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ready := local.Report(os.Stdout)
	var err error
	if what == "router" {
		if err := local.Live(ctx, args[2]); err != nil {
			panic(err)
		}
		err = router.Run(ctx, router.Options{Listen: args[0], AdminSocket: args[1], StateDir: args[2], Log: log, Ready: ready})
	} else {
		var spec supervisor.Spec
		if spec, err = supervisor.ReadSpec(args[0]); err == nil {
			err = local.Live(ctx, filepath.Dir(spec.Record))
		}
		if err == nil {
			err = supervisor.Run(ctx, supervisor.Options{Spec: spec, Log: log, Ready: ready})
		}
	}
	if err != nil {
		log.Error("ended", "error", err)
		return 1
	}
	return 0
}

// image is the manifest of a test image: how its service behaves.
type image struct{ Version, Mode string }

// blobs are artifacts in memory.
type blobs struct {
	mu sync.Mutex
	m  map[state.Digest][]byte
}

func (b *blobs) Open(_ context.Context, a state.Artifact) (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return io.NopCloser(bytes.NewReader(b.m[a.Digest])), nil
}

func (b *blobs) Create(context.Context, string) (state.BlobWriter, error) {
	return nil, errors.ErrUnsupported
}

// images installs test images.
type images struct{ user string }

func (i images) Install(ctx context.Context, blobs state.Blobs, entry *state.Entry, dir string) (state.ImageConfig, error) {
	a, _ := entry.Artifact(state.ArtifactImage)
	b, err := state.ReadBlob(ctx, blobs, a)
	if err != nil {
		return state.ImageConfig{}, err
	}
	var m image
	if err := json.Unmarshal(b, &m); err != nil {
		return state.ImageConfig{}, err
	}
	program, err := os.ReadFile(servicePath)
	if err != nil {
		return state.ImageConfig{}, err
	}
	return state.ImageConfig{
		User: i.user, Entrypoint: []string{"/service"}, WorkingDir: "/work",
		Env: []string{"VERSION=" + m.Version, "MODE=" + m.Mode},
	}, errors.Join(os.Mkdir(filepath.Join(dir, "work"), 0o755), os.WriteFile(filepath.Join(dir, "service"), program, 0o755))
}

func newImage(t *testing.T, version string, b targettest.Behaviour) (state.Digest, target.Source) {
	t.Helper()
	manifest, err := json.Marshal(image{version, string(b)})
	if err != nil {
		t.Fatal(err)
	}
	a := state.Artifact{Name: state.ArtifactImage, MediaType: state.MediaTypeImageManifest, Digest: state.DigestOf(manifest), Size: int64(len(manifest))}
	return a.Digest, target.Source{
		Entry: &state.Entry{Artifacts: []state.Artifact{a}},
		Blobs: &blobs{m: map[state.Digest][]byte{a.Digest: manifest}},
	}
}

func options(t *testing.T, listen string) local.Options {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return local.Options{
		Dir: filepath.Join(t.TempDir(), "env"), Listen: listen, Images: images{user: "65532:65532"},
		RouterArgv: func(l local.RouterLaunch) []string {
			return []string{self, "router", l.Listen, l.AdminSocket, l.StateDir}
		},
		SupervisorArgv: func(spec string) []string { return []string{self, "supervise", spec} },
		EncodeSpec:     func(l local.Launch) ([]byte, error) { return supervisor.Spec(l).Encode() },
		Router:         func(socket string) local.Router { return router.NewClient(socket) },
		Supervisor:     func(socket, record string) local.Supervisor { return supervisor.NewClient(socket, record) },
		LeaseTTL:       2 * time.Second,
	}
}

func open(t *testing.T, o local.Options) *local.Target {
	t.Helper()
	lt, err := local.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return lt
}

func TestContract(t *testing.T) {
	targettest.Run(t, func(t *testing.T) targettest.Harness {
		return targettest.Harness{Target: open(t, options(t, "127.0.0.1:0")), Image: newImage}
	})
}

func down(t *testing.T, lt *local.Target) {
	t.Helper()
	ctx := context.Background()
	s, err := lt.Acquire(ctx, "clean-up")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Down(ctx), s.Close(ctx)); err != nil {
		t.Error(err)
	}
}

func release(t *testing.T, id string, b targettest.Behaviour) (target.Release, target.Source) {
	digest, from := newImage(t, id, b)
	return target.Release{ID: id, Image: digest, Config: digest, Service: target.Service{
		HealthPath: "/healthz", HealthTimeout: 5 * time.Second, StopTimeout: time.Second,
	}}, from
}

// serve makes one release run and take all traffic for good.
func serve(t *testing.T, s target.Session, id string) {
	t.Helper()
	r, from := release(t, id, targettest.Good)
	for _, err := range []error{
		s.Prepare(t.Context(), r, from), s.Start(t.Context(), id), s.Ready(t.Context(), id),
		s.Route(t.Context(), []target.Weight{{Release: id, Weight: 1}}), s.Commit(t.Context()),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestPortInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	lt := open(t, options(t, taken.Addr().String()))
	s, err := lt.Acquire(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	r, from := release(t, "v1", targettest.Good)
	err = s.Prepare(t.Context(), r, from)
	if fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), taken.Addr().String()) || fault.HintOf(err) == "" {
		t.Errorf("error is %v (%v, hint %q)", err, fault.KindOf(err), fault.HintOf(err))
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if live, err := lt.Live(t.Context()); err != nil || live.Traffic != nil || len(live.Instances) != 0 {
		t.Errorf("left behind: %+v, %v", live, err)
	}
	down(t, lt)
}

// TestCrashIsRestarted: the supervisor starts a service again that ended by itself.
func TestCrashIsRestarted(t *testing.T) {
	lt := open(t, options(t, "127.0.0.1:0"))
	defer down(t, lt)
	s, err := lt.Acquire(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, s, "v1")
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, _ = lt.Probe(t.Context(), "v1", target.Request{Path: "/crash"}) // it cannot answer
	eventually(t, "the service is restarted", func() bool {
		live, err := lt.Live(t.Context())
		return err == nil && live.Instances[0].Running && live.Instances[0].Restarts == 1 && live.Instances[0].LastExit == "exit status 9"
	})
	eventually(t, "the front serves again", func() bool {
		res, err := lt.Probe(t.Context(), "", target.Request{Path: "/version"})
		return err == nil && res.Status == 200
	})
}

// TestKilledRouterAndSupervisor: killed by force, both are replaced, the weights
// are the committed ones, and no process of the service is left over.
func TestKilledRouterAndSupervisor(t *testing.T) {
	o := options(t, "127.0.0.1:0")
	lt := open(t, o)
	defer down(t, lt)
	s, err := lt.Acquire(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, s, "v1")
	first, err := lt.Live(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	kill(t, o.Dir)
	eventually(t, "the service ended with its supervisor", func() bool {
		return errors.Is(syscall.Kill(first.Instances[0].PID, 0), syscall.ESRCH) || zombie(first.Instances[0].PID)
	})
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s, err = lt.Acquire(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	defer s.Close(context.Background())
	r, from := release(t, "v1", targettest.Good)
	for _, err := range []error{s.Prepare(t.Context(), r, from), s.Start(t.Context(), "v1"), s.Ready(t.Context(), "v1")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	live, err := lt.Live(t.Context())
	if err != nil || live.Traffic.Serving() != "v1" {
		t.Fatalf("after the restart: %+v, %v", live.Traffic, err)
	}
	if live.Traffic.Epoch <= first.Traffic.Epoch {
		t.Errorf("epoch went from %d to %d", first.Traffic.Epoch, live.Traffic.Epoch)
	}
	if res, err := lt.Probe(t.Context(), "", target.Request{Path: "/version"}); err != nil || res.Status != 200 {
		t.Errorf("front: %+v, %v", res, err)
	}
}

// kill ends every process that was started with an argument below dir.
func kill(t *testing.T, dir string) {
	t.Helper()
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(procs) == 0 {
		t.Skip("needs /proc")
	}
	killed := 0
	for _, p := range procs {
		b, err := os.ReadFile(p)
		if err == nil && bytes.Contains(b, []byte(dir)) {
			var pid int
			if _, err := fmt.Sscanf(p, "/proc/%d/", &pid); err != nil || syscall.Kill(pid, syscall.SIGKILL) != nil {
				t.Fatalf("kill %s", p)
			}
			killed++
		}
	}
	if killed < 2 { // the service is a third one where its path is below dir
		t.Fatalf("%d processes killed, not router and supervisor", killed)
	}
}

func zombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return errors.Is(err, fs.ErrNotExist) || bytes.Contains(b, []byte(") Z "))
}

// TestConfined: as root the service has the image's user and sees its files only.
func TestConfined(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	lt := open(t, options(t, "127.0.0.1:0"))
	defer down(t, lt)
	s, err := lt.Acquire(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(context.Background())
	serve(t, s, "v1")
	res, err := lt.Probe(t.Context(), "v1", target.Request{Path: "/whoami"})
	if got := string(res.Body); err != nil || got != "65532 65532 /work false\n" {
		t.Errorf("service is %q, %v", got, err)
	}
}

// TestImageUser: the names of an image's user are its own, and the service writes where
// they may.
func TestImageUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	program, err := os.ReadFile(servicePath)
	if err != nil {
		t.Fatal(err)
	}
	files := fstest.MapFS{
		"service":    {Data: program, Mode: 0o755},
		"etc/passwd": {Data: []byte("root:x:0:0::/:\nweb:x:6533:6534::/:\n"), Mode: 0o644}, "etc/group": {Data: []byte("www:x:6535:\nlogs:x:6540:sys,web\nold:x:6541:webmaster\nmail:x:6542:web,root\n"), Mode: 0o644},
	}
	for user, want := range map[string]struct{ ids, groups string }{
		"web": {"6533 6534", "[6540 6542]"}, "web:www": {"6533 6535", "[]"}, "web:7": {"6533 7", "[]"}, "6533": {"6533 6534", "[6540 6542]"},
		"6599": {"6599 0", "[]"}, "root:www": {"0 6535", "[]"}, "": {"0 0", "[6542]"},
		"nobody": {}, "web:wheel": {},
	} {
		t.Run("user "+user, func(t *testing.T) {
			blobs, err := store.Open(t.Context(), "layout:"+t.TempDir(), "")
			if err != nil {
				t.Fatal(err)
			}
			entry := &state.Entry{}
			if entry.Artifacts, err = (oci.Client{}).Build(t.Context(), blobs, files, state.ImageConfig{
				User: user, Entrypoint: []string{"/service"}, OS: "linux", Architecture: runtime.GOARCH,
			}); err != nil {
				t.Fatal(err)
			}
			image, _ := entry.Artifact(state.ArtifactImage)
			o := options(t, "127.0.0.1:0")
			o.Images = oci.Client{}
			lt := open(t, o)
			defer down(t, lt)
			s, err := lt.Acquire(t.Context(), "test")
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close(context.Background())
			r, _ := release(t, "v1", targettest.Good)
			r.Image = image.Digest
			if err := s.Prepare(t.Context(), r, target.Source{Entry: entry, Blobs: blobs}); err != nil {
				t.Fatal(err)
			}
			err = s.Start(t.Context(), "v1")
			if want.ids == "" {
				if fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), "is not in its /etc/") {
					t.Errorf("a missing name: %v", err)
				}
				return
			}
			if err := errors.Join(err, s.Ready(t.Context(), "v1")); err != nil {
				t.Fatal(err)
			}
			for path, want := range map[string]string{"/whoami": want.ids + " / true\n", "/groups": want.groups + " <nil>\n", "/write?file=/tmp/mine": "<nil>\n"} {
				res, err := lt.Probe(t.Context(), "v1", target.Request{Path: path})
				if got := string(res.Body); err != nil || got != want {
					t.Errorf("%s: %q, %v; want %q", path, got, err, want)
				}
			}
		})
	}
}

// TestForeignSocketDirectory: a directory that others could have made is refused.
func TestForeignSocketDirectory(t *testing.T) {
	temp, err := os.MkdirTemp("", "s-") // t.TempDir may be too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(temp)
	t.Setenv("TMPDIR", temp)
	o := options(t, "127.0.0.1:0")
	open(t, o)
	shared := filepath.Join(os.Getenv("TMPDIR"), fmt.Sprintf("ultrafast-%d", os.Getuid()))
	if err := os.Mkdir(shared, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(shared, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := local.New(o); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("error is %v", err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	every := time.NewTicker(10 * time.Millisecond)
	defer every.Stop()
	limit := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-every.C:
		case <-limit:
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}
