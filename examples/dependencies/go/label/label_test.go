package label

import "testing"

func TestNew(t *testing.T) {
	if a, b := New(), New(); a == b || !Valid(a) || !Valid(b) {
		t.Errorf("labels %q and %q", a, b)
	}
}

func TestValid(t *testing.T) {
	for _, s := range []string{"", "parcel-", "parcel-1", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"} {
		if Valid(s) {
			t.Errorf("%q is taken for a label", s)
		}
	}
}
