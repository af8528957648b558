package graph

import (
	"context"
	"sync"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// maxCached bounds the triples of all graphs in a [Cache].
const maxCached = 20_000_000

// Cache keeps graphs by a key that tells what they were made of, such as the
// digests of their files. It is safe for concurrent use: readers of a graph never
// wait for each other, and a graph that several ask for is loaded once.
type Cache struct {
	ttl time.Duration
	now func() time.Time

	mu      sync.Mutex
	entries map[string]*cached
	triples int // of the loaded entries
}

// cached is a graph, or the loading of one.
type cached struct {
	done chan struct{} // closed when the loading has ended
	// The rest is set under the lock of the cache when the loading has ended.
	graph *Graph
	err   error
	// gone tells that the context of whoever loaded it ended before the loading.
	gone    bool
	expires time.Time
}

// NewCache returns a cache that keeps a graph for ttl after it was loaded, by the
// clock now. With a nil clock graphs do not expire; with a ttl of 0 nothing is
// kept, and only those who ask at the same time share a graph.
func NewCache(ttl time.Duration, now func() time.Time) *Cache {
	return &Cache{ttl: ttl, now: now, entries: map[string]*cached{}}
}

// Get returns the graph of the key, loading it if it is not there. Errors are not
// kept. If the context of the one who loads ends, another one loads anew.
func (c *Cache) Get(ctx context.Context, key string, load func(context.Context) (*Graph, error)) (*Graph, error) {
	for {
		entry, mine := c.claim(key)
		if mine {
			c.load(ctx, key, entry, load)
			return entry.graph, entry.err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-entry.done:
		}
		if !entry.gone {
			return entry.graph, entry.err
		}
	}
}

// claim returns the entry of the key and whether the caller is to load it.
func (c *Cache) claim(key string) (entry *cached, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expire()
	if entry := c.entries[key]; entry != nil {
		return entry, false
	}
	entry = &cached{done: make(chan struct{})}
	c.entries[key] = entry
	return entry, true
}

func (c *Cache) load(ctx context.Context, key string, entry *cached, load func(context.Context) (*Graph, error)) {
	// Until load returns: it panicked, and those who wait may try themselves.
	var graph *Graph
	err, gone := fault.New(fault.Internal, "", "loading a graph did not end"), true
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		entry.graph, entry.err, entry.gone = graph, err, gone
		c.keep(key, entry)
		close(entry.done)
	}()
	graph, err = load(ctx)
	gone = err != nil && ctx.Err() != nil
}

// keep decides about an entry that was loaded.
func (c *Cache) keep(key string, entry *cached) {
	if entry.err != nil || c.now != nil && c.ttl <= 0 || entry.graph.Size() > maxCached {
		delete(c.entries, key)
		return
	}
	if c.now != nil {
		entry.expires = c.now().Add(c.ttl)
	}
	c.triples += entry.graph.Size()
	if c.triples > maxCached { // rare, and cheaper than to keep an order of use
		for other, e := range c.entries {
			if e != entry && e.graph != nil {
				c.drop(other, e)
			}
		}
	}
}

// expire drops what was loaded too long ago.
func (c *Cache) expire() {
	if c.now == nil {
		return
	}
	now := c.now()
	for key, e := range c.entries {
		if e.graph != nil && !now.Before(e.expires) {
			c.drop(key, e)
		}
	}
}

func (c *Cache) drop(key string, e *cached) {
	c.triples -= e.graph.Size()
	delete(c.entries, key)
}

// Size returns the number of triples in all graphs of g.
func (g *Graph) Size() int {
	n := g.Len()
	for _, x := range g.named {
		n += x.Len()
	}
	return n
}
