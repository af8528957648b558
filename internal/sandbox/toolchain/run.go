package toolchain

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

const (
	// maxOutput bounds what is kept of a command's output, in bytes.
	maxOutput = 1 << 20
	// killDelay is how long a killed command's children may hold its output open.
	killDelay = 5 * time.Second
)

// run executes a program in dir with env beside the few variables of the host
// that a go command needs, and returns its standard output. When ctx ends, the
// program and all that it started are killed.
func run(ctx context.Context, dir string, env []string, argv ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = dir, append(hostEnv(), env...)
	var stdout, stderr bounded
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = killDelay
	ownGroup(cmd)
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(argv[:min(len(argv), 3)], " "), err, tail(stderr.kept))
	}
	return stdout.kept, nil
}

// hostEnv returns what a process needs to run at all. GOROOT and the other
// settings of Go are left out on purpose.
func hostEnv() []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "USERPROFILE"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// bounded keeps the first maxOutput bytes and drops the rest.
type bounded struct{ kept []byte }

func (b *bounded) Write(p []byte) (int, error) {
	room := max(0, maxOutput-len(b.kept))
	b.kept = append(b.kept, p[:min(len(p), room)]...)
	return len(p), nil
}

// tail returns the last lines of b, enough for an error message.
func tail(b []byte) string {
	const most = 2000
	b = bytes.TrimSpace(b)
	if len(b) > most {
		b = b[len(b)-most:]
	}
	return strings.ToValidUTF8(string(b), "?")
}
