//go:build unix

package oci_test

import (
	"os"
	"syscall"
)

// ownerOf is the owner of a file, or of a link itself.
func ownerOf(path string) (uint32, error) {
	st, err := os.Lstat(path)
	if err != nil {
		return 0, err
	}
	return st.Sys().(*syscall.Stat_t).Uid, nil
}
