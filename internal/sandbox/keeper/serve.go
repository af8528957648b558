package keeper

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// argv is the name under which the executable is started again.
const argv = "ultrafast-environment-keeper"

// hooked reports that main called [Reexec]: without that a second start would run
// the program itself again.
var hooked atomic.Bool

// Reexec does the work of a keeper if the executable was started as one, and then
// does not return; otherwise it returns false at once.
func Reexec(open Opener) bool {
	hooked.Store(true)
	if os.Args[0] != argv {
		return false
	}
	os.Exit(keep(open, os.Stdin, os.Stdout))
	return true
}

// keep is the main of a keeper. The creator writes the configuration and, once it
// has read the answer, one more line: without that it was killed or has changed its
// mind, and nobody knows of the environment.
func keep(open Opener, stdin, stdout *os.File) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// Not ignored, which containers would inherit.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	in := bufio.NewReader(stdin)
	line, err := in.ReadBytes('\n')
	if err != nil {
		return 1
	}
	var c config
	k := &keeper{}
	if err = json.Unmarshal(line, &c); err == nil {
		committed := make(chan struct{})
		starting, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() {
			if _, err := in.ReadBytes('\n'); err != nil {
				cancel()
				return
			}
			close(committed)
		}()
		if err = k.begin(starting, c, open); err == nil {
			err = json.NewEncoder(stdout).Encode(ready{Info: k.info()})
			stdout.Close()
			select {
			case <-committed:
				stdin.Close()
				k.serve(ctx)
			case <-starting.Done():
			}
			return k.end(context.WithoutCancel(ctx), err)
		}
	}
	_ = json.NewEncoder(stdout).Encode(ready{Failure: failureOf(errors.Join(err, k.abandon()))})
	return 1
}

// keeper holds one environment.
type keeper struct {
	config
	place    *place
	said     *os.File
	log      *slog.Logger
	backend  string
	env      sandbox.Environment
	created  time.Time
	listener net.Listener

	// base ends the calls that wait, when the environment is closed.
	base   context.Context
	cancel context.CancelFunc

	mu         sync.Mutex
	calls      int // in progress
	used       time.Time
	idle       *time.Timer
	containers []*resident // in the order of their start
	count      int
	sockets    map[string]net.Conn // accepted, and not yet fetched
	farewells  []*link             // of those who asked for the end
	stopping   bool
	grace      time.Duration

	stop    chan struct{} // closed by the first who asks for the end
	working sync.WaitGroup
}

// begin makes the environment and its socket.
func (k *keeper) begin(ctx context.Context, c config, open Opener) (err error) {
	k.config, k.created, k.used = c, time.Now().UTC().Truncate(time.Second), time.Now()
	k.stop, k.sockets = make(chan struct{}), map[string]net.Conn{}
	k.base, k.cancel = context.WithCancel(context.Background())
	if k.place, err = claim(ctx, c.Dir); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(c.Dir, logsDir), 0o700); err != nil {
		return fault.Wrap(err, fault.Unavailable, "", "make the directory of environment "+c.Spec.Name)
	}
	if k.said, err = os.OpenFile(filepath.Join(c.Dir, logFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
		return fault.Wrap(err, fault.Unavailable, "", "make the log of environment "+c.Spec.Name)
	}
	_ = debug.SetCrashOutput(k.said, debug.CrashOptions{})
	k.log = slog.New(slog.NewTextHandler(k.said, nil))
	if err := os.Chdir("/"); err != nil {
		return err
	}
	backend, err := open(c.Settings, k.log)
	if err != nil {
		return err
	}
	k.backend = backend.Name()
	r := record{Schema: recordSchema, Settings: c.Settings, Info: Info{
		ID: c.ID, Name: c.Spec.Name, Backend: k.backend, Created: k.created, Persistent: c.Life.Persistent, TTLSeconds: int64(c.Life.ttl().Seconds()),
	}}
	if err := k.place.write(r); err != nil {
		return fault.Wrap(err, fault.Unavailable, "make room there, or set XDG_CACHE_HOME to another directory that can be written", "journal environment "+c.Spec.Name)
	}
	if k.env, err = backend.Create(ctx, c.Spec); err != nil {
		return err
	}
	k.backend = sandbox.MakerOf(backend, c.Spec.Name)
	r.Info.Backend, r.Info.Level = k.backend, k.env.Effective().Level.String()
	if err = k.place.write(r); err == nil {
		k.listener, err = listen(c.Dir)
	}
	return fault.Wrap(err, fault.Unavailable, "", "serve environment "+c.Spec.Name)
}

