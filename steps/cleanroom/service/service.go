// Package service runs what tests need beside them: a database, a cache, any image.
//
// [Start] starts every service of a run at once and returns, so that they get ready
// while the code is built; [Set.Ready] waits for all of them. Readiness is asked for
// by the client of each service, a service that ends is an error at once, with its
// last lines. Every test gets data of its own by [Set.Fresh]: a copy of a database
// that was prepared once, an empty keyspace.
//
// The package runs nothing outside the environment, keeps no password but in the
// memory of this process and of the service, and puts none on a command line.
package service

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/cleanroom/readiness"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// Kind is what a service is, and so how it is started, asked and shared.
type Kind string

// The kinds. Whatever is none of the others is Other: an image that is run as it is.
const (
	Postgres Kind = "postgres"
	Redis    Kind = "redis"
	Other    Kind = "other"
)

// KindOf returns the kind of an image by the last part of its repository: that of
// "registry.example/mirror/postgres:15-alpine" is Postgres.
func KindOf(image string) Kind {
	name := path.Base(image)
	if before, _, found := strings.Cut(name, "@"); found {
		name = path.Base(before)
	}
	name, _, _ = strings.Cut(name, ":")
	switch name {
	case "postgres", "postgresql":
		return Postgres
	case "redis", "valkey":
		return Redis
	}
	return Other
}

// Spec asks for a service.
type Spec struct {
	// Name is its host name, and the beginning of the names of its variables.
	Name string
	// Kind is that of Image if it is empty.
	Kind Kind
	// Image is a reference by digest. Empty means the programs of the host, which
	// Programs says where to find.
	Image string
	// Programs is a directory of the host below /usr; empty means the PATH.
	Programs string
	// Version tells apart what is kept for later runs: the digest of the image or
	// the version of the programs.
	Version string
	// Port is where it listens; zero means the kind's own, and for Other that
	// nothing is asked over the network.
	Port int
	// Argv replaces the command of an Other, Args follow that of any kind.
	Argv, Args []string
	Env        map[string]string
	// Health is a path that answers GET with 200 to 399 once an Other is ready, Check a
	// command that then ends with 0. Without both an open port is enough.
	Health string
	Check  []string
	// Timeout bounds the time until it is ready; default [readiness.DefaultTimeout].
	Timeout time.Duration
	// Database, User and Password are those of the tests. A database has the name
	// "app" by default, a user too, and a password is made up for the run.
	Database, User, Password string
	// Init are SQL scripts that prepare the database of which every test gets a copy.
	Init []string
	// Shared leaves all tests with one database or keyspace.
	Shared bool
	// Limits narrow those of the environment.
	Limits sandbox.Limits
}

// Room is where services run.
type Room struct {
	Env sandbox.Environment
	// Template returns a directory that fill has filled for key, now or in an earlier
	// run: see [Templates].
	Template func(ctx context.Context, key string, fill func(ctx context.Context, dir string) error) (dir string, err error)
	// Parallel is how many tests run at once, for whom data is prepared ahead; at least 1.
	Parallel int
	// Log may be nil.
	Log *slog.Logger
}

// kinds are the known services. The function prepares the first start of one.
var kinds = map[Kind]func(*running) protocol{
	Postgres: newPostgres,
	Redis:    newRedis,
	Other:    newOther,
}

// protocol is what the kinds differ in.
type protocol interface {
	// container returns how the service is started.
	container(ctx context.Context) (sandbox.ContainerSpec, error)
	// probe returns the question that a usable service answers.
	probe() readiness.Probe
	// open prepares a service that answers.
	open(ctx context.Context) error
	// variables are for tests that share it, without the service's name before them.
	variables() map[string]string
	// fresh gives one test data of its own.
	fresh(ctx context.Context) (map[string]string, func(context.Context) error, error)
	// close frees what open opened.
	close()
}

var (
	serviceName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`) })
	identifier  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}$`) })
)

// environ returns the variables of the service, sorted.
func (s Spec) environ() []string {
	var all []string
	for key, value := range s.Env {
		all = append(all, key+"="+value)
	}
	slices.Sort(all)
	return all
}

// maxServices bounds the services of one run (K-44 bounds all containers).
const maxServices = 20

