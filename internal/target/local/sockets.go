package local

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// maxSocket is the longest path that a unix socket has on every system (macOS
// has the shortest, 104 bytes with the final zero).
const maxSocket = 103

// socketNote is the file that says where the sockets of an environment are.
const socketNote = "sockets"

// socketDir returns the directory for the sockets of the environment in dir. It
// is short, whatever dir is. When it is made it is written down in dir: a later
// command may run with another TMPDIR and must find the same processes.
func socketDir(dir string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, socketNote))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fault.New(fault.Unavailable, "", "deploy directory: %w", err)
	}
	runs := strings.TrimSpace(string(b))
	if runs == "" {
		name := filepath.Join(fmt.Sprintf("ultrafast-%d", os.Getuid()), state.DigestOf([]byte(dir)).Hex()[:12])
		runs = filepath.Join(os.TempDir(), name)
		if len(filepath.Join(runs, "0123456789ab.sock")) > maxSocket {
			runs = filepath.Join("/tmp", name)
		}
	}
	for _, d := range []string{filepath.Dir(runs), runs} {
		if err := private(d); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return runs, nil
}

// makeSocketDir makes what socketDir found, and writes it down.
func (t *Target) makeSocketDir() error {
	if err := os.MkdirAll(filepath.Dir(filepath.Dir(t.runs)), 0o700); err != nil {
		return fault.New(fault.Unavailable, "", "directory for sockets: %w", err)
	}
	for _, d := range []string{filepath.Dir(t.runs), t.runs} {
		if err := os.Mkdir(d, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return fault.New(fault.Unavailable, "", "directory for sockets: %w", err)
		}
		if err := private(d); err != nil {
			return err
		}
	}
	if err := writeFile(filepath.Join(t.dir, socketNote), []byte(t.runs+"\n")); err != nil {
		return fault.New(fault.Unavailable, "", "deploy directory: %w", err)
	}
	return nil
}

// private checks that only we can enter a directory: the one for temporary files
// belongs to everybody, and whoever owns a socket's directory owns the socket.
func private(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return fault.New(fault.Unavailable, "", "directory for sockets: %w", err)
	}
	if !info.IsDir() || !ours(info) {
		return fault.New(fault.Unavailable, "remove it, or set TMPDIR to a directory of your own",
			"directory for sockets %s is not a directory that only you can enter (%s)", dir, info.Mode())
	}
	return nil
}

// answers reports whether a process listens on the socket.
func answers(socket string) bool {
	c, err := net.DialTimeout("unix", socket, time.Second)
	if err != nil {
		return false
	}
	_ = c.Close() // it was opened only to see whether it can be
	return true
}

// writeFile writes a file so that after any crash the old or the new one is there.
func writeFile(path string, b []byte) error {
	temp := path + ".new"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
