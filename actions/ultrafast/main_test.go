package main

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	cleanroom "github.com/ultrafast-ci/ultrafast/actions/cleanroom-test/door"
	"github.com/ultrafast-ci/ultrafast/actions/ultrafast/door"
	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/app/apptest"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/hook"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// TestMain runs the tests, or the program itself where a verb starts it again: it
// asks for its own executable, which is that of the tests then.
func TestMain(m *testing.M) {
	if cleanroom.Reexec() || hook.Reexec() {
		return
	}
	if strings.HasSuffix(filepath.Base(os.Args[0]), ".test") && len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") {
		os.Exit(app.Main(door.New(), app.System()))
	}
	apptest.Main(m, nil, doors)
}

func TestScripts(t *testing.T) {
	apptest.Run(t, "testdata", map[string]apptest.Command{"setstate": setState, "stateof": stateOf, "flip": flip, "sed": replaceText, "append": appendLines, "digestof": digestOf, "shown": shown, "unbuilt": unbuilt, "spoil": spoil, "firstline": firstLine, "masked": masked, "statefrom": stateFrom, "tree": listTree, "setstate2": setState2, "setstate3": setState3, "freeaddr": freeAddr, "listen": listen, "refused": refused})
}

// setState puts the state that the last command printed into the variable STATE.
func setState(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: setstate")
	}
	ts.Setenv("STATE", strings.TrimSpace(ts.ReadFile("stdout")))
}

// stateOf puts the state that a command wrote to a file into the variable STATE.
func stateOf(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv("STATE", strings.TrimSpace(ts.ReadFile(args[0])))
}

// setState3 puts the state that the last command printed into the variable STATE3.
func setState3(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: setstate3")
	}
	ts.Setenv("STATE3", strings.TrimSpace(ts.ReadFile("stdout")))
}

// freeAddr puts a loopback address on which nothing listens into the variable ADDR.
func freeAddr(ts *testscript.TestScript, _ bool, _ []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		ts.Fatalf("%v", err)
	}
	ts.Setenv("ADDR", l.Addr().String())
	if err := l.Close(); err != nil {
		ts.Fatalf("%v", err)
	}
}

// appendLines adds lines to a file: append FILE LINE…
func appendLines(ts *testscript.TestScript, neg bool, args []string) {
	path := ts.MkAbs(args[0])
	text := ts.ReadFile(args[0]) + strings.Join(args[1:], "\n") + "\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		ts.Fatalf("%v", err)
	}
}

// replaceText replaces text in a file: sed FILE OLD NEW
func replaceText(ts *testscript.TestScript, neg bool, args []string) {
	text := ts.ReadFile(args[0])
	if !strings.Contains(text, args[1]) {
		ts.Fatalf("%s has no %q", args[0], args[1])
	}
	if err := os.WriteFile(ts.MkAbs(args[0]), []byte(strings.ReplaceAll(text, args[1], args[2])), 0o644); err != nil {
		ts.Fatalf("%v", err)
	}
}

// listen takes the address in ADDR until the script ends.
func listen(ts *testscript.TestScript, _ bool, _ []string) {
	l, err := net.Listen("tcp", ts.Getenv("ADDR"))
	if err != nil {
		ts.Fatalf("%v", err)
	}
	ts.Defer(func() { l.Close() })
}

// refused checks that nothing listens at the address in ADDR; negated, that something does.
func refused(ts *testscript.TestScript, neg bool, _ []string) {
	conn, err := net.Dial("tcp", ts.Getenv("ADDR"))
	if err == nil {
		conn.Close()
	}
	if (err != nil) == neg {
		ts.Fatalf("connect to %s: %v", ts.Getenv("ADDR"), err)
	}
}

// digestOf puts the digest of an artifact, as `ultrafast state show` has just
// printed it, into the variable DIGEST.
func digestOf(ts *testscript.TestScript, neg bool, args []string) {
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		if fields := strings.Fields(line); len(fields) >= 2 && len(args) == 1 && fields[0] == args[0] {
			ts.Setenv("DIGEST", fields[1])
			return
		}
	}
	ts.Fatalf("no artifact %v was shown", args)
}

// shown puts the digest of the entry of a phase, or of an artifact, as `ultrafast
// state show` printed it into a file, into the variable DIGEST: shown FILE NAME
func shown(ts *testscript.TestScript, _ bool, args []string) {
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == args[1] {
			ts.Setenv("DIGEST", fields[1])
			return
		}
	}
	ts.Fatalf("%s has no line of %s", args[0], args[1])
}

// setState2 puts the state that the last command printed into the variable STATE2.
func setState2(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Setenv("STATE2", strings.TrimSpace(ts.ReadFile("stdout")))
}

// listTree writes the digest of every file of a directory to a file: tree DIR FILE
func listTree(ts *testscript.TestScript, _ bool, args []string) {
	var list strings.Builder
	err := filepath.WalkDir(ts.MkAbs(args[0]), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		fmt.Fprintf(&list, "%s %s\n", state.DigestOf(b), path)
		return err
	})
	if err == nil {
		err = os.WriteFile(ts.MkAbs(args[1]), []byte(list.String()), 0o644)
	}
	if err != nil {
		ts.Fatalf("%v", err)
	}
}

// stateFrom puts the state that a failed run named for people into the variable
// STATE: statefrom stderr
func stateFrom(ts *testscript.TestScript, _ bool, args []string) {
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		if fields := strings.Fields(line); len(fields) == 2 && fields[0] == "state" {
			ts.Setenv("STATE", fields[1])
			return
		}
	}
	ts.Fatalf("no state was named")
}

// firstLine checks the first line of an output: firstline stderr TEXT
func firstLine(ts *testscript.TestScript, _ bool, args []string) {
	if first, _, _ := strings.Cut(ts.ReadFile(args[0]), "\n"); first != args[1] {
		ts.Fatalf("the first line is %q", first)
	}
}

// masked checks that a secret of the last command is named in masks, which come
// before all else, and nowhere else.
func masked(ts *testscript.TestScript, _ bool, args []string) {
	lines := strings.Split(ts.ReadFile("stderr"), "\n")
	n := 0
	for n < len(lines) && strings.HasPrefix(lines[n], "::add-mask::") {
		n++
	}
	if !slices.Contains(lines[:n], "::add-mask::"+args[0]) {
		ts.Fatalf("no mask comes first: %q", lines)
	}
	if rest := strings.Join(lines[n:], "\n") + ts.ReadFile("stdout"); strings.Contains(rest, args[0]) {
		ts.Fatalf("the secret is shown: %s", rest)
	}
}

// flip changes one byte in the middle of the blob with the given digest prefix.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: flip STORE DIGEST")
	}
	found, err := filepath.Glob(filepath.Join(ts.MkAbs(args[0]), "blobs", "sha256", args[1]+"*"))
	if err != nil || len(found) != 1 {
		ts.Fatalf("no single blob %s in %s: %v %v", args[1], args[0], found, err)
	}
	b, err := os.ReadFile(found[0])
	if err != nil {
		ts.Fatalf("%v", err)
	}
	b[len(b)/2] ^= 1
	if err := os.Chmod(found[0], 0o644); err != nil {
		ts.Fatalf("%v", err)
	}
	if err := os.WriteFile(found[0], b, 0o644); err != nil {
		ts.Fatalf("%v", err)
	}
}
