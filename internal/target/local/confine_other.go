//go:build !linux

package local

// confines reports whether a service can be given a root directory and a user.
func confines() bool { return false }
