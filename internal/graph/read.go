package graph

import (
	"crypto/sha256"
	"encoding/hex"
)

// Bounds of reading one file, where [ReadOptions] sets no other.
const (
	MaxFileBytes  = 4 << 30
	MaxTokenBytes = 16 << 20
	MaxDepth      = 256
	MaxMemory     = 1 << 30
)

// ReadOptions say what a parser of a subpackage reads, and how far.
type ReadOptions struct {
	// File is the name that errors show.
	File string
	// Base is the IRI against which relative IRIs are resolved until the file
	// declares another. If it is empty, a relative IRI is an error.
	Base string
	// Scope makes blank-node labels unique among files. It is [A-Za-z0-9]+; if
	// it is empty it is derived from File.
	Scope string
	// Graph is the IRI of the named graph that is added to; empty is the default
	// graph.
	Graph string

	// MaxBytes, MaxToken and MaxDepth bound the file, a token (a literal, an IRI,
	// a comment, a tag) and nesting; 0 means [MaxFileBytes], [MaxTokenBytes] and
	// [MaxDepth].
	MaxBytes int64
	MaxToken int
	MaxDepth int
	// MaxMemory bounds the memory of a notation that is not read as a stream, in
	// bytes; 0 means [MaxMemory].
	MaxMemory int64
}

// WithDefaults returns the options with every bound and the scope set.
func (o ReadOptions) WithDefaults() ReadOptions {
	if o.MaxBytes == 0 {
		o.MaxBytes = MaxFileBytes
	}
	if o.MaxToken == 0 {
		o.MaxToken = MaxTokenBytes
	}
	if o.MaxDepth == 0 {
		o.MaxDepth = MaxDepth
	}
	if o.MaxMemory == 0 {
		o.MaxMemory = MaxMemory
	}
	if o.Scope == "" {
		o.Scope = ScopeOf(o.File)
	}
	return o
}

// ScopeOf returns a scope for the blank nodes of a file of the given name: the
// first 32 bits of the name's SHA-256.
func ScopeOf(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:4])
}
