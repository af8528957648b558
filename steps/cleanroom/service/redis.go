package service

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/cleanroom/readiness"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

const (
	redisPort = 6379
	// redisUser is who has the password of requirepass, since version 6.
	redisUser = "default"
	// redisKeyspaces is how many tests can have one of their own at once.
	redisKeyspaces = 256
)

// redis is a server without persistence, whose keyspaces are given out one by one.
type redis struct {
	*running
	// free are the numbers of empty keyspaces that nobody uses, used of those that are left
	// as they are; 0 is for who shares it.
	free, used chan int
}

func newRedis(r *running) protocol {
	if r.spec.Port == 0 {
		r.spec.Port = redisPort
	}
	s := &redis{running: r, free: make(chan int, redisKeyspaces), used: make(chan int, redisKeyspaces)}
	for n := 1; n < redisKeyspaces; n++ {
		s.free <- n
	}
	return s
}

// container gives the server its configuration by standard input: a password on the
// command line would be seen by all that runs beside it.
func (s *redis) container(context.Context) (sandbox.ContainerSpec, error) {
	config := []string{
		"bind " + s.host, "port " + strconv.Itoa(s.port), "requirepass " + redisQuote(s.spec.Password),
		"databases " + strconv.Itoa(redisKeyspaces), `save ""`, "appendonly no", "dir /tmp", "daemonize no",
	}
	argv := []string{path.Join(s.spec.Programs, "redis-server"), "-"}
	return sandbox.ContainerSpec{
		Argv:  append(argv, s.spec.Args...),
		Stdin: strings.NewReader(strings.Join(config, "\n") + "\n"),
	}, nil
}

// redisQuote writes s as the configuration reads strings.
func redisQuote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

func (s *redis) probe() readiness.Probe { return readiness.Redis(s.address()) }

func (s *redis) open(context.Context) error { return nil }

func (s *redis) close() {}

func (s *redis) variables() map[string]string { return s.keyspace(0) }

func (s *redis) keyspace(n int) map[string]string {
	u := url.URL{Scheme: "redis", User: url.UserPassword(redisUser, s.spec.Password), Host: s.host + ":" + strconv.Itoa(s.port), Path: "/" + strconv.Itoa(n)}
	return map[string]string{
		"HOST": s.host, "PORT": strconv.Itoa(s.port), "PASSWORD": s.spec.Password, "NAME": strconv.Itoa(n), "URL": u.String(),
	}
}

// fresh gives out an empty keyspace. It is emptied again when it comes back and others
// follow, or else when it is needed after all.
func (s *redis) fresh(ctx context.Context) (map[string]string, func(context.Context) error, error) {
	n, err := s.take(ctx)
	if err != nil {
		return nil, nil, err
	}
	return s.keyspace(n), func(ctx context.Context) error {
		if s.wanted.Load() <= 0 {
			s.used <- n
			return nil
		}
		err := s.empty(ctx, n)
		switch {
		case err != nil && s.died():
			return nil
		case err == nil:
			s.free <- n
		}
		return err
	}, nil
}

// take returns the number of an empty keyspace.
func (s *redis) take(ctx context.Context) (int, error) {
	select {
	case n := <-s.free:
		return n, nil
	default:
	}
	select {
	case n := <-s.free:
		return n, nil
	case n := <-s.used:
		err := s.empty(ctx, n)
		if err != nil {
			s.used <- n
		}
		return n, err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

func (s *redis) empty(ctx context.Context, n int) error {
	err := s.command(ctx, []string{"AUTH", s.spec.Password}, []string{"SELECT", strconv.Itoa(n)}, []string{"FLUSHDB"})
	if err != nil {
		return s.failure("empty keyspace "+strconv.Itoa(n)+" of", err)
	}
	return nil
}

// command sends commands over one connection; each must be answered with OK.
func (s *redis) command(ctx context.Context, commands ...[]string) error {
	c, err := s.room.Env.Dial(ctx, "tcp", s.address())
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	var out strings.Builder
	for _, args := range commands {
		fmt.Fprintf(&out, "*%d\r\n", len(args))
		for _, a := range args {
			fmt.Fprintf(&out, "$%d\r\n%s\r\n", len(a), a)
		}
	}
	if _, err := io.WriteString(c, out.String()); err != nil {
		return err
	}
	const most = 4 << 10
	r := bufio.NewReader(io.LimitReader(c, most))
	for _, args := range commands {
		line, err := r.ReadString('\n')
		if err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		if line != "+OK\r\n" {
			return errors.New(args[0] + ": " + strings.TrimSpace(line))
		}
	}
	return nil
}
