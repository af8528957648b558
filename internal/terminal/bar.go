package terminal

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

const (
	// redraw is the least time between two drawings of the bar: ten a second are seen
	// as motion, more only as work for whoever is at the other end of the line.
	redraw = 100 * time.Millisecond
	// maxWidth and usualWidth are columns: of the widest bar, and of a terminal that
	// does not say how wide it is.
	maxWidth, usualWidth = 100, 80
	// barWidth is the columns of the bar itself where there is room, leastBar those below
	// which only the percentage is shown.
	barWidth, leastBar = 24, 8

	eraseLine = "\r\x1b[K"
)

// live reports whether lines can be redrawn on w.
func live(w any, mode string, get func(string) string) bool {
	switch mode {
	case "live":
		return true
	case "", "auto":
		// The consoles of old Windows print the sequence instead of obeying it.
		obeys := runtime.GOOS != "windows" || get("WT_SESSION") != ""
		return Is(w) && get("TERM") != "dumb" && get("CI") == "" && obeys
	default:
		return false
	}
}

// Live reports whether [Terminal.Bar] draws anything.
func (t *Terminal) Live() bool { return t.live }

// Bar shows, in one line that is redrawn in place, that done of total parts of a phase
// are there, and which was the last. Nothing else that is written gets lost in it: the
// bar makes room, and comes again below. It goes with the last part, with the end of the
// phase, and with a failure. It draws nothing where [Terminal.Live] says no.
func (t *Terminal) Bar(name string, done, total int, last string) {
	if !t.live || total < 1 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.opts.Now()
	if done >= total {
		t.dropBar()
		return
	}
	if t.bar != "" && now.Sub(t.drawn) < redraw {
		return
	}
	t.bar, t.drawn, t.written = t.drawBar(name, done, total, last, t.width()), now, time.Now()
	fmt.Fprint(t.w, eraseLine+t.bar)
}

// EndBar takes the bar away.
func (t *Terminal) EndBar() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dropBar()
}

// dropBar is called with the lock held.
func (t *Terminal) dropBar() {
	if t.bar != "" {
		fmt.Fprint(t.w, eraseLine)
		t.bar = ""
	}
}

// Write implements [io.Writer] for logs: what is written stands above the bar.
func (t *Terminal) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(p), t.above(string(p))
}

// above writes whole lines above the bar. It is called with the lock held.
func (t *Terminal) above(text string) error {
	if t.bar != "" {
		text = eraseLine + text + t.bar
	}
	_, err := fmt.Fprint(t.w, text)
	return err
}

// width is the number of columns that a line may take.
func (t *Terminal) width() int {
	columns := usualWidth
	if f, ok := t.w.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
			columns = w
		}
	}
	// A line as wide as the terminal wraps on some, and cannot be erased then.
	return min(columns-1, maxWidth)
}

// drawBar returns a line of at most width columns.
func (t *Terminal) drawBar(name string, done, total int, last string, width int) string {
	done = max(done, 0)
	percent := fmt.Sprintf("%3d %%", int(int64(done)*100/int64(total)))
	head := fmt.Sprintf("%-17s ", cut("  "+Clean(name), 17))
	count := fmt.Sprintf("  %s  %s of %s  ", percent, grouped(done), grouped(total))
	length := min(barWidth, width-columns(head)-columns(count))
	if length < leastBar {
		return cut(cut("  "+Clean(name), max(width-len(percent)-1, 0))+" "+percent, width)
	}
	room := width - columns(head) - length - columns(count)
	full := int(int64(done) * int64(length) / int64(total))
	whole, half, empty := "━", "╸", "─"
	if !t.unicode {
		whole, half, empty = "#", "-", "-"
	}
	left := strings.Repeat(whole, full)
	if full < length {
		left += half
	}
	return head + t.paint(cyan, left) + strings.Repeat(empty, max(length-full-1, 0)) + count + cut(Clean(last), room)
}

// grouped writes thousands apart.
func grouped(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// cut shortens s to so many columns.
func cut(s string, width int) string {
	if columns(s) <= width {
		return s
	}
	used := 0
	for i, r := range s {
		if used += columnsOf(r); used > width {
			return s[:i]
		}
	}
	return s
}

// columns is how wide s is at most.
func columns(s string) int {
	n := 0
	for _, r := range s {
		n += columnsOf(r)
	}
	return n
}

// columnsOf takes every letter of the scripts that have wide ones for a wide one: a
// line that is too short does no harm.
func columnsOf(r rune) int {
	if r < 0x1100 || r >= 0x2000 && r < 0x2e80 || r == utf8.RuneError {
		return 1
	}
	return 2
}
