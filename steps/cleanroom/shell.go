package cleanroom

import "io"

// shell runs test files with sh, or what their first line names if they may be
// executed. The exit code decides: a file is one test.
type shell struct{ interpreted }

func (shell) job(t *trial, s *suite, _ *results, name string, units []string, _ []testID) job {
	file, _ := within(s.dir(), units[0])
	c := t.hostCommand(s, name)
	if c.argv = []string{"sh", file}; t.hasInterpreter(units[0]) {
		c.argv = []string{"./" + file}
	}
	c.title = "sh"
	return job{command: c}
}

// hasInterpreter reports that a file of the tree may be executed and names what by. The
// kernel starts no other text; a shell takes it for its own.
func (t *trial) hasInterpreter(file string) bool {
	f, err := t.room.treeRoot.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	begin := make([]byte, 2)
	n, _ := io.ReadFull(f, begin)
	return err == nil && info.Mode()&0o111 != 0 && string(begin[:n]) == "#!"
}

func (shell) reproduce(_ *trial, s *suite, id testID) string { return "sh " + id.unit }
