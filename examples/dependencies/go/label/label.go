// Package label makes labels of parcels.
package label

import (
	"strings"

	"github.com/google/uuid"
)

// New returns a label that no other parcel has.
func New() string { return "parcel-" + uuid.NewString() }

// Valid reports whether s is a label.
func Valid(s string) bool {
	id, ok := strings.CutPrefix(s, "parcel-")
	return ok && uuid.Validate(id) == nil
}
