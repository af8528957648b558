package doorgen

import (
	"bytes"
	"fmt"
	"strings"
)

// The tables stand in the README between these lines; the rest is written by hand.
const (
	begin = "<!-- inputs and outputs: written by `make doors` -->"
	end   = "<!-- end of inputs and outputs -->"
)

// README returns the README of d with its tables brought up to date.
func README(d Door, old []byte) ([]byte, error) {
	inputs, err := d.inputs()
	if err != nil {
		return nil, err
	}
	before, rest, ok := bytes.Cut(old, []byte(begin))
	_, after, closed := bytes.Cut(rest, []byte(end))
	if !ok || !closed {
		return nil, fmt.Errorf("door %s: the README has no lines %q and %q", d.Name, begin, end)
	}
	return fmt.Appendf(nil, "%s%s\n\n%s\n%s%s", before, begin, tables(inputs), end, after), nil
}

func tables(inputs []Input) string {
	var b strings.Builder
	b.WriteString("| input | kind | what |\n|---|---|---|\n")
	for _, in := range inputs {
		name := "`" + in.Name + "`"
		if in.Required {
			name += " (required)"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", name, in.kind(), cell(in.describe()))
	}
	b.WriteString("\n| output | what |\n|---|---|\n")
	for _, o := range outputs {
		fmt.Fprintf(&b, "| `%s` | %s |\n", o.Name, cell(o.Help))
	}
	return b.String()
}

// kind returns what an input holds, in words.
func (in Input) kind() string {
	kind := string(in.Kind)
	if len(in.Enum) > 0 {
		var values []string
		for _, e := range in.Enum {
			if e != "" {
				values = append(values, "`"+e+"`")
			}
		}
		kind = strings.Join(values, ", ")
	}
	switch {
	case in.Map:
		return "lines of KEY=VALUE"
	case in.List:
		return "lines of " + kind
	}
	return kind
}

// cell returns s as the text of a table cell.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "<", `\<`, "\n", " ").Replace(s)
}
