//go:build !linux || (!amd64 && !arm64)

package sandboxtest

import (
	"errors"
	"os"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

type attempt struct {
	name string
	from sandbox.Level
}

// escapes is nil: there are no attempts for this system.
var escapes []attempt

// escapePayloads is nil, too.
func (p payload) escapePayloads() map[string]func([]string) error { return nil }

func openTerminal() (terminal, master *os.File, err error) { return nil, nil, errors.ErrUnsupported }
