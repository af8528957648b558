package market

import (
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// maxID is the longest package id in bytes; it leaves room for a version in a
// file name of 255.
const maxID = 100

// CheckID returns what is wrong with a package id, as an error of kind
// fault.Usage (features.md S-01, S-02, N-01). An id has 1 to 100 lower-case
// letters, digits, hyphens and dots, begins and ends with a letter or digit, has
// no two dots in a row, and is not the name of a device on Windows. So it is
// safe as a file name on every platform and is never taken for a flag.
func CheckID(id string) error {
	const hint = "an id has lower-case letters, digits, hyphens and dots, and begins and ends with a letter or digit"
	switch {
	case strings.Contains(id, ".."):
		return fault.New(fault.Usage, "", "Package ID cannot contain '..': %.120q", id)
	case len(id) > maxID:
		return fault.New(fault.Usage, "", "Invalid package ID format: %.40q… has %d bytes, at most %d are allowed", id, len(id), maxID)
	case id == "" || !alphanumeric(id[0]) || !alphanumeric(id[len(id)-1]):
		return fault.New(fault.Usage, hint, "Invalid package ID format: %q", id)
	}
	for i := range len(id) {
		if c := id[i]; !alphanumeric(c) && c != '-' && c != '.' {
			return fault.New(fault.Usage, hint, "Invalid package ID format: %q has %q at position %d", id, c, i+1)
		}
	}
	if stem, _, _ := strings.Cut(id, "."); reserved(stem) {
		return fault.New(fault.Usage, "", "Invalid package ID format: %q is a device name on Windows", id)
	}
	return nil
}

func alphanumeric(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

// reserved reports whether Windows takes name for a device, whatever its extension.
func reserved(name string) bool {
	switch name {
	case "con", "prn", "aux", "nul":
		return true
	}
	device := len(name) == 4 && (strings.HasPrefix(name, "com") || strings.HasPrefix(name, "lpt"))
	return device && name[3] >= '1' && name[3] <= '9'
}
