package sandbox_test

import (
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

var pin = "sha256:" + strings.Repeat("ab", 32)

func TestReference(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, registry, want string }{
		{"postgres", "", "docker.io/library/postgres:15"},
		{"redis", "docker.io", "docker.io/library/redis:7"},
		{"postgres:15", "", "docker.io/library/postgres:15"},
		{"postgres:16-alpine", "", "docker.io/library/postgres:16-alpine"},
		{"postgres@" + pin, "", "docker.io/library/postgres@" + pin},
		{"postgres:15@" + pin, "", "docker.io/library/postgres:15@" + pin},
		{"nginx", "", "docker.io/library/nginx:latest"},
		{"team/postgres", "", "docker.io/team/postgres:latest"},
		{"index.docker.io/library/redis:7", "", "docker.io/library/redis:7"},
		{"docker.io/redis:7", "", "docker.io/library/redis:7"},
		{"localhost:5000/app", "", "localhost:5000/app:latest"},
		{"localhost/app:v1", "", "localhost/app:v1"},
		{"127.0.0.1:5000/a/b/c:v1@" + pin, "", "127.0.0.1:5000/a/b/c:v1@" + pin},
		{"postgres", "mirror.example.com:5000", "mirror.example.com:5000/postgres:15"},
		{"team/app:1", "ghcr.io/mirror", "ghcr.io/mirror/team/app:1"},
		{"ghcr.io/team/app:1", "mirror.example.com", "ghcr.io/team/app:1"},
		{"postgres", "layout:build/services", "layout:build/services#postgres:15"},
		{"layout:dir", "", "layout:dir"},
		{"layout:dir@" + pin, "", "layout:dir@" + pin},
		{"layout:C:\\images#redis:7@" + pin, "", "layout:C:\\images#redis:7@" + pin},
		{"tarball:/tmp/a b.tar", "", "tarball:/tmp/a b.tar"},
	} {
		r, err := sandbox.ParseReference(c.text, c.registry)
		if err != nil || r.String() != c.want {
			t.Errorf("%s: %q, want %q: %v", c.text, r, c.want, err)
			continue
		}
		again, err := sandbox.ParseReference(r.String(), c.registry)
		if err != nil || again != r {
			t.Errorf("%s is read again as %+v: %v", r, again, err)
		}
	}
}

func TestReferenceRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", ":", "@", "postgres:", "Postgres", "a//b", "a/", "/a", "a:b:c", "a@sha256:12", "a@md5:" + pin, "a b",
		"-a", "a..b", "a/../b", "layout:", "tarball:", "layout:d#", "a\n", "http://example.com/a", "host.:5000/a",
		"example.com:99999999/a", strings.Repeat("a", 256), "a:" + strings.Repeat("b", 129), "a@" + pin + "@" + pin, "ghcr.io/",
	} {
		r, err := sandbox.ParseReference(text, "")
		if fault.KindOf(err) != fault.Usage || r != (sandbox.Reference{}) {
			t.Errorf("%q: %+v, %v", text, r, err)
		}
		if err != nil && fault.HintOf(err) == "" {
			t.Errorf("%q: no hint: %v", text, err)
		}
	}
	for _, registry := range []string{"layout", "https://example.com", "-", "a b"} {
		if _, err := sandbox.ParseReference("redis", registry); registry != "layout" && fault.KindOf(err) != fault.Usage {
			t.Errorf("registry %q: %v", registry, err)
		}
	}
}

func TestCheckPinned(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text, environment string
		locked            bool
		want              string
	}{
		{"nginx", "development", false, ""},
		{"nginx", "", false, ""},
		{"nginx", "staging", true, "latest"},
		{"nginx:latest", "Production", true, "latest"},
		{"postgres", "production", false, "no digest pins it"},
		{"postgres", "production", true, ""},
		{"nginx@" + pin, "production", false, ""},
		{"nginx:latest@" + pin, "production", false, ""},
	} {
		r, err := sandbox.ParseReference(c.text, "")
		if err != nil {
			t.Fatal(err)
		}
		err = r.CheckPinned(c.environment, c.locked)
		switch {
		case c.want == "" && err == nil:
		case c.want == "" || fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), c.want):
			t.Errorf("%s in %q: %v, want %q", c.text, c.environment, err, c.want)
		}
	}
}

func FuzzReference(f *testing.F) {
	for _, s := range []string{"postgres", "a:5000/b:c@" + pin, "layout:x#y:z@" + pin, "tarball:f", ":::", "@@"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := sandbox.ParseReference(text, "")
		if err != nil {
			return
		}
		again, err := sandbox.ParseReference(r.String(), "")
		if err != nil || again != r {
			t.Fatalf("%q: %+v, read again %+v: %v", text, r, again, err)
		}
	})
}
