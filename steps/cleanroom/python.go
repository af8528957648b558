package cleanroom

import (
	_ "embed"
	"path"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

//go:embed reporters/python.py
var pythonReporter string

// python runs test files with pytest if the dependencies have it, else with unittest.
// Packages that are installed on the host are not seen: what tests need is in the
// requirements.
type python struct{ interpreted }

// requirements are the files that lock the packages of Python.
var requirements = []string{"requirements.txt", "requirements-dev.txt", "requirements-test.txt"}

// prepare installs what the requirements name, by hash, into a virtual environment of
// its own. Only wheels are taken: to build another package runs its code, with a way out.
func (python) prepare(t *trial, s *suite) (*recipe, error) {
	lock := t.locked(s, requirements...)
	if len(lock) == 0 {
		return nil, nil
	}
	for _, name := range lock {
		b, err := readBounded(t.work.tree, name, maxLock)
		if err != nil {
			return nil, err
		}
		if !strings.Contains(string(b), "--hash=") && strings.Contains(string(b), "==") {
			return nil, fault.New(fault.Finding, "lock it: `pip-compile --generate-hashes`, or `uv pip compile --generate-hashes`", "%s names packages without their hashes", name)
		}
	}
	environment := func(r *room, name string, deps sandbox.Mount) command {
		c := t.hostCommandIn(r, s, name)
		program, _ := r.program(name, s)
		c.argv, c.title = []string{program, "-I", "-m", "venv", "--without-pip", "--symlinks", r.at(name, deps)}, "python3 -m venv"
		c.mounts = append(c.mounts, deps)
		return c
	}
	install := func(r *room, name string, deps sandbox.Mount) command {
		c := t.hostCommandIn(r, s, name)
		program, _ := r.program(name, s)
		c.argv = []string{
			program, "-m", "pip", "--python", path.Join(r.at(name, deps), "bin", "python3"), "--isolated", "--disable-pip-version-check", "--no-cache-dir", "--no-input",
			"install", "--no-deps", "--require-hashes", "--only-binary", ":all:", "--no-warn-script-location", "--index-url", t.step.Prepare.PyPIIndex,
		}
		if host, ok := plainHTTP(t.step.Prepare.PyPIIndex); ok {
			c.argv = append(c.argv, "--trusted-host", host)
		}
		for _, file := range lock {
			below, _ := within(s.dir(), file)
			c.argv = append(c.argv, "-r", below)
		}
		c.title = "pip install"
		c.mounts = append(c.mounts, deps)
		return c
	}
	return &recipe{lock: lock, commands: []func(*room, string, sandbox.Mount) command{environment, install}}, nil
}

func (python) job(t *trial, s *suite, r *results, name string, units []string, retry []testID) job {
	file, _ := within(s.dir(), units[0])
	c := t.hostCommand(s, name)
	program, _ := t.room.program(name, s)
	c.argv = []string{program}
	if s.deps != nil {
		c.argv[0] = path.Join(t.room.at(name, s.deps.mount), "bin", "python3")
	} else if s.Image == "" {
		c.argv = append(c.argv, "-S") // without the host's site-packages
	}
	c.argv = append(c.argv, "-c", pythonReporter, file)
	c.env = append(c.env, "PYTHONDONTWRITEBYTECODE=1", "PYTHONNOUSERSITE=1", "PYTHONUTF8=1", "PYTHONPATH="+path.Join(t.room.at(name, t.room.tree), s.dir()))
	c.title = "python3"
	return job{command: c, read: &records{results: r, unit: units[0], within: t.room.within(name)}}
}

func (python) reproduce(_ *trial, _ *suite, id testID) string {
	return "python3 -m unittest " + id.unit
}
