// Package targettest is the contract suite of deploy targets: what every
// implementation of target.Target must do, tried on a real one.
//
//	func TestContract(t *testing.T) {
//		targettest.Run(t, func(t *testing.T) targettest.Harness { … })
//	}
package targettest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
	"github.com/ultrafast-ci/ultrafast/steps/target"
)

// Behaviour is how the service of a test image behaves.
type Behaviour string

// The behaviours. Every service listens on PORT unless it exits, answers GET
// /version with its version, and answers its health path /healthz.
const (
	Good  Behaviour = "good"  // /healthz answers 200
	Sick  Behaviour = "sick"  // /healthz answers 503
	Exits Behaviour = "exits" // it writes "cannot go on" and exits with code 7
)

// Harness is one empty environment.
type Harness struct {
	Target target.Target
	// Image returns an image whose service has the version and the behaviour.
	Image func(t *testing.T, version string, b Behaviour) (state.Digest, target.Source)
}

// Run runs the suite. Open is called for each test; it must register the
// removal of what it made. The suite brings every environment down by itself.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	tests := map[string]func(*testing.T, *bench){
		"LockIsExclusive":        lockIsExclusive,
		"ServesAndSwitches":      servesAndSwitches,
		"CommandsAreIdempotent":  commandsAreIdempotent,
		"UncommittedIsTakenBack": uncommittedIsTakenBack,
		"WeightsDivide":          weightsDivide,
		"SickIsAFinding":         sickIsAFinding,
		"ExitFailsAtOnce":        exitFailsAtOnce,
		"UnknownIsAFinding":      unknownIsAFinding,
		"PruneKeeps":             pruneKeeps,
		"DownLeavesNothing":      downLeavesNothing,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := open(t)
			b := &bench{T: t, Harness: h, ctx: t.Context()}
			t.Cleanup(b.down)
			test(t, b)
		})
	}
}

// bench has the steps that tests repeat.
type bench struct {
	*testing.T
	Harness
	ctx context.Context
}

func (b *bench) down() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := b.Target.Acquire(ctx, "clean-up")
	if err != nil {
		b.Errorf("clean-up: %v", err)
		return
	}
	if err := s.Down(ctx); err != nil {
		b.Errorf("down: %v", err)
	}
	if err := s.Close(ctx); err != nil {
		b.Errorf("close after down: %v", err)
	}
}

// acquire takes the environment and closes the session with the test.
func (b *bench) acquire() target.Session {
	b.Helper()
	s, err := b.Target.Acquire(b.ctx, "test")
	b.must("acquire", err)
	b.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			b.Errorf("close: %v", err)
		}
	})
	return s
}

func (b *bench) must(what string, err error) {
	b.Helper()
	if err != nil {
		b.Fatalf("%s: %v", what, err)
	}
}

func (b *bench) prepare(s target.Session, id string, behaviour Behaviour) {
	b.Helper()
	image, from := b.Image(b.T, id, behaviour)
	b.must("prepare "+id, s.Prepare(b.ctx, target.Release{
		ID: id, Image: image, Config: state.DigestOf([]byte(id)),
		Service: target.Service{HealthPath: "/healthz", HealthTimeout: 2 * time.Second, StopTimeout: 2 * time.Second},
	}, from))
}

func (b *bench) up(s target.Session, id string) {
	b.Helper()
	b.prepare(s, id, Good)
	b.must("start "+id, s.Start(b.ctx, id))
	b.must("ready "+id, s.Ready(b.ctx, id))
}

func (b *bench) route(s target.Session, weights ...target.Weight) {
	b.Helper()
	b.must("route", s.Route(b.ctx, weights))
}

// version asks the release, or the front if it is empty, who it is.
func (b *bench) version(release string) string {
	b.Helper()
	res, err := b.Target.Probe(b.ctx, release, target.Request{Path: "/version"})
	b.must("probe", err)
	return strings.TrimSpace(string(res.Body))
}

func (b *bench) wantVersion(release, want string) {
	b.Helper()
	if got := b.version(release); got != want {
		b.Errorf("version of %q is %q, not %q", release, got, want)
	}
}