// claim makes and locks the directory of a new environment. One of an earlier keeper
// of that name, which was killed, was removed by the creator before.
func claim(ctx context.Context, dir string) (*place, error) {
	name := filepath.Base(dir)
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "choose a state directory that can be written", "make the directory of environments")
	}
	err := os.Mkdir(dir, 0o700)
	if err == nil {
		p, err := lockDir(dir)
		if p != nil || err != nil {
			return p, err
		}
	}
	if err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fault.Wrap(err, fault.Unavailable, "choose a state directory that can be written", "make the directory of environment "+name)
	}
	return nil, taken(name)
}

func taken(name string) error {
	return fault.New(fault.Finding, "choose another name, or delete the environment", "an environment called %q exists", name)
}

// abandon undoes what begin did before it failed.
func (k *keeper) abandon() error {
	var err error
	if k.listener != nil {
		k.listener.Close()
	}
	if k.env != nil {
		err = k.env.Close(context.Background())
	}
	if k.place != nil {
		err = errors.Join(err, k.place.remove())
	}
	return err
}

// serve answers calls until someone asks for the end, or nobody has called for too
// long, or ctx ends.
func (k *keeper) serve(ctx context.Context) {
	server := &http.Server{
		Handler: k.handler(), ReadHeaderTimeout: callTime, ErrorLog: slog.NewLogLogger(k.log.Handler(), slog.LevelWarn),
		BaseContext: func(net.Listener) context.Context { return k.base },
	}
	go func() { _ = server.Serve(k.listener) }() // it ends with the listener
	if !k.Life.Persistent {
		k.mu.Lock()
		k.idle = time.AfterFunc(k.Life.ttl(), k.expire)
		k.mu.Unlock()
	}
	look := time.NewTicker(lookTime)
	defer look.Stop()
	for {
		select {
		case <-k.stop:
			return
		case <-ctx.Done():
			k.log.Info("ended by a signal")
			return
		case <-look.C:
			if !k.place.there() {
				return // whoever removed the directory cannot reach us any more
			}
		}
	}
}

// lookTime is how often a keeper looks whether its directory is still there.
const lookTime = 2 * time.Second

// expire ends an environment that nobody has used, or looks again later.
func (k *keeper) expire() {
	k.mu.Lock()
	defer k.mu.Unlock()
	left := k.Life.ttl() - time.Since(k.used)
	if k.calls > 0 {
		left = k.Life.ttl()
	}
	if left > 0 {
		k.idle.Reset(left)
		return
	}
	k.log.Info("unused for its time to live", "ttl", k.Life.ttl())
	k.finish(stopGrace)
}

// stopGrace is how long containers have after SIGTERM where nobody says otherwise.
const stopGrace = 10 * time.Second

// finish has serve return. k.mu is held.
func (k *keeper) finish(grace time.Duration) {
	if !k.stopping {
		k.stopping, k.grace = true, grace
		close(k.stop)
	}
}

// end closes everything, says so to those who asked for it, and returns the exit code.
func (k *keeper) end(ctx context.Context, err error) int {
	k.mu.Lock()
	k.stopping = true
	containers := slices.Clone(k.containers)
	grace := k.grace
	k.mu.Unlock()
	// The listener stays open: whoever has to kill this process finds it by that.
	slices.Reverse(containers) // what was started last may need what was started first
	for _, r := range containers {
		if grace > 0 && r.isAlive() {
			_ = r.halt(ctx, grace)
		}
	}
	limit, cancel := context.WithTimeout(ctx, closeTime)
	defer cancel()
	err = errors.Join(err, k.env.Close(limit))
	k.cancel()
	answered := make(chan struct{})
	go func() { k.working.Wait(); close(answered) }()
	select {
	case <-answered:
	case <-time.After(time.Second): // who does not read its answer does not get it
	}
	k.mu.Lock()
	for _, r := range k.containers {
		if r.log != nil {
			r.log.close()
		}
	}
	for _, c := range k.sockets {
		c.Close()
	}
	farewells := k.farewells
	k.mu.Unlock()
	if err != nil {
		k.log.Error("end", "error", err)
	}
	err = errors.Join(err, k.place.remove())
	for _, l := range farewells {
		_ = l.sendJSON(frameEnded, ended{Failure: failureOf(err)})
	}
	if err != nil {
		return 1
	}
	return 0
}

