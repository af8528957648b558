package validate_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/policy"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
	"github.com/ultrafast-ci/ultrafast/steps/state"
	"github.com/ultrafast-ci/ultrafast/steps/validate"
)

const (
	sumA = "h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	sumB = "h1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="
)

// fixture is a change to a good release and what a check must say to it.
type fixture struct {
	change func(l *lab)
	want   state.Outcome
	// what is part of the finding, if there is one; where its place.
	what, where string
}

func mod(text, sum string) func(*lab) {
	return func(l *lab) {
		l.tree["go.mod"] = "module example.com/shop\n\ngo 1.26\n" + text
		if sum != "" {
			l.tree["go.sum"] = sum
		}
	}
}

func mode(name string) func(*lab) { return func(l *lab) { l.mode(name) } }

// fixtures hold, for every check, releases that it must pass and that it must not.
var fixtures = map[string]map[string]fixture{
	"tests-passed": {
		"good": {want: state.Passed},
		"with a skipped test": {change: func(l *lab) {
			l.built.Checks = append(l.built.Checks, state.Check{Name: "shop.TestY", Outcome: state.Skipped})
		}, want: state.Passed},
		"bad":          {change: func(l *lab) { l.built.Checks[0].Outcome = state.Failed }, want: state.Failed, what: "1 of 1 tests did not pass"},
		"no test":      {change: func(l *lab) { l.built.Checks = nil }, want: state.Failed, what: "no test passed"},
		"only skipped": {change: func(l *lab) { l.built.Checks[0].Outcome = state.Skipped }, want: state.Failed, what: "no test passed"},
		"another tree": {change: func(l *lab) {
			l.spoil = func(l *lab) { l.built.Cleanroom.Tree = state.DigestOf([]byte("other")) }
		}, want: state.Failed, what: "tests ran on tree"},
		"failed entry": {change: func(l *lab) { l.built.Outcome = state.Failed }, want: state.Failed, what: "cleanroom-test failed"},
		"no generate entry": {change: func(l *lab) {
			l.spoil = func(l *lab) { l.generated = state.Entry{} }
		}, want: state.Unknown, what: "which tree"},
	},
	"lockfile-consistent": {
		"good":       {change: mod("require a.example/x v1.0.0\n", "a.example/x v1.0.0 "+sumA+"\na.example/x v1.0.0/go.mod "+sumB+"\n"), want: state.Passed},
		"no modules": {want: state.Passed},
		"block and replacements": {change: mod("require (\n\ta.example/x v1.0.0 // why not\n\t\"b.example/y\" v1.0.0 // indirect\n\tc.example/z v1.0.0\n)\nreplace c.example/z => ./z\nreplace a.example/x v1.0.0 => d.example/x v2.0.0\n",
			"d.example/x v2.0.0 "+sumA+"\nd.example/x v2.0.0/go.mod "+sumA+"\nb.example/y v1.0.0/go.mod "+sumA+"\n"), want: state.Passed},
		"no go.mod":        {change: func(l *lab) { l.tree = map[string]string{"README": "x"} }, want: state.NotApplicable},
		"bad":              {change: mod("require (\n\ta.example/x v1.0.0\n\tb.example/y v1.2.0\n)\n", "a.example/x v1.0.0 "+sumA+"\na.example/x v1.0.0/go.mod "+sumB+"\n"), want: state.Failed, what: "go.sum lacks b.example/y v1.2.0", where: "go.mod:6"},
		"no go.sum":        {change: mod("require a.example/x v1.0.0\n", ""), want: state.Failed, what: "go.sum lacks a.example/x v1.0.0", where: "go.mod:4"},
		"content missing":  {change: mod("require a.example/x v1.0.0\n", "a.example/x v1.0.0/go.mod "+sumA+"\n"), want: state.Failed, what: "go.sum lacks a.example/x", where: "go.mod:4"},
		"two checksums":    {change: mod("", "a.example/x v1.0.0 "+sumA+"\na.example/x v1.0.0 "+sumB+"\n"), want: state.Failed, what: "two different checksums", where: "go.sum:2"},
		"damaged checksum": {change: mod("", "a.example/x v1.0.0 h1:AAAA\n"), want: state.Failed, what: "is not a checksum", where: "go.sum:1"},
		"damaged go.sum":   {change: mod("", "\nhello\n"), want: state.Failed, what: "1 words", where: "go.sum:2"},
		"damaged go.mod":   {change: mod("require a.example/x\n", ""), want: state.Failed, what: "require wants", where: "go.mod:4"},
		"open block":       {change: mod("require (\n", ""), want: state.Failed, what: "has no end", where: "go.mod:4"},
		"damaged replace":  {change: mod("replace a => \n", ""), want: state.Failed, what: "replace wants", where: "go.mod:4"},
		"no tree": {change: func(l *lab) {
			l.spoil = func(l *lab) { l.generated = state.Entry{} }
		}, want: state.Unknown, what: "no tree"},
	},
	"nonroot": {
		"good":     {want: state.Passed},
		"no group": {change: func(l *lab) { l.config.User = "1000" }, want: state.Passed},
		"bad":      {change: func(l *lab) { l.config.User = "0:0" }, want: state.Failed, what: "is 0:0, root"},
		"no user":  {change: func(l *lab) { l.config.User = "" }, want: state.Failed, what: "names no user"},
		"a name":   {change: func(l *lab) { l.config.User = "nobody" }, want: state.Failed, what: "is not a number"},
		"no image": {change: noImage, want: state.Unknown, what: "there is no image"},
	},
	"health-endpoint": {
		"good":     {want: state.Passed},
		"bad":      {change: mode("sick"), want: state.Failed, what: "saw: 503"},
		"never up": {change: mode("deaf"), want: state.Failed, what: "connection refused"},
		"crashes":  {change: mode("crash"), want: state.Failed, what: "ended before it answered GET /healthz: exit code 7"},
		"no image": {change: noImage, want: state.Unknown, what: "there is no image"},
	},
	"graceful-shutdown": {
		"good":         {want: state.Passed},
		"lame duck":    {change: mode("lingering"), want: state.Passed},
		"bad":          {change: mode("abrupt"), want: state.Failed, what: "accepted requests were lost"},
		"closes all":   {change: mode("closing"), want: state.Failed, what: "accepted requests were lost"},
		"answers 500":  {change: mode("sorry"), want: state.Failed, what: "accepted requests were lost"},
		"wrong code":   {change: mode("failing"), want: state.Failed, what: "exit code 3"},
		"no handler":   {change: mode("deadly"), want: state.Failed},
		"never ends":   {change: mode("stubborn"), want: state.Failed, what: "still ran 2s after SIGTERM"},
		"dies of load": {change: mode("tired"), want: state.Unknown, what: "ended under load before it was told to"},
		"never up":     {change: mode("sick"), want: state.Unknown, what: "did not get healthy"},
		"no image":     {change: noImage, want: state.Unknown, what: "there is no image"},
	},
}

