// Package validate decides whether an image may be released, by doing: it reads
// the tree, opens the image, and starts the service and stops it under load.
//
// [Checks] are values in one table. Each passes only with evidence; what cannot
// be decided is unknown, and a check that gates a release stops it when it fails
// and when it is unknown alike. A [Step] may run the untrusted service, in a
// sandbox, and therefore holds no key; [Sign] holds a key and runs nothing. The
// package never waives a check by itself and takes no trust from the workspace.
package validate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/policy"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// ArtifactChecks is the name of the evidence artifact that holds what every check saw.
const ArtifactChecks = "checks"

// Step is the validate phase.
type Step struct {
	// Backend starts the service. It takes the unpacked image as a directory
	// ([sandbox.ContainerSpec.Root]), which those of container engines refuse.
	Backend sandbox.Backend
	// MinIsolation is the weakest isolation in which the service is started.
	MinIsolation sandbox.Level
	// Limits bound the service; a field that is zero has the back end's default.
	Limits  sandbox.Limits
	Images  Unpacker
	Service Service
	// Policy says which checks must pass. It comes from the trust root, if there
	// is one: deploy refuses a verdict under other rules than its own.
	Policy policy.Policy
	// TempDir is where working directories are made; empty means the system's.
	TempDir string
	// Log may be nil.
	Log *slog.Logger
	// Progress receives a line when something takes a while; nil for nobody.
	Progress func(message string)
}

// Unpacker opens images.
type Unpacker interface {
	// Unpack writes the files of the image that entry holds below dir, which
	// exists and is empty, and returns the image's configuration.
	Unpack(ctx context.Context, blobs state.Blobs, entry *state.Entry, dir string) (state.ImageConfig, error)
	// Enclose rewrites the links of the image below dir, so that no path through
	// them leaves dir for a process that has another root.
	Enclose(ctx context.Context, dir string) error
}

// Service says how the service is run and when it is well.
type Service struct {
	// Command replaces the image's entry point and command; empty keeps them.
	Command []string `json:"command,omitempty"`
	// Env is added to the image's environment, "KEY=value", besides PORT and LISTEN.
	Env []string `json:"env,omitempty"`
	// Port is the one the service listens on unless PORT says otherwise; 0 means
	// the image's first port, or 8080.
	Port int `json:"port,omitempty"`
	// Health is the path that answers 200 when the service can serve; empty
	// means "/healthz".
	Health string `json:"health,omitempty"`
	// StartTimeout bounds the time from start to the first healthy answer; zero
	// means 10 s. StopTimeout bounds the time from SIGTERM to the end; zero means 10 s.
	StartTimeout time.Duration `json:"startTimeoutNanoseconds,omitempty"`
	StopTimeout  time.Duration `json:"stopTimeoutNanoseconds,omitempty"`
}

const (
	defaultHealth = "/healthz"
	defaultPort   = 8080
	defaultTime   = 10 * time.Second
)

func (s Service) orDefault() Service {
	if s.Health == "" {
		s.Health = defaultHealth
	}
	if s.StartTimeout == 0 {
		s.StartTimeout = defaultTime
	}
	if s.StopTimeout == 0 {
		s.StopTimeout = defaultTime
	}
	return s
}

func (s Service) check() error {
	switch {
	case !strings.HasPrefix(s.Health, "/") || strings.ContainsAny(s.Health, " \r\n"):
		return fault.New(fault.Usage, `write it like "`+defaultHealth+`"`, "health path %q", s.Health)
	case s.Port < 0 || s.Port > 65535:
		return fault.New(fault.Usage, "ports are 1 to 65535", "service port %d", s.Port)
	case s.StartTimeout < 0 || s.StopTimeout < 0:
		return fault.New(fault.Usage, "", "a timeout of the service is negative")
	}
	return nil
}

// Phase returns phase.Validate.
func (Step) Phase() phase.Name { return phase.Validate }

// Key returns what the result depends on besides the state: the checks, the
// policy, how the service is run, and where.
func (s Step) Key(context.Context, state.State) (map[string]string, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	service, err := json.Marshal(s.Service.orDefault())
	if err != nil {
		return nil, err
	}
	l := s.Limits
	return map[string]string{
		"checks":        strings.Join(ids(Checks()), " "),
		"policy":        string(s.Policy.Digest()),
		"service":       string(service),
		"min-isolation": s.MinIsolation.String(),
		"limits":        fmt.Sprintf("%d %g %d %d %d %s %d", l.Memory, l.CPUs, l.PIDs, l.Disk, l.Files, l.Wall, l.Output),
	}, nil
}

func (s Step) check() error {
	if err := s.Service.orDefault().check(); err != nil {
		return err
	}
	return s.Policy.CheckRequired(ids(Checks()))
}