func (s Spec) check() error {
	bad := func(hint, format string, args ...any) error {
		return fault.New(fault.Usage, hint, "service "+strconv.Quote(s.Name)+": "+format, args...)
	}
	switch {
	case !serviceName().MatchString(s.Name):
		return bad("use lower-case letters, digits and hyphens, as in a host name", "is no name of a service")
	case kinds[s.Kind] == nil:
		return bad("use postgres, redis or other", "kind %q is not known", s.Kind)
	case s.Image == "" && s.Kind == Other && len(s.Argv) == 0:
		return bad("name an image, or a command of the host's", "it has no image and no command")
	case s.Port < 0 || s.Port > 65535:
		return bad("ports are 1 to 65535", "port %d", s.Port)
	case s.Database != "" && !identifier().MatchString(s.Database), s.User != "" && !identifier().MatchString(s.User):
		return bad("use letters, digits and underscores, 63 at most", "database %q, user %q", s.Database, s.User)
	case len(s.Init) > 0 && s.Kind != Postgres:
		return bad("remove them", "only a postgres has SQL scripts")
	case s.Health != "" && (s.Kind != Other || s.Port == 0 || !strings.HasPrefix(s.Health, "/")):
		return bad("give an absolute path, and the port", "health path %q", s.Health)
	case strings.ContainsAny(s.Password, "\x00\r\n"):
		return bad("use printable characters", "the password has a line end")
	}
	return nil
}

// Set are the services of one run.
type Set struct {
	room     Room
	services []*running
	// wanted is how often Fresh will still be called.
	wanted atomic.Int64
}

// Start starts the services, all at once, and does not wait for them: see
// [Set.Ready]. What specs get wrong is fault.Usage, before anything starts. Close
// ends what was started.
func Start(ctx context.Context, room Room, specs []Spec) (*Set, error) {
	if len(specs) > maxServices {
		return nil, fault.New(fault.Usage, "share one between tests", "%d services, and %d are the most", len(specs), maxServices)
	}
	room.Parallel = max(room.Parallel, 1)
	if room.Log == nil {
		room.Log = slog.New(slog.DiscardHandler)
	}
	set := &Set{room: room}
	set.wanted.Store(math.MaxInt64)
	names := map[string]bool{}
	for _, spec := range specs {
		if spec.Kind == "" {
			spec.Kind = KindOf(spec.Image)
		}
		if err := spec.check(); err != nil {
			return nil, err
		}
		if names[spec.Name] {
			return nil, fault.New(fault.Usage, "give each a name of its own", "two services are called %q", spec.Name)
		}
		names[spec.Name] = true
		set.services = append(set.services, newRunning(room, spec, &set.wanted))
	}
	for _, s := range set.services {
		starting, cancel := context.WithCancel(context.WithoutCancel(ctx))
		s.cancel = cancel
		go s.start(starting)
	}
	return set, nil
}

// Ready waits until every service can be used. The first that cannot is
// fault.Unavailable, and tells its last lines if it ended.
func (s *Set) Ready(ctx context.Context) error {
	for _, r := range s.services {
		select {
		case <-r.ready:
			if r.err != nil {
				return r.err
			}
		case <-ctx.Done():
			return fault.Wrap(context.Cause(ctx), fault.Unavailable, "", "wait for service "+r.spec.Name)
		}
	}
	return nil
}

// Variables returns "KEY=value", sorted, for a process that shares the services:
// DB_HOST, DB_PORT, DB_USER, DB_PASSWORD, DB_NAME and DB_URL of a database called db,
// and so on; DB_TEMPLATE names the database that its scripts filled, for tests that make
// copies by themselves. The first database is also DATABASE_URL and what libpq reads, PGHOST and
// the like, the first redis REDIS_URL.
func (s *Set) Variables() []string {
	return s.collect(func(r *running) map[string]string { return r.protocol.variables() })
}

// Expect says how often [Set.Fresh] will be called from now on: for more than that nothing
// is made ahead, and nothing is tidied up. More calls than that do no harm.
func (s *Set) Expect(tests int) { s.wanted.Store(int64(tests)) }

// Fresh gives a test data of its own and returns its variables, those of [Variables]
// for services that are shared. The function returned must be called when the test
// is over. That a service ended meanwhile is no error of it: see [Set.Check].
func (s *Set) Fresh(ctx context.Context) (variables []string, done func(context.Context) error, err error) {
	s.wanted.Add(-1)
	var ends []func(context.Context) error
	done = func(ctx context.Context) error {
		var errs []error
		for _, end := range slices.Backward(ends) {
			errs = append(errs, end(ctx))
		}
		return errors.Join(errs...)
	}
	own := map[*running]map[string]string{}
	for _, r := range s.services {
		if r.spec.Shared {
			continue
		}
		values, end, err := r.protocol.fresh(ctx)
		if err != nil {
			return nil, nil, errors.Join(r.failure("give a test its own data", err), done(ctx))
		}
		own[r], ends = values, append(ends, end)
	}
	return s.collect(func(r *running) map[string]string {
		if values, ok := own[r]; ok {
			return values
		}
		return r.protocol.variables()
	}), done, nil
}

