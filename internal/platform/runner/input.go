// Package runner holds what CI platforms have in common: inputs that arrive as
// variables, files that values are handed on in, and output streams which a runner
// reads for commands.
//
// It knows no platform by name. It never interprets a value.
package runner

import (
	"errors"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Lookup reads the environment.
type Lookup func(string) (string, bool)

// Get returns the variable, or the empty string.
func (l Lookup) Get(name string) string {
	v, _ := l(name)
	return v
}

// Input returns the value of INPUT_<NAME> and whether it was given. GitHub's runner
// upper-cases the name and keeps its dashes; a shell cannot set such a variable, so
// the spelling with underscores is read too. An empty value is no value.
func (l Lookup) Input(name string) (string, bool) {
	upper := strings.ToUpper(name)
	for _, key := range []string{"INPUT_" + upper, "INPUT_" + strings.ReplaceAll(upper, "-", "_")} {
		if v, ok := l(key); ok && v != "" {
			return v, true
		}
	}
	return "", false
}

var outputName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,99}$`) })

// CheckOutput refuses what some platform could not hand on unchanged: a name that is
// no identifier, a value with a line break or another control character, with
// invalid UTF-8, or with more than limit bytes.
func CheckOutput(name, value string, limit int) error {
	if !outputName().MatchString(name) {
		return fault.New(fault.Internal, "", "output name %q is not letters, digits, dashes and underscores", name)
	}
	doing := "output " + name
	switch {
	case len(value) > limit:
		return fault.New(fault.Usage, "shorten it, for example by a shorter store path", "%s: %d bytes; at most %d are allowed", doing, len(value), limit)
	case !utf8.ValidString(value):
		return fault.New(fault.Usage, "", "%s: not valid UTF-8", doing)
	case strings.ContainsFunc(value, isControl):
		return fault.New(fault.Usage, "", "%s: a line break or another control character", doing)
	}
	return nil
}

func isControl(r rune) bool {
	return r < 0x20 || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029'
}

// Append adds text to the end of the file, which is made if it is not there. Its
// directory is not: where that is missing the file belongs to another machine.
func Append(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return unwritable(err)
	}
	_, err = f.WriteString(text)
	return unwritable(errors.Join(err, f.Close()))
}

// WriteFile replaces the content of the file in place: a directory that is not ours
// may forbid a new file and a rename.
func WriteFile(path, text string) error {
	return unwritable(os.WriteFile(path, []byte(text), 0o644))
}

func unwritable(err error) error {
	if err == nil {
		return nil
	}
	hint := "the runner must let the step write the file"
	if errors.Is(err, fs.ErrNotExist) {
		hint = "the directory is not there: in a container, mount it at the same path"
	}
	return fault.Wrap(err, fault.Unavailable, hint, "write command file")
}

// secretName matches variables that by their name hold a secret and nothing else.
var secretName = regexp.MustCompile(`(^|_)(TOKEN|PASSWORD|PASSWD|PASSPHRASE|SECRET|CREDENTIALS?|(PRIVATE|SIGNING|SECRET|API|ACCESS)_?KEY|AUTH_CONFIG)$`)

const (
	minSecret = 8  // bytes; to mask a shorter value of a variable would blank out ordinary words
	maxSecret = 64 // variables
)

// Secrets returns the values of variables in environ ("NAME=value") whose names say
// that they are secrets. Paths are left out: they name a secret and are none.
func Secrets(environ []string) []string {
	var values []string
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		name = strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		if len(values) == maxSecret {
			break
		}
		if len(value) >= minSecret && !strings.HasPrefix(value, "/") && secretName.MatchString(name) {
			values = append(values, value)
		}
	}
	return values
}

// Lines returns a secret and, if it has several lines, those of at least four bytes:
// a log shows one line at a time.
func Lines(secret string) []string {
	trimmed := strings.TrimSpace(secret)
	if trimmed == "" {
		return nil
	}
	out := []string{trimmed}
	for line := range strings.Lines(trimmed) {
		if line = strings.TrimSpace(line); line != trimmed && len(line) >= 4 {
			out = append(out, line)
		}
	}
	return out
}

// Visible reports whether what is written to w ends up where a runner reads it: not
// in a regular file and not in the null device.
func Visible(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return true
	}
	info, err := f.Stat()
	if err != nil || info.Mode().IsRegular() {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}

// Limit is how many bytes of limit a file that exists has left.
func Limit(path string, limit int) int {
	if path == "" {
		return 0
	}
	info, err := os.Stat(path)
	if err != nil {
		return limit
	}
	return max(0, limit-int(min(info.Size(), int64(limit))))
}
