package app

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestObey sends signals as terminals, timeout(1) and CI systems do. Each is taken before
// the next one is sent, as the kernel does not promise: it joins two that are pending.
func TestObey(t *testing.T) {
	t.Parallel()
	type sent struct {
		after  time.Duration
		signal os.Signal
	}
	term, interrupt := syscall.SIGTERM, os.Interrupt
	const never = -1
	for name, c := range map[string]struct {
		signals []sent
		exits   time.Duration // after the first signal
	}{
		"one":                            {[]sent{{0, term}}, never},
		"timeout(1), twice at once":      {[]sent{{0, term}, {time.Millisecond, term}, {time.Millisecond, term}}, never},
		"a person who insists":           {[]sent{{0, interrupt}, {time.Second, interrupt}}, time.Second},
		"SIGTERM again later":            {[]sent{{0, term}, {sameSignal, term}}, sameSignal},
		"SIGINT after SIGTERM":           {[]sent{{0, term}, {time.Millisecond, interrupt}}, time.Millisecond},
		"a CI system: SIGINT, SIGTERM":   {[]sent{{0, interrupt}, {7 * time.Second, term}}, 7*time.Second + lastGrace},
		"a CI system, and one who waits": {[]sent{{0, interrupt}, {time.Second, term}, {time.Second, term}}, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				signals, done := make(chan os.Signal), make(chan struct{})
				ctx, cancel := context.WithCancelCause(t.Context())
				begun, exited := time.Now(), time.Duration(never)
				go obey(signals, done, cancel, func(code int) {
					if exited = time.Since(begun); code != 130 {
						t.Errorf("exit code %d", code)
					}
				})
				for _, s := range c.signals {
					time.Sleep(s.after)
					select {
					case signals <- s.signal:
					case <-time.After(time.Hour):
						t.Fatalf("%s is not taken", s.signal)
					}
					synctest.Wait()
				}
				if !errors.Is(context.Cause(ctx), errInterrupted) {
					t.Errorf("the cause is %v", context.Cause(ctx))
				}
				time.Sleep(time.Hour)
				synctest.Wait()
				if close(done); exited != c.exits {
					t.Errorf("exits after %s, not %s", exited, c.exits)
				}
			})
		})
	}
}
