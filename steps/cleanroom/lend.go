package cleanroom

import (
	"context"
	_ "embed"
	"errors"
	"io"
	"net"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// lendSource is the program that the go command starts the tests of each package with. It
// knows nothing of services: who has which data is decided here.
//
//go:embed lend/main.go
var lendSource []byte

const (
	lendProgram = "lend"
	// maxLent bounds how many have data of their own at a time: a test may ask by itself.
	maxLent = 256
)

// lender gives each process that asks data of its own until it ends.
type lender struct {
	trial *trial
	at    net.Listener
	stop  context.CancelFunc
	all   sync.WaitGroup

	mu   sync.Mutex
	errs []error
}

// lend has the tests of each package of a go command get data of its own. The function
// returned must be called when the command has ended.
func (t *trial) lend(ctx context.Context, s *suite, c *command) (end func() error, err error) {
	dir, err := t.lendTool(ctx, s)
	if err != nil {
		return nil, err
	}
	at, err := t.room.env.Listen(ctx)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "set shared = true for the services, or use another back end", "give packages data of their own")
	}
	ctx, stop := context.WithCancel(ctx)
	l := &lender{trial: t, at: at, stop: stop}
	l.all.Go(func() { l.serve(ctx) })
	mount := sandbox.Mount{Kind: sandbox.ReadOnly, Source: dir, Target: "/lend"}
	// The go command splits it, and takes quotes as a shell does.
	program := "'" + path.Join(t.room.at(c.name, mount), lendProgram) + "'"
	c.mounts = append(c.mounts, mount)
	c.secrets = secretsOf(t.services.Variables()) // the passwords are those of all
	c.argv = slices.Insert(c.argv, 2, "-exec="+program+" "+at.Addr().String())
	return l.end, nil
}

// lendTool returns a directory with the program, which the toolchain of the suite compiles
// once.
func (t *trial) lendTool(ctx context.Context, s *suite) (dir string, err error) {
	key := state.DigestOf([]byte(s.tool.String() + " " + string(s.tool.Digest) + "\n" + string(lendSource))).Hex()
	return t.step.Templates.Get(ctx, lendProgram+"-"+key[:16], func(ctx context.Context, dir string) error {
		if err := os.WriteFile(filepath.Join(dir, "main.go"), lendSource, 0o644); err != nil {
			return err
		}
		mount := sandbox.Mount{Kind: sandbox.ReadWrite, Source: dir, Target: "/lend"}
		name := s.container("lend")
		args := append([]string{"build"}, buildFlags...)
		c := t.goCommand(s, name, append(args, "-o", lendProgram, "main.go")...)
		c.mounts, c.cwd = append(c.mounts, mount), t.room.at(name, mount)
		var st stage
		if err := t.stage(ctx, &st, c); err != nil || st.ok {
			return err
		}
		return fault.New(fault.Unavailable, "set shared = true for the services", "compile what gives packages data of their own: %s: %s", st.status, st.text.String())
	})
}

// serve accepts until end.
func (l *lender) serve(ctx context.Context) {
	places := make(chan struct{}, maxLent)
	for {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return
		}
		c, err := l.at.Accept()
		if err != nil {
			return
		}
		l.all.Go(func() {
			if err := l.give(ctx, c); err != nil {
				l.mu.Lock()
				l.errs = append(l.errs, err)
				l.mu.Unlock()
			}
			<-places
		})
	}
}

// give answers one process, and takes its data back when it closes the connection, or is
// dead.
func (l *lender) give(ctx context.Context, c net.Conn) (err error) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	env, done, err := l.trial.freshData(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	// That it is gone is no error: then its tests have failed.
	if _, err := io.WriteString(c, strings.Join(env, "\x00")+"\x00\x00"); err == nil {
		_, _ = io.Copy(io.Discard, c)
	}
	return nil
}

// end takes everything back.
func (l *lender) end() error {
	l.stop()
	err := l.at.Close()
	l.all.Wait()
	const named = 5
	return errors.Join(err, errors.Join(l.errs[:min(len(l.errs), named)]...))
}
