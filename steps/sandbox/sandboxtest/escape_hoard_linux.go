//go:build amd64 || arm64

package sandboxtest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// bomb starts two of itself, each of which does so, until no process can be started;
// then it says so, and holds.
func (p payload) bomb(args []string) error {
	for range 2 {
		cmd := exec.Command("/proc/self/exe", payloadArg, "bomb", args[0])
		cmd.Stdout = os.Stdout
		if err := cmd.Start(); err != nil {
			break
		}
	}
	p.ready()
	select {}
}

// hoard takes so many bytes of memory in the given way.
func (p payload) hoard(args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	const piece = 1 << 20
	data := make([]byte, piece)
	for i := range data {
		data[i] = byte(i)
	}
	var kept [][]byte
	for i := range n / piece {
		switch args[0] {
		case "heap":
			kept = append(kept, slices.Clone(data))
		case "shared memory":
			err = appendTo("/dev/shm/hoard", data)
		case "memory files":
			err = memoryFile(data)
		case "pipes":
			err = fillPipe(data)
		}
		if err != nil {
			return fmt.Errorf("after %d MiB: %w", i, err)
		}
	}
	runtime.KeepAlive(kept)
	return nil
}

func appendTo(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(data)
	return err
}

// memoryFile makes one that stays open until the end.
func memoryFile(data []byte) error {
	fd, _, errno := syscall.Syscall(sysMemfdCreate, text("hoard"), 0, 0)
	if errno != 0 {
		return fmt.Errorf("memfd_create: %w", errno)
	}
	n, err := syscall.Write(int(fd), data)
	if err == nil && n < len(data) {
		err = io.ErrShortWrite
	}
	return err
}

// fillPipe leaves as many full pipes behind as hold data.
func fillPipe(data []byte) error {
	for len(data) > 0 {
		var fds [2]int
		if err := syscall.Pipe2(fds[:], syscall.O_NONBLOCK); err != nil {
			return fmt.Errorf("pipe: %w", err)
		}
		filled := 0
		for len(data) > 0 {
			n, err := syscall.Write(fds[1], data[:min(len(data), 4096)])
			if err != nil {
				break
			}
			filled += n
			data = data[n:]
		}
		if filled == 0 {
			return errors.New("a pipe takes nothing")
		}
	}
	return nil
}

// fillAll writes so many bytes into every mount that takes a file, and prints what
// refused it; that one takes them all is an error.
func (p payload) fillAll(args []string) error {
	n, err := strconv.ParseInt(args[0], 10, 64)
	if err != nil {
		return err
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	var refused []string
	for line := range strings.Lines(string(mounts)) {
		target := strings.Fields(line)[1]
		if st, err := os.Stat(target); err != nil || !st.IsDir() {
			continue
		}
		path := filepath.Join(target, "escape-fill")
		f, err := os.Create(path)
		if err != nil {
			continue
		}
		wrote, err := io.CopyN(f, zeros{}, n)
		f.Close()
		os.Remove(path)
		if err == nil {
			return fmt.Errorf("%s took %d bytes", target, wrote)
		}
		refused = append(refused, fmt.Sprintf("%s: %v after %d MiB", target, errors.Unwrap(err), wrote>>20))
	}
	slices.Sort(refused)
	fmt.Fprintln(p.stdout, strings.Join(slices.Compact(refused), "; "))
	return nil
}
