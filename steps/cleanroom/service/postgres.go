package service

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ultrafast-ci/ultrafast/steps/cleanroom/readiness"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

const (
	postgresPort = 5432
	// admin owns the cluster; tests never learn its password.
	admin = "postgres"
	// template is the database of which every other is a copy.
	template = "ultrafast_template"
	// clusterTarget is where the cluster is inside.
	clusterTarget = "/cluster"
)

// Files of a template directory. The server wants to own its data directory, and not
// every back end gives a container the mount itself: the directory is one below.
const (
	clusterDir   = "cluster"
	dataDir      = "data"
	passwordFile = "password"
)

// postgres is a server on a discarded copy of a cluster that initdb made once.
type postgres struct {
	*running
	adminPassword string

	// made hands over databases that were made ahead; refill makes them.
	made     chan made
	noMore   context.CancelFunc
	refilled sync.WaitGroup

	mu    sync.Mutex // guards the connection, which takes one query at a time
	conn  *pgconn.PgConn
	count int
}

// made is a new database, or why there is none.
type made struct {
	name string
	err  error
}

func newPostgres(r *running) protocol {
	if r.spec.Port == 0 {
		r.spec.Port = postgresPort
	}
	if r.spec.Database == "" {
		r.spec.Database = "app"
	}
	if r.spec.User == "" {
		r.spec.User = "app"
	}
	return &postgres{running: r, made: make(chan made, r.room.Parallel), noMore: func() {}}
}

// container starts the server on the template, without what makes data outlive a
// crash: nothing here is to outlive the run.
func (p *postgres) container(ctx context.Context) (sandbox.ContainerSpec, error) {
	dir, err := p.room.Template(ctx, "postgres-"+p.spec.Version, p.initialise)
	if err != nil {
		return sandbox.ContainerSpec{}, fmt.Errorf("prepare a cluster: %w", err)
	}
	password, err := os.ReadFile(filepath.Join(dir, passwordFile))
	if err != nil {
		return sandbox.ContainerSpec{}, fault.Wrap(err, fault.Unavailable, "", "read the password of a prepared cluster")
	}
	p.adminPassword = string(password)
	cluster := sandbox.Mount{Kind: sandbox.Overlay, Source: filepath.Join(dir, clusterDir), Target: clusterTarget}
	argv := []string{
		path.Join(p.spec.Programs, "postgres"), "-D", path.Join(p.room.Env.Path(p.spec.Name, cluster), dataDir),
		"-c", "listen_addresses=" + p.host, "-c", "port=" + strconv.Itoa(p.port), "-c", "unix_socket_directories=",
		"-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off",
		"-c", "autovacuum=off", "-c", "shared_buffers=32MB", "-c", "max_wal_size=256MB", "-c", "log_timezone=UTC", "-c", "timezone=UTC",
	}
	return sandbox.ContainerSpec{Argv: append(argv, p.spec.Args...), Env: []string{"LANG=C.UTF-8", "TZ=UTC"}, Mounts: []sandbox.Mount{cluster}}, nil
}

// initialise makes the cluster of a template directory, in the environment.
func (p *postgres) initialise(ctx context.Context, dir string) error {
	// Its reader is another user; around it is a directory that is closed to all.
	password := filepath.Join(dir, passwordFile)
	if err := errors.Join(os.WriteFile(password, []byte(rand.Text()), 0o644), os.Chmod(password, 0o644)); err != nil {
		return err
	}
	cluster := filepath.Join(dir, clusterDir)
	if err := errors.Join(os.Mkdir(cluster, 0o777), os.Chmod(cluster, 0o777)); err != nil {
		return err
	}
	target := sandbox.Mount{Kind: sandbox.ReadWrite, Source: dir, Target: "/template"}
	name := p.spec.Name + "-initdb"
	inside := p.room.Env.Path(name, target)
	spec := sandbox.ContainerSpec{
		Name: name, Image: p.spec.Image, Mounts: []sandbox.Mount{target}, Limits: p.spec.Limits,
		Argv: []string{
			path.Join(p.spec.Programs, "initdb"), "-D", path.Join(inside, clusterDir, dataDir), "-U", admin,
			"--auth=scram-sha-256", "--pwfile=" + path.Join(inside, passwordFile), "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions", "--wal-segsize=1",
		},
		Env: []string{"LANG=C.UTF-8", "TZ=UTC"}, Stdout: p.said, Stderr: p.said,
	}
	c, err := p.room.Env.Start(ctx, spec)
	if err != nil {
		return err
	}
	status, err := c.Wait(ctx)
	if err != nil {
		return errors.Join(err, c.Kill(context.WithoutCancel(ctx)))
	}
	if !status.OK() {
		return fmt.Errorf("initdb: %s", status)
	}
	// initdb lets in the loopback interface only, which services on other addresses
	// of the environment are not reached by.
	const access = "host all all all scram-sha-256\n"
	if err := os.WriteFile(filepath.Join(cluster, dataDir, "pg_hba.conf"), []byte(access), 0o600); err != nil {
		return err
	}
	return os.Chmod(password, 0o600)
}

func (p *postgres) probe() readiness.Probe { return readiness.Postgres(p.address()) }

