package graph_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
)

func made(n int) *graph.Graph {
	b := graph.NewBuilder()
	d := b.Dictionary()
	for i := range n {
		if err := b.AddIDs(0, d.Intern(graph.NewIRI("u:s")), d.Intern(graph.NewIRI("u:p")), d.Intern(graph.NewString(fmt.Sprint(i)))); err != nil {
			panic(err)
		}
	}
	return b.Build()
}

func TestCacheExpires(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	c := graph.NewCache(30*time.Minute, func() time.Time { return now })
	loads := 0
	get := func() *graph.Graph {
		g, err := c.Get(t.Context(), "k", func(context.Context) (*graph.Graph, error) { loads++; return made(1), nil })
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	first := get()
	now = now.Add(30*time.Minute - 1)
	if get() != first || loads != 1 {
		t.Errorf("loaded %d times within the time", loads)
	}
	now = now.Add(1)
	if get() == first || loads != 2 {
		t.Errorf("loaded %d times after it", loads)
	}
	for ttl, want := range map[time.Duration]int{0: 2, time.Hour: 1} {
		off, n := graph.NewCache(ttl, func() time.Time { return now }), 0
		for range 2 {
			if _, err := off.Get(t.Context(), "k", func(context.Context) (*graph.Graph, error) { n++; return made(1), nil }); err != nil {
				t.Fatal(err)
			}
		}
		if n != want {
			t.Errorf("ttl %v: loaded %d times, want %d", ttl, n, want)
		}
	}
}

func TestCacheErrors(t *testing.T) {
	t.Parallel()
	c := graph.NewCache(0, nil)
	bad := errors.New("bad")
	if _, err := c.Get(t.Context(), "k", func(context.Context) (*graph.Graph, error) { return nil, bad }); !errors.Is(err, bad) {
		t.Error(err)
	}
	func() {
		defer func() { recover() }()
		c.Get(t.Context(), "k", func(context.Context) (*graph.Graph, error) { panic("load") })
	}()
	want := made(1)
	if g, err := c.Get(t.Context(), "k", func(context.Context) (*graph.Graph, error) { return want, nil }); err != nil || g != want {
		t.Errorf("an error or a panic is kept: %v", err)
	}
}

// TestCacheTakesOver cancels the one who loads: another who waits loads instead.
func TestCacheTakesOver(t *testing.T) {
	t.Parallel()
	c := graph.NewCache(0, nil)
	loading, waiting := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		_, err := c.Get(ctx, "k", func(ctx context.Context) (*graph.Graph, error) {
			close(loading)
			<-ctx.Done()
			return nil, context.Cause(ctx)
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	<-loading
	group.Go(func() {
		close(waiting)
		if g, err := c.Get(t.Context(), "k", func(context.Context) (*graph.Graph, error) { return made(2), nil }); err != nil || g.Len() != 2 {
			t.Errorf("got %v, %v", g, err)
		}
	})
	<-waiting
	gone, stop := context.WithCancel(t.Context())
	stop()
	if _, err := c.Get(gone, "k", func(context.Context) (*graph.Graph, error) { return made(1), nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("who no longer waits gets %v", err)
	}
	cancel()
	group.Wait()
}

func TestCacheSharesLoads(t *testing.T) {
	t.Parallel()
	var clock atomic.Int64
	c := graph.NewCache(50, func() time.Time { return time.Unix(0, clock.Add(1)) })
	var running [5]atomic.Int32
	var group sync.WaitGroup
	for i := range 200 {
		group.Go(func() {
			n := i % 5
			g, err := c.Get(context.Background(), fmt.Sprint(n), func(context.Context) (*graph.Graph, error) {
				if running[n].Add(1) > 1 {
					t.Error("two load the same graph at the same time")
				}
				defer running[n].Add(-1)
				return made(n + 1), nil
			})
			if err != nil || g.Len() != n+1 {
				t.Errorf("graph %d: %v, %v", n, g, err)
			}
		})
	}
	group.Wait()
}

// TestCacheManyKeys looks for what expired while another graph is being loaded. The
// race detector judges it, so nothing but time may order the two: no channel, no
// pool (fmt has one).
func TestCacheManyKeys(t *testing.T) {
	t.Parallel()
	c := graph.NewCache(time.Hour, time.Now)
	g := made(1)
	started := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		if _, err := c.Get(t.Context(), "slow", func(context.Context) (*graph.Graph, error) {
			close(started)
			for begin := time.Now(); time.Since(begin) < 50*time.Millisecond; {
			}
			return g, nil
		}); err != nil {
			t.Error(err)
		}
	})
	<-started
	for _, key := range []string{"a", "b", "c"} {
		if _, err := c.Get(t.Context(), key, func(context.Context) (*graph.Graph, error) { return g, nil }); err != nil {
			t.Error(err)
		}
	}
	wait.Wait()
}
