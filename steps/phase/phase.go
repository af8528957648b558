// Package phase names the five phases of a run and their order.
//
// A phase has the same name everywhere: binary, image, action, flag value,
// chain entry. The package holds words only and imports nothing of ours.
package phase

import (
	"fmt"
	"slices"
)

// Name is the name of a phase as it is written in entries, flags and outputs.
type Name string

// The five phases.
const (
	Market    Name = "market"
	Generate  Name = "generate"
	Cleanroom Name = "cleanroom-test"
	Validate  Name = "validate"
	Deploy    Name = "deploy"
)

var order = []Name{Market, Generate, Cleanroom, Validate, Deploy}

// All returns the phases in the order in which a run takes them.
func All() []Name { return slices.Clone(order) }

// Index returns the position of n in a run, from 0, or -1 if n is not a phase.
func (n Name) Index() int { return slices.Index(order, n) }

// Valid reports whether n is one of the five phases.
func (n Name) Valid() bool { return n.Index() >= 0 }

// Before reports whether n comes earlier in a run than other.
func (n Name) Before(other Name) bool { return n.Index() < other.Index() }

// Parse returns the phase called s, or an error that lists the valid names.
func Parse(s string) (Name, error) {
	if n := Name(s); n.Valid() {
		return n, nil
	}
	return "", fmt.Errorf("unknown phase %q: the phases are %v", s, order)
}
