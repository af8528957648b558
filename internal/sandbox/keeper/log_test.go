package keeper

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestLogIsBounded: the first of it goes, the last of it is there.
func TestLogIsBounded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.log")
	l, err := newLog(path)
	if err != nil {
		t.Fatal(err)
	}
	chunk := bytes.Repeat([]byte("0123456789abcde\n"), 4<<10)
	for range 3*maxLog/len(chunk) + 1 {
		if _, err := l.Write(chunk); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Write([]byte("the end")); err != nil {
		t.Fatal(err)
	}
	var size int64
	for _, p := range []string{path, path + ".1"} {
		st, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		size += st.Size()
	}
	if size > 2*maxLog+int64(len(chunk)) {
		t.Errorf("%d bytes are kept", size)
	}
	l.finish()
	var all []byte
	b := make([]byte, 10_000)
	for at := int64(0); ; {
		n, next, more := l.read(b, at)
		if n == 0 {
			if more != nil {
				t.Error("a finished log promises more")
			}
			break
		}
		all, at = append(all, b[:n]...), next
	}
	if int64(len(all)) != size || !bytes.HasSuffix(all, []byte("abcde\nthe end")) || !bytes.HasPrefix(all, []byte("0123456789")) {
		t.Errorf("%d bytes of %d: %.20q … %q", len(all), size, all, all[max(0, len(all)-20):])
	}
	if got := string(l.tail(9)); got != "e\nthe end" {
		t.Errorf("tail %q", got)
	}
	if _, err := l.Write([]byte("late")); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("write after the end: %v", err)
	}
	l.close()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file stays: %v", err)
	}
}
