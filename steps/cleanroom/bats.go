package cleanroom

// bats runs files of the Bash Automated Testing System.
type bats struct{ interpreted }

func (bats) job(t *trial, s *suite, r *results, name string, units []string, _ []testID) job {
	file, _ := within(s.dir(), units[0])
	c := t.hostCommand(s, name)
	program, _ := t.room.program(name, s)
	c.argv, c.title = []string{program, "--tap", file}, "bats"
	return job{command: c, read: newTAP(r, units[0], t.room.within(name))}
}

func (bats) reproduce(_ *trial, _ *suite, id testID) string { return "bats " + id.unit }