// Where the root is the host's, what a service keeps for a moment goes where the
// environment is, which removes it.
func TestServiceHasATemporaryDirectory(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	var seen []string
	l.back.Started = func(spec sandbox.ContainerSpec) {
		for _, v := range spec.Env {
			if dir, ok := strings.CutPrefix(v, "TMPDIR="); ok && len(spec.Mounts) == 2 && spec.Mounts[1].Kind == sandbox.Scratch {
				seen = append(seen, dir)
			}
		}
	}
	if _, err := l.run(t, l.state(t)); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 2 || seen[0] == "/tmp" {
		t.Errorf("temporary directories %q", seen)
	}
}

// What a killed run left behind is removed before the next begins.
func TestRunCollectsFirst(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	back := &collecting{Backend: l.back}
	l.step.Backend = back
	if _, err := l.run(t, l.state(t)); err != nil || back.times != 1 {
		t.Errorf("collected %d times: %v", back.times, err)
	}
}

type collecting struct {
	sandbox.Backend
	times int
}

func (c *collecting) GC(context.Context) ([]string, error) { c.times++; return nil, nil }

func noImage(l *lab) {
	l.spoil = func(l *lab) { l.built.Artifacts, l.built.Cleanroom.Image = nil, "" }
}

// A check that cannot fail checks nothing.
func TestEveryCheckHasFixtures(t *testing.T) {
	t.Parallel()
	for _, c := range validate.Checks() {
		set := fixtures[c.ID]
		if set["good"].want != state.Passed || set["bad"].want != state.Failed {
			t.Errorf("check %s has no good or no bad fixture", c.ID)
		}
		if c.Doc == "" || c.Severity == "" || c.Needs == "" {
			t.Errorf("check %s lacks a field: %+v", c.ID, c)
		}
	}
	if len(fixtures) != len(validate.Checks()) {
		t.Error("there are fixtures for a check that is not in the table")
	}
}

