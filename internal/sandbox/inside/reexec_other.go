//go:build !linux

package inside

// Reexec reports false: containers run Linux.
func Reexec() bool { return false }
