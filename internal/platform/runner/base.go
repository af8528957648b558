package runner

import (
	"errors"
	"io"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/finding"
)

// Host is what a platform gets from the process that it is in.
type Host struct {
	Lookup         Lookup
	Stdout, Stderr io.Writer
	// Now is the clock of the log.
	Now func() time.Time
}

// Base is a platform that offers nothing: what others are built on.
type Base struct {
	Host
	// Commands is the stream that commands go to; nil where nobody reads it.
	Commands *Stream
	streams  []*Stream
}

// NewBase returns a Base whose streams follow syntax. Commands go to standard error,
// which runners read like standard output, so that results stay clean and commands
// keep their order among progress lines; to standard output only where nobody sees
// standard error. A stream into a regular file is left as it is, byte for byte: no
// runner reads it.
func NewBase(host Host, syntax Syntax) Base {
	b := Base{Host: host}
	wrap := func(w io.Writer) io.Writer {
		if w == nil || !Visible(w) {
			return w
		}
		s := NewStream(w, syntax)
		b.streams = append(b.streams, s)
		if b.Commands == nil {
			b.Commands = s
		}
		return s
	}
	b.Stderr = wrap(host.Stderr)
	b.Stdout = wrap(host.Stdout)
	return b
}

// Out and Err are where results and progress are written.
func (b *Base) Out() io.Writer { return b.Stdout }

// Err is described at [Base.Out].
func (b *Base) Err() io.Writer { return b.Stderr }

// Flush writes what the streams kept back.
func (b *Base) Flush() error {
	var errs []error
	for _, s := range b.streams {
		errs = append(errs, s.Flush())
	}
	return errors.Join(errs...)
}

// Hide has a secret shown as "***" on both streams.
func (b *Base) Hide(secret string) {
	for _, s := range b.streams {
		s.Hide(secret)
	}
}

// Command writes a command, if anybody reads commands.
func (b *Base) Command(line string) {
	if b.Commands != nil {
		_ = b.Commands.Command(line) // a reader that is gone is no reason to fail
	}
}

// Enter does nothing.
func (*Base) Enter(bool) error { return nil }

// Input returns nothing.
func (*Base) Input(string) (string, bool) { return "", false }

// Output does nothing: the caller prints results.
func (*Base) Output(string, string) error { return nil }

// Subject does nothing.
func (*Base) Subject(string) error { return nil }

// Mask hides the secret in what is written from now on.
func (b *Base) Mask(secret string) { b.Hide(secret) }

// Group does nothing.
func (*Base) Group(string) (end func()) { return func() {} }

// Annotate does nothing: the caller prints findings.
func (*Base) Annotate(finding.Finding) bool { return false }

// SummaryLimit is zero: there is no summary.
func (*Base) SummaryLimit() int { return 0 }

// Summary does nothing.
func (*Base) Summary(string) error { return nil }

// ReportDir is empty: reports are written where the caller says.
func (*Base) ReportDir() string { return "" }

// Root is empty: it is not known.
func (*Base) Root() string { return "" }

// Here returns the directory as it is.
func (*Base) Here(dir string) string { return dir }

// Debug is false.
func (*Base) Debug() bool { return false }

// NoSecrets is empty: secrets are where the caller put them.
func (*Base) NoSecrets() string { return "" }

// Protected is false: nobody vouches.
func (*Base) Protected() bool { return false }
