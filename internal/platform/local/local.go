// Package local is a machine without a CI system: nothing to read inputs from, and
// nobody to hand outputs to but the person at the terminal.
package local

import "github.com/ultrafast-ci/ultrafast/steps/finding"

// Platform has no CI system behind it.
type Platform struct{}

// Name is "local".
func (Platform) Name() string { return "local" }

// Input returns nothing.
func (Platform) Input(string) (string, bool) { return "", false }

// Output does nothing: the caller prints results.
func (Platform) Output(string, string) error { return nil }

// Annotate does nothing: the caller prints findings.
func (Platform) Annotate(finding.Finding) {}