// info describes the environment now.
func (k *keeper) info() Info {
	k.mu.Lock()
	containers := slices.Clone(k.containers)
	used := k.used
	if k.calls > 0 {
		used = time.Now()
	}
	k.mu.Unlock()
	effective := k.env.Effective()
	i := Info{
		ID: k.ID, Name: k.Spec.Name, Status: Running, Backend: k.backend, Level: effective.Level.String(), Effective: effective,
		Persistent: k.Life.Persistent, TTLSeconds: int64(k.Life.ttl().Seconds()), Created: k.created, Used: used.UTC().Truncate(time.Second),
		Containers: []ContainerInfo{},
	}
	for _, r := range containers {
		i.Containers = append(i.Containers, r.describe(k.base))
	}
	return i
}

// handler serves the calls. Those that only look do not count as use: a list that
// is asked for every minute keeps nothing alive.
func (k *keeper) handler() http.Handler {
	mux := http.NewServeMux()
	look := func(name string, f func(w http.ResponseWriter, r *http.Request) error) {
		mux.HandleFunc("POST "+version+name, func(w http.ResponseWriter, r *http.Request) {
			err := k.enter()
			if err == nil {
				defer k.working.Done()
				err = f(w, r)
			}
			if err != nil {
				answerError(w, err)
			}
		})
	}
	use := func(name string, f func(w http.ResponseWriter, r *http.Request) error) {
		look(name, func(w http.ResponseWriter, r *http.Request) error {
			defer k.use()()
			return f(w, r)
		})
	}
	look("info", k.doInfo)
	look("logs", k.doLogs)
	use("path", k.doPath)
	use("port", k.doPort)
	use("start", k.doStart)
	use("attach", k.doAttach)
	use("exec", k.doExec)
	use("usage", k.doUsage)
	use("signal", k.doSignal)
	use("wait", k.doWait)
	use("kill", k.doKill)
	use("stop", k.doStop)
	use("ready", k.doReady)
	use("dial", k.doDial)
	use("listen", k.doListen)
	use("accept", k.doAccept)
	mux.HandleFunc("POST "+version+"delete", func(w http.ResponseWriter, r *http.Request) {
		if err := k.doDelete(w, r); err != nil {
			answerError(w, err)
		}
	})
	return mux
}

// enter begins a call, unless the end has begun.
func (k *keeper) enter() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stopping {
		return fault.New(fault.Unavailable, "", "environment %s is being deleted", k.Spec.Name)
	}
	k.working.Add(1)
	return nil
}

// use notes that the environment is in use until the function that it returns is
// called.
func (k *keeper) use() func() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls++
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.calls--
		k.used = time.Now()
	}
}

// decode reads the request.
func decode[T any](w http.ResponseWriter, r *http.Request) (T, error) {
	var v T
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(&v)
	return v, fault.Wrap(err, fault.Usage, "", "read the request")
}

func answer(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the caller is gone, or has it
	return nil
}

// answerError answers with a failure. On a connection that was taken over it is the
// last frame, and sent already.
func answerError(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUnprocessableEntity)
	_ = json.NewEncoder(w).Encode(failureOf(err))
}

// takeOver makes a link of the connection of a request whose body was read.
func takeOver(w http.ResponseWriter) (*link, error) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "", "take over the connection")
	}
	_ = c.SetDeadline(time.Time{})
	if _, err := io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: frames\r\n\r\n"); err != nil {
		c.Close()
		return nil, fault.Wrap(err, fault.Unavailable, "", "take over the connection")
	}
	return newLink(c, rw.Reader), nil
}

func (k *keeper) doInfo(w http.ResponseWriter, _ *http.Request) error { return answer(w, k.info()) }

func (k *keeper) doPath(w http.ResponseWriter, r *http.Request) error {
	q, err := decode[pathRequest](w, r)
	if err != nil {
		return err
	}
	return answer(w, pathAnswer{k.env.Path(q.Container, q.Mount)})
}

func (k *keeper) doPort(w http.ResponseWriter, r *http.Request) error {
	q, err := decode[portRequest](w, r)
	if err != nil {
		return err
	}
	port, err := k.env.Port(q.Preferred)
	if err != nil {
		return err
	}
	return answer(w, portAnswer{port})
}

