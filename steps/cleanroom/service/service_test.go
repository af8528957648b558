package service_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"
	"github.com/ultrafast-ci/ultrafast/steps/cleanroom/service"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

func TestMain(m *testing.M) {
	if embedded.Reexec() {
		return
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "service-test-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		kept.Dir = filepath.Join(dir, "templates")
		return m.Run()
	}())
}

// kept are the templates of all tests: a cluster takes a while to make.
var kept service.Templates

// hosted describes services of this machine's own programs, or skips the test.
func hosted(t *testing.T) (postgres, redis service.Spec) {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(found) == 0 {
		t.Skip("PostgreSQL is not installed")
	}
	if _, err := os.Stat("/usr/bin/redis-server"); err != nil {
		t.Skip("redis is not installed")
	}
	postgres = service.Spec{Name: "db", Kind: service.Postgres, Programs: filepath.Dir(found[0]), Version: "host"}
	return postgres, service.Spec{Name: "cache", Kind: service.Redis, Programs: "/usr/bin"}
}

// room is an environment at the strongest level of this machine.
func room(t *testing.T) service.Room {
	t.Helper()
	back := embedded.New(embedded.Options{StateDir: t.TempDir()})
	able, err := back.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	env, err := back.Create(t.Context(), sandbox.EnvironmentSpec{Name: "services-" + t.Name(), MinIsolation: able.Level})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := env.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return service.Room{Env: env, Template: kept.Get, Parallel: 4}
}

func start(t *testing.T, r service.Room, specs ...service.Spec) *service.Set {
	t.Helper()
	set, err := service.Start(t.Context(), r, specs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := set.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return set
}

// patient bounds what a test waits for.
func patient(t *testing.T) context.Context {
	// Clusters are made first, of each script one.
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// value returns the variable called key.
func value(t *testing.T, variables []string, key string) string {
	t.Helper()
	for _, v := range variables {
		if name, value, _ := strings.Cut(v, "="); name == key {
			return value
		}
	}
	t.Fatalf("no variable %s in %q", key, variables)
	return ""
}

// query runs SQL as a test would, with DATABASE_URL, and returns the first value.
func query(t *testing.T, env sandbox.Environment, variables []string, sql string) (string, error) {
	t.Helper()
	config, err := pgconn.ParseConfig(value(t, variables, "DATABASE_URL"))
	if err != nil {
		t.Fatal(err)
	}
	config.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil }
	config.DialFunc = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return env.Dial(ctx, network, net.JoinHostPort(value(t, variables, "DB_HOST"), value(t, variables, "DB_PORT")))
	}
	ctx := patient(t)
	c, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return "", err
	}
	defer c.Close(ctx)
	results, err := c.Exec(ctx, sql).ReadAll()
	if err != nil || len(results) == 0 || len(results[0].Rows) == 0 {
		return "", err
	}
	return string(results[0].Rows[0][0]), nil
}

func TestDatabases(t *testing.T) {
	t.Parallel()
	postgres, redis := hosted(t)
	postgres.Init = []string{"CREATE TABLE item (n int)", "INSERT INTO item VALUES (1), (2)"}
	r := room(t)
	set := start(t, r, postgres, redis)
	if err := set.Ready(patient(t)); err != nil {
		t.Fatal(err)
	}
	shared := set.Variables()
	if got, err := query(t, r.Env, shared, "SELECT count(*) FROM item"); err != nil || got != "2" {
		t.Errorf("the shared database has %q items, %v", got, err)
	}
	if _, err := query(t, r.Env, shared, "DELETE FROM item"); err != nil {
		t.Error(err)
	}
	// More tests than are prepared for at once, each with what the scripts made.
	names := map[string]bool{}
	for n := range 10 {
		variables, done, err := set.Fresh(patient(t))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := query(t, r.Env, variables, "INSERT INTO item VALUES (3); SELECT count(*) FROM item"); err != nil || got == "4" {
			t.Errorf("test %d: %q items, %v", n, got, err)
		}
		if got, err := query(t, r.Env, variables, "SELECT count(*) FROM item"); err != nil || got != "3" {
			t.Errorf("test %d: %q items, %v", n, got, err)
		}
		names[value(t, variables, "PGDATABASE")] = true
		if err := done(patient(t)); err != nil {
			t.Error(err)
		}
	}
	if len(names) != 10 || names["app"] {
		t.Errorf("the databases of 10 tests are %v", names)
	}
	if value(t, shared, "REDIS_URL") == "" || value(t, shared, "CACHE_PORT") == "" {
		t.Error("redis has no variables")
	}
	if !slices.IsSorted(shared) {
		t.Errorf("variables are not sorted: %q", shared)
	}
}

