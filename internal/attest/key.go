package attest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// The PEM block types of the two encodings (RFC 7468 sections 10 and 13).
const (
	blockPrivate = "PRIVATE KEY"
	blockPublic  = "PUBLIC KEY"

	// maxPEM bounds a key file in bytes; an Ed25519 key has about 120.
	maxPEM = 16 << 10

	redacted = "***"
)

const hintKeygen = "make a key pair with `validate keygen`"

// PrivateKey signs. It prints as "***", so that no log can hold it; the zero
// value signs nothing.
type PrivateKey struct{ key ed25519.PrivateKey }

// PublicKey checks what the private key of its pair signed. The zero value
// accepts nothing.
type PublicKey struct{ key ed25519.PublicKey }

// GenerateKey makes a key from 32 bytes of random, which must be
// cryptographically random outside of tests.
func GenerateKey(random io.Reader) (PrivateKey, error) {
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(random, seed); err != nil {
		return PrivateKey{}, fault.New(fault.Unavailable, "", "read %d random bytes for a key: %w", len(seed), err)
	}
	return PrivateKey{key: ed25519.NewKeyFromSeed(seed)}, nil
}

// ParsePrivate reads a PKCS #8 private key in PEM. Anything but exactly one
// Ed25519 key is an error of kind fault.Usage.
func ParsePrivate(b []byte) (PrivateKey, error) {
	der, err := decodePEM(b, blockPrivate)
	if err != nil {
		return PrivateKey{}, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		// The parser's own message is dropped: it may quote what it was given.
		return PrivateKey{}, fault.New(fault.Usage, hintKeygen, "private key is not PKCS #8")
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return PrivateKey{}, fault.New(fault.Usage, hintKeygen, "private key is a %T, not an Ed25519 key", parsed)
	}
	return PrivateKey{key: key}, nil
}

// ParsePublic reads a public key (SubjectPublicKeyInfo) in PEM. Anything but
// exactly one Ed25519 key is an error of kind fault.Usage.
func ParsePublic(b []byte) (PublicKey, error) {
	der, err := decodePEM(b, blockPublic)
	if err != nil {
		return PublicKey{}, err
	}
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return PublicKey{}, fault.New(fault.Usage, hintKeygen, "public key: %w", err)
	}
	key, ok := parsed.(ed25519.PublicKey)
	if !ok {
		return PublicKey{}, fault.New(fault.Usage, hintKeygen, "public key is a %T, not an Ed25519 key", parsed)
	}
	return PublicKey{key: key}, nil
}

func decodePEM(b []byte, want string) ([]byte, error) {
	if len(b) > maxPEM {
		return nil, fault.New(fault.Usage, hintKeygen, "key has %d bytes; at most %d are read", len(b), maxPEM)
	}
	block, rest := pem.Decode(b)
	switch {
	case block == nil:
		return nil, fault.New(fault.Usage, hintKeygen, "key is not in PEM: there is no %q block", "BEGIN "+want)
	case block.Type != want:
		return nil, fault.New(fault.Usage, "", "expected a PEM block %q, found %q", want, block.Type)
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, fault.New(fault.Usage, "keep one key per file", "there is more after the PEM block %q", want)
	}
	return block.Bytes, nil
}

// PEM returns the key in PKCS #8, or nil for the zero key.
func (k PrivateKey) PEM() []byte {
	if len(k.key) == 0 {
		return nil
	}
	der, err := x509.MarshalPKCS8PrivateKey(k.key)
	if err != nil {
		return nil // cannot happen: every Ed25519 key has an encoding
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockPrivate, Bytes: der})
}

// Public returns the public half of the pair.
func (k PrivateKey) Public() PublicKey {
	if len(k.key) == 0 {
		return PublicKey{}
	}
	return PublicKey{key: k.key.Public().(ed25519.PublicKey)}
}

// String returns "***".
func (k PrivateKey) String() string { return redacted }

// Format writes "***" for every verb, %#v and %x included.
func (k PrivateKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue makes a log show "***".
func (k PrivateKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText makes an encoder write "***".
func (k PrivateKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// PEM returns the key as SubjectPublicKeyInfo, or nil for the zero key.
func (k PublicKey) PEM() []byte {
	if len(k.key) == 0 {
		return nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockPublic, Bytes: k.der()})
}

// ID names the key: the SHA-256 of its SubjectPublicKeyInfo, written
// "sha256:<hex>". The zero key has the empty ID.
func (k PublicKey) ID() string {
	if len(k.key) == 0 {
		return ""
	}
	return string(state.DigestOf(k.der()))
}

// String returns the ID.
func (k PublicKey) String() string { return k.ID() }

func (k PublicKey) der() []byte {
	der, err := x509.MarshalPKIXPublicKey(k.key)
	if err != nil {
		return nil // cannot happen: every Ed25519 key has an encoding
	}
	return der
}
