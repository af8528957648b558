// Package document reads YAML and TOML into one tree of nodes that know their
// place in the file, and decodes such a tree strictly into Go values.
//
// Every file that a person writes goes through here, so every error names file,
// line and column, and a key that nobody knows is an error with the nearest
// known one beside it, never a silent default. Input is hostile until shown
// otherwise: size, nesting and the growth by aliases are bounded, a key may
// occur once, a YAML file holds one document.
//
//	node, err := document.ParseTOML("ggen.toml", text)
//	if err != nil { … }
//	var project struct {
//		Name string `doc:"name,required"`
//	}
//	err = document.Decode(node, &project)
//
// The package reads no file, clock or environment. It is the only importer of
// the YAML and TOML libraries.
package document

import "github.com/ultrafast-ci/ultrafast/steps/fault"

// Bounds on what is parsed.
const (
	// MaxSize is the largest document in bytes.
	MaxSize = 1 << 20
	// MaxDepth is how deep sequences and maps may nest.
	MaxDepth = 100
	// MaxNodes is how many nodes a document may have, those that an alias
	// repeats counted each time.
	MaxNodes = 200_000
	// MaxKeys is how many keys a YAML document may have in all its maps.
	MaxKeys = 10_000
)

// failure returns an error about a place in a file. Without a hint of its own it
// has the one that always holds.
func failure(at Place, hint, format string, args ...any) error {
	if hint == "" {
		hint = "correct the file at that place"
	}
	return fault.New(fault.Usage, hint, "%s: "+format, append([]any{at}, args...)...)
}