// TestKeptCluster: scripts run once for all runs, and what a run does is gone with it.
func TestKeptCluster(t *testing.T) {
	t.Parallel()
	postgres, _ := hosted(t)
	// Each run of the script would give another number.
	postgres.Init = []string{"CREATE TABLE item AS SELECT pg_catalog.random() AS n"}
	look := func(spec service.Spec) (items string, database string) {
		r := room(t)
		set := start(t, r, spec)
		if err := set.Ready(patient(t)); err != nil {
			t.Fatal(err)
		}
		variables, done, err := set.Fresh(patient(t))
		if err != nil {
			t.Fatal(err)
		}
		items, err = query(t, r.Env, variables, "SELECT pg_catalog.string_agg(n::text, ' ') FROM item")
		if err == nil {
			_, err = query(t, r.Env, variables, "INSERT INTO item VALUES (3)")
		}
		if err := errors.Join(err, done(patient(t))); err != nil {
			t.Fatal(err)
		}
		return items, value(t, variables, "PGDATABASE")
	}
	first, one := look(postgres)
	if second, two := look(postgres); second != first || one != two {
		t.Errorf("database %s of the second run has %q, of the first %s had %q", two, second, one, first)
	}
	other := postgres
	other.Init = append(slices.Clone(postgres.Init), "INSERT INTO item VALUES (2)")
	if items, _ := look(other); strings.HasPrefix(items, first) || !strings.HasSuffix(items, " 2") {
		t.Errorf("after a change of the scripts there is %q, before %q", items, first)
	}
	own := postgres
	own.Password = "of the project's own"
	if items, _ := look(own); items != first {
		t.Errorf("with a password of its own there is %q, without %q", items, first)
	}
	as := postgres
	as.User, as.Database = "postgres", "postgres"
	if items, name := look(as); items == first || name != "postgres_1" {
		t.Errorf("the administrator finds %q in %s", items, name)
	}
}

