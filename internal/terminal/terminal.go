// Package terminal writes for people: a line for each event, a block for each
// failure, a table at the end.
//
// It draws what it is given and decides nothing. Colour is never the only sign:
// every outcome has a shape and a word too. Where the locale is not UTF-8 the
// shapes are words. Text from outside loses its control characters before it is
// shown, so that no file name or log line can move the cursor or forge a line.
package terminal

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Options say how to write.
type Options struct {
	// Color is "always", "never" or "auto": where the writer is a terminal,
	// NO_COLOR is unset or empty and TERM is not "dumb".
	Color string
	// Quiet leaves out progress lines.
	Quiet bool
	// Progress is "live", which redraws a line in place, "plain", or "auto": live where
	// the writer is a terminal that can do so, and no CI system reads it.
	Progress string
	// Lookup reads the environment (NO_COLOR, TERM, CI, LANG, LC_ALL, LC_CTYPE).
	Lookup func(string) (string, bool)
	// Start is the time from which progress lines count.
	Start time.Time
	// Now is the clock.
	Now func() time.Time
}

// Terminal writes to one stream. It is safe for use by several goroutines.
type Terminal struct {
	mu      sync.Mutex
	w       io.Writer
	opts    Options
	color   bool
	unicode bool
	live    bool
	// bar is the line that is drawn now, drawn when that was.
	bar   string
	drawn time.Time
	// written is when something was last written, doing the last progress message.
	written time.Time
	doing   string
}

// New returns a Terminal that writes to w.
func New(w io.Writer, opts Options) *Terminal {
	get := func(name string) string { v, _ := opts.Lookup(name); return v }
	t := &Terminal{w: w, opts: opts}
	switch opts.Color {
	case "always":
		t.color = true
	case "never":
	default:
		t.color = Is(w) && get("NO_COLOR") == "" && get("TERM") != "dumb"
	}
	t.live = !opts.Quiet && live(w, opts.Progress, get)
	// The first that is set decides (POSIX, "Internationalization Variables").
	locale := strings.ToUpper(cmp.Or(get("LC_ALL"), get("LC_CTYPE"), get("LANG")))
	t.unicode = strings.Contains(locale, "UTF-8") || strings.Contains(locale, "UTF8")
	return t
}

// Is reports whether a stream is a terminal.
func Is(stream any) bool {
	f, isFile := stream.(*os.File)
	return isFile && term.IsTerminal(int(f.Fd()))
}

// Row is one phase in the final table.
type Row struct {
	Name     string
	Outcome  state.Outcome
	Cached   bool
	Duration time.Duration
	Saved    time.Duration
	Summary  string
}

// Event writes a progress line: elapsed time, phase, status word, message.
func (t *Terminal) Event(name, status, message string) {
	if t.opts.Quiet {
		return
	}
	t.mu.Lock()
	t.doing = message
	t.mu.Unlock()
	t.event(name, status, message)
}

func (t *Terminal) event(name, status, message string) {
	elapsed := t.opts.Now().Sub(t.opts.Start).Seconds()
	line := fmt.Sprintf("%6.1fs %-15s %s  %s", elapsed, name, t.paint(statusColor(status), fmt.Sprintf("%-9s", status)), Clean(message))
	t.printf("%s\n", strings.TrimRight(line, " "))
}

// MaxSilence is how long a phase may work without a line: silence looks like a hang,
// and some CI systems end a job for it.
const MaxSilence = 30 * time.Second

// Watch writes a line whenever nothing was written for the given time while a phase
// is at work: what it is at, and how long for. It ends with the call of stop.
func (t *Terminal) Watch(name string, silence time.Duration) (stop func()) {
	if t.opts.Quiet {
		return func() {}
	}
	begun := time.Now()
	t.mu.Lock()
	t.written, t.doing = begun, ""
	t.mu.Unlock()
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		timer := time.NewTimer(silence)
		defer timer.Stop()
		for {
			select {
			case <-done:
				return
			case <-timer.C:
			}
			t.mu.Lock()
			quiet, doing := time.Since(t.written), t.doing
			t.mu.Unlock()
			if quiet >= silence {
				t.event(name, "..", strings.TrimLeft(fmt.Sprintf("%s, still at it after %.0f s", doing, time.Since(begun).Seconds()), ", "))
				quiet = 0
			}
			timer.Reset(silence - quiet)
		}
	}()
	return sync.OnceFunc(func() { close(done); <-ended })
}

// PhaseDone writes the progress line of a phase that ended.
func (t *Terminal) PhaseDone(r Row) {
	t.EndBar()
	status := "ok"
	switch {
	case r.Outcome != state.Passed:
		status = "FAIL"
	case r.Cached:
		status = "ok cached"
	}
	t.Event(r.Name, status, r.Summary)
}

