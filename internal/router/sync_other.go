//go:build !unix

package router

// syncDir does nothing: a directory cannot be opened for it here, and the file
// system journals renames.
func syncDir(string) error { return nil }
