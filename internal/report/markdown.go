package report

import (
	"fmt"
	"strings"
)

// Outside text in Markdown is written with a numeric reference for every character
// that could be markup. CommonMark reads a reference as the character and never as
// structure (section 2.5), so that nothing can be closed, opened or linked; and the
// text looks the same in every place: a heading, a table, a list.

// escape returns outside text, which is one line, for use within a line of Markdown
// but not at its beginning.
func escape(s string) string {
	var b strings.Builder
	www := 0 // how much of "www" came just before: "www." begins a link (GFM 6.9)
	for _, r := range s {
		switch {
		case r == '.' && www == 3, r < 0x80 && strings.ContainsRune("\\`*_[]<>#|~&:@$", r):
			fmt.Fprintf(&b, "&#%d;", r)
		default:
			b.WriteRune(r)
		}
		if r == 'w' || r == 'W' {
			www = min(3, www+1)
		} else {
			www = 0
		}
	}
	return b.String()
}

// words returns outside text as one line of Markdown.
func words(s string) string { return escape(strings.TrimSpace(line(s))) }

// bold returns outside text as one line that stands out.
func bold(s string) string {
	if s = words(s); s == "" {
		return ""
	}
	return "**" + s + "**"
}

// code returns outside text as one line of code.
func code(s string) string {
	if s = strings.TrimSpace(line(s)); s == "" {
		return ""
	}
	return "<code>" + escape(s) + "</code>"
}

// block returns outside text as lines of code. What is between the tags is HTML and
// no Markdown (CommonMark 4.6, start condition 1); it may stand anywhere but within
// a line.
func block(s string) string {
	html := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "`", "&#96;", "$", "&#36;")
	return "<pre>" + html.Replace(text(s)) + "</pre>\n"
}

// label returns a text for a task of a mermaid chart: letters, digits and little
// else, for the chart's grammar has no escapes.
func label(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune(" .-_%", r):
			return r
		}
		return ' '
	}, line(s))
}
