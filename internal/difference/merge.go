package difference

import "bytes"

// Marks of a conflict in a merged text, as git writes them. Each stands at the
// beginning of a line of its own; the first and the last are followed by a name.
const (
	MarkOurs   = "<<<<<<< "
	markMiddle = "======="
	MarkTheirs = ">>>>>>> "
)

// Merge makes the changes from base to ours and those from base to theirs in one
// text. Where both changed the same lines, or lines without one between them, in
// different ways, both stand in the text between marks with the given names, and
// conflicts has the line of each first mark, from 1. See S. Khanna, K. Kunal,
// B. Pierce, "A Formal Investigation of Diff3", 2007.
func Merge(base, ours, theirs []byte, ourName, theirName string) (merged []byte, conflicts []int) {
	return merge(base, ours, theirs, &merger{ourName: ourName, theirName: theirName})
}

// Winner is the one of the two changed texts of a merge whose lines stay.
type Winner int

// The two texts.
const (
	Ours Winner = iota + 1
	Theirs
)

// Settle is like [Merge], but where both changed the same lines in different ways the
// lines of one side win. settled has the line at which each of those places begins,
// from 1; where nothing is left of it, the line after it.
func Settle(base, ours, theirs []byte, winner Winner) (merged []byte, settled []int) {
	return merge(base, ours, theirs, &merger{winner: winner})
}

func merge(base, ours, theirs []byte, m *merger) ([]byte, []int) {
	b, o, t := lines(base), lines(ours), lines(theirs)
	m.end = ending(ours, theirs, base)
	left, right := changesOf(edits(b, o)), changesOf(edits(b, t))
	at := 0                // line of base that comes next
	shiftO, shiftT := 0, 0 // from a line of base to that of the other text
	for len(left)+len(right) > 0 {
		from, to := group(&left, &right, &shiftO, &shiftT)
		m.write(b[at:from.base]...)
		m.change(b[from.base:to.base], o[from.ours:to.ours], t[from.theirs:to.theirs])
		at = to.base
	}
	m.write(b[at:]...)
	return m.out.Bytes(), m.conflicts
}

// spot is a place in all three texts.
type spot struct{ base, ours, theirs int }

// changesOf leaves out what is equal.
func changesOf(all []edit) []edit {
	var out []edit
	for _, e := range all {
		if !e.equal {
			out = append(out, e)
		}
	}
	return out
}

// group takes the changes that meet from both lists, and returns where they begin
// and end. The shifts lead from base to the other texts outside of changes.
func group(left, right *[]edit, shiftO, shiftT *int) (from, to spot) {
	first := func() int {
		switch {
		case len(*left) == 0:
			return (*right)[0].a0
		case len(*right) == 0:
			return (*left)[0].a0
		default:
			return min((*left)[0].a0, (*right)[0].a0)
		}
	}
	from = spot{base: first()}
	from.ours, from.theirs = from.base+*shiftO, from.base+*shiftT
	end := from.base
	for {
		switch {
		case len(*left) > 0 && (*left)[0].a0 <= end:
			end = max(end, (*left)[0].a1)
			*shiftO = (*left)[0].b1 - (*left)[0].a1
			*left = (*left)[1:]
		case len(*right) > 0 && (*right)[0].a0 <= end:
			end = max(end, (*right)[0].a1)
			*shiftT = (*right)[0].b1 - (*right)[0].a1
			*right = (*right)[1:]
		default:
			return from, spot{end, end + *shiftO, end + *shiftT}
		}
	}
}

type merger struct {
	out                bytes.Buffer
	line               int // lines written
	conflicts          []int
	end                string
	ourName, theirName string
	winner             Winner // of conflicts; none: both stand there
}

func (m *merger) write(run ...[]byte) {
	for _, line := range run {
		m.out.Write(line)
		m.line++
	}
}

// change writes what becomes of a part of base: what one side made of it, if the
// other left it alone or did the same.
func (m *merger) change(base, ours, theirs [][]byte) {
	switch {
	case equal(ours, theirs), equal(base, theirs):
		m.write(ours...)
	case equal(base, ours):
		m.write(theirs...)
	default:
		m.conflict(ours, theirs)
	}
}

// conflict writes both sides, but for the lines at their ends that are the same.
func (m *merger) conflict(ours, theirs [][]byte) {
	head := 0
	for head < len(ours) && head < len(theirs) && bytes.Equal(ours[head], theirs[head]) {
		head++
	}
	tail := 0
	for tail < len(ours)-head && tail < len(theirs)-head && bytes.Equal(ours[len(ours)-1-tail], theirs[len(theirs)-1-tail]) {
		tail++
	}
	m.write(ours[:head]...)
	m.conflicts = append(m.conflicts, m.line+1)
	switch m.winner {
	case Ours:
		m.write(ours[head : len(ours)-tail]...)
	case Theirs:
		m.write(theirs[head : len(theirs)-tail]...)
	default:
		m.mark(MarkOurs + m.ourName)
		m.whole(ours[head : len(ours)-tail])
		m.mark(markMiddle)
		m.whole(theirs[head : len(theirs)-tail])
		m.mark(MarkTheirs + m.theirName)
	}
	m.write(ours[len(ours)-tail:]...)
}

func (m *merger) mark(text string) { m.write([]byte(text + m.end)) }

// whole writes lines, the last with an end that a mark can follow.
func (m *merger) whole(run [][]byte) {
	m.write(run...)
	if len(run) > 0 && !bytes.HasSuffix(run[len(run)-1], []byte("\n")) {
		m.out.WriteString(m.end)
	}
}

func equal(a, b [][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

// ending is how the first line that ends does so.
func ending(texts ...[]byte) string {
	for _, text := range texts {
		if line, _, ok := bytes.Cut(text, []byte("\n")); ok {
			if bytes.HasSuffix(line, []byte("\r")) {
				return "\r\n"
			}
			return "\n"
		}
	}
	return "\n"
}
