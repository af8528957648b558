package platforms

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// untilCleanroom are the phases of a chain that the clean room ends.
var untilCleanroom = compared[:slices.Index(compared, "cleanroom-test")+1]

// TestActShards runs the tests in two legs of a matrix and merges them: the claims are
// those of the command line, which runs all tests at once. A leg alone, and one that is
// named twice, are refused.
func TestActShards(t *testing.T) {
	on(t, actHost)
	if !full() {
		t.Skip("not in the short form")
	}
	a := newAct(t)
	a.workflow(t, "shards")
	a.replaced["ultrafast-ci/ultrafast@main"] = releaseTree(t)
	a.standIn(t, goRoot(t))
	a.serveArtifacts(t)
	a.args = append(a.args, "--var", "REPORT="+a.report())
	start := time.Now()
	log := a.must(t, "push")
	t.Logf("%.1f s", time.Since(start).Seconds())
	for _, want := range []string{
		"left out: exit code 1", "of 2 shards these are missing: 2",
		"named twice: exit code 1", "shard 1 of 2 occurs twice",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the log has no %q", want)
		}
	}
	if wrong := wrongClaims(claims(t, a.artifactState(t, "merged", read(t, a.report()))), reference(t), untilCleanroom); wrong != nil {
		t.Errorf("merged: %s", strings.Join(wrong, "\n"))
	}
	a.checkLegs(t)
	a.nothingLeft(t)
	if t.Failed() {
		t.Log(log)
	}
}

// checkLegs wants of each leg another claim, which is not that of all tests, and stores
// that can lie in one directory, as the README says.
func (a *act) checkLegs(t *testing.T) {
	t.Helper()
	var claimed []string
	var stores []fs.FS
	for _, name := range []string{"shard-1", "shard-2"} {
		dir := a.artifact(t, name)
		leg := claims(t, a.artifactState(t, name, read(t, filepath.Join(dir, name))))
		if wrong := wrongClaims(leg, reference(t), untilCleanroom); len(wrong) != 1 || !strings.Contains(wrong[0], "cleanroom-test") {
			t.Errorf("%s: the wrong claims are %q, want that of cleanroom-test alone", name, wrong)
		}
		claimed, stores = append(claimed, leg["cleanroom-test"]), append(stores, os.DirFS(dir))
	}
	if claimed[0] == claimed[1] {
		t.Errorf("both legs claim %s", claimed[0])
	}
	if got := differing(t, stores[0], stores[1]); !slices.Equal(got, []string{"index.json"}) {
		t.Errorf("the stores of the legs differ in %q, want index.json alone", got)
	}
}

// differing returns the names of the files that are in both with different content.
func differing(t *testing.T, a, b fs.FS) []string {
	t.Helper()
	var names []string
	err := fs.WalkDir(a, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		one, err := fs.ReadFile(a, name)
		if err != nil {
			return err
		}
		other, err := fs.ReadFile(b, name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if !bytes.Equal(one, other) {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestShardsReadme wants the README to show the jobs that TestActShards runs.
func TestShardsReadme(t *testing.T) {
	readme := read(t, filepath.Join(root(), "actions", "cleanroom-test", "README.md"))
	block := regexp.MustCompile("(?s)```yaml\n(generate:\n.*?)```").FindStringSubmatch(readme)
	if block == nil {
		t.Fatal("the README has no block that begins with the job generate")
	}
	jobs := regexp.MustCompile(`(?m)^(.)`).ReplaceAllString(block[1], "  $1")
	if !strings.Contains(read(t, filepath.Join("testdata", "act", "shards.yml")), "\n"+jobs+"\n") {
		t.Errorf("shards.yml does not hold the jobs of the README:\n%s", jobs)
	}
}

// TestWrongClaims sees the comparison that all platforms rest on find what is wrong.
func TestWrongClaims(t *testing.T) {
	want := map[string]string{"market": "sha256:1", "generate": "sha256:2", "cleanroom-test": "sha256:3", "validate": "sha256:4", "deploy": "sha256:5"}
	change := func(phase, digest string) map[string]string {
		m := maps.Clone(want)
		m[phase] = digest
		if digest == "" {
			delete(m, phase)
		}
		return m
	}
	for _, test := range []struct {
		name      string
		got, want map[string]string
		wrong     []string
	}{
		{"the same", want, want, nil},
		{"deploy, which is not compared", change("deploy", "sha256:6"), want, nil},
		{"another first one", change("market", "sha256:6"), want, []string{"market"}},
		{"another last one", change("validate", "sha256:6"), want, []string{"validate"}},
		{"one that is missing", change("cleanroom-test", ""), want, []string{"cleanroom-test"}},
		{"one that the command line lacks", want, change("generate", ""), []string{"generate"}},
		{"one that both lack", change("generate", ""), change("generate", ""), []string{"generate"}},
		{"none", nil, want, compared},
		{"nothing at all", nil, nil, compared},
	} {
		wrong := wrongClaims(test.got, test.want, compared)
		if len(wrong) != len(test.wrong) {
			t.Errorf("%s: %q, want a line for each of %q", test.name, wrong, test.wrong)
			continue
		}
		for i, phase := range test.wrong {
			if !strings.Contains(wrong[i], "claim of "+phase+" is") {
				t.Errorf("%s: %q does not tell of %s", test.name, wrong[i], phase)
			}
		}
	}
}
