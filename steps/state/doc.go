// Package state is the contract between phases: a chain of content-addressed
// entries, and the bytes they name.
//
// Every phase adds one [Entry], a claim about what it read and what it made.
// Claims are hashed into the chain: an entry names the digest of the one before
// it, so the last digest stands for all of them. What differs from run to run
// (durations, logs, attempts, the back end that was used, who ran it) is
// [Evidence]: it is kept beside the claim and refers to it, but is never hashed
// into the chain. So the same inputs give the same digests on every platform.
//
// The package defines the encoding and reads and writes no store: bytes move
// through [Blobs], which the caller supplies. A phase gets a [State] and returns
// one [Result]; it cannot rewrite history.
package state