func TestChecks(t *testing.T) {
	t.Parallel()
	for id, set := range fixtures {
		for name, f := range set {
			t.Run(id+"/"+name, func(t *testing.T) {
				t.Parallel()
				l := newLab(t)
				l.step.Service.StartTimeout, l.step.Service.StopTimeout = 10*time.Second, 10*time.Second
				if name == "never up" || name == "bad" && id == "health-endpoint" {
					l.step.Service.StartTimeout = time.Second
				}
				if name == "never ends" {
					l.step.Service.StopTimeout = 2 * time.Second
				}
				if f.change != nil {
					f.change(l)
				}
				l.step.Policy = policy.Policy{Required: []string{id}}
				res, err := l.run(t, l.state(t))
				if got := outcome(res, id); got != f.want {
					t.Fatalf("%s, want %s: %v", got, f.want, err)
				}
				good := f.want == state.Passed
				if good != (err == nil) && f.want != state.NotApplicable || good != (res.Entry.Outcome == state.Passed) && f.want != state.NotApplicable {
					t.Errorf("entry %s with error %v", res.Entry.Outcome, err)
				}
				if !good && f.want != state.NotApplicable {
					checkFinding(t, res, id, f, err)
				}
				checkReport(t, l, res, id)
			})
		}
	}
}

func checkFinding(t *testing.T, res state.Result, id string, f fixture, err error) {
	t.Helper()
	if fault.KindOf(err) != fault.Finding {
		t.Errorf("error %v of kind %s", err, fault.KindOf(err))
	}
	for _, found := range res.Evidence.Findings {
		if found.Rule != id {
			continue
		}
		if !strings.Contains(found.What, f.what) || found.Where.String() != f.where || found.Fix == "" || found.Reproduce == "" {
			t.Errorf("finding %+v; want %q at %q", found, f.what, f.where)
		}
		if !strings.Contains(err.Error(), id+": "+found.What) || !strings.Contains(err.Error(), "fix: "+found.Fix) {
			t.Errorf("error does not tell the finding: %v", err)
		}
		return
	}
	t.Errorf("no finding of %s in %+v", id, res.Evidence.Findings)
}

// checkReport holds the rules of every report: what passed has evidence, what was
// not decided has a reason.
func checkReport(t *testing.T, l *lab, res state.Result, id string) {
	t.Helper()
	a, ok := res.Evidence.Artifact(validate.ArtifactChecks)
	if !ok {
		t.Fatal("no report")
	}
	b, err := state.ReadBlob(t.Context(), l.blobs, a)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct{ Checks []validate.Report }
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	for _, r := range doc.Checks {
		if r.Outcome == state.Passed && len(r.Evidence) == 0 {
			t.Errorf("%s passed without evidence", r.ID)
		}
		if (r.Outcome == state.Unknown || r.Outcome == state.NotApplicable) && r.Reason == "" {
			t.Errorf("%s is %s without a reason", r.ID, r.Outcome)
		}
		if r.Required != (r.ID == id) {
			t.Errorf("%s: required is %v", r.ID, r.Required)
		}
	}
}

func TestRunPasses(t *testing.T) {
	t.Parallel()
	var claims []string
	for range 2 {
		l := newLab(t)
		in := l.state(t)
		res, err := l.run(t, in)
		if err != nil {
			t.Fatal(err)
		}
		res.Entry.Normalize()
		claim, err := res.Entry.Claim()
		if err != nil {
			t.Fatal(err)
		}
		claims = append(claims, string(claim))
		if want := (state.Validate{Tree: l.built.Cleanroom.Tree, Image: l.built.Cleanroom.Image, Policy: policy.Policy{}.Digest()}); *res.Entry.Validate != want {
			t.Errorf("claims %+v, want %+v", *res.Entry.Validate, want)
		}
		if res.Evidence.Summary != "5 of 5 checks passed" || len(res.Evidence.Findings) != 0 || res.Evidence.Backend != "direct" {
			t.Errorf("evidence %+v", res.Evidence)
		}
		facts := res.Evidence.Facts
		for _, name := range []string{"isolation.level", "health-endpoint.seconds", "graceful-shutdown.answered", "graceful-shutdown.exit"} {
			if facts[name] == "" {
				t.Errorf("no fact %s in %v", name, slices.Sorted(maps.Keys(facts)))
			}
		}
		if facts["graceful-shutdown.lost"] != "0" {
			t.Errorf("lost %s", facts["graceful-shutdown.lost"])
		}
	}
	if claims[0] != claims[1] {
		t.Errorf("two runs claim\n%s\n%s", claims[0], claims[1])
	}
}

