package service

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/ultrafast-ci/ultrafast/steps/cleanroom/readiness"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// Files of a template directory. The server wants to own its data directory, and not
// every back end gives a container the mount itself: the directory is one below.
const (
	clusterDir = "cluster"
	dataDir    = "data"
	// factsFile is what is known of a cluster, see [cluster].
	factsFile = "cluster.json"
)

const (
	// maxAhead is how many databases a kept cluster has for tests at most: as many as
	// run at once, unless somebody says otherwise.
	maxAhead = 8
	// maxAheadBytes bounds what they may take together.
	maxAheadBytes = 64 << 20
)

// cluster is what is kept of a database server: all that is the same in each run. It is
// made in two steps, since to run initdb takes longer than all the rest, and the rest
// changes with the scripts of a project.
type cluster struct {
	dir string
	// admin and user are passwords. That of the user is for an environment in which nobody
	// but its tests reaches the server; elsewhere each run has its own.
	admin, user string
	// ahead are databases for one test each.
	ahead []string
}

// clusterFacts is the content of factsFile. Its reader is this user alone.
type clusterFacts struct {
	// Password is that of admin, User that of the tests' user.
	Password string   `json:"password"`
	User     string   `json:"user_password,omitempty"`
	Ahead    []string `json:"databases,omitempty"`
}

// keptCluster returns the cluster that has the tests' user, the template with what the
// scripts put into it, and databases, all made from it.
func (p *postgres) keptCluster(ctx context.Context) (c cluster, err error) {
	base := "cluster-" + p.spec.Version // another name for another content
	text, err := json.Marshal([]any{p.spec.User, p.spec.Database, p.spec.Shared, p.spec.Init, p.spec.Args, p.spec.Env})
	if err != nil {
		return c, err
	}
	sum := sha256.Sum256(text)
	const digits = 16 // as long as a name of it need be; nobody gains by another with the same
	c.dir, err = p.room.Template(ctx, base+"-"+hex.EncodeToString(sum[:])[:digits], func(ctx context.Context, dir string) error {
		empty, err := p.room.Template(ctx, base, p.initialise)
		if err != nil {
			return err
		}
		return p.fill(ctx, empty, dir)
	})
	if err != nil {
		return c, err
	}
	facts, err := readFacts(c.dir)
	c.admin, c.user, c.ahead = facts.Password, facts.User, facts.Ahead
	return c, err
}

func readFacts(dir string) (f clusterFacts, err error) {
	text, err := os.ReadFile(filepath.Join(dir, factsFile))
	if err == nil {
		err = json.Unmarshal(text, &f)
	}
	return f, fault.Wrap(err, fault.Unavailable, "remove "+dir, "read what is known of a prepared cluster")
}

func (f clusterFacts) write(dir string) error {
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, factsFile), text, 0o600)
}

