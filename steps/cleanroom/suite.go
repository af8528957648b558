package cleanroom

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Kind is a language with its way of testing.
type Kind string

// The kinds, in the order in which they are looked for: the first one of a tree that
// makes a program gives the image.
const (
	Go         Kind = "go"
	Rust       Kind = "rs"
	TypeScript Kind = "ts"
	JavaScript Kind = "js"
	Python     Kind = "py"
	Bats       Kind = "bats"
	Shell      Kind = "sh"
)

// Kinds are all kinds.
var Kinds = []Kind{Go, Rust, TypeScript, JavaScript, Python, Bats, Shell}

// Suite is a part of the tests that one runner runs.
type Suite struct {
	// Runner runs it; empty means Shell, for a suite with a Command.
	Runner Kind `json:"runner,omitempty"`
	// Files are patterns of test files relative to Dir, where "**" stands for any
	// number of directories; empty means the runner's own, see [patterns].
	Files []string `json:"files,omitempty"`
	// Image is used in place of the host's toolchain: a reference by digest.
	Image string `json:"image,omitempty"`
	// Command tests in place of the runner's own way: for each file, which takes the
	// place of the argument "{file}" or follows as the last one, or once if there are
	// no Files. Its exit code decides.
	Command []string `json:"command,omitempty"`
	// Dir is the working directory, below the root of the tree; empty means the root.
	Dir string `json:"dir,omitempty"`
	// Env is added to the environment of every command of the suite.
	Env map[string]string `json:"env,omitempty"`
}

// maxSuites bounds the suites of one tree.
const maxSuites = 64

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (s Suite) check() error {
	switch {
	case s.Runner == "" && len(s.Command) == 0:
		return fault.New(fault.Usage, "name a runner, or the command that tests", "suite without runner and command")
	case s.Runner != "" && !slices.Contains(Kinds, s.Runner):
		names := make([]string, len(Kinds))
		for i, k := range Kinds {
			names[i] = string(k)
		}
		return fault.New(fault.Usage, fault.DidYouMean(string(s.Runner), names), "runner %q is not one of %s", s.Runner, strings.Join(names, ", "))
	case s.Dir != "" && !fs.ValidPath(path.Clean(s.Dir)):
		return fault.New(fault.Usage, "name a directory below the root of the tree", "directory %q of a suite", s.Dir)
	case s.Image != "" && !strings.Contains(s.Image, "@sha256:"):
		return fault.New(fault.Usage, "pin it by digest, name@sha256:…: a tag may name another image tomorrow", "image %q of a suite", s.Image)
	case len(s.Command) > 0 && s.Command[0] == "":
		return fault.New(fault.Usage, "name a program", "empty command of a suite")
	}
	for _, pattern := range s.Files {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" || path.IsAbs(pattern) || slices.Contains(strings.Split(pattern, "/"), "..") {
			return fault.New(fault.Usage, `write a pattern below the directory of the suite, such as "tests/**/*_test.sh"`, "files %q of a suite", pattern)
		}
	}
	for name, value := range s.Env {
		if !variableName.MatchString(name) || strings.Contains(value, "\x00") {
			return fault.New(fault.Usage, "names have letters, digits and underscores", "environment variable %q of a suite", name)
		}
	}
	return nil
}

// kind returns the kind of the suite.
func (s Suite) kind() Kind {
	if s.Runner == "" {
		return Shell
	}
	return s.Runner
}

// dir returns the directory of the suite, "." for the root.
func (s Suite) dir() string { return path.Clean(s.Dir) }

// suite is a [Suite] of a tree, with what belongs to it in one run.
type suite struct {
	Suite
	// name is unique in the run: "go", or "go-2" for the second one of a kind.
	name string
	// prefix begins the names of its facts and containers where there are several
	// suites; empty for a single one.
	prefix string
	runner runner
	tool   Toolchain
	// library is the compiled standard library of Go, a directory of the host, and
	// warm that it was there before; empty for other kinds.
	library string
	warm    bool
	// executables are those that test a unit, by its name, and the directory that each
	// runs in, as all containers see them: Rust.
	executables map[string]executable
	// packs reports that the build left a program for the image.
	packs bool
	// tests are all test files of the tree that are the suite's, relative to the root
	// of the tree and sorted; runners that find tests by themselves ignore them.
	tests []string
	// deps are the prepared dependencies; nil if there are none.
	deps *dependencies

	build, vet, test stage
	results          *results
}

// stage is how one stage of a suite went.
type stage struct {
	// ran reports that it was tried, ok that it ended well.
	ran, ok bool
	// command is what ran, for people: "go build".
	command string
	status  exitStatus
	text    tail
}

// suites returns what is tested in the tree: the configured suites, else one for each
// kind that the tree has files of.
func (s Step) suites(tree *os.Root) ([]*suite, error) {
	files, err := listFiles(tree)
	if err != nil {
		return nil, err
	}
	configured := s.Suites
	if len(configured) == 0 {
		if configured = detect(tree, files); len(configured) == 0 {
			return nil, fault.New(fault.Finding, "name what tests it: [cleanroom] runner = \"sh\" in ggen.toml, or a [[cleanroom.suite]]",
				"the tree has no go.mod, Cargo.toml or package.json at its root, and no file that looks like a test")
		}
	}
	if len(configured) > maxSuites {
		return nil, fault.New(fault.Usage, "", "%d suites; at most %d are taken", len(configured), maxSuites)
	}
	seen := map[Kind]int{}
	var all []*suite
	for _, c := range configured {
		if err := c.check(); err != nil {
			return nil, err
		}
		kind := c.kind()
		name := string(kind)
		if seen[kind]++; seen[kind] > 1 {
			name = fmt.Sprintf("%s-%d", kind, seen[kind])
		}
		one := &suite{Suite: c, name: name, tests: c.find(files), runner: runners[kind]}
		if len(c.Command) > 0 {
			one.runner = custom{}
		}
		all = append(all, one)
	}
	for _, one := range all {
		if len(all) > 1 {
			one.prefix = one.name + "."
		}
	}
	return all, nil
}

