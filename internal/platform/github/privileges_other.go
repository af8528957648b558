//go:build !linux

package github

import "github.com/ultrafast-ci/ultrafast/internal/platform/runner"

// Drop does nothing: container actions run on Linux alone.
func Drop(runner.Lookup) error { return nil }
