// Package generate turns template packages and graphs into a source tree.
//
// A run goes load → resolve graphs → shapes → query → merge variables → render → plan →
// write. Everything is rendered and planned before the first write: a path that
// may not be written, two templates that name one file, an undefined variable or
// a query that does not parse stop the run while the output directory is still
// untouched. Writes are staged, journalled and renamed, so what a kill left is
// completed by the next run, and a write that fails is taken back.
//
// The same inputs give the same bytes everywhere: there is no clock, no
// environment, no randomness and no map order in what is rendered, only one
// seed. The package runs no program and opens no connection, and writes nowhere
// but below the output directory it is given.
//
//	step := generate.Step{Units: []generate.Unit{{Template: "go-http-service:*"}}}
//	result, err := step.Run(ctx, chain, blobs)
package generate
