// Command helper is the smallest program that can be process 1 of a container.
package main

import "github.com/ultrafast-ci/ultrafast/internal/sandbox/inside"

func main() { inside.Reexec() }
