package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/log"
	"github.com/testcontainers/testcontainers-go/wait"

	"github.com/ultrafast-ci/ultrafast/internal/engine"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/docker"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/rootfs"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/toolchain"
)

// serviceRounds are the most turns of postgres and redis, which take seconds.
const serviceRounds = 5

// serviceTests are how many tests use the services at once.
const serviceTests = 4

// serviceTest is one of them: it writes a table and a key. The clients are those of this
// machine on all sides.
const serviceTest = `set -eu
%[1]s/psql "$DATABASE_URL" -qAt -v ON_ERROR_STOP=1 -c 'CREATE TABLE seen%[2]d (n int); INSERT INTO seen%[2]d VALUES (1)'
test "$(redis-cli -u "$REDIS_URL" --no-auth-warning SET key%[2]d value NX)" = OK
`

const serviceConfig = `[cleanroom]
min_isolation = "full"

[[cleanroom.service]]
name = "db"
kind = "postgres"

[[cleanroom.service]]
name = "redis"
kind = "redis"
`

// withServices runs four tests beside postgres and redis, from nothing to nothing: by the
// whole command, and by testcontainers-go on Docker.
func withServices(ctx context.Context, b *bench) error {
	host, err := toolchain.FindService("postgres")
	if err != nil || !installed("redis-server") || !installed("redis-cli") {
		b.printf("\n## Postgres, redis and %d tests\n\nNot measured: PostgreSQL and redis are not installed.\n", serviceTests)
		return nil
	}
	project := filepath.Join(b.work, "services")
	files := map[string]string{"ggen.toml": serviceConfig}
	for i := range serviceTests {
		files[fmt.Sprintf("t%d_test.sh", i)] = fmt.Sprintf(serviceTest, host.Programs, i)
	}
	if err := writeFiles(project, files); err != nil {
		return err
	}
	peers := []*run{{name: "cleanroom-test test run (ours)", do: func() error { return b.testRun(ctx, project, serviceTests) }}}
	names, err := b.loadServices(ctx)
	if err == nil {
		for _, p := range []struct{ name, template string }{
			{"testcontainers-go, initdb at each start as in the official image", ""},
			{"testcontainers-go, an image with a cluster made ahead", "/usr/share/postgresql/template"},
		} {
			peers = append(peers, &run{name: p.name, do: func() error { return withContainers(ctx, project, names, p.template == "") }})
		}
	}
	if e := turns(ctx, min(b.rounds, serviceRounds), peers); e != nil {
		return e
	}
	b.printf("\n## Postgres, redis and %d tests at once, and all removed\n\n| | s, median of %d | least | times as long as ours |\n|---|---|---|---|\n", serviceTests, min(b.rounds, serviceRounds))
	for _, p := range peers {
		b.printf("| %s | %.2f | %.2f | %.1f |\n", p.name, median(p.took, time.Duration.Seconds), least(p.took, time.Duration.Seconds), p.over(peers[0]))
	}
	if err != nil {
		b.printf("\nNot compared: testcontainers-go: %v\n", err)
	}
	b.printf("\nOurs is the whole command, with databases of their own for all tests; testcontainers-go is called as a library, its containers are in the host's network, which spares Docker the bridge, and have no reaper, and its tests share a database. Asked: 0.3 s, and 10 times faster.\n")
	return nil
}

// run is something that takes turns with others.
type run struct {
	name string
	do   func() error
	took []time.Duration
}

// turns has all runs take turns, after one that fills caches.
func turns(ctx context.Context, rounds int, runs []*run) error {
	for round := range rounds + 1 {
		for _, r := range runs {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			begin := time.Now()
			if err := r.do(); err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
			if round > 0 {
				r.took = append(r.took, time.Since(begin))
			}
		}
	}
	return nil
}

// over returns how many times as long as other r takes, the median of the rounds.
func (r *run) over(other *run) float64 {
	var times []float64
	for i := range r.took {
		times = append(times, float64(r.took[i])/float64(other.took[i]))
	}
	return median(times, func(f float64) float64 { return f })
}

