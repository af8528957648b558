//go:build !linux

package local

// birth is not told here; then a held lock alone proves whose the record is.
func birth(int) (string, error) { return "", nil }
