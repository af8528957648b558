//go:build unix

package deploy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/router"
	"github.com/ultrafast-ci/ultrafast/internal/supervisor"
	"github.com/ultrafast-ci/ultrafast/internal/target/local"
	"github.com/ultrafast-ci/ultrafast/steps/deploy"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// servicePath is the program in every image of the tests. Its source is that of
// the local target's tests.
var servicePath string

// TestMain is also the process of the router, of a supervisor, and of a deploy
// that is killed: the tests start this binary again.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case "router", "supervise":
			os.Exit(serve(os.Args[1], os.Args[2:]))
		case "deploy", "resume":
			os.Exit(deployAndDie(os.Args[1], os.Args[2:]))
		}
	}
	dir, err := os.MkdirTemp("", "deploy-test-")
	if err != nil {
		panic(err)
	}
	servicePath = filepath.Join(dir, "service")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", servicePath, "../../internal/target/local/testdata/service")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("%v: %s", err, out))
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func serve(what string, args []string) int {
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

// deployAndDie runs a deploy that kills itself at its n-th boundary. It exits
// with 0 if it survives.
func deployAndDie(verb string, args []string) int {
	dir, listen, version := args[0], args[1], args[2]
	killAt, err := strconv.Atoi(args[3])
	if err != nil {
		panic(err)
	}
	servicePath = args[4]
	leaseTTL, err := time.ParseDuration(args[5])
	if err != nil {
		panic(err)
	}
	step, in, blobs := newStep(dir, listen, version, "good")
	step.Target = newTarget(dir, listen, leaseTTL)
	step.Boundary = func(string) {
		if killAt--; killAt == 0 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal is on its way
		}
	}
	if verb == "deploy" {
		_, err = step.Run(context.Background(), in, blobs)
	} else {
		_, err = step.Resume(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return fault.KindOf(err).ExitCode()
	}
	return 0
}

// memory is a store.
type memory struct {
	mu sync.Mutex
	m  map[state.Digest][]byte
}

func (s *memory) Open(_ context.Context, a state.Artifact) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return io.NopCloser(bytes.NewReader(s.m[a.Digest])), nil
}

func (s *memory) Create(_ context.Context, mediaType string) (state.BlobWriter, error) {
	return &memoryWriter{store: s, mediaType: mediaType}, nil
}

type memoryWriter struct {
	bytes.Buffer
	store     *memory
	mediaType string
}

func (w *memoryWriter) Commit(name string) (state.Artifact, error) {
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	d := state.DigestOf(w.Bytes())
	w.store.m[d] = bytes.Clone(w.Bytes())
	return state.Artifact{Name: name, MediaType: w.mediaType, Digest: d, Size: int64(w.Len())}, nil
}

func (w *memoryWriter) Close() error { return nil }

// manifest is what a test image holds.
type manifest struct{ Version, Mode string }

type images struct{}

func (images) Install(ctx context.Context, blobs state.Blobs, entry *state.Entry, dir string) (state.ImageConfig, error) {
	a, _ := entry.Artifact(state.ArtifactImage)
	b, err := state.ReadBlob(ctx, blobs, a)
	if err != nil {
		return state.ImageConfig{}, err
	}
	var m manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return state.ImageConfig{}, err
	}
	program, err := os.ReadFile(servicePath)
	if err != nil {
		return state.ImageConfig{}, err
	}
	return state.ImageConfig{
		User: "65532:65532", Entrypoint: []string{"/service"}, Env: []string{"VERSION=" + m.Version, "MODE=" + m.Mode},
	}, os.WriteFile(filepath.Join(dir, "service"), program, 0o755)
}

// trust accepts every image but the named one.
type trust struct{ refuse state.Digest }

func (v trust) Verify(_ context.Context, _ state.State, _ state.Blobs, image state.Digest) (deploy.Verdict, error) {
	if image == v.refuse {
		return deploy.Verdict{}, fault.New(fault.Finding, "", "no trusted key signed a verdict on %s", image)
	}
	return deploy.Verdict{KeyID: "key-1", Policy: state.DigestOf([]byte("policy"))}, nil
}

// pushed remembers what was pushed.
type pushed struct{ refs []string }

func (p *pushed) Push(_ context.Context, _ state.Blobs, entry *state.Entry, destination string) (string, error) {
	a, _ := entry.Artifact(state.ArtifactImage)
	ref := destination + "@" + string(a.Digest)
	p.refs = append(p.refs, ref)
	return ref, nil
}

type clock struct{}

func (clock) Now() time.Time { return time.Now() }

// newTarget is the local target wired as a door wires it.
func newTarget(dir, listen string, leaseTTL time.Duration) *local.Target {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	lt, err := local.New(local.Options{
		Dir: dir, Listen: listen, Images: images{},
		RouterArgv: func(l local.RouterLaunch) []string {
			return []string{self, "router", l.Listen, l.AdminSocket, l.StateDir}
		},
		SupervisorArgv: func(spec string) []string { return []string{self, "supervise", spec} },
		EncodeSpec:     func(l local.Launch) ([]byte, error) { return supervisor.Spec(l).Encode() },
		Router:         func(socket string) local.Router { return router.NewClient(socket) },
		Supervisor:     func(socket, record string) local.Supervisor { return supervisor.NewClient(socket, record) },
		LeaseTTL:       leaseTTL,
	})
	if err != nil {
		panic(err)
	}
	return lt
}

// newStep is a deploy of an image with that version and behaviour.
func newStep(dir, listen, version, mode string) (deploy.Step, state.State, state.Blobs) {
	b, err := json.Marshal(manifest{version, mode})
	if err != nil {
		panic(err)
	}
	image := state.Artifact{Name: state.ArtifactImage, MediaType: state.MediaTypeImageManifest, Digest: state.DigestOf(b), Size: int64(len(b))}
	in := state.State{{Digest: state.DigestOf([]byte("cleanroom")), Entry: state.Entry{
		Phase: phase.Cleanroom, Outcome: state.Passed, Artifacts: []state.Artifact{image}, Cleanroom: &state.Cleanroom{Image: image.Digest},
	}}}
	return deploy.Step{
		Environment: "staging", Dir: dir, Target: newTarget(dir, listen, 0), Verifier: trust{}, Holder: "test " + version, Clock: clock{},
		Service: deploy.Service{
			Smoke:         []deploy.Smoke{{Path: "/version", Contains: version}, {Path: "/smoke"}},
			HealthTimeout: 10 * time.Second, StopTimeout: 2 * time.Second, DrainTimeout: 5 * time.Second,
		},
	}, in, &memory{m: map[state.Digest][]byte{image.Digest: b}}
}

// environment is an empty one that is brought down with the test.
func environment(t *testing.T) (dir, listen string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "staging")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen = l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s, _, _ := newStep(dir, listen, "clean-up", "good")
		if err := s.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return dir, listen
}

// mustRun deploys and fails the test if that fails.
func mustRun(t *testing.T, dir, listen, version string) state.Result {
	t.Helper()
	s, in, blobs := newStep(dir, listen, version, "good")
	res, err := s.Run(t.Context(), in, blobs)
	if err != nil {
		t.Fatal(err)
	}
	return res
}
