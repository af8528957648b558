package cleanroom

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/ultrafast-ci/ultrafast/internal/document"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// cargo compiles the tests of Rust once and runs each executable apart. Tests in
// documentation, which are compiled one by one as they run, do not run.
type cargo struct{ interpreted }

// executable is a program that tests a unit, and the directory that it runs in.
type executable struct{ path, dir string }

// prepare vendors the crates of Cargo.lock.
func (cargo) prepare(t *trial, s *suite) (*recipe, error) {
	lock := t.locked(s, "Cargo.lock")
	if len(lock) == 0 {
		return nil, nil
	}
	b, err := readBounded(t.work.tree, lock[0], maxLock)
	if err != nil || !strings.Contains(string(b), "source = ") { // its own crates alone
		return nil, err
	}
	vendor := func(r *room, name string, deps sandbox.Mount) command {
		c := t.cargoIn(r, s, name, "vendor", "--locked", "--versioned-dirs")
		if index := t.step.Prepare.CargoIndex; index != publicCargo {
			c.argv = append(c.argv, "--respect-source-config",
				"--config", `source.crates-io.replace-with="mirror"`, "--config", "source.mirror.registry="+document.QuoteTOML(index))
		}
		c.argv = append(c.argv, path.Join(r.at(name, deps), "vendor"))
		c.mounts = append(c.mounts, deps)
		return c
	}
	return &recipe{lock: lock, commands: []func(*room, string, sandbox.Mount) command{vendor}}, nil
}

func (t *trial) cargoIn(r *room, s *suite, name string, args ...string) command {
	c := t.hostCommandIn(r, s, name)
	program, _ := r.program(name, s)
	c.argv, c.title = append([]string{program}, args...), "cargo "+args[0]
	c.env = append(c.env, "CARGO_HOME="+path.Join(r.at(name, r.temp), "cargo"), "CARGO_TERM_COLOR=never", "CARGO_INCREMENTAL=0")
	return c
}

// cargoBuild returns a command that compiles without network into the room's out
// directory, and says what it made as JSON.
func (t *trial) cargoBuild(s *suite, name string, args ...string) command {
	r := t.room
	c := t.cargoIn(r, s, name, args...)
	c.argv = append(c.argv, "--offline", "--message-format=json-render-diagnostics", "--target-dir", path.Join(r.at(name, r.out), "target-"+s.name))
	if t.has(s, "Cargo.lock") {
		c.argv = append(c.argv, "--locked")
	}
	if s.deps != nil {
		c.argv = append(c.argv, "--config", `source.crates-io.replace-with="prepared"`,
			"--config", "source.prepared.directory="+document.QuoteTOML(path.Join(r.at(name, s.deps.mount), "vendor")))
	}
	c.mounts = append(c.mounts, r.out)
	return c
}

// artifact is what cargo says of what it made (cargo book, external tools).
type artifact struct {
	Reason   string `json:"reason"`
	Manifest string `json:"manifest_path"`
	Target   struct {
		Kind []string `json:"kind"`
		Name string   `json:"name"`
		Src  string   `json:"src_path"`
	} `json:"target"`
	Profile struct {
		Test bool `json:"test"`
	} `json:"profile"`
	Executable string `json:"executable"`
}

// maxArtifacts bounds what cargo may say, in bytes.
const maxArtifacts = 64 << 20

// artifacts runs a build and returns the executables that it made.
func (t *trial) artifacts(ctx context.Context, st *stage, c command) ([]artifact, error) {
	list := listing{most: maxArtifacts}
	c.stdout = &list
	if err := t.stage(ctx, st, c); err != nil || !st.ok {
		return nil, err
	}
	if list.left > 0 {
		return nil, fault.New(fault.Finding, "", "cargo says more than %d bytes of what it made", maxArtifacts)
	}
	var made []artifact
	for line := range strings.Lines(list.kept.String()) {
		var a artifact
		if json.Unmarshal([]byte(line), &a) == nil && a.Reason == "compiler-artifact" && a.Executable != "" {
			made = append(made, a)
		}
	}
	return made, nil
}

func (cargo) build(ctx context.Context, t *trial, s *suite) error {
	name := s.container("build")
	t.step.progress("build the tests of " + t.program.name)
	made, err := t.artifacts(ctx, &s.build, t.cargoBuild(s, name, "test", "--no-run", "--workspace"))
	if err != nil || !s.build.ok {
		return err
	}
	s.executables = map[string]executable{}
	for _, a := range made {
		if src := strings.TrimPrefix(a.Target.Src, t.room.within(name)); a.Profile.Test {
			s.executables[src] = executable{a.Executable, path.Dir(a.Manifest)}
		}
	}
	if t.packaged != s {
		return nil
	}
	return t.buildRelease(ctx, s)
}