// Run judges the image and the tree of the latest cleanroom-test entry. A check
// that must pass and does not is a fault.Finding beside a result whose outcome is
// Failed. What keeps a check from being made at all (a sandbox that cannot be
// had, an artifact that was changed) is an error without a result.
func (s Step) Run(ctx context.Context, in state.State, blobs state.Blobs) (_ state.Result, err error) {
	return s.judge(ctx, in, blobs, Checks())
}

func (s Step) judge(ctx context.Context, in state.State, blobs state.Blobs, checks []Check) (_ state.Result, err error) {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	s.Service = s.Service.orDefault()
	if err := s.check(); err != nil {
		return state.Result{}, err
	}
	sandbox.Collect(ctx, s.Backend, s.TempDir, s.Log)
	sub, err := newSubject(s, in, blobs)
	if err != nil {
		return state.Result{}, err
	}
	defer func() { err = errors.Join(err, sub.close(ctx)) }()
	var reports []Report
	for _, c := range checks {
		if s.Progress != nil {
			s.Progress("check " + c.ID)
		}
		r, err := c.decide(ctx, sub)
		if err != nil {
			return state.Result{}, fault.Wrap(err, fault.Unavailable, "", "check "+c.ID)
		}
		r.Required = s.Policy.Requires(c.ID, c.Severity.Gates())
		s.Log.DebugContext(ctx, "check decided", "check", c.ID, "outcome", r.Outcome)
		reports = append(reports, r)
	}
	return s.result(ctx, sub, reports)
}

func (s Step) result(ctx context.Context, sub *subject, reports []Report) (state.Result, error) {
	claim := sub.built.Entry.Cleanroom
	res := state.Result{
		Entry: state.Entry{
			Phase: phase.Validate, Outcome: state.Passed,
			Validate: &state.Validate{Tree: claim.Tree, Image: claim.Image, Policy: s.Policy.Digest()},
		},
		Evidence: state.Evidence{Facts: sub.facts(), Summary: summary(reports)},
	}
	if sub.env != nil {
		res.Evidence.Backend = s.Backend.Name()
	}
	var stops []finding.Finding
	for _, r := range reports {
		res.Entry.Checks = append(res.Entry.Checks, state.Check{Name: r.ID, Outcome: r.Outcome})
		for name, value := range r.Facts {
			res.Evidence.Facts[r.ID+"."+name] = value
		}
		f, bad := r.finding()
		if bad {
			res.Evidence.Findings = append(res.Evidence.Findings, f)
		}
		if bad && r.Required {
			stops = append(stops, f)
		}
	}
	document, err := json.MarshalIndent(decided{Schema: decidedSchema, Required: s.Policy.Required, Checks: reports}, "", "  ")
	if err != nil {
		return state.Result{}, err
	}
	artifact, err := state.WriteBlob(ctx, sub.blobs, ArtifactChecks, state.MediaTypeJSON, document)
	if err != nil {
		return state.Result{}, fault.Wrap(err, fault.Unavailable, "", "keep what the checks saw")
	}
	res.Evidence.Artifacts = []state.Artifact{artifact}
	if len(stops) > 0 {
		res.Entry.Outcome = state.Failed
		return res, verdict(res.Evidence.Summary, stops)
	}
	if !slices.ContainsFunc(reports, func(r Report) bool { return r.Outcome == state.Passed }) {
		res.Entry.Outcome = state.Failed
		return res, fault.New(fault.Finding, "require checks that apply to the service", "no check passed: nothing was proven")
	}
	return res, nil
}

func summary(reports []Report) string {
	count := map[state.Outcome]int{}
	for _, r := range reports {
		count[r.Outcome]++
	}
	text := fmt.Sprintf("%d of %d checks passed", count[state.Passed], len(reports))
	for _, o := range []state.Outcome{state.Failed, state.Unknown, state.Waived, state.NotApplicable} {
		if n := count[o]; n > 0 {
			text += fmt.Sprintf(", %d %s", n, strings.ReplaceAll(string(o), "-", " "))
		}
	}
	return text
}

// verdict is the error that goes with a failed result: each finding with what,
// where, how to fix and how to reproduce it.
func verdict(summary string, stops []finding.Finding) error {
	var b strings.Builder
	b.WriteString(summary)
	for _, f := range stops {
		fmt.Fprintf(&b, "\n%s: %s", f.Rule, f.What)
		for _, part := range []struct{ name, text string }{{"where", f.Where.String()}, {"why", f.Why}, {"fix", f.Fix}, {"reproduce", f.Reproduce}} {
			if part.text != "" {
				fmt.Fprintf(&b, "\n    %s: %s", part.name, strings.ReplaceAll(strings.TrimSpace(part.text), "\n", "\n        "))
			}
		}
	}
	return fault.New(fault.Finding, "fix what the checks found and run the pipeline again", "%s", b.String())
}
