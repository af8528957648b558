package cleanroom

import (
	"context"
	_ "embed"
	"encoding/json"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

//go:embed reporters/node.mjs
var nodeReporter string

// node runs test files with the test runner of Node.js.
type node struct {
	interpreted
	typescript bool
}

// prepare fetches what the lock file of npm names. Scripts of packages do not run:
// they would be the first code from outside to do so, and with a way out.
func (node) prepare(t *trial, s *suite) (*recipe, error) {
	lock := t.locked(s, "package.json", "package-lock.json")
	if len(lock) == 0 || !t.has(s, "package.json") || t.isDir(path.Join(s.dir(), "node_modules")) {
		return nil, nil
	}
	if len(lock) == 1 {
		if !needsPackages(t.work.tree, lock[0]) {
			return nil, nil
		}
		return nil, fault.New(fault.Finding, "run `npm install --package-lock-only` and keep package-lock.json in the tree", "%s names dependencies, and no package-lock.json says which", lock[0])
	}
	install := func(r *room, name string, deps sandbox.Mount) command {
		c := t.hostCommandIn(r, s, name)
		at := r.at(name, deps)
		c.argv, c.title, c.cwd = []string{"npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"}, "npm ci", at
		c.mounts = append(c.mounts, deps)
		c.env = append(c.env, "npm_config_registry="+t.step.Prepare.NPMRegistry, "npm_config_cache="+path.Join(r.at(name, r.temp), "npm"), "npm_config_noproxy=")
		return c
	}
	return &recipe{lock: lock, beside: true, link: "node_modules", commands: []func(*room, string, sandbox.Mount) command{install}}, nil
}

// needsPackages reports that a package.json names dependencies.
func needsPackages(tree *os.Root, name string) bool {
	b, err := readFile(tree, name)
	if err != nil {
		return false
	}
	var manifest struct {
		Dependencies    map[string]any `json:"dependencies"`
		DevDependencies map[string]any `json:"devDependencies"`
	}
	return json.Unmarshal(b, &manifest) == nil && len(manifest.Dependencies)+len(manifest.DevDependencies) > 0
}

func (t *trial) isDir(name string) bool {
	info, err := t.work.tree.Stat(name)
	return err == nil && info.IsDir()
}

func (n node) job(t *trial, s *suite, r *results, name string, units []string, _ []testID) job {
	file, _ := within(s.dir(), units[0])
	c := t.hostCommand(s, name)
	program, _ := t.room.program(name, s)
	c.argv = []string{program}
	if n.typescript {
		c.argv = append(c.argv, stripTypes(s.tool.Version)...)
	}
	// The reporter is a module of its own URL: no file of ours is in the sandbox.
	c.argv = append(c.argv, "--test", "--test-reporter=data:text/javascript,"+url.PathEscape(nodeReporter), file)
	c.title = "node --test"
	return job{command: c, read: &records{results: r, unit: units[0], within: t.room.within(name)}}
}

// stripTypes returns the options with which a version of Node.js runs TypeScript:
// since 22.18 and 23.6 it needs none, since 22.6 one (https://nodejs.org/api/typescript.html).
// An older one takes the package tsx from the dependencies.
func stripTypes(version string) []string {
	m := nodeVersion.FindStringSubmatch(version)
	if m == nil {
		return nil
	}
	switch major, minor := number(m[1]), number(m[2]); {
	case major > 23 || major == 23 && minor >= 6 || major == 22 && minor >= 18:
		return nil
	case major == 23 || major == 22 && minor >= 6:
		return []string{"--experimental-strip-types"}
	default:
		return []string{"--import", "tsx"}
	}
}

var nodeVersion = regexp.MustCompile(`v(\d{1,4})\.(\d{1,4})\.`)

// number returns the value of a few digits.
func number(digits string) (n int) {
	for _, d := range digits {
		n = n*10 + int(d-'0')
	}
	return n
}

// units returns the test files. TypeScript that nothing here can run is told before
// each file fails of it.
func (n node) units(_ context.Context, _ *trial, s *suite) ([]string, error) {
	if !n.typescript || s.Image != "" || len(s.tests) == 0 || !slices.Contains(stripTypes(s.tool.Version), "tsx") {
		return s.tests, nil
	}
	if s.deps != nil {
		if _, err := os.Stat(filepath.Join(s.deps.mount.Source, "node_modules", "tsx")); err == nil {
			return s.tests, nil
		}
	}
	return nil, fault.New(fault.Unavailable, "install Node.js 22.18 or later, add tsx to devDependencies and lock it, or set image in [[cleanroom.suite]]",
		"%s does not run TypeScript by itself: %s", s.tool.Version, s.tests[0])
}

func (node) reproduce(_ *trial, s *suite, id testID) string {
	file, _ := within(s.dir(), id.unit)
	return "node --test " + path.Join(s.dir(), file)
}

// foreignTests reports that package.json tests with something else than the test
// runner of Node.js.
func foreignTests(tree *os.Root) bool {
	b, err := readFile(tree, "package.json")
	if err != nil {
		return false
	}
	var manifest struct {
		Scripts struct {
			Test string `json:"test"`
		} `json:"scripts"`
	}
	if json.Unmarshal(b, &manifest) != nil {
		return false // npm says it better
	}
	script := manifest.Scripts.Test
	return script != "" && !strings.Contains(script, "--test") && !strings.Contains(script, "no test specified")
}
