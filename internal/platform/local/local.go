// Package local is a machine without a CI system: nothing to read inputs from, and
// nobody to hand outputs to but the person at the terminal. It writes what it is
// given, byte for byte.
package local

import "github.com/ultrafast-ci/ultrafast/internal/platform/runner"

// Platform has no CI system behind it.
type Platform struct{ runner.Base }

// New returns the platform.
func New(host runner.Host) *Platform { return &Platform{runner.Base{Host: host}} }

// Name is "local".
func (*Platform) Name() string { return "local" }