func wantKind(t *testing.T, err error, kind fault.Kind, word string) {
	t.Helper()
	if err == nil || fault.KindOf(err) != kind || !strings.Contains(err.Error(), word) {
		t.Errorf("error is %v (%v), not %v with %q", err, fault.KindOf(err), kind, word)
	}
}

func lockIsExclusive(t *testing.T, b *bench) {
	s, err := b.Target.Acquire(b.ctx, "first-run")
	b.must("acquire", err)
	_, err = b.Target.Acquire(b.ctx, "second-run")
	wantKind(t, err, fault.Unavailable, "first-run")
	b.must("close", s.Close(b.ctx))
	b.must("close again", s.Close(b.ctx))
	b.acquire()
}

func servesAndSwitches(t *testing.T, b *bench) {
	s := b.acquire()
	b.up(s, "v1")
	b.wantVersion("v1", "v1")
	b.route(s, target.Weight{Release: "v1", Weight: 1})
	b.must("commit", s.Commit(b.ctx))
	b.wantVersion("", "v1")
	b.up(s, "v2")
	b.wantVersion("", "v1")
	b.route(s, target.Weight{Release: "v2", Weight: 1})
	b.wantVersion("", "v2")
	b.must("drain", s.Drain(b.ctx, "v1", 5*time.Second))
	b.must("commit", s.Commit(b.ctx))
	b.must("stop", s.Stop(b.ctx, "v1"))
	live, err := b.Target.Live(b.ctx)
	b.must("live", err)
	if got := live.Traffic.Serving(); got != "v2" {
		t.Errorf("serving is %q, not v2", got)
	}
	for _, i := range live.Instances {
		if i.Running != (i.Release == "v2") {
			t.Errorf("release %s: running is %v", i.Release, i.Running)
		}
	}
}

func commandsAreIdempotent(t *testing.T, b *bench) {
	s := b.acquire()
	for range 2 {
		b.up(s, "v1")
	}
	live, err := b.Target.Live(b.ctx)
	b.must("live", err)
	for range 2 {
		b.route(s, target.Weight{Release: "v1", Weight: 1})
		b.must("commit", s.Commit(b.ctx))
	}
	b.must("start", s.Start(b.ctx, "v1"))
	again, err := b.Target.Live(b.ctx)
	b.must("live", err)
	if len(again.Instances) != 1 || again.Instances[0].PID != live.Instances[0].PID {
		t.Errorf("start of a running release made another process: %+v, then %+v", live.Instances, again.Instances)
	}
	b.route(s)
	for range 2 {
		b.must("drain", s.Drain(b.ctx, "v1", time.Second))
		b.must("stop", s.Stop(b.ctx, "v1"))
	}
	b.must("start after stop", s.Start(b.ctx, "v1"))
	b.must("ready after stop", s.Ready(b.ctx, "v1"))
	b.wantVersion("v1", "v1")
}

func uncommittedIsTakenBack(t *testing.T, b *bench) {
	s := b.acquire()
	b.up(s, "v1")
	b.route(s, target.Weight{Release: "v1", Weight: 1})
	b.must("commit", s.Commit(b.ctx))
	b.up(s, "v2")
	b.route(s, target.Weight{Release: "v2", Weight: 1})
	b.wantVersion("", "v2")
	b.must("close", s.Close(b.ctx))
	b.wantVersion("", "v1")
	if err := s.Route(b.ctx, []target.Weight{{Release: "v2", Weight: 1}}); err == nil {
		t.Error("a closed session still changes the route")
	}
	b.wantVersion("", "v1")
}

