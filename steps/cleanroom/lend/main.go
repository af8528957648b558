//go:build linux

// Command lend starts a program with data that nobody else has: it asks at an address for
// variables, and holds the connection as long as the program lives.
//
//	lend ADDRESS PROGRAM [ARGUMENT…]
//
// It runs in the sandbox, compiled by the toolchain of the tests, as what `go test -exec`
// calls for the binary of each package. It imports the standard library alone.
package main

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

func main() {
	// It comes back with an error only.
	_, _ = os.Stderr.WriteString("data of its own for a test: " + lend(os.Args[1:]).Error() + "\n")
	syscall.Exit(1)
}

// most bounds the variables, in bytes.
const most = 1 << 20

func lend(args []string) error {
	if len(args) < 2 {
		return errors.New("no address and program")
	}
	c, err := net.Dial("tcp", args[0])
	if err != nil {
		return err
	}
	var env []string
	for r := bufio.NewReader(io.LimitReader(c, most)); ; {
		// Each variable ends with a zero byte, and all of them with an empty one.
		v, err := r.ReadString(0)
		if err != nil {
			return errors.New("none is to be had; the run says why")
		}
		if v == "\x00" {
			break
		}
		env = append(env, v[:len(v)-1])
	}
	// The copy stays open in the program, and with its end is closed by the kernel.
	held, err := c.(*net.TCPConn).File()
	if err != nil {
		return err
	}
	if _, _, e := syscall.Syscall(syscall.SYS_FCNTL, held.Fd(), syscall.F_SETFD, 0); e != 0 {
		return e
	}
	// Of two variables with one name the first counts.
	return syscall.Exec(args[1], args[1:], append(env, syscall.Environ()...))
}
