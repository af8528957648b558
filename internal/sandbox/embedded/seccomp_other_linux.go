//go:build !amd64 && !arm64 && !riscv64

package embedded

import (
	"fmt"
	"runtime"
)

// filterCalls fails: without a table of this architecture's calls there is no filter,
// and without a filter no level full.
func filterCalls() error {
	return fmt.Errorf("the system calls of %s are not known here", runtime.GOARCH)
}

func describeFilter() string { return "none" }
