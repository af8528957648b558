//go:build !linux

package docker

// sameMounts reports false: engines run on Linux, here in a virtual machine.
func sameMounts(string) bool { return false }

func userProcesses() int64 { return manyProcesses }