// buildRelease compiles the program of the image: static, so that it runs without a C
// library beside it, stripped, and without the paths that it was built in.
func (t *trial) buildRelease(ctx context.Context, s *suite) error {
	name := s.container("release")
	t.step.progress("build " + t.program.name)
	c := t.cargoBuild(s, name, "build", "--release", "--bins", "--workspace")
	flags := []string{"-Cstrip=symbols", "--remap-path-prefix=" + t.room.within(name) + "=/src/"}
	if s.deps != nil {
		flags = append(flags, "--remap-path-prefix="+t.room.at(name, s.deps.mount)+"=/deps")
	}
	if s.tool.Target != "" { // with a target, build scripts and macros are left alone
		c.argv = append(c.argv, "--target", s.tool.Target)
		flags = append(flags, "-Ctarget-feature=+crt-static")
	}
	c.env = append(c.env, "CARGO_ENCODED_RUSTFLAGS="+strings.Join(flags, "\x1f"))
	made, err := t.artifacts(ctx, &s.build, c)
	if err != nil || !s.build.ok {
		return err
	}
	made = slices.DeleteFunc(made, func(a artifact) bool { return !slices.Contains(a.Target.Kind, "bin") })
	if len(made) > 1 {
		made = slices.DeleteFunc(made, func(a artifact) bool { return a.Target.Name != t.program.dir })
	}
	if len(made) != 1 {
		return nil // a library, or programs of which none is the package's own
	}
	out := strings.TrimSuffix(t.room.at(name, t.room.out), "/") + "/"
	below, ok := strings.CutPrefix(made[0].Executable, out)
	if !ok {
		return fault.New(fault.Internal, "", "cargo has made %s, outside of %s", made[0].Executable, out)
	}
	s.packs = true
	return t.room.outRoot.Link(below, t.program.name)
}

// program names the image after the package of Cargo.toml, or as is configured.
func (cargo) program(tree *os.Root, pack Package, _ Toolchain) (program, error) {
	b, err := readFile(tree, "Cargo.toml")
	if err != nil {
		return program{}, fault.Wrap(err, fault.Finding, "name the directory of the crate: dir in [[cleanroom.suite]]", "read Cargo.toml")
	}
	own := ""
	if root, err := document.ParseTOML("Cargo.toml", b); err == nil { // else cargo says it better
		own = textAt(root, "package", "name")
	}
	p := program{name: pack.Name, dir: pack.Main}
	if p.dir == "" {
		p.dir = own
	}
	if p.name == "" {
		p.name = own
	}
	if !programName().MatchString(p.name) {
		p.name = treeName
	}
	return p, nil
}

// textAt returns the string at a path of keys; empty if there is none.
func textAt(n *document.Node, keys ...string) string {
	for _, key := range keys {
		i := slices.IndexFunc(n.Entries, func(e document.Entry) bool { return e.Key == key })
		if i < 0 {
			return ""
		}
		n = n.Entries[i].Value
	}
	var text string
	if document.Decode(n, &text) != nil {
		return ""
	}
	return text
}

func (cargo) units(_ context.Context, _ *trial, s *suite) ([]string, error) {
	return slices.Sorted(maps.Keys(s.executables)), nil
}

func (cargo) job(t *trial, s *suite, r *results, name string, units []string, retry []testID) job {
	e := s.executables[units[0]]
	c := t.hostCommand(s, name)
	c.argv, c.title, c.cwd = []string{e.path}, path.Base(e.path), e.dir
	for _, id := range retry {
		c.argv = append(c.argv, id.name)
	}
	if len(retry) > 0 {
		c.argv = append(c.argv, "--exact")
	}
	out := t.room.out
	out.Kind = sandbox.ReadOnly
	c.mounts = append(c.mounts, out)
	return job{command: c, read: &libtest{results: r, unit: units[0], within: t.room.within(name)}}
}

func (cargo) reproduce(_ *trial, _ *suite, id testID) string {
	return strings.TrimSpace("cargo test " + id.name)
}

// libtest reads what a test executable of Rust prints.
type libtest struct {
	*results
	unit, within string
	lines        lines
	// of is the failed test whose output follows; failed are those that ended so.
	of     string
	failed map[string]*tail
	// ended reports that the last line was seen.
	ended bool
}

var (
	libtestLine = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^test (.+?)(?: - should panic)? \.\.\. (ok|FAILED|ignored)(?:, (.*))?$`)
	})
	libtestStart = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^---- (.+) stdout ----$`) })
)

// Write takes a part of the stream.
func (l *libtest) Write(p []byte) (int, error) { return l.lines.write(p, l.line) }

func (l *libtest) end(status exitStatus) {
	l.lines.flush(l.line)
	if !l.ended {
		l.cutShort(l.unit, status)
	}
	for name, text := range l.failed {
		l.endTest(testID{l.unit, name}, state.Failed, 0, text.String())
	}
}

func (l *libtest) line(line []byte, tooLong bool) {
	if tooLong {
		l.dropped++
		return
	}
	text := strings.ReplaceAll(string(line), l.within, "")
	l.say(text + "\n")
	if m := libtestStart().FindStringSubmatch(text); m != nil && l.failed[m[1]] != nil {
		l.of = m[1]
		return
	}
	m := libtestLine().FindStringSubmatch(text)
	switch {
	case m == nil:
		if strings.HasPrefix(text, "failures:") || strings.HasPrefix(text, "test result: ") {
			l.of, l.ended = "", strings.HasPrefix(text, "test result: ")
		} else if out := l.failed[l.of]; out != nil && text != "" {
			out.add(text + "\n")
		}
	case m[2] == "FAILED":
		if l.failed == nil {
			l.failed = map[string]*tail{}
		}
		l.failed[m[1]] = &tail{}
	case m[2] == "ignored":
		l.endTest(testID{l.unit, m[1]}, state.Skipped, 0, m[3])
	default:
		l.endTest(testID{l.unit, m[1]}, state.Passed, 0, "")
	}
}
