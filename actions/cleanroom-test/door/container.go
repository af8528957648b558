package door

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/keeper"
	"github.com/ultrafast-ci/ultrafast/steps/cleanroom/readiness"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// Container are the verbs for containers of an environment.
type Container struct {
	Start ContainerStart `cmd:"" help:"Start a container that stays when the command ends."`
	Stop  ContainerStop  `cmd:"" help:"Stop a container."`
	List  ContainerList  `cmd:"" help:"List the containers of an environment."`
	Logs  ContainerLogs  `cmd:"" help:"Print what a container wrote."`
}

// ContainerStart starts a container.
type ContainerStart struct {
	Selector
	Image        string            `arg:"" optional:"" twin:"image" help:"Image; dir:PATH for a directory as root, host for /usr of this machine."`
	ImageFlag    string            `name:"image" placeholder:"IMAGE" help:"The same as a flag."`
	Argv         []string          `arg:"" optional:"" passthrough:"partial" name:"command" help:"Command and arguments, after --. Default: those of the image."`
	Name         string            `placeholder:"NAME" help:"Name, by which other containers reach it. Default: that of the image."`
	Env          map[string]string `mapsep:"none" placeholder:"KEY=VALUE" help:"Environment variable; may be repeated."`
	DB           string            `name:"db" placeholder:"NAME" help:"Database that a database server begins with."`
	User         string            `placeholder:"USER" help:"User of that database."`
	Password     app.Secret        `placeholder:"PASSWORD" help:"Password of that user; other users of this machine see it in the process list: better --password-file, or the environment variable CLEANROOM_PASSWORD."`
	PasswordFile string            `type:"path" placeholder:"FILE" help:"File that holds the password."`
	Port         int               `placeholder:"PORT" help:"TCP port of the service. Default: the usual one of the image."`
	WaitReady    bool              `help:"Wait until the service answers, several times in a row."`
	Timeout      *int              `placeholder:"SECONDS" help:"How long to wait for that. Default: as the project says, else 60."`
}

// Help shows how it is called.
func (*ContainerStart) Help() string {
	return `Without an environment one is made, called default. A service that ends, or does not
answer in time, is exit code 1 and its last lines; nothing of it stays.

With host a container sees /usr of this machine and nothing of the project. A program of
the project that is linked statically runs from dir:DIR, which is its root.

Examples:
  ultrafast-cleanroom-test container start postgres:15 --name db --db app --user app --password-file pw --wait-ready
  ultrafast-cleanroom-test container start redis --environment test-env --wait-ready --timeout 30
  ultrafast-cleanroom-test container start host --name web --port 8080 --wait-ready -- /usr/bin/python3 -m http.server 8080
  ultrafast-cleanroom-test container start dir:build/bin --name shop --port 8081 --wait-ready -- /shop --listen :8081`
}

// service is what is known of an image by its name.
type service struct {
	kind string
	port int
	// db, user and password are the variables that its images read.
	db, user, password string
	// open is what lets a server begin without a password.
	open  string
	probe func(address string) readiness.Probe
}

// services are those whose protocol is spoken, by the last part of the image's name.
var services = map[string]service{
	"postgres": {"postgres", 5432, "POSTGRES_DB", "POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_HOST_AUTH_METHOD=trust", readiness.Postgres},
	"redis":    {"redis", 6379, "", "", "", "", readiness.Redis},
	"mysql":    {"mysql", 3306, "MYSQL_DATABASE", "MYSQL_USER", "MYSQL_PASSWORD", "MYSQL_ALLOW_EMPTY_PASSWORD=yes", readiness.TCP},
	"mariadb":  {"mariadb", 3306, "MARIADB_DATABASE", "MARIADB_USER", "MARIADB_PASSWORD", "MARIADB_ALLOW_EMPTY_ROOT_PASSWORD=yes", readiness.TCP},
}

// serviceOf returns what is known of an image.
func serviceOf(image string) service {
	name := image[strings.LastIndexByte(image, '/')+1:]
	name, _, _ = strings.Cut(name, "@")
	name, _, _ = strings.Cut(name, ":")
	if s, ok := services[name]; ok {
		return s
	}
	return service{kind: "generic", probe: readiness.TCP}
}

