package validate_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/oci"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"
	"github.com/ultrafast-ci/ultrafast/internal/store"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox/sandboxtest"
	"github.com/ultrafast-ci/ultrafast/steps/state"
	"github.com/ultrafast-ci/ultrafast/steps/validate"
)

// scratch holds the service of the tests.
var scratch string

func TestMain(m *testing.M) {
	if embedded.Reexec() {
		return
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "validate-test-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		scratch = dir
		return m.Run()
	}())
}

// service is the program in testdata/service, built once.
var service = sync.OnceValues(func() ([]byte, error) {
	out := filepath.Join(scratch, "service")
	cmd := exec.Command("go", "build", "-o", out, "./testdata/service")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, text)
	}
	return os.ReadFile(out)
})

// lab is a state that was generated, built and tested, for a case to spoil.
type lab struct {
	step  validate.Step
	back  *sandboxtest.Direct
	blobs *store.Store
	temp  string

	tree map[string]string
	// generated and built are the entries before they are chained; a change to
	// built is made after the image is in it.
	generated state.Entry
	built     state.Entry
	config    state.ImageConfig
	spoil     func(l *lab)
}

func newLab(t *testing.T) *lab {
	t.Helper()
	blobs, err := store.Open(t.Context(), "layout:"+t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	back, temp := &sandboxtest.Direct{T: t}, t.TempDir()
	l := &lab{
		blobs: blobs, back: back, temp: temp, tree: map[string]string{"go.mod": "module example.com/shop\n\ngo 1.26\n"},
		config: state.ImageConfig{User: "65532:65532", Entrypoint: []string{"/service"}, WorkingDir: "/", Ports: []string{"8080/tcp"}, OS: "linux", Architecture: "amd64"},
		step:   validate.Step{Backend: back, Images: oci.Client{}, TempDir: temp},
	}
	l.step.Limits.Wall = time.Minute
	l.step.Service.StartTimeout = 10 * time.Second
	l.step.Service.StopTimeout = 10 * time.Second
	l.generated = state.Entry{Phase: phase.Generate, Outcome: state.Passed, Generate: &state.Generate{Templates: []string{"x"}, Files: 1}}
	l.built = state.Entry{
		Phase: phase.Cleanroom, Outcome: state.Passed, Checks: []state.Check{{Name: "shop.TestX", Outcome: state.Passed}},
		Cleanroom: &state.Cleanroom{Toolchain: "go1.26 linux/amd64"},
	}
	return l
}

// state returns the chain.
func (l *lab) state(t *testing.T) state.State {
	t.Helper()
	ctx, files := t.Context(), fstest.MapFS{}
	for name, text := range l.tree {
		files[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	}
	var packed bytes.Buffer
	if err := state.Pack(ctx, &packed, files, nil); err != nil {
		t.Fatal(err)
	}
	tree, err := state.WriteBlob(ctx, l.blobs, state.ArtifactTree, state.MediaTypeTree, packed.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	l.generated.Artifacts = []state.Artifact{tree}
	program, err := service()
	if err != nil {
		t.Fatal(err)
	}
	image, err := oci.Client{}.Build(ctx, l.blobs, fstest.MapFS{"service": &fstest.MapFile{Data: program, Mode: 0o755}}, l.config)
	if err != nil {
		t.Fatal(err)
	}
	l.built.Artifacts = image
	l.built.Cleanroom.Tree = tree.Digest
	if a, ok := l.built.Artifact(state.ArtifactImage); ok {
		l.built.Cleanroom.Image = a.Digest
	}
	if l.spoil != nil {
		l.spoil(l)
	}
	return chain(t, nil, l.generated, l.built)
}

// chain appends entries to a state.
func chain(t *testing.T, s state.State, entries ...state.Entry) state.State {
	t.Helper()
	for _, e := range entries {
		if e.Phase == "" {
			continue
		}
		e.Prev = s.Head()
		e.Normalize()
		d, err := e.Digest()
		if err != nil {
			t.Fatal(err)
		}
		s = append(s, state.Link{Digest: d, Entry: e})
	}
	return s
}

// run runs the step and checks what must hold however it ends.
func (l *lab) run(t *testing.T, in state.State) (state.Result, error) {
	t.Helper()
	res, err := l.step.Run(t.Context(), in, l.blobs)
	l.back.Open.Wait() // hangs if an environment was not closed
	left, readErr := os.ReadDir(l.temp)
	if readErr != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, readErr)
	}
	return res, err
}

func outcome(res state.Result, id string) state.Outcome {
	for _, c := range res.Entry.Checks {
		if c.Name == id {
			return c.Outcome
		}
	}
	return ""
}

// mode makes the service behave as testdata/service says.
func (l *lab) mode(mode string) { l.step.Service.Env = append(l.step.Service.Env, "MODE="+mode) }