// A check that the policy does not require is reported and does not stop.
func TestRunReportsWhatIsNotRequired(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.config.User = "0"
	l.step.Policy.Required = []string{"tests-passed"}
	res, err := l.run(t, l.state(t))
	if err != nil || res.Entry.Outcome != state.Passed || len(res.Evidence.Findings) != 1 || res.Evidence.Summary != "4 of 5 checks passed, 1 failed" {
		t.Errorf("got %s, %v, %+v", res.Entry.Outcome, err, res.Evidence)
	}
}

func TestRunWithNothingProven(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	noImage(l)
	old := l.spoil
	l.spoil = func(l *lab) { old(l); l.generated = state.Entry{} }
	l.step.Policy.Required = []string{"lockfile-consistent"}
	res, err := l.run(t, l.state(t))
	if fault.KindOf(err) != fault.Finding || res.Entry.Outcome != state.Failed {
		t.Errorf("got %s, %v", res.Entry.Outcome, err)
	}
}

// noRoom is a back end that can make nothing here and advises to use another.
type noRoom struct{ sandbox.Backend }

func (noRoom) Create(context.Context, sandbox.EnvironmentSpec) (sandbox.Environment, error) {
	return nil, fault.New(fault.Unavailable, "install Docker", "no namespaces here")
}

// Where no sandbox can be had the error names a way out that is one for this phase.
func TestRunWithoutSandbox(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.step.Backend = noRoom{l.back}
	_, err := l.run(t, l.state(t))
	if hint := fault.HintOf(err); fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "no namespaces here") ||
		!strings.Contains(hint, "--min-isolation") || strings.Contains(hint, "install Docker") {
		t.Errorf("error %v of kind %s, hint %q", err, fault.KindOf(err), hint)
	}
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(l *lab)
		state  func(s state.State) state.State
		kind   fault.Kind
		want   string
	}{
		"nothing built":   {nil, func(s state.State) state.State { return s[:1] }, fault.Usage, "no cleanroom-test entry"},
		"changed chain":   {nil, func(s state.State) state.State { s[0].Entry.Generate.Files = 9; return s }, fault.Finding, "it was changed"},
		"unknown check":   {func(l *lab) { l.step.Policy.Required = []string{"non-root"} }, nil, fault.Usage, `unknown check "non-root"`},
		"health path":     {func(l *lab) { l.step.Service.Health = "healthz" }, nil, fault.Usage, "health path"},
		"port":            {func(l *lab) { l.step.Service.Port = -1 }, nil, fault.Usage, "port"},
		"weaker backend":  {func(l *lab) { l.step.MinIsolation = sandbox.Full }, nil, fault.Internal, "gave isolation none where full"},
		"another image":   {func(l *lab) { l.spoil = func(l *lab) { l.built.Cleanroom.Image = state.DigestOf([]byte("x")) } }, nil, fault.Finding, "its artifact \"image\" is another"},
		"changed tree":    {func(l *lab) { l.spoil = func(l *lab) { l.generated.Artifacts[0].Size++; l.tree["go.mod"] = "" } }, nil, fault.Finding, `"tree"`},
		"program missing": {func(l *lab) { l.step.Service.Command = []string{"/absent"} }, nil, fault.Finding, `"/absent" is not a file of the image`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			if c.change != nil {
				c.change(l)
			}
			in := l.state(t)
			if c.state != nil {
				in = c.state(in)
			}
			res, err := l.run(t, in)
			if err == nil || fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v of kind %s, want %s with %q", err, fault.KindOf(err), c.kind, c.want)
			}
			if res.Entry.Phase != "" {
				t.Errorf("a run that could not begin claims %+v", res.Entry)
			}
		})
	}
}

func TestKey(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	base, err := l.step.Key(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*validate.Step){
		"isolation": func(s *validate.Step) { s.MinIsolation = sandbox.Full },
		"limits":    func(s *validate.Step) { s.Limits.Memory = 1 },
		"service":   func(s *validate.Step) { s.Service.Health = "/x" },
		"policy":    func(s *validate.Step) { s.Policy.Required = []string{"nonroot"} },
	} {
		s := l.step
		change(&s)
		key, err := s.Key(t.Context(), nil)
		if err != nil || reflect.DeepEqual(key, base) {
			t.Errorf("%s does not change the key %v (%v)", name, key, err)
		}
	}
	if strings.Contains(fmt.Sprint(base), l.temp) {
		t.Errorf("the key names a temporary directory: %v", base)
	}
}
