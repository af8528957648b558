package service

import (
	"context"
	"strconv"
	"sync"
)

// databases gives tests a database each. Some are made ahead, as long as tests will want
// them; a test that finds none has its own made.
type databases struct {
	server *postgres

	mu sync.Mutex
	// ready wait for a test, used had one.
	ready, used []string
	count       int // of all that were ever made

	wake    chan struct{} // has room for one
	stop    context.CancelFunc
	stopped sync.WaitGroup
}

// open begins with the databases ahead, and has more made until close.
func (d *databases) open(server *postgres, ahead []string) {
	ctx, stop := context.WithCancel(context.Background())
	d.mu.Lock()
	defer d.mu.Unlock()
	d.server, d.stop, d.wake = server, stop, make(chan struct{}, 1)
	d.ready, d.count = append(d.ready, ahead...), len(ahead)
	d.stopped.Go(func() { d.refill(ctx) })
	d.poke()
}

// close ends what is being made. It may be called without open.
func (d *databases) close() {
	d.mu.Lock()
	stop := d.stop
	d.mu.Unlock()
	if stop != nil {
		stop()
		d.stopped.Wait()
	}
}

func (d *databases) poke() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// next returns the name of one more database.
func (d *databases) next() string {
	d.count++
	return d.server.spec.Database + "_" + strconv.Itoa(d.count)
}

// take returns a database that no other test gets. A test that finds none waits while one
// is made, in place of a used one if there are many: more may be asked for than was
// expected.
func (d *databases) take(ctx context.Context) (string, error) {
	d.mu.Lock()
	if len(d.ready) > 0 {
		name := d.ready[0]
		d.ready = d.ready[1:]
		d.mu.Unlock()
		d.poke()
		return name, nil
	}
	name, drop := d.next(), ""
	if len(d.used) > d.server.room.Parallel {
		drop, d.used = d.used[0], d.used[1:]
	}
	d.mu.Unlock()
	if drop != "" {
		if err := d.server.drop(ctx, drop); err != nil {
			return "", err
		}
	}
	return name, d.server.create(ctx, name)
}

// giveBack takes a database that its test is done with. It makes room for others, and is
// left to the end of the server if there will be none.
func (d *databases) giveBack(name string) {
	d.mu.Lock()
	d.used = append(d.used, name)
	d.mu.Unlock()
	d.poke()
}

// refill makes databases until as many as tests run at once are waiting, or as are still
// wanted, and drops used ones as long as others follow. What fails shows when a test asks.
func (d *databases) refill(ctx context.Context) {
	for ctx.Err() == nil {
		if d.workOnce(ctx) {
			continue
		}
		select {
		case <-d.wake:
		case <-ctx.Done():
		}
	}
}

// workOnce drops or makes one database, and reports whether it did.
func (d *databases) workOnce(ctx context.Context) bool {
	drop, create := d.work()
	switch {
	case drop != "":
		return d.server.drop(ctx, drop) == nil
	case create != "":
		if d.server.create(ctx, create) != nil {
			return false
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.ready = append(d.ready, create)
		return true
	}
	return false
}

// work returns a database to drop or one to make, or neither. Tests wait for the latter
// only, until the used ones are too many.
func (d *databases) work() (drop, create string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	wanted, parallel := d.server.wanted.Load(), d.server.room.Parallel
	missing := min(wanted, int64(parallel)) - int64(len(d.ready))
	switch {
	case wanted <= 0:
	case missing > 0 && len(d.used) <= parallel:
		return "", d.next()
	case len(d.used) > 0:
		drop, d.used = d.used[0], d.used[1:]
	}
	return drop, ""
}