// TestUnexpected: more tests than were expected leave no more databases than were made
// ahead.
func TestUnexpected(t *testing.T) {
	t.Parallel()
	postgres, _ := hosted(t)
	r := room(t)
	r.Parallel = 2
	set := start(t, r, postgres)
	if err := set.Ready(patient(t)); err != nil {
		t.Fatal(err)
	}
	const count = "SELECT count(*) FROM pg_catalog.pg_database WHERE datname LIKE 'app\\_%'"
	before, err := query(t, r.Env, set.Variables(), count)
	if err != nil {
		t.Fatal(err)
	}
	set.Expect(1)
	for range 20 {
		_, done, err := set.Fresh(patient(t))
		if err == nil {
			err = done(patient(t))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	after, err := query(t, r.Env, set.Variables(), count)
	if err != nil || before != "8" || after != "8" {
		t.Errorf("%s databases before 20 tests, %s after them, %v", before, after, err)
	}
}

// TestKeyspaces: a keyspace is empty for the next test that gets it.
func TestKeyspaces(t *testing.T) {
	t.Parallel()
	_, redis := hosted(t)
	r := room(t)
	set := start(t, r, redis)
	if err := set.Ready(patient(t)); err != nil {
		t.Fatal(err)
	}
	ask := func(variables []string, command string) string {
		c, err := r.Env.Dial(patient(t), "tcp", net.JoinHostPort(value(t, variables, "CACHE_HOST"), value(t, variables, "CACHE_PORT")))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "AUTH %s\r\nSELECT %s\r\n%s\r\nQUIT\r\n", value(t, variables, "CACHE_PASSWORD"), value(t, variables, "CACHE_NAME"), command)
		var all strings.Builder
		buffer := make([]byte, 1<<10)
		for {
			n, err := c.Read(buffer)
			all.Write(buffer[:n])
			if err != nil {
				return all.String()
			}
		}
	}
	seen := map[string]bool{}
	set.Expect(10)
	for range 300 { // more than there are keyspaces, or were expected
		variables, done, err := set.Fresh(patient(t))
		if err != nil {
			t.Fatal(err)
		}
		if got := ask(variables, "SET key value NX"); strings.Count(got, "+OK") != 4 {
			t.Fatalf("keyspace %s: %q", value(t, variables, "CACHE_NAME"), got)
		}
		seen[value(t, variables, "CACHE_NAME")] = true
		if err := done(patient(t)); err != nil {
			t.Fatal(err)
		}
	}
	if seen["0"] || len(seen) != 255 {
		t.Errorf("%d keyspaces were given out", len(seen))
	}
	wrong := slices.Clone(set.Variables())
	for i := range wrong {
		if strings.HasPrefix(wrong[i], "CACHE_PASSWORD=") {
			wrong[i] = "CACHE_PASSWORD=guess"
		}
	}
	if got := ask(wrong, "PING"); !strings.Contains(got, "WRONGPASS") {
		t.Errorf("without the password: %q", got)
	}
}

// TestDead: a service that ends is no reason to wait, and says why it ended.
func TestDead(t *testing.T) {
	t.Parallel()
	_, redis := hosted(t)
	redis.Args = []string{"--no-such-directive", "1"}
	redis.Timeout = time.Hour
	set := start(t, room(t), redis)
	err := set.Ready(patient(t))
	if err == nil || !strings.Contains(err.Error(), "ended before it was ready") || !strings.Contains(err.Error(), "no-such-directive") {
		t.Errorf("error: %v", err)
	}
	if fault.KindOf(err) != fault.Unavailable {
		t.Errorf("kind %v", fault.KindOf(err))
	}
	if set.Check(patient(t), false) == nil {
		t.Error("a check does not see it")
	}
}

func TestBadScript(t *testing.T) {
	t.Parallel()
	postgres, _ := hosted(t)
	postgres.Init = []string{"SELECT 1", "CREATE TABEL item ()"}
	err := start(t, room(t), postgres).Ready(patient(t))
	if fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), "SQL script 2 of 2") || !strings.Contains(err.Error(), "TABEL") {
		t.Errorf("error: %v", err)
	}
}

// TestCloseWhileStarting: an end in the middle of a start hangs on nothing.
func TestCloseWhileStarting(t *testing.T) {
	t.Parallel()
	postgres, redis := hosted(t)
	set, err := service.Start(t.Context(), room(t), []service.Spec{postgres, redis})
	if err != nil {
		t.Fatal(err)
	}
	if err := set.Close(patient(t)); err != nil {
		t.Error(err)
	}
}

// TestCommand: any program of the host's is a service.
func TestCommand(t *testing.T) {
	t.Parallel()
	hosted(t)
	spec := service.Spec{Name: "plain", Kind: service.Other, Argv: []string{"redis-server", "--port", "7000", "--save", ""}, Port: 7000}
	r := room(t)
	if r.Env.Effective().Level != sandbox.Full {
		t.Skip("the port is fixed, and the network is shared here")
	}
	set := start(t, r, spec)
	if err := set.Ready(patient(t)); err != nil {
		t.Fatal(err)
	}
	if got := value(t, set.Variables(), "PLAIN_PORT"); got != "7000" {
		t.Errorf("port %s", got)
	}
	if len(set.Logs()["plain"]) == 0 {
		t.Error("it said nothing")
	}
}

