package sandboxtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// payloadArg tells the test binary that it runs inside a sandbox.
const payloadArg = "sandboxtest-payload"

// readyLine is what a payload prints once it does what it was started for.
const readyLine = "payload is ready\n"

// Main is the payload. It reports false unless args say that this is one.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) (code int, ok bool) {
	if len(args) < 3 || args[1] != payloadArg {
		return 0, false
	}
	p := payload{stdin, stdout, stderr}
	do, known := map[string]func([]string) error{
		"exit": p.exit, "copy": p.copy, "read": p.read, "write": p.write, "list": p.list,
		"hold": p.hold, "tree": p.tree, "flood": p.flood, "fill": p.fill, "spawn": p.spawn,
		"listen": p.listen, "dial": p.dial, "interfaces": p.interfaces, "namespaces": p.namespaces,
		"directory": p.directory, "ids": p.ids, "processes": p.processes,
		"environment": p.environment, "work": p.work,
	}[args[2]]
	if !known {
		do, known = p.escapePayloads()[args[2]]
	}
	if !known {
		fmt.Fprintf(stderr, "unknown payload %q\n", args[2])
		return 2, true
	}
	var e exitError
	switch err := do(args[3:]); {
	case err == nil:
		return 0, true
	case asExit(err, &e):
		return int(e), true
	default:
		fmt.Fprintln(stderr, err)
		return 1, true
	}
}

// terminate asks a payload to end.
const terminate = syscall.SIGTERM

func itoa(n int) string { return strconv.Itoa(n) }

type exitError int

func (e exitError) Error() string { return "exit " + strconv.Itoa(int(e)) }

func asExit(err error, to *exitError) bool {
	e, ok := err.(exitError)
	*to = e
	return ok
}

type payload struct {
	stdin          io.Reader
	stdout, stderr io.Writer
}

// ready says that the payload does what it was started for.
func (p payload) ready() { fmt.Fprint(p.stdout, readyLine) }

// exit ends with a code.
func (p payload) exit(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	return exitError(n)
}

// copy copies input to output, and its arguments to the other output.
func (p payload) copy(args []string) error {
	fmt.Fprint(p.stderr, strings.Join(args, " "))
	_, err := io.Copy(p.stdout, p.stdin)
	return err
}

func (p payload) read(args []string) error {
	b, err := os.ReadFile(args[0])
	if err == nil {
		_, err = p.stdout.Write(b)
	}
	return err
}

func (p payload) write(args []string) error {
	return os.WriteFile(args[0], []byte(args[1]), 0o644)
}

func (p payload) list(args []string) error {
	entries, err := os.ReadDir(args[0])
	for _, e := range entries {
		fmt.Fprintln(p.stdout, e.Name())
	}
	return err
}

// hold waits for SIGTERM, and then ends with 42.
func (p payload) hold([]string) error {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	p.ready()
	<-term
	return exitError(42)
}

// tree starts a child that leaves the process group, ignores every signal and
// holds the output open, and does the same itself. Its arguments are marks.
func (p payload) tree(args []string) error {
	dropped := make(chan os.Signal, 1)
	signal.Notify(dropped, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
	if args[len(args)-1] != "child" {
		cmd := exec.Command("/proc/self/exe", append([]string{payloadArg, "tree"}, append(args, "child")...)...)
		cmd.Stdout, cmd.Stderr = p.stdout, p.stderr
		leaveSession(cmd)
		if err := cmd.Start(); err != nil {
			return err
		}
		return cmd.Wait()
	}
	p.ready()
	for {
		<-dropped
	}
}

// flood writes without end.
func (p payload) flood([]string) error {
	b := bytes.Repeat([]byte("0123456789abcde\n"), 1024)
	for {
		if _, err := p.stdout.Write(b); err != nil {
			return err
		}
	}
}

// fill writes a file of so many bytes.
func (p payload) fill(args []string) error {
	n, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return err
	}
	f, err := os.Create(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyN(f, zeros{}, n)
	return err
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// spawn starts so many children and prints a line for each.
func (p payload) spawn(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	for range n {
		if exec.Command("sleep", "1000000").Start() != nil {
			return nil
		}
		fmt.Fprintln(p.stdout, "started")
	}
	return nil
}

// environment prints the values of variables that are set: of two with one name
// the first counts, as in getenv(3).
func (p payload) environment(args []string) error {
	b, err := os.ReadFile("/proc/self/environ")
	set := map[string]string{}
	for e := range strings.SplitSeq(string(b), "\x00") {
		name, value, ok := strings.Cut(e, "=")
		if _, twice := set[name]; ok && !twice {
			set[name] = value
		}
	}
	for _, name := range args {
		if v, ok := set[name]; ok {
			fmt.Fprintln(p.stdout, v)
		}
	}
	return err
}

// work uses so much memory, some processor time, and writes a file of so many
// bytes to its disk. It holds the memory until SIGTERM, and ends with 0.
func (p payload) work(args []string) error {
	term := make(chan os.Signal, 1)
	signal.Notify(term, terminate)
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	memory := make([]byte, n)
	for end := time.Now().Add(time.Minute); ; {
		for i := range memory { // once at least: a slow machine has used the time before
			memory[i]++
		}
		if processorTime() >= 50*time.Millisecond || time.Now().After(end) {
			break
		}
	}
	if err := p.fill(args[1:]); err != nil {
		return err
	}
	f, err := os.OpenFile(args[1], os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	p.ready()
	<-term
	runtime.KeepAlive(memory)
	return nil
}

// listen answers every connection with "hello", or with a text of its own.
func (p payload) listen(args []string) error {
	l, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	text := "hello"
	if len(args) > 1 {
		text = args[1]
	}
	p.ready()
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		fmt.Fprint(c, text)
		c.Close()
	}
}

// dial prints what it gets from an address.
func (p payload) dial(args []string) error {
	c, err := net.Dial("tcp", args[0])
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = io.Copy(p.stdout, c)
	return err
}

func (p payload) interfaces([]string) error {
	list, err := net.Interfaces()
	for _, i := range list {
		fmt.Fprintln(p.stdout, i.Name)
	}
	return err
}

func (p payload) directory([]string) error {
	dir, err := os.Readlink("/proc/self/cwd")
	fmt.Fprintln(p.stdout, dir)
	return err
}

func (p payload) ids([]string) error {
	fmt.Fprintln(p.stdout, os.Getuid(), os.Getgid())
	return nil
}

// processes prints the command lines of all processes that can be seen.
func (p payload) processes([]string) error {
	lines, err := commandLines()
	for _, l := range lines {
		fmt.Fprintln(p.stdout, l)
	}
	return err
}

// commandLines returns the arguments of every process, joined by spaces.
func commandLines() ([]string, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	var lines []string
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err == nil {
			lines = append(lines, string(bytes.ReplaceAll(bytes.TrimRight(b, "\x00"), []byte{0}, []byte(" "))))
		}
	}
	return lines, err
}
