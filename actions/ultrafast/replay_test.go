package main

import (
	"maps"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/oci/ocitest"
)

// TestReplayFromRegistry replays what another machine left in a registry: the state
// and the project are all that is needed, and the registry gets nothing.
func TestReplayFromRegistry(t *testing.T) {
	registry := ocitest.New(t)
	run := func(files map[string]string, args ...string) outcome {
		t.Helper()
		got, err := runIn(t, doors["ultrafast"], "local", false, files, nil, args...)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	made := run(project, "generate", "template", "--package=pkg", "--template=pkg:*", "--store=oci://"+registry.Host+"/team/state")
	ref := strings.TrimSpace(made.stdout)
	if made.code != 0 || !strings.HasPrefix(ref, "oci://") {
		t.Fatalf("%d %s", made.code, made.stderr)
	}
	before := registry.Objects()
	if got := run(project, "replay", ref, "--package=pkg"); got.code != 0 || !strings.HasPrefix(got.stdout, "same: generate ") {
		t.Errorf("%d %s %s", got.code, got.stdout, got.stderr)
	}
	other := maps.Clone(project)
	other["pkg/templates/a.txt.tmpl"] = "---\nto: a.txt\n---\ngood bye\n"
	got := run(other, "replay", ref, "--package=pkg")
	for _, part := range []string{"~ inputs[package/pkg] ", "-hello you\n", "+good bye\n"} {
		if got.code != 1 || !strings.Contains(got.stdout, part) {
			t.Errorf("exit code %d, no %q in %s %s", got.code, part, got.stdout, got.stderr)
		}
	}
	if after := registry.Objects(); len(after) != len(before) {
		t.Errorf("the registry holds %d objects, and held %d", len(after), len(before))
	}
	_, digest, _ := strings.Cut(ref, "@sha256:")
	whole := run(project, "replay", digest, "--package=pkg", "--store=oci://"+registry.Host+"/team/state")
	if whole.code != 0 {
		t.Errorf("by its whole digest: %d %s", whole.code, whole.stderr)
	}
	if short := run(project, "replay", digest[:12], "--package=pkg", "--store=oci://"+registry.Host+"/team/state"); short.code != 2 || !strings.Contains(short.stderr, "a registry is not searched") {
		t.Errorf("by its first digits: %d %s", short.code, short.stderr)
	}
	registry.Forget("sha256:" + digest)
	if gone := run(project, "replay", ref, "--package=pkg"); gone.code != 3 {
		t.Errorf("without the entry: %d %s", gone.code, gone.stderr)
	}
}
