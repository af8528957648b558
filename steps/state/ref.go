package state

import (
	"fmt"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Ref is the one string that travels between jobs: where the store is and which
// entry is the head, written "<store url>@sha256:…".
type Ref struct {
	// Store is a store URL such as "layout:/work/.ggen/state".
	Store string
	Head  Digest
}

// MaxRef is the most bytes that a reference may have: the smallest of the limits
// that platforms put on an output (Tekton's termination message).
const MaxRef = 4096

// ParseRef returns s as a reference. Errors are of kind fault.Usage.
func ParseRef(s string) (Ref, error) {
	const hint = "pass on the output `state` of the phase before, unchanged: <store>@sha256:<64 hex digits>"
	if len(s) > MaxRef {
		return Ref{}, fault.New(fault.Usage, hint, "state reference has %d bytes; at most %d are allowed", len(s), MaxRef)
	}
	i := strings.LastIndex(s, "@")
	if i <= 0 {
		return Ref{}, fault.New(fault.Usage, hint, "state reference %q has no store before an \"@\"", s)
	}
	head, err := ParseDigest(s[i+1:])
	if err != nil {
		return Ref{}, fault.New(fault.Usage, hint, "state reference %q: %w", s, err)
	}
	return Ref{Store: s[:i], Head: head}, nil
}

// String returns the reference as it is passed on.
func (r Ref) String() string { return fmt.Sprintf("%s@%s", r.Store, r.Head) }
