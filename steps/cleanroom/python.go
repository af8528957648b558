package cleanroom

import (
	_ "embed"
	"path"
)

//go:embed reporters/python.py
var pythonReporter string

// python runs test files with pytest if the dependencies have it, else with unittest.
// Packages that are installed on the host are not seen: what tests need is in the
// requirements.
type python struct{ interpreted }

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