func weightsDivide(t *testing.T, b *bench) {
	s := b.acquire()
	b.up(s, "v1")
	b.up(s, "v2")
	b.route(s, target.Weight{Release: "v1", Weight: 3}, target.Weight{Release: "v2", Weight: 1})
	count := map[string]int{}
	const n = 200
	for range n {
		count[b.version("")]++
	}
	if d := count["v2"] - n/4; d < -n/20 || d > n/20 {
		t.Errorf("of %d requests %v; a quarter, within 5 points, should go to v2", n, count)
	}
	bad := [][]target.Weight{
		{{Release: "v1", Weight: -1}}, {{Release: "v1"}}, {{Release: "v1", Weight: target.MaxWeight + 1}},
		{{Release: "v1", Weight: 1}, {Release: "v1", Weight: 1}},
	}
	for _, weights := range bad {
		if err := s.Route(b.ctx, weights); err == nil {
			t.Errorf("route %v was accepted", weights)
		}
	}
}

func sickIsAFinding(t *testing.T, b *bench) {
	s := b.acquire()
	b.prepare(s, "v1", Sick)
	b.must("start", s.Start(b.ctx, "v1"))
	wantKind(t, s.Ready(b.ctx, "v1"), fault.Finding, "503")
}

func exitFailsAtOnce(t *testing.T, b *bench) {
	s := b.acquire()
	image, from := b.Image(t, "v1", Exits)
	b.must("prepare", s.Prepare(b.ctx, target.Release{
		ID: "v1", Image: image, Config: image,
		Service: target.Service{HealthPath: "/healthz", HealthTimeout: time.Minute, StopTimeout: time.Second},
	}, from))
	begun := time.Now()
	err := s.Start(b.ctx, "v1")
	if err == nil {
		err = s.Ready(b.ctx, "v1")
	}
	wantKind(t, err, fault.Finding, "cannot go on")
	if d := time.Since(begun); d > 20*time.Second {
		t.Errorf("the end of the process was noticed after %s", d)
	}
}

func unknownIsAFinding(t *testing.T, b *bench) {
	s := b.acquire()
	wantKind(t, s.Start(b.ctx, "v9"), fault.Finding, "v9")
	wantKind(t, s.Ready(b.ctx, "v9"), fault.Finding, "v9")
	wantKind(t, s.Route(b.ctx, []target.Weight{{Release: "v9", Weight: 1}}), fault.Finding, "v9")
	_, err := b.Target.Probe(b.ctx, "v9", target.Request{Path: "/"})
	wantKind(t, err, fault.Finding, "v9")
	b.must("stop", s.Stop(b.ctx, "v9"))
	b.must("drain", s.Drain(b.ctx, "v9", time.Second))
	image, _ := b.Image(t, "v1", Good)
	err = s.Prepare(b.ctx, target.Release{ID: "v1", Image: image, Config: image}, target.Source{})
	wantKind(t, err, fault.Finding, "image")
}

func pruneKeeps(t *testing.T, b *bench) {
	s := b.acquire()
	for i := range 3 {
		id := fmt.Sprintf("v%d", i)
		b.up(s, id)
		if i > 0 {
			b.must("stop", s.Stop(b.ctx, id))
		}
	}
	b.must("prune", s.Prune(b.ctx, []string{"v1"}))
	live, err := b.Target.Live(b.ctx)
	b.must("live", err)
	var left []string
	for _, i := range live.Instances {
		left = append(left, i.Release)
	}
	if fmt.Sprint(left) != "[v0 v1]" {
		t.Errorf("after prune %v are left, not the running v0 and the kept v1", left)
	}
	b.must("start kept", s.Start(b.ctx, "v1"))
	b.must("ready kept", s.Ready(b.ctx, "v1"))
}

func downLeavesNothing(t *testing.T, b *bench) {
	s := b.acquire()
	b.up(s, "v1")
	b.route(s, target.Weight{Release: "v1", Weight: 1})
	b.must("commit", s.Commit(b.ctx))
	for range 2 {
		b.must("down", s.Down(b.ctx))
		live, err := b.Target.Live(b.ctx)
		b.must("live", err)
		if len(live.Instances) != 0 || live.Traffic != nil {
			t.Errorf("after down there is %+v", live)
		}
	}
	if _, err := b.Target.Probe(b.ctx, "", target.Request{Path: "/version"}); err == nil {
		t.Error("the front answers after down")
	}
	b.up(s, "v2")
	b.wantVersion("v2", "v2")
}
