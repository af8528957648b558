package cleanroom

import (
	"context"
	"fmt"
	"math"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// golang runs `go build`, `go test -json` and `go vet`. One process tests all
// packages: the go command knows how to do that in parallel, and what one package
// has compiled the next one needs.
type golang struct{}

// buildFlags shape what is compiled. With them and buildEnv the compiled standard
// library fits whatever is built later, so both are used for it too.
var buildFlags = []string{"-trimpath", "-buildvcs=false"}

// buildEnv is what the go command takes its settings from. It is complete: no
// setting of the host gets in, and nothing can be downloaded.
func buildEnv(tool Toolchain) []string {
	return []string{
		"CGO_ENABLED=0", "GOOS=" + tool.OS, "GOARCH=" + tool.Arch, "GOENV=off", "GOFLAGS=", "GOWORK=off",
		"GOTOOLCHAIN=local", "GOPROXY=off", "GOSUMDB=off", "GOVCS=*:off",
	}
}

func (golang) whole() bool { return true }

// goCommand returns the go command with args in the directory of the suite.
func (t *trial) goCommand(s *suite, name string, args ...string) command {
	return t.goCommandIn(t.room, s, name, args...)
}

func (t *trial) goCommandIn(r *room, s *suite, name string, args ...string) command {
	at := func(m sandbox.Mount) string { return r.at(name, m) }
	program, mounts := r.program(name, s)
	cache := s.cacheMount()
	temp := at(r.temp)
	env := append(buildEnv(s.tool), "GOCACHE="+at(cache), "GOPATH="+path.Join(temp, "gopath"), "GOTMPDIR="+temp)
	if s.Image == "" {
		goroot := path.Dir(path.Dir(program))
		env = append(env, "GOROOT="+goroot, "PATH="+path.Join(goroot, "bin")+":/usr/bin:/bin")
	}
	mounts = append(mounts, cache)
	if s.deps != nil {
		mounts = append(mounts, s.deps.mount)
		env = append(env, "GOMODCACHE="+at(s.deps.mount))
	}
	return command{
		name: name, title: "go " + args[0], argv: append([]string{program}, args...), dir: s.dir(),
		env: append(env, s.environment()...), mounts: mounts, image: s.Image,
	}
}

// cacheMount shows the build cache: what is written to it is discarded.
func (s *suite) cacheMount() sandbox.Mount {
	if s.library == "" {
		return sandbox.Mount{Kind: sandbox.Scratch, Target: "/gocache"}
	}
	return sandbox.Mount{Kind: sandbox.Overlay, Source: s.library, Target: "/gocache"}
}

// prepare fetches the modules of go.sum, unless they are vendored.
func (golang) prepare(t *trial, s *suite) (*recipe, error) {
	if !t.has(s, "go.mod", "go.sum") || t.has(s, "vendor/modules.txt") {
		return nil, nil
	}
	download := func(r *room, name string, deps sandbox.Mount) command {
		c := t.goCommandIn(r, s, name, "mod", "download")
		c.mounts = append(c.mounts, deps)
		// go.sum has the sums of all that is fetched: nobody else need be asked. The
		// directories of the cache must be removable.
		c.env = append(c.env, "GOPROXY="+t.step.Prepare.GoProxy, "GOFLAGS=-modcacherw", "GOMODCACHE="+r.at(name, deps))
		return c
	}
	return &recipe{lock: t.locked(s, "go.mod", "go.sum"), commands: []func(*room, string, sandbox.Mount) command{download}}, nil
}

func (golang) program(tree *os.Root, pack Package, tool Toolchain) (program, error) {
	return findProgram(tree, pack, tool)
}

func (golang) build(ctx context.Context, t *trial, s *suite) error {
	name := s.container("build")
	args := append([]string{"build"}, buildFlags...)
	if s.packs = t.packaged == s && !t.program.library; s.packs {
		t.step.progress("build " + t.program.name)
		// Without build id, symbols and paths the same tree gives the same bytes.
		args = append(args, "-ldflags=-s -w -buildid=", "-o", path.Join(t.room.at(name, t.room.out), t.program.name), "./"+t.program.dir)
	} else {
		args = append(args, "./...")
	}
	c := t.goCommand(s, name, args...)
	c.mounts = append(c.mounts, t.room.out)
	return t.stage(ctx, &s.build, c)
}

// maxListing bounds the names of all packages, in bytes.
const maxListing = 4 << 20

// units returns the import paths of the packages. They are needed to choose some: a
// whole run gives the go command its own pattern.
func (golang) units(ctx context.Context, t *trial, s *suite) ([]string, error) {
	if t.step.Shard == nil && !t.step.Tests.selects() {
		return []string{"./..."}, nil
	}
	list := listing{most: maxListing}
	c := t.goCommand(s, s.container("list"), "list", "./...")
	c.stdout = &list
	var listed stage
	switch err := t.stage(ctx, &listed, c); {
	case err != nil:
		return nil, err
	case !listed.ok:
		return nil, fault.New(fault.Finding, "run `go list ./...` in the tree", "list the packages: %s: %s", listed.status, listed.text.String())
	case list.left > 0:
		return nil, fault.New(fault.Finding, "run the tests in one piece", "the packages of the tree are more than %d bytes of names", maxListing)
	}
	all := strings.Fields(list.kept.String())
	slices.Sort(all)
	return all, nil
}

func (golang) job(t *trial, s *suite, r *results, name string, units []string, retry []testID) job {
	// The go command ends a hanging test before the wall limit does, because it
	// can say where the test hangs. The rest of the time is for compiling.
	deadline := max((t.room.left() / 4 * 3).Round(time.Millisecond), time.Millisecond)
	if t.step.Tests.Timeout > 0 {
		deadline = min(deadline, t.step.Tests.Timeout)
	}
	args := append([]string{"test"}, buildFlags...)
	args = append(args, "-json", "-vet=off", "-count=1", "-shuffle="+shuffle(t.seed), "-timeout="+deadline.String())
	if t.step.Tests.Parallel > 0 {
		args = append(args, "-p="+strconv.Itoa(t.step.Tests.Parallel))
	}
	if t.step.Tests.FailFast {
		args = append(args, "-failfast")
	}
	if run := runPattern(retry); run != "" {
		args = append(args, "-run="+run)
	}
	return job{command: t.goCommand(s, name, append(args, units...)...), read: &goEvents{results: r, within: t.room.within(name), keep: func(pkg, text string) string {
		return t.writeLog(logName(s, r.label(pkg), 0), text)
	}}}
}

// runPattern returns the -run pattern that selects the top-level tests that failed.
func runPattern(failed []testID) string {
	var names []string
	for _, id := range failed {
		top, _, _ := strings.Cut(id.name, "/")
		names = append(names, "^"+regexp.QuoteMeta(top)+"$")
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), "|")
}

func (golang) check(ctx context.Context, t *trial, s *suite) error {
	if s.test.status.TimedOut && !s.test.ok {
		return nil // the tests have used up the time of all, and say so
	}
	t.step.progress("vet " + s.results.module)
	c := t.goCommand(s, s.container("vet"), append(append([]string{"vet"}, buildFlags...), "./...")...)
	return t.stage(ctx, &s.vet, c)
}

func (golang) reproduce(t *trial, s *suite, id testID) string {
	dir := "./" + path.Join(s.dir(), s.results.relative(id.unit))
	if id.name == "" {
		return "go test " + dir
	}
	return fmt.Sprintf("go test -count=1 -shuffle=%s -run '%s' %s", shuffle(t.seed), pattern(id.name), dir)
}

// pattern returns the -run pattern that selects exactly the test called name.
func pattern(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.ReplaceAll(strings.Join(parts, "/"), "'", ".") // it is quoted for a shell
}

// shuffle returns the seed as the go command takes it, a number that is not negative.
func shuffle(seed uint64) string { return strconv.FormatUint(seed&math.MaxInt64, 10) }
