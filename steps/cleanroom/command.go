package cleanroom

import (
	"context"
	"path"
	"slices"
	"strings"
)

// custom runs the command of a suite: once, or for each of its files.
type custom struct{ interpreted }

// prepare fetches as the runner of the kind does.
func (custom) prepare(t *trial, s *suite) (*recipe, error) { return runners[s.kind()].prepare(t, s) }

// filePlace stands for the test file in the command of a suite.
const filePlace = "{file}"

// job runs the command; its exit code decides.
func (custom) job(t *trial, s *suite, _ *results, name string, units []string, _ []testID) job {
	argv := slices.Clone(s.Command)
	if len(s.Files) > 0 {
		file, _ := within(s.dir(), units[0])
		if i := slices.Index(argv, filePlace); i >= 0 {
			argv[i] = file
		} else {
			argv = append(argv, file)
		}
	}
	c := t.hostCommand(s, name)
	c.argv, c.title = argv, s.Command[0]
	return job{command: c}
}

// reproduce leaves the file out: the place of it is the suite's affair.
func (custom) reproduce(_ *trial, s *suite, _ testID) string { return strings.Join(s.Command, " ") }

// units returns the files, or the command itself.
func (custom) units(_ context.Context, _ *trial, s *suite) ([]string, error) {
	if len(s.Files) > 0 {
		return s.tests, nil
	}
	return []string{strings.Join(s.Command, " ")}, nil
}

// hostCommand returns a command without arguments that finds the suite's program, its
// dependencies and those of the host.
func (t *trial) hostCommand(s *suite, name string) command {
	return t.hostCommandIn(t.room, s, name)
}

func (t *trial) hostCommandIn(r *room, s *suite, name string) command {
	c := command{name: name, dir: s.dir(), image: s.Image}
	var search []string
	program, mounts := r.program(name, s)
	c.mounts = mounts
	if len(mounts) > 0 {
		search = append(search, path.Dir(program))
	}
	if s.deps != nil {
		c.mounts = append(c.mounts, s.deps.mount)
		search = append(search, path.Join(r.at(name, s.deps.mount), "bin"), path.Join(r.at(name, s.deps.mount), "node_modules", ".bin"))
	}
	if s.Image == "" {
		search = append(search, "/usr/local/bin", "/usr/bin", "/bin")
		c.env = append(c.env, "PATH="+strings.Join(search, ":"))
	}
	c.env = append(c.env, s.environment()...)
	return c
}
