package cleanroom_test

import (
	"context"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/oci"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

var fileTree = map[string]string{
	"a_test.sh":  "exit 0\n",
	"docker/app": "FROM scratch\nCOPY hello gone /\n",
	"hello":      "hello\n",
	"gone":       "gone\n",
}

// A Dockerfile makes the image of the tested tree. What is said of its reproducibility
// is what two builds showed: docker writes the time of the build into an image, buildah
// is told not to.
func TestDockerfile(t *testing.T) {
	for name, want := range map[string]string{"docker": "no: of two builds these differ: config", "buildah": "yes: two builds have made the same image"} {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath(name); err != nil {
				t.Skip(err)
			}
			builder := oci.Builder{Name: name}
			described, err := builder.Describe(t.Context())
			if err != nil {
				t.Skip(err)
			}
			l := newLab(t)
			l.step.Toolchain, l.step.Builder = hostLanguage, builder
			l.step.Package.Dockerfile, l.step.Package.Builder = "docker/app", name
			res, err := l.run(t, fileTree)
			if err != nil {
				t.Fatal(err)
			}
			facts := res.Evidence.Facts
			if facts["package.reproducible"] != want || facts["package.builder"] != described {
				t.Errorf("facts %q by %q, want %q", facts["package.reproducible"], facts["package.builder"], want)
			}
			res.Entry.Normalize()
			if err := res.Entry.Check(); err != nil {
				t.Fatal(err)
			}
			d := readSPDX(t, l.referrer(t, &res.Entry, state.ReferrerSBOM))
			if len(d.Files) != 2 || d.Files[1].FileName != "./hello" || d.Files[1].Checksums[1].ChecksumValue != state.DigestOf([]byte("hello\n")).Hex() {
				t.Errorf("files %+v", d.Files)
			}
			if log := l.artifact(t, res.Evidence, "log"); !strings.Contains(log, "COPY hello gone /") {
				t.Errorf("the log has no build:\n%s", log)
			}
		})
	}
}

// A Dockerfile at the root is found where a builder is named, and only there; what
// cannot be built is said before the tests.
func TestDockerfileFound(t *testing.T) {
	t.Parallel()
	tree := map[string]string{"a_test.sh": "exit 1\n", "Dockerfile": "FROM scratch\n"}
	for name, c := range map[string]struct {
		change func(l *lab)
		kind   fault.Kind
		want   string
	}{
		"no builder named":  {func(*lab) {}, fault.Finding, "tests failed"},
		"no engine":         {func(l *lab) { l.step.Package.Builder = "auto" }, fault.Unavailable, "nothing can build Dockerfile"},
		"missing file":      {func(l *lab) { l.step.Package.Dockerfile = "docker/other" }, fault.Finding, "docker/other"},
		"outside":           {func(l *lab) { l.step.Package.Dockerfile = "../Dockerfile" }, fault.Usage, "../Dockerfile"},
		"two kinds of says": {func(l *lab) { l.step.Package.Dockerfile, l.step.Package.Entrypoint = "Dockerfile", []string{"x"} }, fault.Usage, "both say what the image is"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.step.Toolchain = hostLanguage
			c.change(l)
			if _, err := l.run(t, tree); fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
		})
	}
}

// layered is an engine that makes images of given layers.
type layered struct {
	t      *testing.T
	layers [][]string
	builds int
	times  []time.Time
}

func (*layered) Describe(context.Context) (string, error) { return "layered 1", nil }

func (b *layered) BuildFile(ctx context.Context, blobs state.Blobs, dir, file string, _ bool, _ io.Writer) ([]state.Artifact, error) {
	info, err := os.Stat(filepath.Join(dir, file))
	if err != nil {
		return nil, err
	}
	b.builds, b.times = b.builds+1, append(b.times, info.ModTime())
	var roots []fs.FS
	for _, names := range b.layers {
		root := fstest.MapFS{}
		for _, name := range names {
			root[name] = &fstest.MapFile{Data: []byte(name)}
		}
		roots = append(roots, root)
	}
	return oci.Client{}.BuildOn(ctx, blobs, state.BaseImage{}, roots, state.ImageConfig{OS: "linux", Architecture: "amd64", User: strings.Repeat("1", b.builds)})
}

// What a higher layer removes is in no bill, and engines see a tree without times.
func TestBillOfLayers(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	b := &layered{t: t, layers: [][]string{{"etc/a", "etc/b", "opt/sub/x", "usr/lib/l/m", "was"}, {"etc/.wh.a", "opt/.wh..wh..opq", "opt/y", "usr/.wh.lib", "was/file"}}}
	l.step.Toolchain, l.step.Builder, l.step.Package.Dockerfile = hostLanguage, b, "docker/app"
	res, err := l.run(t, fileTree)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range readSPDX(t, l.referrer(t, &res.Entry, state.ReferrerSBOM)).Files {
		names = append(names, f.FileName)
	}
	if want := []string{"./etc/b", "./opt/y", "./was/file"}; !slices.Equal(names, want) {
		t.Errorf("files %v, want %v", names, want)
	}
	if b.builds != 2 || !b.times[0].Equal(time.Unix(0, 0)) {
		t.Errorf("%d builds of files of %v", b.builds, b.times)
	}
	if got := res.Evidence.Facts["package.reproducible"]; got != "no: of two builds these differ: config" {
		t.Errorf("reproducible: %q", got)
	}
}
