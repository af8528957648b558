package difference

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf8"

	"github.com/ultrafast-ci/ultrafast/steps/state"
)

const (
	maxValue     = 120  // bytes of one value that are shown
	maxFileLines = 400  // lines of one difference
	maxLines     = 4000 // lines of all of them
)

// WriteText writes the report for people: fields, then artifacts with their files
// and the lines in these.
func (r *Report) WriteText(w io.Writer) error {
	var b bytes.Buffer
	writeFields(&b, "", r.Fields)
	left := maxLines
	for i := range r.Artifacts {
		writeArtifact(&b, &r.Artifacts[i], &left)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// WriteFields writes fields for people, one to a line.
func WriteFields(w io.Writer, fields []Field) error {
	var b bytes.Buffer
	writeFields(&b, "", fields)
	_, err := w.Write(b.Bytes())
	return err
}

func writeFields(b *bytes.Buffer, indent string, fields []Field) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, f := range fields {
		fmt.Fprintf(w, "%s%s %s\t%s\n", indent, f.Change.sign(), show(f.Path), both(f.Change, f.Recorded, f.Replayed))
	}
	_ = w.Flush() // to a buffer
}

func (c Change) sign() string {
	switch c {
	case Added:
		return "+"
	case Removed:
		return "-"
	default:
		return "~"
	}
}

func both(c Change, was, is string) string {
	switch c {
	case Added:
		return show(is)
	case Removed:
		return show(was)
	default:
		return show(was) + " -> " + show(is)
	}
}

func writeArtifact(b *bytes.Buffer, a *Artifact, left *int) {
	size := func(a *state.Artifact) string {
		if a == nil {
			return ""
		}
		return fmt.Sprintf("%s %d bytes", a.Digest.Short(), a.Size)
	}
	fmt.Fprintf(b, "%s artifact %s  %s\n", a.Change.sign(), show(a.Name), both(a.Change, size(a.Recorded), size(a.Replayed)))
	if a.Note != "" {
		fmt.Fprintf(b, "    %s\n", show(a.Note))
	}
	writeFields(b, "    ", a.Fields)
	var files []Field
	for _, f := range a.Files {
		files = append(files, Field{Path: f.Path, Change: f.Change, Recorded: f.Recorded, Replayed: f.Replayed})
	}
	writeFields(b, "    ", files)
	writeDiff(b, a.Diff, left)
	for _, f := range a.Files {
		writeDiff(b, f.Diff, left)
	}
}

// writeDiff writes the lines that still fit.
func writeDiff(b *bytes.Buffer, diff string, left *int) {
	total, n := strings.Count(diff, "\n"), 0
	for line := range strings.Lines(diff) {
		if n == maxFileLines || *left == 0 {
			fmt.Fprintf(b, "... %d more lines; --output json has them\n", total-n)
			return
		}
		n, *left = n+1, *left-1
		b.WriteString(Visible(strings.TrimSuffix(line, "\n")) + "\n")
	}
}

// show returns a value as a part of one line.
func show(s string) string {
	if s == "" {
		return `""`
	}
	if len(s) > maxValue {
		return Visible(strings.ToValidUTF8(s[:maxValue], "")) + "..."
	}
	return Visible(s)
}

// Visible returns s with every character written out that a terminal or a log
// viewer would act on or hide: control, formatting and direction characters, line
// ends and invalid UTF-8, as Go writes them in a string. A tab stays.
func Visible(s string) string {
	plain := func(r rune) bool {
		return r == '\t' || r != utf8.RuneError && !unicode.IsControl(r) && !unicode.Is(unicode.Cf, r) && r != '\u2028' && r != '\u2029'
	}
	if strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case plain(r):
			b.WriteString(s[:n])
		default:
			quoted := strconv.QuoteToASCII(s[:n])
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		s = s[n:]
	}
	return b.String()
}
