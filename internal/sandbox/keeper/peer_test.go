//go:build unix

package keeper

import "testing"

func TestAllowed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		uid, owner int
		ok         bool
	}{{0, 0, true}, {0, 1000, true}, {1000, 1000, true}, {1001, 1000, false}, {1000, 0, false}} {
		if allowed(c.uid, c.owner) != c.ok {
			t.Errorf("user %d in the environments of %d: want %t", c.uid, c.owner, c.ok)
		}
	}
}
