// Package finding holds a remark about what was checked, as a value.
//
// Phases return findings; platforms draw them, each in its own way: an
// annotation, a code-quality file, a line on a terminal. A phase that never
// heard of a CI system is annotated well all the same.
package finding

import "fmt"

// Severity ranks findings. Critical and High are gates: they stop a release.
type Severity string

// The severities, gravest first.
const (
	Critical Severity = "critical"
	High     Severity = "high"
	Medium   Severity = "medium"
	Low      Severity = "low"
	Info     Severity = "info"
)

// Gates reports whether a failure of this severity stops a release.
func (s Severity) Gates() bool { return s == Critical || s == High }

// Place is a position in a file. Line and Column count from 1; zero means unknown.
type Place struct {
	// File is relative to the project, with forward slashes.
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
}

// String returns "file:line:column", leaving out what is unknown.
func (p Place) String() string {
	switch {
	case p.Line == 0:
		return p.File
	case p.Column == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	default:
		return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
	}
}

// Finding is one remark. Every renderer shows the same fields in this order.
type Finding struct {
	// Rule is the id of the check that made the remark.
	Rule     string   `json:"rule"`
	Severity Severity `json:"severity"`
	// What happened, in one line with its number and its limit.
	What string `json:"what"`
	// Where to look; zero if there is no place.
	Where Place `json:"where,omitzero"`
	// Why it happened, as far as evidence tells; may have several lines.
	Why string `json:"why,omitempty"`
	// Fix says what to change.
	Fix string `json:"fix,omitempty"`
	// Reproduce and Resume are command lines.
	Reproduce string `json:"reproduce,omitempty"`
	Resume    string `json:"resume,omitempty"`
}