// container returns the name of the suite's container for a purpose: host names have
// no dots.
func (s *suite) container(purpose string) string {
	return strings.ReplaceAll(s.prefix, ".", "-") + purpose
}

// directories are those with tests of the suite.
func (s *suite) directories() []string {
	var all []string
	for _, file := range s.tests {
		all = append(all, path.Dir(file))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// find returns the files of the tree that are tests of the suite.
func (s Suite) find(files []string) []string {
	wanted := s.Files
	if len(wanted) == 0 && len(s.Command) == 0 {
		wanted = patterns[s.kind()]
	}
	var found []string
	for _, file := range files {
		below, ok := within(s.dir(), file)
		if ok && slices.ContainsFunc(wanted, func(pattern string) bool { return match(pattern, below) }) {
			found = append(found, file)
		}
	}
	return found
}

// within returns the path of file relative to dir, if it is below it.
func within(dir, file string) (string, bool) {
	if dir == "." {
		return file, true
	}
	return strings.CutPrefix(file, dir+"/")
}

// patterns are the test files of a kind, as the tools of the language have them.
var patterns = map[Kind][]string{
	// https://nodejs.org/api/test.html#running-tests-from-the-command-line
	JavaScript: {"**/*.test.js", "**/*.test.mjs", "**/*.test.cjs", "**/*-test.js", "**/*_test.js", "**/test-*.js", "**/test/*.js", "**/test/*.mjs", "**/test/*.cjs"},
	TypeScript: {"**/*.test.ts", "**/*.test.mts", "**/*.test.cts", "**/*-test.ts", "**/*_test.ts", "**/test/*.ts"},
	// https://docs.pytest.org/en/stable/explanation/goodpractices.html#test-discovery
	Python: {"**/test_*.py", "**/*_test.py"},
	Bats:   {"**/*.bats"},
	Shell:  {"**/*_test.sh", "**/test_*.sh", "**/*.test.sh"},
}

// match reports whether the file matches the pattern: as path.Match, and an element
// "**" stands for any number of directories.
func match(pattern, file string) bool {
	p, f := strings.Split(pattern, "/"), strings.Split(file, "/")
	// Where a later element does not match, it is enough to let the last "**" take one
	// more: an earlier one could take nothing that this one cannot.
	at, star, taken := 0, -1, 0
	for i := 0; i < len(f); {
		switch {
		case at < len(p) && p[at] == "**":
			star, taken = at, i
			at++
		case at < len(p) && matchElement(p[at], f[i]):
			at, i = at+1, i+1
		case star >= 0:
			taken++
			at, i = star+1, taken
		default:
			return false
		}
	}
	for at < len(p) && p[at] == "**" {
		at++
	}
	return at == len(p)
}

func matchElement(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return err == nil && ok
}

// maxTreeFiles bounds the files of a tree that are looked at.
const maxTreeFiles = 100_000

// foreign are directories whose files are not the tree's own tests.
var foreign = []string{"node_modules", "vendor", "testdata", "target", "venv", "__pycache__"}

// listFiles returns the regular files of the tree, sorted, without those of hidden and
// [foreign] directories.
func listFiles(tree *os.Root) ([]string, error) {
	var files []string
	err := fs.WalkDir(tree.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || slices.Contains(foreign, d.Name())):
			return fs.SkipDir
		case !d.Type().IsRegular():
			return nil
		case len(files) == maxTreeFiles:
			return fault.New(fault.Finding, "", "the tree has more than %d files", maxTreeFiles)
		}
		files = append(files, name)
		return nil
	})
	slices.Sort(files)
	return files, err
}

// detect returns a suite for each kind that the tree has files of: that of the file at
// the root that makes it a project of the language, or tests.
func detect(tree *os.Root, files []string) []Suite {
	atRoot := func(names ...string) bool {
		return slices.ContainsFunc(names, func(name string) bool {
			_, found := slices.BinarySearch(files, name)
			return found
		})
	}
	tests := func(kind Kind) bool { return len(Suite{Runner: kind}.find(files)) > 0 }
	node := atRoot("package.json")
	found := map[Kind]bool{
		Go:         atRoot("go.mod"),
		Rust:       atRoot("Cargo.toml"),
		TypeScript: node && tests(TypeScript),
		JavaScript: node && tests(JavaScript),
		Python:     tests(Python),
		Bats:       tests(Bats),
		Shell:      tests(Shell),
	}
	// Another framework finds and runs its own tests.
	framework := node && foreignTests(tree)
	found[JavaScript] = found[JavaScript] || framework
	found[TypeScript] = found[TypeScript] && !framework
	var suites []Suite
	for _, kind := range Kinds {
		switch {
		case kind == JavaScript && framework:
			suites = append(suites, Suite{Runner: JavaScript, Command: []string{"npm", "test"}})
		case found[kind]:
			suites = append(suites, Suite{Runner: kind})
		}
	}
	return suites
}

// environment returns the variables of the suite, sorted.
func (s Suite) environment() []string {
	var env []string
	for _, name := range slices.Sorted(maps.Keys(s.Env)) {
		env = append(env, name+"="+s.Env[name])
	}
	return env
}
