package app

import (
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/ultrafast-ci/ultrafast/internal/platform/runner"
)

// Secret is the value of a flag that nobody may see: it prints as "***", and the
// platform masks it before the first line is written.
type Secret string

const hidden = "***"

// Reveal returns the value.
func (s Secret) Reveal() string { return string(s) }

// String, Format, LogValue and MarshalText hide the value from every printer.
func (Secret) String() string { return hidden }

// Format hides the value whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// LogValue hides the value in logs.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText hides the value in JSON.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Mask keeps a secret out of logs and reports from now on.
func (a *App) Mask(secret string) {
	lines := runner.Lines(secret)
	if len(lines) == 0 {
		return
	}
	a.Platform.Mask(secret)
	for _, line := range lines {
		a.redact = append(a.redact, line, hidden)
	}
}

// maskAll masks what looks like a secret in the environment, and the value of every
// secret flag, wherever it comes from. It does so before anything is parsed: a
// message about a wrong command line may quote it.
func (a *App) maskAll(root *kong.Node) {
	if a.Environ != nil && a.Platform.Name() != "local" {
		for _, value := range runner.Secrets(a.Environ()) {
			a.Mask(value)
		}
	}
	for _, flag := range secretFlags(root) {
		if v, ok := a.given(flag.Name); ok {
			a.Mask(v)
		}
		for i, arg := range a.Args {
			name, value, joined := strings.Cut(arg, "=")
			switch {
			case !isFlag(name, flag):
			case joined:
				a.Mask(value)
			case i+1 < len(a.Args):
				a.Mask(a.Args[i+1])
			}
		}
	}
}

func isFlag(arg string, flag *kong.Flag) bool {
	if flag.Short != 0 && arg == "-"+string(flag.Short) {
		return true
	}
	for _, name := range append([]string{flag.Name}, flag.Aliases...) {
		if arg == "--"+name {
			return true
		}
	}
	return false
}

// secretFlags returns the flags of a command and of those below it that hold secrets.
func secretFlags(node *kong.Node) []*kong.Flag {
	var out []*kong.Flag
	for _, flag := range node.Flags {
		if t := flag.Target.Type(); t == reflect.TypeFor[Secret]() || t == reflect.TypeFor[[]Secret]() {
			out = append(out, flag)
		}
	}
	for _, child := range node.Children {
		out = append(out, secretFlags(child)...)
	}
	return out
}