func TestBadSpecs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		spec service.Spec
		want string
	}{
		{service.Spec{Name: "Db", Kind: service.Redis}, "no name"},
		{service.Spec{Name: "db", Kind: "mysql"}, "mysql"},
		{service.Spec{Name: "db"}, "no image"},
		{service.Spec{Name: "db", Kind: service.Postgres, Port: 70000}, "70000"},
		{service.Spec{Name: "db", Kind: service.Postgres, Database: `a"; DROP`}, "database"},
		{service.Spec{Name: "db", Kind: service.Redis, Init: []string{"SELECT 1"}}, "SQL"},
		{service.Spec{Name: "db", Kind: service.Other, Argv: []string{"x"}, Health: "/up"}, "health"},
		{service.Spec{Name: "db", Kind: service.Redis, Password: "a\nsave 1"}, "line end"},
	} {
		if _, err := service.Start(t.Context(), service.Room{}, []service.Spec{c.spec}); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.spec, err, c.want)
		}
	}
	two := []service.Spec{{Name: "a", Kind: service.Redis}, {Name: "a", Kind: service.Redis}}
	if _, err := service.Start(t.Context(), service.Room{}, two); fault.KindOf(err) != fault.Usage {
		t.Errorf("two of one name: %v", err)
	}
}

func TestKindOf(t *testing.T) {
	t.Parallel()
	for image, want := range map[string]service.Kind{
		"postgres":    service.Postgres,
		"postgres:15": service.Postgres,
		"registry.example:5000/mirror/postgres:15-alpine":           service.Postgres,
		"docker.io/library/redis@sha256:" + strings.Repeat("0", 64): service.Redis,
		"valkey":            service.Redis,
		"postgres-exporter": service.Other,
		"":                  service.Other,
	} {
		if got := service.KindOf(image); got != want {
			t.Errorf("%q is %s, want %s", image, got, want)
		}
	}
}

// TestTemplates: of many who fill at once one does it, a failure leaves nothing.
func TestTemplates(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "templates")
	store := service.Templates{Dir: dir}
	bad := errors.New("bad")
	if _, err := store.Get(t.Context(), "a", func(context.Context, string) error { return bad }); !errors.Is(err, bad) {
		t.Errorf("error: %v", err)
	}
	var all sync.WaitGroup
	var filled atomic.Int32
	for range 8 {
		all.Go(func() {
			got, err := store.Get(t.Context(), "a", func(_ context.Context, dir string) error {
				filled.Add(1)
				return os.WriteFile(filepath.Join(dir, "file"), nil, 0o600)
			})
			if err != nil {
				t.Error(err)
			} else if _, err := os.Stat(filepath.Join(got, "file")); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if filled.Load() != 1 {
		t.Errorf("filled %d times", filled.Load())
	}
	// What a killed process was filling goes when the next is filled: process 1 is
	// another's, and no process has this number.
	for _, name := range []string{".new-1-x", ".new-4194305-x"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := store.Get(t.Context(), "b", func(context.Context, string) error { return nil }); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{".new-1-x", "a", "b"}; !slices.Equal(names, want) {
		t.Errorf("left are %q, want %q", names, want)
	}
	// One that nobody used for two months goes with the next, one in use does not.
	old := time.Now().Add(-60 * 24 * time.Hour)
	for _, name := range []string{"a", "b"} {
		if err := os.Chtimes(filepath.Join(dir, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a", "c"} {
		if _, err := store.Get(t.Context(), name, func(context.Context, string) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if exists := func(name string) bool { _, err := os.Stat(filepath.Join(dir, name)); return err == nil }; !exists("a") || exists("b") || !exists("c") {
		t.Errorf("a is there: %t, b: %t, c: %t", exists("a"), exists("b"), exists("c"))
	}
	if _, err := store.Get(t.Context(), "../x", nil); err == nil {
		t.Error("a key with a way out is taken")
	}
}