// host and dirPrefix are images that are none.
const (
	hostImage = "host"
	dirPrefix = "dir:"
)

// Run starts it. An environment that was made for it goes again if that fails.
func (c *ContainerStart) Run(ctx context.Context, a *app.App) (err error) {
	image := cmp.Or(c.Image, c.ImageFlag)
	if image == "" {
		return fault.New(fault.Usage, "name one, such as postgres:15", "no image was named")
	}
	s := serviceOf(image)
	s.port = cmp.Or(c.Port, s.port)
	r, err := openRooms(a)
	if err != nil {
		return err
	}
	spec, err := c.spec(r, image, s)
	if err != nil {
		return err
	}
	var config sandbox.ImageConfig
	if image != hostImage && !strings.HasPrefix(image, dirPrefix) {
		spec.Image, config, err = r.fetch(ctx, image)
		if fault.KindOf(err) == fault.Unavailable && installable(s.kind) {
			return fault.Also(err, "or let `run` start the "+s.kind+" that this machine has installed: [[cleanroom.service]] in ggen.toml with name = \""+s.kind+"\" and no image")
		}
		if err != nil {
			return err
		}
	}
	if s.port = cmp.Or(s.port, tcpPort(config)); c.WaitReady && s.port == 0 {
		return fault.New(fault.Usage, "name the port with --port", "image %s: where its service listens is not known, so --wait-ready cannot ask it", image)
	}
	e, made, err := r.findOrMake(ctx, c.Environment)
	if err != nil {
		return err
	}
	defer func() {
		if made && err != nil {
			cleanUp, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
			defer cancel()
			err = errors.Join(err, r.keeper.Remove(cleanUp, e.Name(), keeper.Removal{Force: true}))
		}
	}()
	if err := c.withoutPassword(&spec, s, e); err != nil {
		return err
	}
	info, err := e.Launch(ctx, spec, s.kind, image, s.port)
	if image == hostImage && notSeen(a, err, spec.Argv) {
		return fault.Also(err, "of this machine only /usr is seen, so not "+spec.Argv[0]+": write dir:DIR in place of host, a directory with a static program, and the program's path in it")
	}
	if err != nil {
		return err
	}
	if c.WaitReady {
		if err := c.await(ctx, r, e, info, s); err != nil {
			return err
		}
		info.Status = keeper.Ready
	}
	if a.Output == "json" {
		return a.PrintJSON(struct {
			Environment string `json:"environment"`
			keeper.ContainerInfo
		}{e.Name(), info})
	}
	rows := [][]any{{"container", info.Name}, {"environment", e.Name()}, {"status", info.Status}}
	if info.Port != 0 && info.Address != "" {
		rows = append(rows, []any{"address", net.JoinHostPort(info.Address, strconv.Itoa(info.Port))})
	}
	return a.Table(rows...)
}

// notSeen reports that a command was not found which is a file of this machine, outside
// of what its clean rooms see.
func notSeen(a *app.App, err error, argv []string) bool {
	if !errors.Is(err, fs.ErrNotExist) || len(argv) == 0 || !strings.Contains(argv[0], "/") {
		return false
	}
	_, serr := os.Stat(a.Abs(argv[0]))
	return serr == nil
}

