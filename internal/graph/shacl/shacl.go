// Package shacl validates graphs against shapes: the core of the Shapes
// Constraint Language (W3C Recommendation of 20 July 2017; the sections named
// in comments are its own).
//
// Shapes go through these files in this order: vocabulary.go lists the words;
// shapes.go finds the shapes of a shapes graph and the syntax rules that they
// break; path.go and constraint.go hold what they say; validate.go applies them
// to a data graph; report.go is what comes out.
//
// A shapes graph that breaks a rule of the standard, that refers to itself, or
// that uses what lies beyond the core (SPARQL, JavaScript, rules, entailment)
// is refused by name and section: nothing is ever left unchecked in silence.
// The package reads the two graphs that it is given and nothing else. Results
// come in the same order on every run, and every run ends within [Limits].
package shacl

import (
	"fmt"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
)

// Bounds of a shapes graph.
const (
	MaxShapes = 100_000
	// MaxDepth bounds how many shapes refer to one another in a row, and how
	// deeply paths are nested.
	MaxDepth = 64
	// maxMistakes bounds how many are told of at once.
	maxMistakes = 20
)

// Shapes are the shapes of a shapes graph, in order of first appearance. They
// do not change and may be used by several goroutines at once.
type Shapes struct {
	all       []*shape
	constants []graph.Term // what shapes name: numbered once for each data graph
	remarks   []remark
}

// remark is something that the shapes graph says and that has no effect.
type remark struct{ rule, what, why, fix string }

// Len returns the number of shapes.
func (s *Shapes) Len() int { return len(s.all) }

// Remarks returns what a reader of the shapes graph might expect and validation
// does not do: imports, which are never fetched, and shapes that are applied to
// nothing.
func (s *Shapes) Remarks(where finding.Place) []finding.Finding {
	var out []finding.Finding
	for _, r := range s.remarks {
		out = append(out, finding.Finding{
			Rule: r.rule, Severity: finding.Low, Where: where, What: r.what, Why: r.why, Fix: r.fix,
		})
	}
	return out
}

// constant is the index of a term in Shapes.constants.
type constant int

// shape is a node shape or a property shape (section 2).
type shape struct {
	index       int
	node        graph.Term
	name        string // for people: the IRI, or where a blank node hangs
	path        *path  // nil for a node shape
	targets     []target
	constraints []constraint
	severity    string
	messages    []graph.Term
	deactivated bool

	// refers are the shapes that this one refers to; height is the length of
	// the longest chain of them.
	refers   []*shape
	used     bool
	height   int
	visiting bool
	visited  bool
}

// targetKind says how a target chooses focus nodes (section 2.1.3).
type targetKind uint8

const (
	targetNode targetKind = iota
	targetClass
	targetSubjectsOf
	targetObjectsOf
)

type target struct {
	kind targetKind
	term constant
}

// mistake is something wrong with a shapes graph.
type mistake struct {
	shape, what, section, hint string
}

func (m mistake) err() error {
	return fault.New(fault.Finding, m.hint, "%s: %s (SHACL, section %s)", m.shape, m.what, m.section)
}

// failure carries an error up to whoever began the work.
type failure struct{ err error }

// catch runs f and returns the error that it failed with.
func catch(f func()) (err error) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case failure:
			err = v.err
		default:
			panic(v)
		}
	}()
	f()
	return nil
}

func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
