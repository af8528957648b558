package router

import (
	"io/fs"
	"os"
	"testing"
)

func TestPeer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		peer, owner uint32
		ok          bool
	}{{1000, 1000, true}, {0, 1000, true}, {1001, 1000, false}, {1000, 0, false}} {
		if err := allowed(c.peer, c.owner); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestSocketMode(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir())
	info, err := os.Stat(r.socket)
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}
