package state

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"
)

// Digest names bytes by their SHA-256, written "sha256:" and 64 lower-case hex
// digits, as in the OCI image specification. The zero value names nothing.
type Digest string

const digestPrefix = "sha256:"

// DigestOf returns the digest of b.
func DigestOf(b []byte) Digest {
	sum := sha256.Sum256(b)
	return Digest(digestPrefix + hex.EncodeToString(sum[:]))
}

// ParseDigest returns s as a digest, or an error that says what is wrong with it.
func ParseDigest(s string) (Digest, error) {
	digits, ok := strings.CutPrefix(s, digestPrefix)
	if !ok {
		return "", fmt.Errorf("digest %.80q does not start with %q", s, digestPrefix)
	}
	if len(digits) != 2*sha256.Size {
		return "", fmt.Errorf("digest %.80q has %d hex digits, not %d", s, len(digits), 2*sha256.Size)
	}
	for _, c := range digits {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return "", fmt.Errorf("digest %.80q has %q, which is not a lower-case hex digit", s, c)
		}
	}
	return Digest(s), nil
}

// Hex returns the 64 hex digits without the algorithm.
func (d Digest) Hex() string { return strings.TrimPrefix(string(d), digestPrefix) }

// Short returns the first 12 hex digits, enough to tell digests apart for a person.
func (d Digest) Short() string {
	if h := d.Hex(); len(h) > 12 {
		return h[:12]
	}
	return d.Hex()
}

// Hasher computes a digest and a size of what is written to it.
type Hasher struct {
	hash hash.Hash
	size int64
}

// NewHasher returns a Hasher over nothing yet.
func NewHasher() *Hasher { return &Hasher{hash: sha256.New()} }

// Write adds p. It never fails.
func (h *Hasher) Write(p []byte) (int, error) {
	h.size += int64(len(p))
	return h.hash.Write(p)
}

// Digest returns the digest of everything written so far.
func (h *Hasher) Digest() Digest { return Digest(digestPrefix + hex.EncodeToString(h.hash.Sum(nil))) }

// Size returns the number of bytes written so far.
func (h *Hasher) Size() int64 { return h.size }
