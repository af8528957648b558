package cleanroom

import "bytes"

// lines cuts a stream into lines of at most maxLine bytes.
type lines struct {
	kept    []byte
	tooLong bool
}

// write gives take every line that p completes, without its line feed. tooLong stands
// for a line beyond the bound, which is not kept.
func (l *lines) write(p []byte, take func(line []byte, tooLong bool)) (int, error) {
	n := len(p)
	for {
		part, rest, complete := bytes.Cut(p, []byte("\n"))
		if len(l.kept)+len(part) > maxLine {
			l.tooLong, l.kept = true, l.kept[:0]
		} else if !l.tooLong {
			l.kept = append(l.kept, part...)
		}
		if !complete {
			return n, nil
		}
		l.end(take)
		p = rest
	}
}

// flush gives take what follows the last line feed.
func (l *lines) flush(take func(line []byte, tooLong bool)) {
	if len(l.kept) > 0 || l.tooLong {
		l.end(take)
	}
}

func (l *lines) end(take func(line []byte, tooLong bool)) {
	line, tooLong := l.kept, l.tooLong
	l.kept, l.tooLong = l.kept[:0], false
	take(line, tooLong)
}
