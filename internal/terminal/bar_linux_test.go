package terminal_test

import (
	"bufio"
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
	runes "unicode/utf8"

	"github.com/ultrafast-ci/ultrafast/internal/terminal"
	"github.com/ultrafast-ci/ultrafast/internal/terminal/terminaltest"
)

const erase = "\r\x1b[K"

// onScreen returns what a terminal of so many columns is sent. Each look at the clock
// is 10 ms after the one before.
func onScreen(t *testing.T, columns int, env map[string]string, draw func(*terminal.Terminal)) string {
	t.Helper()
	screen, tty := terminaltest.Open(t, columns)
	now := time.Unix(0, 0)
	term := terminal.New(tty, terminal.Options{
		Start: now, Now: func() time.Time { now = now.Add(10 * time.Millisecond); return now },
		Lookup: func(k string) (string, bool) { v, ok := env[k]; return v, ok },
	})
	got := make(chan string, 1)
	go func() {
		text, _ := bufio.NewReader(screen).ReadString('\x04')
		got <- text
	}()
	draw(term)
	if _, err := tty.WriteString("\x04"); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(<-got, "\x04")
}

func count(term *terminal.Terminal, n int) {
	for i := range n {
		term.Bar("generate", i+1, n, fmt.Sprintf("src/some/folder/with/a/rather/long/name/file_%d_名前.go", i))
	}
}

var sequence = regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]")

// TestBar counts to a thousand on terminals of several widths: the bar is drawn ten
// times a second and no more, keeps to its line, and is gone at the end.
func TestBar(t *testing.T) {
	t.Parallel()
	for _, columns := range []int{10, 40, 60, 80, 200} {
		got := onScreen(t, columns, map[string]string{"LANG": "C.UTF-8"}, func(term *terminal.Terminal) { count(term, 1000) })
		drawings := strings.Split(got, erase)
		if n := len(drawings); n < 80 || n > 105 {
			t.Errorf("%d columns: %d drawings in 10 s", columns, n)
		}
		if strings.Contains(got, "\n") || !strings.HasSuffix(got, erase) {
			t.Errorf("%d columns: the bar leaves its line, or stays: %q", columns, got[max(0, len(got)-200):])
		}
		for _, d := range drawings {
			plain := sequence.ReplaceAllString(d, "")
			// The names have two letters that take two columns each.
			if width := runes.RuneCountInString(plain) + strings.Count(plain, "名") + strings.Count(plain, "前"); width >= columns || width > 100 {
				t.Errorf("%d columns: %d are drawn: %q", columns, width, plain)
			}
		}
		middle := drawings[len(drawings)/2]
		if !strings.Contains(middle, " %") || columns >= 60 && (!strings.Contains(middle, "━") || !strings.Contains(middle, "of 1,000")) {
			t.Errorf("%d columns: %q", columns, middle)
		}
	}
}

// TestBarMakesRoom writes an event and a log line while the bar is there.
func TestBarMakesRoom(t *testing.T) {
	t.Parallel()
	got := onScreen(t, 80, nil, func(term *terminal.Terminal) {
		term.Bar("generate", 1, 3, "a")
		term.Event("generate", "..", "something else")
		if _, err := term.Write([]byte("level=WARN\n")); err != nil {
			t.Error(err)
		}
		term.Failure("generate: it failed", "")
	})
	bar := regexp.MustCompile(`generate .* 33 %  1 of 3`)
	for line := range strings.SplitSeq(strings.ReplaceAll(got, "\r\n", "\n"), "\n") {
		shown := line[strings.LastIndex(line, "\r")+1:] // what stays of it
		if bar.MatchString(shown) {
			t.Errorf("the bar stays: %q", line)
		}
	}
	if n := len(bar.FindAllString(strings.ReplaceAll(got, erase, "\n"), -1)); n != 3 {
		t.Errorf("%d drawings, want one and one below each line: %q", n, got)
	}
	for _, want := range []string{"something else", "level=WARN", "it failed"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in %q", want, got)
		}
	}
}

func TestBarColor(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		env          map[string]string
		drawn, color bool
	}{
		"terminal": {nil, true, true},
		"NO_COLOR": {map[string]string{"NO_COLOR": "1"}, true, false},
		"CI":       {map[string]string{"CI": "true"}, false, false},
		"dumb":     {map[string]string{"TERM": "dumb"}, false, false},
	} {
		got := onScreen(t, 80, c.env, func(term *terminal.Terminal) { count(term, 100) })
		if drawn := strings.Contains(got, "of 100"); drawn != c.drawn {
			t.Errorf("%s: drawn %t", name, drawn)
		}
		if color := strings.Contains(got, "\x1b[36m"); color != c.color {
			t.Errorf("%s: colour %t: %q", name, color, got)
		}
	}
}

// TestBarOnPipe sees that nothing is drawn where no terminal is, unless asked for.
func TestBarOnPipe(t *testing.T) {
	t.Parallel()
	for mode, drawn := range map[string]bool{"auto": false, "plain": false, "live": true} {
		var buf bytes.Buffer
		term := terminal.New(&buf, terminal.Options{Progress: mode, Now: time.Now, Lookup: func(string) (string, bool) { return "", false }})
		term.Bar("generate", 1, 3, "a")
		if got := buf.Len() > 0; got != drawn {
			t.Errorf("%s: %q", mode, &buf)
		}
	}
}