// writeFiles makes a directory with files in it and nothing else.
func writeFiles(dir string, files map[string]string) error {
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// testRun runs the tests of a project by the whole command.
func (b *bench) testRun(ctx context.Context, project string, parallel int) error {
	cmd := exec.CommandContext(ctx, b.binary, "test", "run", "--no-cache", "--progress", "quiet", "--max-parallel", strconv.Itoa(parallel))
	cmd.Dir = project
	cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+filepath.Join(b.work, "cache"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// serviceImages are the names of images that Docker has.
type serviceImages struct{ postgres, redis string }

// loadServices gives Docker the images of make service-images.
func (b *bench) loadServices(ctx context.Context) (names serviceImages, err error) {
	if _, err := os.Stat(filepath.Join("build", "services", "index.json")); err != nil {
		return names, errors.New("build/services is not there: make service-images makes it, on Debian 12")
	}
	c, err := engine.Open(engine.Find(docker.Docker), "")
	if err != nil {
		return names, err
	}
	defer c.Close()
	if err := c.Ping(ctx); err != nil {
		return names, err
	}
	images := b.images()
	load := func(name string) (string, error) {
		ref, err := images.Resolve(ctx, name)
		if err != nil {
			return "", err
		}
		if name := rootfs.ExportName(ref.Digest); has(ctx, c, name) {
			return name, nil
		}
		return b.load(ctx, c, images, ref.String())
	}
	if names.postgres, err = load("postgres:15"); err != nil {
		return names, err
	}
	names.redis, err = load("redis:7")
	return names, err
}

// images are those of make service-images.
func (b *bench) images() *rootfs.Images {
	return rootfs.New(rootfs.Options{Dir: filepath.Join(b.work, "images"), Registry: "layout:" + filepath.Join("build", "services")})
}

func has(ctx context.Context, c *engine.Client, name string) bool {
	_, err := c.Image(ctx, name)
	return err == nil
}

// load brings an image to an engine, and returns the name that it has there.
func (b *bench) load(ctx context.Context, c *engine.Client, images *rootfs.Images, ref string) (name string, err error) {
	r, w := io.Pipe()
	exported := make(chan error, 1)
	go func() {
		var err error
		name, err = images.Export(ctx, ref, w)
		exported <- errors.Join(err, w.CloseWithError(err))
	}()
	err = c.LoadImage(ctx, r)
	r.CloseWithError(errors.New("the engine reads no more"))
	return name, errors.Join(err, <-exported)
}

// withContainers is what a test suite with testcontainers-go does: both services at once,
// each waited for, the tests, and the removal.
func withContainers(ctx context.Context, project string, names serviceImages, initdb bool) (err error) {
	log.SetDefault(log.NewNoopLogger())
	ports, err := freePorts(2)
	if err != nil {
		return err
	}
	postgresPort, redisPort := strconv.Itoa(ports[0]), strconv.Itoa(ports[1])
	hostNetwork := testcontainers.WithHostConfigModifier(func(c *container.HostConfig) { c.NetworkMode = "host" })
	env := map[string]string{"POSTGRES_PASSWORD": "bench", "POSTGRES_USER": "app", "POSTGRES_DB": "app"}
	if initdb {
		env["PGTEMPLATE"] = ""
	}
	ends := make([]func() error, 2)
	defer func() {
		err = errors.Join(err, inParallel(len(ends), len(ends), func(i int) error {
			if ends[i] == nil {
				return nil
			}
			return ends[i]()
		}))
	}()
	err = inParallel(2, 2, func(i int) error {
		options := []testcontainers.ContainerCustomizer{hostNetwork}
		image := names.redis
		if i == 0 {
			image = names.postgres
			options = append(options, testcontainers.WithEnv(env), testcontainers.WithExposedPorts(postgresPort+"/tcp"), testcontainers.WithCmd("postgres", "-c", "fsync=off", "-p", postgresPort),
				testcontainers.WithWaitStrategy(wait.ForAll(wait.ForLog("database system is ready to accept connections"), wait.ForListeningPort(postgresPort+"/tcp"))))
		} else {
			options = append(options, testcontainers.WithExposedPorts(redisPort+"/tcp"), testcontainers.WithCmd("redis-server", "--save", "", "--port", redisPort),
				testcontainers.WithWaitStrategy(wait.ForAll(wait.ForLog("Ready to accept connections"), wait.ForListeningPort(redisPort+"/tcp"))))
		}
		c, err := testcontainers.Run(ctx, image, options...)
		if c != nil {
			ends[i] = func() error { return c.Terminate(context.WithoutCancel(ctx)) }
		}
		return err
	})
	if err != nil {
		return err
	}
	return inParallel(serviceTests, serviceTests, func(i int) error {
		cmd := exec.CommandContext(ctx, "sh", fmt.Sprintf("t%d_test.sh", i))
		cmd.Dir = project
		cmd.Env = append(os.Environ(), "DATABASE_URL=postgres://app:bench@127.0.0.1:"+postgresPort+"/app?sslmode=disable", "REDIS_URL=redis://127.0.0.1:"+redisPort+"/0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
		}
		return nil
	})
}

// freePorts returns ports on which nobody listens.
func freePorts(n int) (ports []int, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// manyFiles runs 200 test files, 8 at a time, by the whole command and by a shell each.
func manyFiles(ctx context.Context, b *bench) error {
	const count, workers, rounds = 200, 8, 5
	project := filepath.Join(b.work, "files")
	files := map[string]string{"ggen.toml": "[cleanroom]\nmin_isolation = \"full\"\n"}
	for i := range count {
		files[fmt.Sprintf("t%03d_test.sh", i)] = fmt.Sprintf("test $((%d + 1)) = %d\n", i, i+1)
	}
	if err := writeFiles(project, files); err != nil {
		return err
	}
	bare := &run{name: "a shell each, without a sandbox", do: func() error {
		return inParallel(count, workers, func(i int) error {
			cmd := exec.CommandContext(ctx, "sh", fmt.Sprintf("t%03d_test.sh", i))
			cmd.Dir = project
			return cmd.Run()
		})
	}}
	ours := &run{name: "cleanroom-test test run (ours)", do: func() error { return b.testRun(ctx, project, workers) }}
	if err := turns(ctx, min(b.rounds, rounds), []*run{bare, ours}); err != nil {
		return err
	}
	b.printf("\n## %d test files, %d at a time\n\n| | ms, median of %d | least |\n|---|---|---|\n", count, workers, min(b.rounds, rounds))
	for _, r := range []*run{bare, ours} {
		b.printf("| %s | %.0f | %.0f |\n", r.name, median(r.took, ms), least(r.took, ms))
	}
	b.printf("| added to each file, start and end of the whole command shared by all | %.1f | %.1f |\n\nAsked: 10 ms added to each.\n",
		(median(ours.took, ms)-median(bare.took, ms))/count, (least(ours.took, ms)-least(bare.took, ms))/count)
	return nil
}