// spec describes the container but for the files of its image.
func (c *ContainerStart) spec(r *rooms, image string, s service) (sandbox.ContainerSpec, error) {
	var none sandbox.ContainerSpec
	if c.Port < 0 || c.Port > 65535 {
		return none, fault.New(fault.Usage, "choose 1 to 65535", "--port %d", c.Port)
	}
	if t := c.Timeout; t != nil && (*t < 1 || *t > maxSeconds) {
		return none, fault.New(fault.Usage, "choose 1 to 86400 seconds", "--timeout %d", *t)
	}
	spec := sandbox.ContainerSpec{Name: cmp.Or(c.Name, defaultName(image, s)), Argv: trimDashes(c.Argv)}
	if len(spec.Argv) == 0 {
		spec.Argv = nil // that of the image
	}
	if image == hostImage || strings.HasPrefix(image, dirPrefix) {
		if len(spec.Argv) == 0 {
			return none, fault.New(fault.Usage, "write it after --", "%s has no command of its own, and none was named", image)
		}
		spec.Env = commonEnv(nil)
		if dir, ok := strings.CutPrefix(image, dirPrefix); ok {
			spec.Root = r.app.Abs(dir)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(c.Env)) {
		if key == "" || strings.ContainsAny(key, "=\x00") {
			return none, fault.New(fault.Usage, "write KEY=VALUE", "--env %q", key)
		}
		spec.Env = append(spec.Env, key+"="+c.Env[key])
	}
	credentials, err := c.credentials(r.app, s)
	spec.Env = append(spec.Env, credentials...)
	return spec, err
}

// commonEnv returns the variables that a command has for which an image, which may be
// none, says no others.
func commonEnv(image []string) []string {
	return slices.DeleteFunc([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/tmp", "TZ=UTC", "LANG=C.UTF-8"}, func(ours string) bool {
		name, _, _ := strings.Cut(ours, "=")
		return slices.ContainsFunc(image, func(v string) bool { return strings.HasPrefix(v, name+"=") })
	})
}

// defaultName is the last part of the image's name, as a host name.
func defaultName(image string, s service) string {
	if s.kind != "generic" {
		return s.kind
	}
	base := filepath.Base(strings.TrimPrefix(image, dirPrefix))
	base, _, _ = strings.Cut(base, "@")
	base, _, _ = strings.Cut(base, ":")
	name := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
			return c
		}
		return '-'
	}, base)
	return cmp.Or(strings.Trim(name[:min(len(name), 63)], "-"), "container")
}

// credentials returns the variables that give a database server its first user.
func (c *ContainerStart) credentials(a *app.App, s service) ([]string, error) {
	password, err := c.password(a)
	if err != nil {
		return nil, err
	}
	var env []string
	for _, v := range []struct{ flag, value, variable string }{
		{"--db", c.DB, s.db}, {"--user", c.User, s.user}, {"--password", password, s.password},
	} {
		switch {
		case v.value == "":
		case v.variable == "":
			return nil, fault.New(fault.Usage, "set what the image reads with --env", "%s: a %s container has no such setting that is known", v.flag, s.kind)
		case strings.ContainsRune(v.value, 0):
			return nil, fault.New(fault.Usage, "", "%s has a zero byte", v.flag)
		default:
			env = append(env, v.variable+"="+v.value)
		}
	}
	return env, nil
}

// withoutPassword lets a database server begin without one where nobody but the
// environment reaches it.
func (c *ContainerStart) withoutPassword(spec *sandbox.ContainerSpec, s service, e *keeper.Environment) error {
	given := func(v string) bool { return strings.HasPrefix(v, s.password+"=") }
	switch {
	case s.password == "" || slices.ContainsFunc(spec.Env, given):
		return nil
	case e.Effective().Level < sandbox.Full:
		return fault.New(fault.Usage, "give it with --password-file", "a %s server needs a password here: other users of this machine reach an environment of isolation %s", s.kind, e.Effective().Level)
	}
	spec.Env = append(spec.Env, s.open)
	return nil
}

// password returns the password of the flag or of the file.
func (c *ContainerStart) password(a *app.App) (string, error) {
	if c.PasswordFile != "" {
		if c.Password != "" {
			return "", fault.New(fault.Usage, "give one of them", "both --password and --password-file")
		}
		b, err := a.ReadFile("password", c.PasswordFile)
		password := strings.TrimRight(string(b), "\r\n")
		if err == nil && (password == "" || len(password) > 4096) {
			err = fault.New(fault.Usage, "", "%s holds no password of 1 to 4096 bytes", c.PasswordFile)
		}
		a.Mask(password)
		return password, err
	}
	onLine := slices.ContainsFunc(a.Args, func(arg string) bool { return arg == "--password" || strings.HasPrefix(arg, "--password=") })
	if c.Password != "" && onLine {
		a.Log.Warn("other users of this machine see a password on the command line: use --password-file or CLEANROOM_PASSWORD")
	}
	return c.Password.Reveal(), nil
}

