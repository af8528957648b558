package validate_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/oci"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// The checks that start the service must come to the same end at every level.
func TestRunBehindWalls(t *testing.T) {
	t.Parallel()
	for _, level := range []sandbox.Level{sandbox.Full, sandbox.Reduced, sandbox.None} {
		t.Run(level.String(), func(t *testing.T) {
			t.Parallel()
			back := embedded.New(embedded.Options{StateDir: t.TempDir(), MaxLevel: &level})
			caps, err := back.Probe(t.Context())
			if err != nil || caps.Level < level {
				t.Skipf("no isolation level %s here: %v %v", level, caps.Refused, err)
			}
			for mode, want := range map[string]state.Outcome{"": state.Passed, "abrupt": state.Failed} {
				l := newLab(t)
				l.step.Backend, l.step.MinIsolation = back, level
				l.mode(mode)
				res, err := l.run(t, l.state(t))
				if got := outcome(res, "graceful-shutdown"); got != want || outcome(res, "health-endpoint") != state.Passed {
					t.Errorf("mode %q: %s, want %s: %v", mode, got, want, err)
				}
				if want == state.Failed && fault.KindOf(err) != fault.Finding {
					t.Errorf("mode %q: error %v", mode, err)
				}
				if res.Evidence.Facts["isolation.level"] != level.String() {
					t.Errorf("ran at level %q", res.Evidence.Facts["isolation.level"])
				}
			}
		})
	}
}

// planted are images in which something is put after they were unpacked.
type planted struct {
	oci.Client
	plant func(dir string) error
}

func (p planted) Unpack(ctx context.Context, blobs state.Blobs, entry *state.Entry, dir string) (state.ImageConfig, error) {
	config, err := p.Client.Unpack(ctx, blobs, entry, dir)
	if err == nil {
		err = p.plant(dir)
	}
	return config, err
}

// TestImageNotHost runs images whose programs lie behind links, where a container has a
// root of its own and where not: what runs is the image's, never the host's.
func TestImageNotHost(t *testing.T) {
	t.Parallel()
	if _, err := service(); err != nil { // lies on the host, too
		t.Fatal(err)
	}
	onHost := filepath.Join(scratch, "service")
	link := func(to, name string) func(string) error {
		return func(dir string) error {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return err
			}
			return os.Symlink(to, path)
		}
	}
	file := func(text []byte) func(string) error {
		return func(dir string) error { return os.WriteFile(filepath.Join(dir, "program"), text, 0o755) }
	}
	shell, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Skip("this host has no shell to put into an image")
	}
	for name, c := range map[string]struct {
		plant      func(string) error
		entrypoint string
		// want is in the error where there is no private root; empty for a healthy service.
		want string
		kind fault.Kind
	}{
		"absolute link": {link("/service", "app/server"), "/app/server", "", 0},
		"by PATH":       {link("/service", "bin/server"), "server", "", 0},
		"host's file":   {link(onHost, "app/server"), "/app/server", "is not a file of the image", fault.Finding},
		"climbs":        {link("../../../../../../../.."+onHost, "app/server"), "/app/server", "is not a file of the image", fault.Finding},
		"dots":          {link("/service", "app/server"), "/../../../../../../.." + onHost, "is not a file of the image", fault.Finding},
		"only on host":  {link("/service", "app/server"), "sh", "is not a file of the image", fault.Finding},
		"script":        {file([]byte("#! /bin/sh -e\nexec /service\n")), "/program", "by the host's /bin/sh,", fault.Unavailable},
		"dynamic":       {file(shell), "/program", "by the host's /lib", fault.Unavailable},
	} {
		for _, level := range []sandbox.Level{sandbox.Full, sandbox.Reduced, sandbox.None} {
			if level == sandbox.Full && c.want != "" {
				continue // the kernel sees to it
			}
			t.Run(name+"/"+level.String(), func(t *testing.T) {
				t.Parallel()
				back := embedded.New(embedded.Options{StateDir: t.TempDir(), MaxLevel: &level})
				caps, err := back.Probe(t.Context())
				if err != nil || caps.Level < level {
					t.Skipf("no isolation level %s here: %v %v", level, caps.Refused, err)
				}
				l := newLab(t)
				l.step.Backend, l.step.MinIsolation, l.step.Images = back, level, planted{plant: c.plant}
				l.config.Entrypoint, l.config.Env = []string{c.entrypoint}, []string{"PATH=/usr/bin:/bin"}
				res, err := l.run(t, l.state(t))
				switch {
				case c.want == "" && outcome(res, "health-endpoint") != state.Passed:
					t.Errorf("the image's own program did not run: %v", err)
				case c.want != "" && (err == nil || fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want)):
					t.Errorf("error %v of kind %s, want %s with %q", err, fault.KindOf(err), c.kind, c.want)
				}
			})
		}
	}
}
