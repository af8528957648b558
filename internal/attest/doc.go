// Package attest signs verdicts and checks signed verdicts.
//
// A [Verdict] says that an image was judged, by which rules and with what
// result. It is written as an in-toto Statement v1 with a SLSA Verification
// Summary predicate on the image's digest and signed as a DSSE envelope with an
// Ed25519 key. [VerifyVerdict] is the gate in front of a deploy: it fails closed,
// and each way of failing has its own message.
//
// The package never reads a file, a clock or the environment: keys, time and
// randomness are handed in, and which keys are trusted is the caller's to say.
// A private key never appears in a message or a log.
package attest