// fetch returns the reference of an image, pinned and the same everywhere on this
// machine, and what its configuration says. The image is in the cache then, where the
// keeper of an environment takes it from.
func (r *rooms) fetch(ctx context.Context, image string) (string, sandbox.ImageConfig, error) {
	cache, err := r.app.CacheDir()
	if err != nil {
		return "", sandbox.ImageConfig{}, err
	}
	images := Images(r.app, r.project, cache, "")
	ref, err := images.Resolve(ctx, image)
	if err != nil {
		return "", sandbox.ImageConfig{}, err
	}
	text := pinned(r.project, ref)
	unpacked, err := images.Unpack(ctx, text)
	if err != nil {
		return "", sandbox.ImageConfig{}, err
	}
	unpacked.Release()
	return text, unpacked.Config, nil
}

// tcpPort returns the first TCP port of an image, or zero.
func tcpPort(c sandbox.ImageConfig) int {
	for _, p := range c.Ports {
		if number, ok := strings.CutSuffix(p, "/tcp"); ok {
			if n, err := strconv.Atoi(number); err == nil {
				return n
			}
		}
	}
	return 0
}

// lastLines bounds what is shown of a service that did not get ready.
const lastLines = 20

// await waits until the service answers. One that does not is removed, with its last
// lines in the error.
func (c *ContainerStart) await(ctx context.Context, r *rooms, e *keeper.Environment, info keeper.ContainerInfo, s service) error {
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		if _, err := e.Wait(watching, info.ID); err == nil {
			close(ended)
		}
	}()
	timeout := seconds(c.Timeout, r.project.Containers.StartTimeoutSeconds)
	wait := readiness.Wait{Timeout: timeout, InARow: 3, Ended: ended}
	err := wait.For(ctx, s.probe(net.JoinHostPort(info.Address, strconv.Itoa(info.Port))), e.Dial)
	if err == nil {
		return e.MarkReady(ctx, info.ID)
	}
	cleanUp, stop := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
	defer stop()
	_, serr := e.Stop(cleanUp, info.ID, 0)
	if fault.KindOf(serr) == fault.Finding {
		serr = nil // it had ended
	}
	if ctx.Err() != nil {
		return errors.Join(context.Cause(ctx), serr)
	}
	said := "it wrote nothing"
	var log bytes.Buffer
	if e.Logs(cleanUp, info.ID, false, &log) == nil && log.Len() > 0 {
		lines := strings.Split(strings.TrimRight(log.String(), "\n"), "\n")
		said = "its last lines:\n  " + strings.Join(lines[max(0, len(lines)-lastLines):], "\n  ")
	}
	return fault.New(fault.Finding, "read its last lines; a slow one needs a longer --timeout", "container %s: %w; %s", info.Name, errors.Join(err, serr), said)
}

// closeTime bounds what is cleaned up after a command was told to end.
const closeTime = 10 * time.Second

// maxSeconds bounds the waits of containers.
const maxSeconds = 86400

// seconds is the time that a flag says, or the project.
func seconds(flag *int, otherwise int) time.Duration {
	if flag != nil {
		otherwise = *flag
	}
	return time.Duration(otherwise) * time.Second
}

// ContainerStop stops a container.
type ContainerStop struct {
	Selector
	Name     string `arg:"" optional:"" twin:"name" help:"Name of the container."`
	NameFlag string `name:"name" placeholder:"NAME" help:"The same as a flag."`
	Timeout  *int   `placeholder:"SECONDS" help:"How long it has after SIGTERM before it is killed. Default: as the project says, else 30."`
	Force    bool   `help:"Kill it at once; that it does not run is no mistake."`
}

// Help shows how it is called.
func (*ContainerStop) Help() string {
	return `Examples:
  ultrafast-cleanroom-test container stop db --timeout 10
  ultrafast-cleanroom-test container stop db --environment test-env --force`
}

