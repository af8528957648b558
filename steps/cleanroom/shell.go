package cleanroom

// shell runs test files with sh, or what their first line names if they may be
// executed. The exit code decides: a file is one test.
type shell struct{ interpreted }

func (shell) job(t *trial, s *suite, _ *results, name string, units []string, _ []testID) job {
	file, _ := within(s.dir(), units[0])
	c := t.hostCommand(s, name)
	if c.argv = []string{"sh", file}; t.executable(units[0]) {
		c.argv = []string{"./" + file}
	}
	c.title = "sh"
	return job{command: c}
}

// executable reports that a file of the tree may be executed.
func (t *trial) executable(file string) bool {
	info, err := t.room.treeRoot.Stat(file)
	return err == nil && info.Mode()&0o111 != 0
}

func (shell) reproduce(_ *trial, s *suite, id testID) string { return "sh " + id.unit }
