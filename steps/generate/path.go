package generate

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
)

const (
	maxPath      = 1024 // bytes; what state.Extract accepts
	maxComponent = 255  // bytes; the limit of ext4, APFS and NTFS
)

// cleanPath returns to, a path that a template asks for, cleaned and with forward
// slashes, or an error that says why no file is written there. What it accepts
// names the same file below the output root on Linux, macOS and Windows, so a
// check made here holds where the tree is unpacked (spec N-15).
func cleanPath(to string, allowCI bool) (string, error) {
	switch {
	case strings.TrimSpace(to) == "":
		return "", errors.New("the path is empty")
	case len(to) > maxPath:
		return "", fmt.Errorf("the path has %d bytes; at most %d are allowed", len(to), maxPath)
	case strings.HasPrefix(to, "/"):
		return "", errors.New("the path is absolute")
	case strings.HasSuffix(to, "/"):
		return "", errors.New("the path names a directory")
	}
	if err := checkCharacters(to); err != nil {
		return "", err
	}
	for component := range strings.SplitSeq(to, "/") {
		if err := checkComponent(component); err != nil {
			return "", err
		}
	}
	clean := path.Clean(to)
	if clean == "." {
		return "", errors.New("the path names the output directory itself")
	}
	if !allowCI {
		if name, ok := ciDefinition(clean); ok {
			return "", fmt.Errorf("%s defines a CI pipeline: %w", name, errNeedsCI)
		}
	}
	return clean, nil
}

// refused is the error for a path that no file is written to (spec N-15).
func refused(where finding.Place, template, to string, err error) error {
	if err == nil {
		err = errors.New("the path is not clean")
	}
	hint := pathHint(err, "`to` must name a file below the output directory")
	return fault.New(fault.Finding, hint, "%s: template %s may not write to %.200q: %w", where, template, to, err)
}

// pathHint says what to do about an error of [cleanPath].
func pathHint(err error, otherwise string) string {
	switch {
	case errors.Is(err, errNeedsCI):
		return "pass --allow-ci if the template is meant to change what your CI runs"
	case errors.Is(err, errNotComposed):
		return "write the second; there are systems that take both for one name, and some that change one into the other"
	default:
		return otherwise
	}
}

// errNeedsCI marks a path that only Options.AllowCI permits.
var errNeedsCI = errors.New("generated pipelines must be allowed")

// errNotComposed marks a path that is not in Unicode's normalization form C (UAX #15).
var errNotComposed = errors.New("the path is not in Unicode's form NFC")

func checkCharacters(to string) error {
	if !utf8.ValidString(to) {
		return errors.New("the path is not valid UTF-8")
	}
	if composed := norm.NFC.String(to); composed != to {
		return fmt.Errorf("%w: it is %+q where that has %+q", errNotComposed, to, composed)
	}
	for _, r := range to {
		switch {
		case r == '\\':
			return errors.New("the path has a backslash; use / between folders")
		case unicode.IsControl(r):
			return fmt.Errorf("the path has the control character %U", r)
		// File systems of macOS ignore some of these, so ".g\u200cit" would be ".git".
		case unicode.Is(unicode.Cf, r):
			return fmt.Errorf("the path has the invisible character %U", r)
		// On NTFS a colon starts a drive or a stream, the others are wildcards or invalid.
		case strings.ContainsRune(`<>:"|?*`, r):
			return fmt.Errorf("the path has the character %q, which Windows does not allow", r)
		}
	}
	return nil
}

func checkComponent(component string) error {
	switch {
	case component == "" || component == ".":
		return nil
	case component == "..":
		return errors.New(`the path has ".." in it`)
	case len(component) > maxComponent:
		return fmt.Errorf("a name in the path has %d bytes; at most %d are allowed", len(component), maxComponent)
	// Windows drops trailing dots and blanks: ".git." would be ".git".
	case strings.HasSuffix(component, ".") || strings.HasSuffix(component, " ") || strings.HasPrefix(component, " "):
		return fmt.Errorf("%q begins or ends with a blank or ends with a dot", component)
	case reservedOnWindows(component):
		return fmt.Errorf("%q is a device name on Windows", component)
	}
	if name, ok := forbiddenFolder(component); ok {
		return fmt.Errorf("%s is never a target of generated files", name)
	}
	return nil
}

// forbiddenFolder reports whether component is a folder whose content a tool
// trusts: of git, of this program, or of its clean room. "git~1" is the short
// name that Windows gives ".git".
func forbiddenFolder(component string) (string, bool) {
	lower := fold(component)
	for _, name := range [...]string{".git", ".ggen", ".cleanroom"} {
		if lower == name {
			return name, true
		}
	}
	for _, short := range [...]string{"git~", "ggen~", "cleanr~"} {
		digits, ok := strings.CutPrefix(lower, short)
		if ok && digits != "" && strings.Trim(digits, "0123456789") == "" {
			return component + " (a short name)", true
		}
	}
	return "", false
}

func ciDefinition(clean string) (string, bool) {
	components := strings.Split(fold(clean), "/")
	for i, c := range components {
		switch {
		case c == ".tekton", c == ".gitlab-ci.yml":
			return c, true
		case c == ".github" && i+1 < len(components) && components[i+1] == "workflows":
			return ".github/workflows", true
		}
	}
	return "", false
}

// reservedOnWindows follows Microsoft's list in "Naming Files, Paths, and
// Namespaces": the name before the first dot counts, in any case.
func reservedOnWindows(component string) bool {
	base, _, _ := strings.Cut(component, ".")
	base = strings.ToUpper(strings.TrimRight(base, " "))
	switch base {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$":
		return true
	}
	for _, device := range [...]string{"COM", "LPT"} {
		number, ok := strings.CutPrefix(base, device)
		if ok && utf8.RuneCountInString(number) == 1 && strings.Contains("0123456789¹²³", number) {
			return true
		}
	}
	return false
}