// Run stops it.
func (c *ContainerStop) Run(ctx context.Context, a *app.App) error {
	name := cmp.Or(c.Name, c.NameFlag)
	if name == "" {
		return fault.New(fault.Usage, "`container list` shows them", "no container was named")
	}
	if t := c.Timeout; t != nil && (*t < 0 || *t > maxSeconds) {
		return fault.New(fault.Usage, "choose 0 to 86400 seconds", "--timeout %d", *t)
	}
	r, err := openRooms(a)
	if err != nil {
		return err
	}
	e, err := r.need(ctx, c.Environment)
	if err != nil {
		return err
	}
	grace := seconds(c.Timeout, r.project.Containers.StopTimeoutSeconds)
	if c.Force {
		grace = 0
	}
	info, err := e.Stop(ctx, name, grace)
	if c.Force && fault.KindOf(err) == fault.Finding {
		err = nil
	}
	if err != nil || info.Exit == nil {
		return err
	}
	if a.Output == "json" {
		return a.PrintJSON(info)
	}
	return a.Table([]any{"stopped", info.Name, info.Exit})
}

// ContainerList lists containers.
type ContainerList struct {
	Selector
	Status string `enum:"running,stopped,all" default:"running" placeholder:"STATUS" help:"Only those of this status: ${enum}."`
}

// Help shows how it is called.
func (*ContainerList) Help() string {
	return `Examples:
  ultrafast-cleanroom-test container list
  ultrafast-cleanroom-test container list --status all --output json`
}

// Run lists them.
func (c *ContainerList) Run(ctx context.Context, a *app.App) error {
	r, err := openRooms(a)
	if err != nil {
		return err
	}
	e, err := r.find(ctx, c.Environment)
	if err != nil {
		return err
	}
	shown := []keeper.ContainerInfo{}
	name := ""
	if e != nil {
		info, err := e.Info(ctx)
		if err != nil {
			return err
		}
		name = info.Name
		for _, i := range info.Containers {
			if c.Status == "all" || (c.Status == "running") == i.Status.Alive() {
				shown = append(shown, i)
			}
		}
	}
	if a.Output == "json" {
		return a.PrintJSON(struct {
			Environment string                 `json:"environment"`
			Containers  []keeper.ContainerInfo `json:"containers"`
			Count       int                    `json:"count"`
		}{name, shown, len(shown)})
	}
	if len(shown) == 0 {
		return a.Table([]any{"No containers."})
	}
	rows := [][]any{{"NAME", "TYPE", "STATUS", "IMAGE", "ADDRESS", "STARTED", "MEMORY", "CPU"}}
	for _, i := range shown {
		status := string(i.Status)
		if i.Exit != nil {
			status += ", " + i.Exit.String()
		}
		address := i.Address
		if i.Port != 0 && address != "" {
			address = net.JoinHostPort(address, strconv.Itoa(i.Port))
		}
		rows = append(rows, []any{
			i.Name, i.Type, status, orDash(i.Image), orDash(address), ago(a.Now(), i.Created),
			fmt.Sprintf("%.1f MB", float64(max(i.Usage.Memory, i.Usage.PeakMemory))/(1<<20)), i.Usage.CPU.Round(time.Millisecond),
		})
	}
	return a.Table(rows...)
}

// ContainerLogs prints output.
type ContainerLogs struct {
	Selector
	Name     string `arg:"" optional:"" twin:"name" help:"Name of the container."`
	NameFlag string `name:"name" placeholder:"NAME" help:"The same as a flag."`
	Follow   bool   `short:"f" help:"Go on until the container ends."`
}

// Help shows how it is called.
func (*ContainerLogs) Help() string {
	return `The last megabytes are kept, also after the end of a container, until its environment is
deleted.

Examples:
  ultrafast-cleanroom-test container logs db
  ultrafast-cleanroom-test container logs db --follow`
}

// Run prints it.
func (c *ContainerLogs) Run(ctx context.Context, a *app.App) error {
	name := cmp.Or(c.Name, c.NameFlag)
	if name == "" {
		return fault.New(fault.Usage, "`container list --status all` shows them", "no container was named")
	}
	r, err := openRooms(a)
	if err != nil {
		return err
	}
	e, err := r.need(ctx, c.Environment)
	if err != nil {
		return err
	}
	return e.Logs(ctx, name, c.Follow, a.Stdout)
}
