// Command helper is what the embedded sandbox starts as its supervisors and inits: no
// more than that, so that a start costs next to nothing. `make build` and the images
// put it into the programs; see "Start-up" in package embedded.
package main

import "github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"

func main() { embedded.Reexec() }