// doDelete has the keeper end. The answer comes when all is gone but the process,
// and the connection ends with that.
func (k *keeper) doDelete(w http.ResponseWriter, r *http.Request) error {
	q, err := decode[deleteRequest](w, r)
	if err != nil {
		return err
	}
	l, err := takeOver(w)
	if err != nil {
		return nil // nobody is there to be told
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.farewells = append(k.farewells, l)
	k.finish(q.Grace)
	return nil
}

func (k *keeper) doDial(w http.ResponseWriter, r *http.Request) error {
	q, err := decode[dialRequest](w, r)
	if err != nil {
		return err
	}
	l, err := takeOver(w)
	if err != nil {
		return nil
	}
	defer l.conn.Close()
	ctx, cancel := context.WithCancel(k.base)
	defer cancel()
	// The caller sends nothing before it is connected: what can be read is its end.
	gone := make(chan struct{})
	connected := make(chan struct{})
	go func() {
		defer close(gone)
		if _, err := l.r.Peek(1); err != nil {
			select {
			case <-connected:
			default:
				cancel()
			}
		}
	}()
	other, err := k.env.Dial(ctx, q.Network, q.Address)
	close(connected)
	if err != nil {
		_ = l.sendJSON(frameEnded, ended{Failure: failureOf(err)})
		return nil
	}
	defer other.Close()
	if err := l.sendJSON(frameStarted, listening{other.RemoteAddr().Network(), other.LocalAddr().String()}); err != nil {
		return nil
	}
	defer context.AfterFunc(k.base, func() { other.Close(); l.conn.Close() })()
	relay(&conn{link: l, datagrams: isDatagram(q.Network)}, other, gone)
	return nil
}

func (k *keeper) doListen(w http.ResponseWriter, r *http.Request) error {
	if _, err := decode[struct{}](w, r); err != nil {
		return err
	}
	l, err := takeOver(w)
	if err != nil {
		return nil
	}
	defer l.conn.Close()
	inside, err := k.env.Listen(k.base)
	if err != nil {
		_ = l.sendJSON(frameEnded, ended{Failure: failureOf(err)})
		return nil
	}
	defer inside.Close()
	if err := l.sendJSON(frameStarted, listening{inside.Addr().Network(), inside.Addr().String()}); err != nil {
		return nil
	}
	go func() { // the caller closes the listener by closing the connection
		_, _ = io.Copy(io.Discard, l.r)
		inside.Close()
	}()
	var mine []string
	defer func() {
		for _, id := range mine {
			if c := k.fetch(id); c != nil {
				c.Close()
			}
		}
	}()
	for {
		c, err := inside.Accept()
		if err != nil {
			_ = l.sendJSON(frameEnded, ended{Failure: failureOf(fault.Wrap(err, fault.Unavailable, "", "accept"))})
			return nil
		}
		id := k.hold(c)
		mine = append(mine, id)
		if err := l.send(frameOut, []byte(id)); err != nil {
			return nil
		}
	}
}

// hold keeps an accepted connection until it is fetched.
func (k *keeper) hold(c net.Conn) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.count++
	id := fmt.Sprintf("s%d", k.count)
	k.sockets[id] = c
	return id
}

func (k *keeper) fetch(id string) net.Conn {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.sockets[id]
	delete(k.sockets, id)
	return c
}

func (k *keeper) doAccept(w http.ResponseWriter, r *http.Request) error {
	q, err := decode[acceptRequest](w, r)
	if err != nil {
		return err
	}
	c := k.fetch(q.ID)
	if c == nil {
		return fault.New(fault.Finding, "", "no connection %q waits", q.ID)
	}
	defer c.Close()
	l, err := takeOver(w)
	if err != nil {
		return nil
	}
	defer l.conn.Close()
	if err := l.sendJSON(frameStarted, listening{c.RemoteAddr().Network(), c.RemoteAddr().String()}); err != nil {
		return nil
	}
	defer context.AfterFunc(k.base, func() { c.Close(); l.conn.Close() })()
	relay(&conn{link: l}, c, nil)
	return nil
}

func isDatagram(network string) bool { return len(network) >= 3 && network[:3] == "udp" }

// orInterrupted names the cause of an end that the context had.
func orInterrupted(ctx context.Context, err error) error { return cmp.Or(context.Cause(ctx), err) }
