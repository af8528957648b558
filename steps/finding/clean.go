package finding

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clean returns s, which came from outside, as one line that is safe to show:
// without control, formatting and direction characters, in valid UTF-8, at most
// limit bytes long. Line breaks and tabs become spaces; what was cut ends in "…".
func Clean(s string, limit int) string {
	cut := len(s) > limit
	if cut {
		s = strings.ToValidUTF8(s[:limit], "")
	}
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n' || r == '\u2028' || r == '\u2029':
			return ' '
		case r == utf8.RuneError:
			return '?'
		case unicode.IsControl(r) || unicode.Is(unicode.Cf, r):
			return -1
		}
		return r
	}, s)
	if cut {
		s += "…"
	}
	return s
}

// CleanLines is [Clean] for text of several lines: at most lines of them, each at
// most limit bytes long. Empty lines at the end are left out.
func CleanLines(s string, lines, limit int) []string {
	var out []string
	for line := range strings.Lines(s) {
		if len(out) == lines {
			return append(out, "…")
		}
		out = append(out, Clean(strings.TrimRight(line, "\r\n"), limit))
	}
	for len(out) > 0 && strings.TrimSpace(out[len(out)-1]) == "" {
		out = out[:len(out)-1]
	}
	return out
}
