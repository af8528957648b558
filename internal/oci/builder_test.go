package oci_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/oci"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// newBuilder returns a builder, or skips the test where its engine does not answer.
func newBuilder(t *testing.T, name string) oci.Builder {
	t.Helper()
	b := oci.Builder{Name: name, TempDir: t.TempDir()}
	described, err := b.Describe(t.Context())
	if err != nil {
		t.Skipf("no %s here: %v", name, err)
	}
	if !strings.HasPrefix(described, name+" ") || !strings.ContainsAny(described, "0123456789") {
		t.Errorf("%s describes itself as %q", name, described)
	}
	return b
}

func contextDir(t *testing.T, dockerfile string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"Dockerfile": dockerfile, "hello": "hello\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// engineImages returns the images of ours that an engine has.
func engineImages(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, "images").Output()
	if err != nil {
		t.Fatal(err)
	}
	var own []string
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "localhost/ultrafast-build") {
			own = append(own, line)
		}
	}
	return strings.Join(own, "")
}

// Each engine's image arrives whole, and leaves the engine.
func TestBuildFile(t *testing.T) {
	for _, name := range []string{"docker", "buildah"} {
		t.Run(name, func(t *testing.T) {
			b := newBuilder(t, name)
			s := newStore(t)
			dir := contextDir(t, "FROM scratch\nCOPY hello /etc/hello\nUSER 65532:65532\nENTRYPOINT [\"/hello\"]\n")
			var out bytes.Buffer
			artifacts, err := b.BuildFile(t.Context(), s, dir, "Dockerfile", false, &out)
			if err != nil {
				t.Fatalf("%v\n%s", err, out.Bytes())
			}
			e := &state.Entry{Artifacts: artifacts}
			into := t.TempDir()
			cfg, err := oci.Client{}.Unpack(t.Context(), s, e, into)
			if err != nil || cfg.User != "65532:65532" || len(cfg.Entrypoint) != 1 {
				t.Fatalf("%+v %v", cfg, err)
			}
			if got, err := os.ReadFile(filepath.Join(into, "etc", "hello")); err != nil || string(got) != "hello\n" {
				t.Errorf("%q %v", got, err)
			}
			if !strings.Contains(out.String(), "COPY") {
				t.Errorf("the engine said %q", out.String())
			}
			if left := engineImages(t, name); left != "" {
				t.Errorf("left in the engine: %s", left)
			}
			if left, err := os.ReadDir(b.TempDir); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v %v", left, err)
			}
		})
	}
}

func TestBuildFileFails(t *testing.T) {
	b := newBuilder(t, "docker")
	for name, c := range map[string]struct{ file, want string }{
		"missing source": {"FROM scratch\nCOPY nothing /\n", "nothing"},
		"syntax":         {"FROM scratch\nCOYP hello /\n", "COYP"},
	} {
		_, err := b.BuildFile(t.Context(), newStore(t), contextDir(t, c.file), "Dockerfile", false, nil)
		if fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("the user has had enough")
	cancel(stop)
	if _, err := b.BuildFile(ctx, newStore(t), contextDir(t, "FROM scratch\nCOPY hello /\n"), "Dockerfile", false, nil); !errors.Is(err, stop) {
		t.Errorf("cancelled: %v", err)
	}
	if left, err := os.ReadDir(b.TempDir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// Without an engine it is another machine's turn.
func TestBuilderAbsent(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := (oci.Builder{Name: "auto"}).Describe(t.Context()); fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "buildah") {
		t.Errorf("%v", err)
	}
}
