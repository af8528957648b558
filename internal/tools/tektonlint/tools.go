//go:build tools

package main

// Tekton's program that starts a step's command and reads its results. The tests of
// platforms build it in this module, so that it is the version of the types.
import _ "github.com/tektoncd/pipeline/cmd/entrypoint"
