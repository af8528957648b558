package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ultrafast-ci/ultrafast/steps/cleanroom/readiness"
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

// postgres is a server on a discarded copy of a cluster that was made once.
type postgres struct {
	*running
	cluster cluster

	// conn takes one query at a time, for whom asking is held.
	asking sync.Mutex
	conn   *pgconn.PgConn
	admin  login
	closed bool

	databases
}

// login is a user of the server.
type login struct{ user, password string }

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
	return &postgres{running: r}
}

// container starts the server on what is kept of its cluster.
func (p *postgres) container(ctx context.Context) (spec sandbox.ContainerSpec, err error) {
	if p.cluster, err = p.keptCluster(ctx); err != nil {
		return spec, fmt.Errorf("prepare a cluster: %w", err)
	}
	p.admin = login{admin, p.cluster.admin}
	if p.madeUp && p.private() {
		p.spec.Password = p.cluster.user
	}
	mount := sandbox.Mount{Kind: sandbox.Overlay, Source: filepath.Join(p.cluster.dir, clusterDir), Target: clusterTarget}
	return p.server(p.spec.Name, p.host, p.port, mount), nil
}

// server is a server without what makes data outlive a crash: nothing here is to
// outlive the run.
func (p *postgres) server(name, host string, port int, cluster sandbox.Mount) sandbox.ContainerSpec {
	argv := []string{
		path.Join(p.spec.Programs, "postgres"), "-D", path.Join(p.room.Env.Path(name, cluster), dataDir),
		"-c", "listen_addresses=" + host, "-c", "port=" + strconv.Itoa(port), "-c", "unix_socket_directories=",
		"-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off",
		"-c", "autovacuum=off", "-c", "max_logical_replication_workers=0", "-c", "shared_buffers=32MB", "-c", "max_wal_size=256MB", "-c", "log_timezone=UTC", "-c", "timezone=UTC",
	}
	return sandbox.ContainerSpec{Argv: append(argv, p.spec.Args...), Env: []string{"LANG=C.UTF-8", "TZ=UTC"}, Mounts: []sandbox.Mount{cluster}}
}

func (p *postgres) probe() readiness.Probe { return readiness.Postgres(p.address()) }

// private reports whether nobody but the tests of this run reaches the server.
func (p *postgres) private() bool { return p.room.Env.Effective().Level == sandbox.Full }

// open gives the tests' user its password, if it has to have another than in the kept
// cluster: a session takes as long as all of a short test. All else is there.
func (p *postgres) open(ctx context.Context) error {
	if p.spec.Password != p.cluster.user {
		if err := p.execute(ctx, "ALTER ROLE "+quoteIdentifier(p.spec.User)+" PASSWORD "+quoteLiteral(p.spec.Password)); err != nil {
			return err
		}
		if p.spec.User == admin {
			p.asking.Lock()
			p.admin.password = p.spec.Password
			p.asking.Unlock()
		}
	}
	if !p.spec.Shared {
		p.databases.open(p, p.cluster.ahead)
	}
	return nil
}

// session opens a connection with nothing but what is said here: no variable and no
// file of the host gets a say.
func (p *postgres) session(ctx context.Context, address string, who login, database string) (*pgconn.PgConn, error) {
	config, err := pgconn.ParseConfig("host=127.0.0.1 port=5432 sslmode=disable user=x password=x dbname=x target_session_attrs=any")
	if err != nil {
		return nil, err
	}
	config.User, config.Password, config.Database = who.user, who.password, database
	config.RuntimeParams, config.Fallbacks = map[string]string{}, nil
	config.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	config.DialFunc = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return p.room.Env.Dial(ctx, network, address)
	}
	return pgconn.ConnectConfig(ctx, config)
}

// execute runs a query that has no answer, on one connection for all. One that a cancelled
// query has closed is opened again.
func (p *postgres) execute(ctx context.Context, query string) (err error) {
	p.asking.Lock()
	defer p.asking.Unlock()
	if p.closed {
		return errors.New("the service is closed")
	}
	if p.conn == nil || p.conn.IsClosed() {
		if p.conn, err = p.session(ctx, p.address(), p.admin, "postgres"); err != nil {
			return err
		}
	}
	_, err = p.conn.Exec(ctx, query).ReadAll()
	return err
}

func (p *postgres) create(ctx context.Context, name string) error {
	return p.execute(ctx, createDatabase(name, p.spec.User))
}

func (p *postgres) drop(ctx context.Context, name string) error {
	return p.execute(ctx, "DROP DATABASE "+quoteIdentifier(name)+" WITH (FORCE)")
}

func createDatabase(name, owner string) string {
	return "CREATE DATABASE " + quoteIdentifier(name) + " OWNER " + quoteIdentifier(owner) + " TEMPLATE " + template
}

func (p *postgres) close() {
	p.databases.close()
	p.asking.Lock()
	defer p.asking.Unlock()
	p.closed = true
	if p.conn != nil {
		// The server ends with the environment: it need not hear that we go.
		_ = p.conn.Conn().Close()
	}
}

func (p *postgres) variables() map[string]string { return p.named(p.spec.Database) }

func (p *postgres) named(name string) map[string]string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(p.spec.User, p.spec.Password),
		Host: net.JoinHostPort(p.host, strconv.Itoa(p.port)), Path: "/" + name, RawQuery: "sslmode=disable",
	}
	return map[string]string{
		"HOST": p.host, "PORT": strconv.Itoa(p.port), "USER": p.spec.User, "PASSWORD": p.spec.Password, "NAME": name, "URL": u.String(),
		"TEMPLATE": template,
	}
}

// fresh gives a test a database of its own.
func (p *postgres) fresh(ctx context.Context) (map[string]string, func(context.Context) error, error) {
	name, err := p.take(ctx)
	if err != nil {
		return nil, nil, err
	}
	return p.named(name), func(context.Context) error {
		p.giveBack(name)
		return nil
	}, nil
}

// quoteIdentifier and quoteLiteral quote as the SQL of the server has it (section
// 4.1 of its manual); standard_conforming_strings is on.
func quoteIdentifier(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

func quoteLiteral(s string) string { return `'` + strings.ReplaceAll(s, `'`, `''`) + `'` }
