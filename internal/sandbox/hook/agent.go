package hook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"

	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// agentWord is the first argument of the executable when it is started inside. No
// verb has that name.
const agentWord = "sandbox-hook-agent"

// Exit codes of the agent besides the command's own, as `docker run` has them.
const (
	codeAgent    = 125 // the agent itself failed: it says why
	codeNotRun   = 126 // the command was found and could not be started
	codeNotFound = 127
)

// hooked reports that main called [Reexec]: without that the executable, started
// inside, would run the program itself.
var hooked atomic.Bool

// Reexec does the work of the agent if the executable was started as one, and then
// does not return; otherwise it returns false at once. Main calls it before it reads
// its arguments.
func Reexec() bool {
	hooked.Store(true)
	if len(os.Args) < 4 || os.Args[1] != agentWord {
		return false
	}
	os.Exit(agent(os.Args[2], os.Args[3:], os.Stdin, os.Stdout, os.Stderr))
	return true
}

// agent unpacks the archive that in holds below dir, runs argv there, and if that
// succeeds packs what is there then to out. Both what the command prints and what
// the agent has to say go to said.
func agent(dir string, argv []string, in io.Reader, out io.Writer, said *os.File) int {
	fail := func(doing string, err error) int {
		fmt.Fprintf(said, "%s: %v\n", doing, err)
		return codeAgent
	}
	ctx := context.Background()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fail("open the tree", err)
	}
	defer root.Close()
	if err := state.Extract(ctx, in, root, state.Limits{}); err != nil {
		return fail("unpack the tree", err)
	}
	if err := os.Chdir(dir); err != nil {
		return fail("enter the tree", err)
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		fmt.Fprintf(said, "%s is not in the sandbox, which shows the programs of the host in %s\n", argv[0], os.Getenv("PATH"))
		return codeNotFound
	}
	if path, err = filepath.Abs(path); err != nil {
		return fail("find "+argv[0], err)
	}
	// Standard output is the archive: a command's own goes beside it.
	cmd := &exec.Cmd{Path: path, Args: argv, Stdout: said, Stderr: said}
	lead(cmd)
	adopt()
	err = cmd.Run()
	end(cmd) // what it left in the background would write to the tree while that is read
	endAdopted()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return exitCode(exit)
	case err != nil:
		fmt.Fprintf(said, "%v\n", err)
		return codeNotRun
	}
	if err := state.Pack(ctx, out, root.FS(), nil); err != nil {
		return fail("read what the command left", err)
	}
	return 0
}

// exitCode is that of a shell: a signal is 128 and its number.
func exitCode(exit *exec.ExitError) int {
	if code := exit.ExitCode(); code >= 0 {
		return code
	}
	return 128 + signalOf(exit)
}
