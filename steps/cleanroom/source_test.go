package cleanroom_test

import (
	"archive/tar"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/steps/cleanroom"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// sourceDir writes files below a new directory.
func sourceDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// treeNames returns the files of the tree artifact of an entry.
func treeNames(t *testing.T, l *lab, e state.Entry) (names []string) {
	t.Helper()
	a, ok := e.Artifact(state.ArtifactTree)
	if !ok {
		t.Fatalf("no tree among %v", e.Artifacts)
	}
	r, err := l.blobs.Open(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			names = append(names, h.Name)
		}
	}
}

// A directory starts a chain: its digest is the entry's input, and the same wherever it
// is. What Git ignores, and what belongs to tools, is no part of it.
func TestSource(t *testing.T) {
	t.Parallel()
	files := map[string]string{
		"a_test.sh": "test ! -e secret.log && test -e keep.log && test -e linked.sh\n", "real.sh": "", "secret.log": "x", "keep.log": "x",
		".gitignore": "*.log\n!keep.log\n/build/\n# comment\n\\#odd\ndocs/**/*.tmp\n", ".git/config": "x", ".ggen/state/x": "x", ".cleanroom/x": "x",
		"build/out": "x", "sub/build/in": "x", "sub/.gitignore": "deep\n", "sub/deep/x": "x", "sub/deeper/x": "x", "#odd": "x",
		"docs/a/b.tmp": "x", "docs/b.txt": "x", "sub/.git": "gitdir: elsewhere",
	}
	var digests []state.Digest
	for range 2 {
		l := newSuiteLab(t, cleanroom.Shell)
		dir := sourceDir(t, files)
		for link, to := range map[string]string{"linked.sh": "real.sh", "outside": "/etc/passwd", "dangling": "nothing", "loop": "."} {
			if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
				t.Skipf("no symbolic links here: %v", err)
			}
		}
		l.step.Source = &cleanroom.Source{Dir: dir}
		res, err := l.step.Run(t.Context(), nil, l.blobs)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{".gitignore", "a_test.sh", "docs/b.txt", "keep.log", "linked.sh", "real.sh", "sub/.gitignore", "sub/build/in", "sub/deeper/x"}
		if got := treeNames(t, l, res.Entry); !slices.Equal(got, want) {
			t.Errorf("the source has %v,\nwant %v", got, want)
		}
		var left []string
		for _, f := range res.Evidence.Findings {
			if f.Rule == cleanroom.RuleSource && f.Severity == finding.Low {
				left = append(left, f.Where.File)
			}
		}
		if !slices.Equal(left, []string{"dangling", "loop", "outside"}) {
			t.Errorf("left out: %v", left)
		}
		if len(res.Entry.Inputs) != 1 || res.Entry.Inputs[0].Name != "source" || res.Entry.Inputs[0].Digest != res.Entry.Cleanroom.Tree {
			t.Errorf("inputs %v", res.Entry.Inputs)
		}
		res.Entry.Normalize()
		if err := res.Entry.Check(); err != nil {
			t.Error(err)
		}
		d, err := res.Entry.Digest()
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, d)
	}
	if digests[0] != digests[1] {
		t.Errorf("two directories with the same files give %v", digests)
	}
}

// What is ignored is not counted, and what cannot be source is named.
func TestSourceOfOddFiles(t *testing.T) {
	t.Parallel()
	l := newSuiteLab(t, cleanroom.Shell)
	dir := sourceDir(t, map[string]string{"a_test.sh": "exit 0\n", ".gitignore": "*.img\n", "disk.img": ""})
	if err := os.Truncate(filepath.Join(dir, "disk.img"), 1<<40); err != nil { // it has no blocks
		t.Skip(err)
	}
	socket, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Skip(err)
	}
	defer socket.Close()
	l.step.Source = &cleanroom.Source{Dir: dir}
	res, err := l.step.Run(t.Context(), nil, l.blobs)
	if err != nil {
		t.Fatal(err)
	}
	if got := treeNames(t, l, res.Entry); !slices.Equal(got, []string{".gitignore", "a_test.sh"}) {
		t.Errorf("the source has %v", got)
	}
	if f := res.Evidence.Findings; len(f) != 1 || f[0].Where.File != "s" || !strings.Contains(f[0].What, "special file") {
		t.Errorf("findings %v", f)
	}

	// Results in the source are no part of it either, whatever else is there.
	l.step.Tests.ResultsDir = dir
	for range 2 {
		again, err := l.step.Run(t.Context(), nil, l.blobs)
		if err != nil || again.Entry.Cleanroom.Tree != res.Entry.Cleanroom.Tree {
			t.Errorf("with results in it: %v, %q", err, treeNames(t, l, again.Entry))
		}
	}
	if _, err := os.Stat(filepath.Join(dir, cleanroom.FileResults)); err != nil {
		t.Error(err)
	}

	if err := os.WriteFile(filepath.Join(dir, "bad\xff_test.sh"), nil, 0o644); err != nil {
		t.Skip(err)
	}
	_, err = l.step.Run(t.Context(), nil, l.blobs)
	if fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), `"bad\xff_test.sh" is not valid UTF-8`) {
		t.Errorf("got %v", err)
	}
}

func TestSourceRefuses(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.step.Source = &cleanroom.Source{Dir: filepath.Join(t.TempDir(), "absent")}
	if _, err := l.step.Run(t.Context(), nil, l.blobs); fault.KindOf(err) != fault.Usage {
		t.Errorf("got %v", err)
	}
	if _, err := l.step.Run(t.Context(), l.state(t, shop), l.blobs); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "both") {
		t.Errorf("got %v", err)
	}
}
