package door

import (
	"context"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/config"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// TestMistakesAreFoundFirst: a wrong option is a usage error before anything runs,
// and a name from the command line cannot lead out of the project.
func TestMistakesAreFoundFirst(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		o  Options
		ok bool
	}{
		"good":        {Options{}, true},
		"environment": {Options{Env: "../../.."}, false},
		"strategy":    {Options{Strategy: "canary-ish"}, false},
		"port":        {Options{Listen: "127.0.0.1:70000"}, false},
		"host":        {Options{Listen: "18080"}, false},
	} {
		project := &config.Project{Dir: t.TempDir(), Deploy: config.Deploy{Environment: "test", Target: "local", Listen: "127.0.0.1:0"}}
		if _, err := newStep(&app.App{OS: app.OS{Now: time.Now}}, project, c.o); c.ok && err != nil || !c.ok && fault.KindOf(err) != fault.Usage {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestServesTheRealAddress: with port 0 the router chose one.
func TestServesTheRealAddress(t *testing.T) {
	t.Parallel()
	project := &config.Project{Deploy: config.Deploy{Listen: "127.0.0.1:0"}}
	chain := state.State{{Evidence: []state.Evidence{{Facts: map[string]string{"router.address": "127.0.0.1:4321"}}}}}
	if got := Serves(chain, project, Options{}); got[0][1] != "http://127.0.0.1:4321" {
		t.Errorf("%q", got)
	}
}

// inside counts pushes that run at once.
type inside struct{ now, most atomic.Int32 }

func (i *inside) Push(context.Context, state.Blobs, *state.Entry, string) (string, error) {
	if n := i.now.Add(1); n > i.most.Load() {
		i.most.Store(n)
	}
	<-time.After(20 * time.Millisecond) // a push takes a while
	i.now.Add(-1)
	return "", nil
}

// TestOnePushAtATime: environments share the directory of images.
func TestOnePushAtATime(t *testing.T) {
	t.Parallel()
	in := &inside{}
	dir := filepath.Join(t.TempDir(), "images")
	done := make(chan error, 4)
	for range cap(done) {
		go func() {
			_, err := pusher{in}.Push(t.Context(), nil, nil, "layout:"+dir)
			done <- err
		}()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := in.most.Load(); n != 1 {
		t.Errorf("%d pushes at once", n)
	}
}