// open makes the tests' user, the template with what the scripts put into it, and the
// database that is shared.
func (p *postgres) open(ctx context.Context) error {
	err := p.connect(ctx, admin, p.adminPassword, "postgres")
	if err != nil {
		return err
	}
	role := quoteIdentifier(p.spec.User)
	create := "CREATE ROLE " + role + " SUPERUSER LOGIN"
	if p.spec.User == admin {
		create = "ALTER ROLE " + role
	}
	if err := p.execute(ctx, create+" PASSWORD "+quoteLiteral(p.spec.Password)); err != nil {
		return err
	}
	if err := p.prepareTemplate(ctx, role); err != nil {
		return err
	}
	if p.spec.Database != admin {
		if err := p.create(ctx, p.spec.Database); err != nil {
			return err
		}
	}
	if p.spec.Shared {
		return nil
	}
	ctx, p.noMore = context.WithCancel(context.WithoutCancel(ctx))
	p.refilled.Go(func() { p.refill(ctx) })
	return nil
}

// prepareTemplate makes the database that the scripts fill.
func (p *postgres) prepareTemplate(ctx context.Context, role string) error {
	if err := p.execute(ctx, "CREATE DATABASE "+template+" OWNER "+role); err != nil {
		return err
	}
	if len(p.spec.Init) == 0 {
		return nil
	}
	c, err := p.session(ctx, p.spec.User, p.spec.Password, template)
	if err != nil {
		return err
	}
	defer c.Close(context.WithoutCancel(ctx))
	for i, script := range p.spec.Init {
		if _, err := c.Exec(ctx, script).ReadAll(); err != nil {
			return fault.Wrap(err, fault.Finding, "mend the script", fmt.Sprintf("run SQL script %d of %d", i+1, len(p.spec.Init)))
		}
	}
	return nil
}

// session opens a connection with nothing but what is said here: no variable and no
// file of the host gets a say.
func (p *postgres) session(ctx context.Context, user, password, database string) (*pgconn.PgConn, error) {
	config, err := pgconn.ParseConfig("host=127.0.0.1 port=5432 sslmode=disable user=x password=x dbname=x target_session_attrs=any")
	if err != nil {
		return nil, err
	}
	config.User, config.Password, config.Database = user, password, database
	config.RuntimeParams, config.Fallbacks = map[string]string{}, nil
	config.LookupFunc = func(context.Context, string) ([]string, error) { return []string{p.running.container.Address()}, nil }
	config.DialFunc = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return p.room.Env.Dial(ctx, network, p.address())
	}
	return pgconn.ConnectConfig(ctx, config)
}

func (p *postgres) connect(ctx context.Context, user, password, database string) (err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn, err = p.session(ctx, user, password, database)
	return err
}

func (p *postgres) execute(ctx context.Context, query string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn == nil {
		return errors.New("the service is closed")
	}
	_, err := p.conn.Exec(ctx, query).ReadAll()
	return err
}

func (p *postgres) create(ctx context.Context, name string) error {
	return p.execute(ctx, "CREATE DATABASE "+quoteIdentifier(name)+" OWNER "+quoteIdentifier(p.spec.User)+" TEMPLATE "+template)
}

// refill makes databases until as many as tests run at once are waiting.
func (p *postgres) refill(ctx context.Context) {
	for ctx.Err() == nil {
		p.count++
		m := made{name: p.spec.Database + "_" + strconv.Itoa(p.count)}
		m.err = p.create(ctx, m.name)
		select {
		case p.made <- m:
		case <-ctx.Done():
		}
		if m.err != nil {
			return
		}
	}
}

func (p *postgres) close() {
	p.noMore()
	p.refilled.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn != nil {
		// The server ends with the environment: it need not hear that we go.
		_ = p.conn.Conn().Close()
		p.conn = nil
	}
}

func (p *postgres) variables() map[string]string { return p.database(p.spec.Database) }

func (p *postgres) database(name string) map[string]string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(p.spec.User, p.spec.Password),
		Host: net.JoinHostPort(p.host, strconv.Itoa(p.port)), Path: "/" + name, RawQuery: "sslmode=disable",
	}
	return map[string]string{
		"HOST": p.host, "PORT": strconv.Itoa(p.port), "USER": p.spec.User, "PASSWORD": p.spec.Password, "NAME": name, "URL": u.String(),
		"TEMPLATE": template,
	}
}

// fresh hands over a database that was made ahead.
func (p *postgres) fresh(ctx context.Context) (map[string]string, func(context.Context) error, error) {
	select {
	case m := <-p.made:
		if m.err != nil {
			p.made <- m // for the next who asks
			return nil, nil, m.err
		}
		drop := func(ctx context.Context) error {
			err := p.execute(ctx, "DROP DATABASE "+quoteIdentifier(m.name)+" WITH (FORCE)")
			if err != nil && !p.died() {
				return p.failure("drop database "+m.name+" of", err)
			}
			return nil
		}
		return p.database(m.name), drop, nil
	case <-p.ended:
		return nil, nil, errors.New("it ended")
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
}

// quoteIdentifier and quoteLiteral quote as the SQL of the server has it (section
// 4.1 of its manual); standard_conforming_strings is on.
func quoteIdentifier(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

func quoteLiteral(s string) string { return `'` + strings.ReplaceAll(s, `'`, `''`) + `'` }