// collect names the variables of every service.
func (s *Set) collect(of func(*running) map[string]string) []string {
	var all []string
	seen := map[Kind]bool{}
	for _, r := range s.services {
		prefix := strings.ToUpper(strings.ReplaceAll(r.spec.Name, "-", "_")) + "_"
		values := of(r)
		for key, value := range values {
			all = append(all, prefix+key+"="+value)
		}
		if !seen[r.spec.Kind] {
			seen[r.spec.Kind] = true
			for name, key := range wellKnown[r.spec.Kind] {
				all = append(all, name+"="+values[key])
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// wellKnown are names that clients look for by themselves
// (https://www.postgresql.org/docs/current/libpq-envars.html), and ours that they are.
var wellKnown = map[Kind]map[string]string{
	Postgres: {
		"DATABASE_URL": "URL", "PGHOST": "HOST", "PGPORT": "PORT",
		"PGUSER": "USER", "PGPASSWORD": "PASSWORD", "PGDATABASE": "NAME",
	},
	Redis: {"REDIS_URL": "URL"},
}

// Own reports that [Set.Fresh] gives a test something that others do not have.
func (s *Set) Own() bool {
	return slices.ContainsFunc(s.services, func(r *running) bool { return !r.spec.Shared && r.spec.Kind != Other })
}

// Check reports services that ended. Those of a run whose tests failed are suspect, since
// they may be why: they are asked, and the end of one that does not answer is waited for.
func (s *Set) Check(ctx context.Context, suspect bool) error {
	var errs []error
	for _, r := range s.services {
		if suspect && !r.answers(ctx) {
			r.died()
		}
		select {
		case <-r.ended:
			errs = append(errs, r.failure("run", fmt.Errorf("it ended: %s", r.status)))
		default:
		}
	}
	return errors.Join(errs...)
}

// Facts tells what ran, and how long each service took to be ready.
func (s *Set) Facts() map[string]string {
	facts := map[string]string{}
	for _, r := range s.services {
		name := "service." + r.spec.Name
		facts[name+".kind"] = string(r.spec.Kind)
		facts[name+".version"] = r.spec.Version
		if r.took > 0 {
			facts[name+".ready-seconds"] = strconv.FormatFloat(r.took.Seconds(), 'f', 3, 64)
		}
	}
	return facts
}

// Logs returns the last lines of every service by name.
func (s *Set) Logs() map[string]string {
	logs := map[string]string{}
	for _, r := range s.services {
		logs[r.spec.Name] = r.said.String()
	}
	return logs
}

// Release ends what this process does with the services. They go on, until their
// environment is closed.
func (s *Set) Release() {
	for _, r := range s.services {
		r.release()
	}
}

// Close ends all services at once: none of them needs another to be killed.
func (s *Set) Close(ctx context.Context) error {
	errs := make([]error, len(s.services))
	var all sync.WaitGroup
	for i, r := range s.services {
		all.Go(func() { errs[i] = r.stop(ctx) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// running is one service from its start to its end.
type running struct {
	room     Room
	spec     Spec
	protocol protocol
	host     string // the name or address that tests use
	port     int
	// madeUp says that the password is ours, and not of the project.
	madeUp bool
	said   *output
	wanted *atomic.Int64 // that of the set

	ready chan struct{} // closed once err is known
	err   error
	ended chan struct{} // closed once status is known
	// status is how the container ended.
	status sandbox.ExitStatus
	// took is the time until it was ready.
	took time.Duration

	// cancel ends a start that is not over.
	cancel    context.CancelFunc
	container sandbox.Container
}

func newRunning(room Room, spec Spec, wanted *atomic.Int64) *running {
	r := &running{room: room, spec: spec, wanted: wanted, said: newOutput(), ready: make(chan struct{}), ended: make(chan struct{})}
	if r.madeUp = r.spec.Password == ""; r.madeUp {
		r.spec.Password = rand.Text()
	}
	r.protocol = kinds[spec.Kind](r)
	return r
}

// start brings the service up and closes ready.
func (r *running) start(ctx context.Context) {
	defer close(r.ready)
	if err := r.bringUp(ctx); err != nil {
		r.err = r.failure("start", err)
	}
}

func (r *running) bringUp(ctx context.Context) (err error) {
	began := time.Now()
	if r.host, r.port, err = r.place(); err != nil {
		return err
	}
	spec, err := r.protocol.container(ctx)
	if err != nil {
		return err
	}
	spec.Name, spec.Image, spec.Limits = r.spec.Name, r.spec.Image, r.spec.Limits
	spec.Stdout, spec.Stderr = r.said, r.said
	spec.Env = append(spec.Env, r.spec.environ()...)
	if r.container, err = r.room.Env.Start(ctx, spec); err != nil {
		close(r.ended)
		return err
	}
	go r.watch()
	wait := readiness.Wait{Timeout: r.spec.Timeout, Ended: r.ended}
	if r.spec.Kind != Other {
		// It says when it is ready, is started as it is, and no script restarts it.
		wait.Stirred, wait.InARow = r.said.stirred, 1
	}
	if p := r.protocol.probe(); p != nil {
		if err := wait.For(ctx, p, r.room.Env.Dial); err != nil {
			return err
		}
	}
	if err := r.protocol.open(ctx); err != nil {
		return err
	}
	r.took = time.Since(began)
	return nil
}

// place returns where tests reach the service. Where containers have files of their
// own its name is known there; where they share the host's network it gets a port
// on which nobody else listens.
func (r *running) place() (host string, port int, err error) {
	if r.room.Env.Effective().Level == sandbox.Full {
		return r.spec.Name, r.spec.Port, nil
	}
	port, err = r.room.Env.Port(r.spec.Port)
	return "127.0.0.1", port, err
}

// address is where this process dials the service.
func (r *running) address() string {
	return net.JoinHostPort(r.container.Address(), strconv.Itoa(r.port))
}

func (r *running) watch() {
	status, err := r.container.Wait(context.Background())
	if err != nil {
		r.room.Log.Warn("wait for service", "service", r.spec.Name, "error", err)
	}
	r.status = status
	close(r.ended)
}

// release ends a start that is not over, and what open opened.
func (r *running) release() {
	r.cancel()
	<-r.ready
	r.protocol.close()
}

// stop ends the service, also one that is still starting.
func (r *running) stop(ctx context.Context) error {
	r.release()
	if r.container == nil {
		return nil
	}
	select {
	case <-r.ended:
		return nil
	default:
	}
	return r.container.Kill(ctx)
}

// answers reports whether the service does what it did when it was ready, as far as that
// can be asked.
func (r *running) answers(ctx context.Context) bool {
	select {
	case <-r.ready:
	default:
		return true // it still starts
	}
	const patience = 2 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	p := r.protocol.probe()
	return r.err != nil || p == nil || p.Try(ctx, r.room.Env.Dial) == nil
}

// died reports that the service ended, which a refused connection shows a moment
// before its end is known.
func (r *running) died() bool {
	const moment = 2 * time.Second
	select {
	case <-r.ended:
		return true
	case <-time.After(moment):
		return false
	}
}

// failure is an error of the service with what it said last.
func (r *running) failure(doing string, err error) error {
	const lines = 8
	text := strings.TrimSpace(r.said.String())
	all := strings.Split(text, "\n")
	last := strings.Join(all[max(0, len(all)-lines):], "\n    ")
	last = strings.ReplaceAll(last, r.spec.Password, "***")
	kind := fault.KindOf(err)
	if kind == fault.Internal {
		kind = fault.Unavailable
	}
	if last == "" {
		return fault.Wrap(err, kind, "", doing+" service "+r.spec.Name)
	}
	return fault.New(kind, fault.HintOf(err), "%s service %s: %w; its last lines:\n    %s", doing, r.spec.Name, err, last)
}

// output keeps the last lines that a service wrote.
type output struct {
	mu   sync.Mutex
	kept []byte
	// stirred receives after a write; it has room for one.
	stirred chan struct{}
}

func newOutput() *output { return &output{stirred: make(chan struct{}, 1)} }

// maxOutput bounds what is kept of the output of one service, in bytes.
const maxOutput = 64 << 10

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.kept = append(o.kept, p...)
	if over := len(o.kept) - maxOutput; over > 0 {
		o.kept = append(o.kept[:0], o.kept[over:]...)
	}
	select {
	case o.stirred <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.kept)
}

// other is an image, or a command, that is run as it is.
type other struct{ *running }

func newOther(r *running) protocol { return other{r} }

func (o other) container(context.Context) (sandbox.ContainerSpec, error) {
	return sandbox.ContainerSpec{Argv: o.spec.Argv, Args: o.spec.Args}, nil
}

func (o other) probe() readiness.Probe {
	switch {
	case len(o.spec.Check) > 0:
		return readiness.Command(o.running.container, o.spec.Check...)
	case o.spec.Health != "":
		return readiness.HTTP(o.address(), o.spec.Health)
	case o.spec.Port != 0:
		return readiness.TCP(o.address())
	}
	return nil
}

func (o other) open(context.Context) error { return nil }

func (o other) close() {}

func (o other) variables() map[string]string {
	values := map[string]string{"HOST": o.host}
	if o.port != 0 {
		values["PORT"] = strconv.Itoa(o.port)
	}
	return values
}

func (o other) fresh(context.Context) (map[string]string, func(context.Context) error, error) {
	return o.variables(), func(context.Context) error { return nil }, nil
}
