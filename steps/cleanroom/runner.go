package cleanroom

import (
	"context"
	"io"
	"os"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// runner knows how the tests of one kind are built, found, run and read. It holds
// nothing: what belongs to a run is in the trial and the suite.
type runner interface {
	// prepare says how the dependencies that the tree locks are fetched; nil if it
	// locks none. See [Step.prepare].
	prepare(t *trial, s *suite) (*recipe, error)
	// program returns what is built and packaged of the tree, before anything runs.
	program(tree *os.Root, pack Package, tool Toolchain) (program, error)
	// build compiles what is tested and what is packaged, into the room's out
	// directory, and fills s.build. An error is what the sandbox could not do.
	build(ctx context.Context, t *trial, s *suite) error
	// units returns what can be tested apart, sorted: packages, files, executables.
	units(ctx context.Context, t *trial, s *suite) ([]string, error)
	// job returns the process that tests units, one unless the runner is whole, and
	// reads what it says into r. retry names the failed tests that run again, for a
	// runner that can choose.
	job(t *trial, s *suite, r *results, name string, units []string, retry []testID) job
	// whole reports that one process tests all units, and reports on each.
	whole() bool
	// check looks at the code when its tests have run, and fills s.vet.
	check(ctx context.Context, t *trial, s *suite) error
	// reproduce returns the command that repeats a test, or with an empty name a unit.
	reproduce(t *trial, s *suite, id testID) string
}

// job is one process of a test run.
type job struct {
	command command
	// read takes standard output; nil where the exit code says all.
	read reader
}

// reader reads what a test process says into results. Writes never fail, so that a
// strange line cannot stop a run.
type reader interface {
	io.Writer
	// end takes what follows the last line feed, and how the process ended.
	end(status exitStatus)
}

// runners has the runner of every kind.
var runners = map[Kind]runner{
	Go: golang{}, Rust: cargo{}, Python: python{}, JavaScript: node{}, TypeScript: node{typescript: true}, Bats: bats{}, Shell: shell{},
}

// recipe says how dependencies are fetched.
type recipe struct {
	// lock are the names of the files, below the root of the tree, that decide what is
	// fetched. If beside is set, they are copied to where it goes.
	lock   []string
	beside bool
	// commands fetch into deps, one after the other, in a room whose way out is a proxy.
	commands []func(r *room, name string, deps sandbox.Mount) command
	// link is what of the dependencies is linked to from the suite's directory, where
	// the language looks there; empty for none.
	link string
}

// dependencies are what a recipe gave.
type dependencies struct {
	// mount shows them read-only.
	mount sandbox.Mount
	// key names them: the digest of the lock files and of what fetched them.
	key  state.Digest
	warm bool
	// link is a path of the tree that leads to target below the mount; empty for none.
	link, target string
}

// interpreted is embedded by runners of languages that are not compiled and have
// nothing to fetch.
type interpreted struct{}

// treeName names the image of a tree that makes no program.
const treeName = "app"

func (interpreted) program(_ *os.Root, pack Package, _ Toolchain) (program, error) {
	name := pack.Name
	if name == "" {
		name = treeName
	}
	return program{name: name}, nil
}
func (interpreted) prepare(*trial, *suite) (*recipe, error)     { return nil, nil }
func (interpreted) build(context.Context, *trial, *suite) error { return nil }
func (interpreted) check(context.Context, *trial, *suite) error { return nil }
func (interpreted) whole() bool                                 { return false }
func (interpreted) units(_ context.Context, _ *trial, s *suite) ([]string, error) {
	return s.tests, nil
}
