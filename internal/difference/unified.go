package difference

import (
	"bytes"
	"fmt"
	"io"
	"slices"
)

const (
	diffContext = 3    // lines around a change, as diff -u
	maxEdits    = 1500 // more edits than this are shown as one replacement; bounds memory to about 18 MB
)

// edit is a run of lines that are equal, or replaced: before[a0:a1] by after[b0:b1].
type edit struct {
	a0, a1, b0, b1 int
	equal          bool
}

// Unified writes the difference of two contents in the unified format. A name of
// the empty string stands for a file that is not there.
func Unified(w io.Writer, oldName, newName string, before, after []byte) error {
	if bytes.Equal(before, after) && oldName == newName {
		return nil
	}
	label := func(prefix, name string) string {
		if name == "" {
			return "/dev/null"
		}
		return prefix + name
	}
	from, to := label("a/", oldName), label("b/", newName)
	if bytes.IndexByte(before, 0) >= 0 || bytes.IndexByte(after, 0) >= 0 {
		_, err := fmt.Fprintf(w, "Binary files %s and %s differ\n", from, to)
		return err
	}
	var buf bytes.Buffer
	fmt.Fprintf(&buf, "--- %s\n+++ %s\n", from, to)
	a, b := lines(before), lines(after)
	for _, hunk := range hunks(edits(a, b)) {
		writeHunk(&buf, hunk, a, b)
	}
	_, err := w.Write(buf.Bytes())
	return err
}

// lines splits b after every newline; the last line may lack one.
func lines(b []byte) [][]byte {
	if len(b) == 0 {
		return nil
	}
	split := bytes.SplitAfter(b, []byte("\n"))
	if last := len(split) - 1; len(split[last]) == 0 {
		split = split[:last]
	}
	return split
}

// edits returns how b is made from a, as alternating equal and replaced runs, by
// the greedy algorithm of E. Myers, "An O(ND) Difference Algorithm and Its
// Variations", 1986, after common ends are cut off.
func edits(a, b [][]byte) []edit {
	head := 0
	for head < len(a) && head < len(b) && bytes.Equal(a[head], b[head]) {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && bytes.Equal(a[len(a)-1-tail], b[len(b)-1-tail]) {
		tail++
	}
	middleA, middleB := a[head:len(a)-tail], b[head:len(b)-tail]
	out := appendEqual(nil, 0, 0, head)
	for _, e := range myers(middleA, middleB) {
		e.a0, e.a1, e.b0, e.b1 = e.a0+head, e.a1+head, e.b0+head, e.b1+head
		out = append(out, e)
	}
	return appendEqual(out, len(a)-tail, len(b)-tail, tail)
}

func appendEqual(out []edit, a, b, n int) []edit {
	if n == 0 {
		return out
	}
	return append(out, edit{a, a + n, b, b + n, true})
}

func myers(a, b [][]byte) []edit {
	n, m := len(a), len(b)
	if n == 0 && m == 0 {
		return nil
	}
	limit := min(n+m, maxEdits)
	furthest := make([]int, 2*limit+3) // x by diagonal k, at index k+limit+1
	var trace [][]int
	for d := 0; d <= limit; d++ {
		trace = append(trace, slices.Clone(furthest[limit+1-d:limit+2+d]))
		for k := -d; k <= d; k += 2 {
			x := step(furthest, limit+1, k, d)
			for y := x - k; x < n && y < m && bytes.Equal(a[x], b[y]); y++ {
				x++
			}
			furthest[limit+1+k] = x
			if x >= n && x-k >= m {
				return backtrack(trace, n, m)
			}
		}
	}
	return []edit{{0, n, 0, m, false}}
}

// step returns where diagonal k begins in round d: below, or right of, whichever
// neighbour came further.
func step(furthest []int, zero, k, d int) int {
	if k == -d || (k != d && furthest[zero+k-1] < furthest[zero+k+1]) {
		return furthest[zero+k+1]
	}
	return furthest[zero+k-1] + 1
}

// backtrack follows the trace from the end. trace[d] holds the furthest x of the
// diagonals -d to d as they were before round d.
func backtrack(trace [][]int, x, y int) []edit {
	var reversed []edit
	add := func(e edit) {
		if last := len(reversed) - 1; last >= 0 && reversed[last].equal == e.equal {
			reversed[last].a0, reversed[last].b0 = e.a0, e.b0
			return
		}
		reversed = append(reversed, e)
	}
	for d := len(trace) - 1; d > 0; d-- {
		k := x - y
		prev := k - 1
		if k == -d || (k != d && trace[d][k-1+d] < trace[d][k+1+d]) {
			prev = k + 1
		}
		px := trace[d][prev+d]
		py := px - prev
		startX, startY := px, py+1 // after an insertion
		if prev == k-1 {
			startX, startY = px+1, py // after a deletion
		}
		if x > startX {
			add(edit{startX, x, startY, y, true})
		}
		add(edit{px, startX, py, startY, false})
		x, y = px, py
	}
	if x > 0 {
		add(edit{0, x, 0, y, true})
	}
	slices.Reverse(reversed)
	return reversed
}

// hunks groups edits whose context touches.
func hunks(all []edit) [][]edit {
	var out [][]edit
	var hunk []edit
	for i, e := range all {
		if !e.equal {
			hunk = append(hunk, e)
			continue
		}
		first, last := i == 0, i == len(all)-1
		switch {
		case first && last:
		case first:
			hunk = append(hunk, lastLines(e))
		case last:
			hunk = append(hunk, firstLines(e))
		case e.a1-e.a0 <= 2*diffContext:
			hunk = append(hunk, e)
		default:
			out = append(out, append(hunk, firstLines(e)))
			hunk = []edit{lastLines(e)}
		}
	}
	if len(hunk) > 0 {
		out = append(out, hunk)
	}
	return out
}

func firstLines(e edit) edit {
	n := min(diffContext, e.a1-e.a0)
	e.a1, e.b1 = e.a0+n, e.b0+n
	return e
}

func lastLines(e edit) edit {
	n := min(diffContext, e.a1-e.a0)
	e.a0, e.b0 = e.a1-n, e.b1-n
	return e
}

func writeHunk(buf *bytes.Buffer, hunk []edit, a, b [][]byte) {
	first, last := hunk[0], hunk[len(hunk)-1]
	fmt.Fprintf(buf, "@@ -%s +%s @@\n", extent(first.a0, last.a1), extent(first.b0, last.b1))
	write := func(sign byte, run [][]byte) {
		for _, line := range run {
			buf.WriteByte(sign)
			buf.Write(line)
			if !bytes.HasSuffix(line, []byte("\n")) {
				buf.WriteString("\n\\ No newline at end of file\n")
			}
		}
	}
	for _, e := range hunk {
		if e.equal {
			write(' ', a[e.a0:e.a1])
			continue
		}
		write('-', a[e.a0:e.a1])
		write('+', b[e.b0:e.b1])
	}
}

// extent writes the lines [from, to) as diff does: first line and number, where
// an empty range names the line before it.
func extent(from, to int) string {
	switch to - from {
	case 0:
		return fmt.Sprintf("%d,0", from)
	case 1:
		return fmt.Sprintf("%d", from+1)
	default:
		return fmt.Sprintf("%d,%d", from+1, to-from)
	}
}