// Final writes the verdict line, the table of phases and the lines below it.
func (t *Terminal) Final(ok bool, verdict string, total time.Duration, rows []Row, below [][2]string) {
	t.EndBar()
	var b strings.Builder
	t.verdict(&b, ok, verdict, total)
	for _, r := range rows {
		note := Clean(r.Summary)
		if r.Cached {
			note = t.paint(blue, "cached") + "  " + note
			if r.Saved > 100*time.Millisecond {
				note += fmt.Sprintf(", %s saved", Seconds(r.Saved))
			}
		}
		if r.Outcome != state.Passed {
			note = t.paint(boldRed, t.shape("✗", "FAIL")) + " " + note
		}
		b.WriteString(strings.TrimRight(fmt.Sprintf("  %-15s %7s  %s", r.Name, Seconds(r.Duration), note), " ") + "\n")
	}
	if len(below) > 0 {
		b.WriteByte('\n')
	}
	for _, kv := range below {
		fmt.Fprintf(&b, "  %s  %s\n", t.paint(bold, fmt.Sprintf("%-9s", kv[0])), Clean(kv[1]))
	}
	t.printf("%s", b.String())
}

func (t *Terminal) verdict(b *strings.Builder, ok bool, verdict string, total time.Duration) {
	shape, color := t.shape("✓", "ok"), green
	if !ok {
		shape, color = t.shape("✗", "FAIL"), boldRed
	}
	head := shape + " " + Clean(verdict)
	pad := max(2, 78-utf8.RuneCountInString(head)-len(Seconds(total)))
	fmt.Fprintf(b, "\n%s%s%s\n", t.paint(color, head), strings.Repeat(" ", pad), Seconds(total))
}

// Failure writes what failed and what to do: the message, then "fix" and the
// other lines that are not empty.
func (t *Terminal) Failure(message, hint string) {
	t.EndBar()
	var b strings.Builder
	first, rest, _ := strings.Cut(message, "\n")
	fmt.Fprintf(&b, "\n%s %s\n", t.paint(boldRed, t.shape("✗", "FAIL")), Clean(first))
	for line := range strings.Lines(rest) {
		fmt.Fprintf(&b, "  %s\n", Clean(strings.TrimRight(line, "\n")))
	}
	t.field(&b, "fix", hint)
	t.printf("%s", b.String())
}

// Finding writes one finding with all its fields.
func (t *Terminal) Finding(f finding.Finding) {
	var b strings.Builder
	shape, color := t.shape("✗", "FAIL"), boldRed
	if !f.Severity.Gates() {
		shape, color = "!", yellow
	}
	fmt.Fprintf(&b, "%s %-9s %s  %s\n", t.paint(color, shape), f.Severity, f.Rule, Clean(f.What))
	t.field(&b, "where", f.Where.String())
	t.field(&b, "why", abridged(f.Why))
	t.field(&b, "fix", f.Fix)
	t.field(&b, "reproduce", f.Reproduce)
	t.field(&b, "resume", f.Resume)
	t.printf("%s", b.String())
}

const maxFieldLines = 40 // more of a log is in the evidence

// What the terminal shows of a long reason: how it begins, where a compiler says most, and
// how it ends, where a test does.
const (
	firstLines = 4
	lastLines  = 12
)

// abridged leaves out the middle of a long text.
func abridged(text string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	out := len(lines) - firstLines - lastLines
	if out <= 1 {
		return text
	}
	return strings.Join(lines[:firstLines], "\n") + fmt.Sprintf("\n… %d lines …\n", out) + strings.Join(lines[len(lines)-lastLines:], "\n")
}

func (t *Terminal) field(b *strings.Builder, name, text string) {
	if text == "" {
		return
	}
	n := 0
	for line := range strings.Lines(text) {
		if n++; n > maxFieldLines {
			fmt.Fprintf(b, "  %-9s  …\n", "")
			return
		}
		fmt.Fprintf(b, "  %s  %s\n", t.paint(bold, fmt.Sprintf("%-9s", name)), Clean(strings.TrimRight(line, "\r\n")))
		name = ""
	}
}

func (t *Terminal) printf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.written = time.Now()
	_ = t.above(fmt.Sprintf(format, args...)) // a terminal that is gone is no reason to fail
}

func (t *Terminal) shape(unicode, ascii string) string {
	if t.unicode {
		return unicode
	}
	return ascii
}

type ansi string

// Colours by name, so that the reader's own palette applies.
const (
	green   ansi = "32"
	yellow  ansi = "33"
	blue    ansi = "34"
	cyan    ansi = "36"
	bold    ansi = "1"
	boldRed ansi = "1;31"
	plain   ansi = ""
)

func statusColor(status string) ansi {
	switch status {
	case "ok":
		return green
	case "ok cached":
		return blue
	case "FAIL":
		return boldRed
	case "!":
		return yellow
	default:
		return plain
	}
}

func (t *Terminal) paint(c ansi, s string) string {
	if !t.color || c == plain {
		return s
	}
	return "\x1b[" + string(c) + "m" + s + "\x1b[0m"
}

// Seconds formats d as the tables show it: "0.3 s".
func Seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

const maxLine = 2000 // bytes of one line of outside text

// Clean returns s without control, formatting and direction characters, in valid
// UTF-8, cut to a line that a person can read.
func Clean(s string) string { return finding.Clean(s, maxLine) }