// initialise has initdb make an empty cluster in a template directory.
func (p *postgres) initialise(ctx context.Context, dir string) error {
	// The reader of the password is another user; around it is a directory that is
	// closed to all.
	const passwordFile = "password"
	facts := clusterFacts{Password: rand.Text()}
	password, data := filepath.Join(dir, passwordFile), filepath.Join(dir, clusterDir)
	if err := errors.Join(
		facts.write(dir), os.WriteFile(password, []byte(facts.Password), 0o644), os.Chmod(password, 0o644),
		os.Mkdir(data, 0o777), os.Chmod(data, 0o777),
	); err != nil {
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
	if err := endsWell(ctx, "initdb", c); err != nil {
		return err
	}
	// initdb lets in the loopback interface only, which services on other addresses
	// of the environment are not reached by.
	const access = "host all all all scram-sha-256\n"
	return errors.Join(os.WriteFile(filepath.Join(data, dataDir, "pg_hba.conf"), []byte(access), 0o600), os.Remove(password))
}

// endsWell waits for a container whose end is part of the work.
func endsWell(ctx context.Context, what string, c sandbox.Container) error {
	status, err := c.Wait(ctx)
	if err != nil {
		return errors.Join(err, c.Kill(context.WithoutCancel(ctx)))
	}
	if !status.OK() {
		return fmt.Errorf("%s: %s", what, status)
	}
	return nil
}

// fill makes a template directory of an empty cluster: a server is started on a copy, and
// ended in order.
func (p *postgres) fill(ctx context.Context, empty, dir string) (err error) {
	data := filepath.Join(dir, clusterDir)
	facts, err := readFacts(empty)
	if err == nil {
		err = os.CopyFS(data, os.DirFS(filepath.Join(empty, clusterDir)))
	}
	// The server takes no directory that others may read; the one around it is open to
	// whoever it runs as.
	if err = errors.Join(err, os.Chmod(data, 0o777), os.Chmod(filepath.Join(data, dataDir), 0o700)); err != nil {
		return err
	}
	name, port := p.spec.Name+"-prepare", p.spec.Port
	host := name
	if p.room.Env.Effective().Level != sandbox.Full {
		host = "127.0.0.1"
		if port, err = p.room.Env.Port(port); err != nil {
			return err
		}
	}
	spec := p.server(name, host, port, sandbox.Mount{Kind: sandbox.ReadWrite, Source: data, Target: clusterTarget})
	// The log of all that is made here is of use to nobody.
	spec.Argv = append(spec.Argv, "-c", "min_wal_size=2MB", "-c", "max_wal_size=2MB")
	spec.Name, spec.Image, spec.Limits, spec.Stdout, spec.Stderr = name, p.spec.Image, p.spec.Limits, p.said, p.said
	spec.Env = append(spec.Env, p.spec.environ()...)
	c, err := p.room.Env.Start(ctx, spec)
	if err != nil {
		return err
	}
	if facts.User = facts.Password; p.spec.User != admin {
		facts.User = rand.Text()
	}
	facts.Ahead, err = p.furnish(ctx, c, net.JoinHostPort(c.Address(), strconv.Itoa(port)), login{admin, facts.Password}, login{p.spec.User, facts.User})
	if err != nil {
		return errors.Join(err, c.Kill(context.WithoutCancel(ctx)))
	}
	// That is "fast shutdown": https://www.postgresql.org/docs/current/server-shutdown.html
	if err := c.Signal(syscall.SIGINT); err != nil {
		return errors.Join(err, c.Kill(context.WithoutCancel(ctx)))
	}
	if err := endsWell(ctx, "shut the server down", c); err != nil {
		return err
	}
	return facts.write(dir)
}

// furnish makes what the tests of all runs find, on the server at address, and returns
// the databases that wait for one test each.
func (p *postgres) furnish(ctx context.Context, c sandbox.Container, address string, as, user login) (ahead []string, err error) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = c.Wait(ctx) // why it ended is in what it said
	}()
	wait := readiness.Wait{Timeout: p.spec.Timeout, Ended: ended}
	if err := wait.For(ctx, readiness.Postgres(address), p.room.Env.Dial); err != nil {
		return nil, err
	}
	conn, err := p.session(ctx, address, as, "postgres")
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	query := func(text string) error {
		_, err := conn.Exec(ctx, text).ReadAll()
		return err
	}
	role := quoteIdentifier(user.user)
	if user.user != admin {
		if err := query("CREATE ROLE " + role + " SUPERUSER LOGIN PASSWORD " + quoteLiteral(user.password)); err != nil {
			return nil, err
		}
	}
	if err := query("CREATE DATABASE " + template + " OWNER " + role); err != nil {
		return nil, err
	}
	size, err := p.runScripts(ctx, address, user)
	if err != nil {
		return nil, err
	}
	if p.spec.Database != admin {
		if err := query(createDatabase(p.spec.Database, p.spec.User)); err != nil {
			return nil, err
		}
	}
	for n := 1; n <= maxAhead && int64(n)*size <= maxAheadBytes && !p.spec.Shared; n++ {
		name := p.spec.Database + "_" + strconv.Itoa(n)
		if err := query(createDatabase(name, p.spec.User)); err != nil {
			return nil, err
		}
		ahead = append(ahead, name)
	}
	return ahead, nil
}

// runScripts fills the template and returns its size in bytes.
func (p *postgres) runScripts(ctx context.Context, address string, as login) (size int64, err error) {
	c, err := p.session(ctx, address, as, template)
	if err != nil {
		return 0, err
	}
	defer c.Close(context.WithoutCancel(ctx))
	for i, script := range p.spec.Init {
		if _, err := c.Exec(ctx, script).ReadAll(); err != nil {
			return 0, fault.Wrap(err, fault.Finding, "mend the script", fmt.Sprintf("run SQL script %d of %d", i+1, len(p.spec.Init)))
		}
	}
	answer, err := c.Exec(ctx, "SELECT pg_catalog.pg_database_size(pg_catalog.current_database())").ReadAll()
	if err != nil {
		return 0, err
	}
	if len(answer) != 1 || len(answer[0].Rows) != 1 || len(answer[0].Rows[0]) != 1 {
		return 0, errors.New("the server does not tell the size of a database")
	}
	return strconv.ParseInt(string(answer[0].Rows[0][0]), 10, 64)
}
