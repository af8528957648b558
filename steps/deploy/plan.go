package deploy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
	"github.com/ultrafast-ci/ultrafast/steps/target"
)

// Service says how the service is run and when it is well. The zero value of a
// field means its default.
type Service struct {
	// Command replaces the image's entry point and command.
	Command []string `json:"command,omitempty"`
	// Env is added to the image's environment. It is part of the plan: no secrets.
	Env map[string]string `json:"env,omitempty"`
	// Port is the one on which the service listens when it is told no other.
	Port int `json:"port,omitempty"`
	// HealthPath answers 2xx when the service can serve; default "/healthz".
	HealthPath string `json:"healthPath"`
	// Smoke are tried on a new release before it gets traffic and again through
	// the front.
	Smoke []Smoke `json:"smoke,omitempty"`
	// HealthTimeout bounds the time to the first healthy answer; default 30 s.
	HealthTimeout time.Duration `json:"healthTimeoutNanoseconds"`
	// DrainTimeout bounds the wait for requests in the old release; default 30 s.
	DrainTimeout time.Duration `json:"drainTimeoutNanoseconds"`
	// StopTimeout is the time between the polite signal and the forced end;
	// default 10 s.
	StopTimeout time.Duration `json:"stopTimeoutNanoseconds"`
}

// Smoke is one request and what its answer must be.
type Smoke struct {
	// Method is GET if empty.
	Method string `json:"method,omitempty"`
	Path   string `json:"path"`
	// Status is the expected status; 200 if zero.
	Status int `json:"status"`
	// Contains, if not empty, must occur in the first 64 KiB of the body.
	Contains string `json:"contains,omitempty"`
}

const maxTimeout = time.Hour

// maxSmoke bounds the number of smoke tests.
const maxSmoke = 100

// withDefaults makes every default explicit, so that a plan says all.
func (s Service) withDefaults() Service {
	set := func(d *time.Duration, otherwise time.Duration) {
		if *d == 0 {
			*d = otherwise
		}
	}
	set(&s.HealthTimeout, 30*time.Second)
	set(&s.DrainTimeout, 30*time.Second)
	set(&s.StopTimeout, 10*time.Second)
	if s.HealthPath == "" {
		s.HealthPath = "/healthz"
	}
	smoke := make([]Smoke, 0, len(s.Smoke))
	for _, t := range s.Smoke {
		if t.Status == 0 {
			t.Status = 200
		}
		smoke = append(smoke, t)
	}
	s.Smoke = smoke
	return s
}

func (s Service) check() error {
	paths := map[string]string{"health path": s.withDefaults().HealthPath}
	for i, t := range s.Smoke {
		paths[fmt.Sprintf("smoke test %d", i+1)] = t.Path
		if t.Status != 0 && (t.Status < 100 || t.Status > 599) {
			return fault.New(fault.Usage, "", "smoke test %d expects status %d", i+1, t.Status)
		}
	}
	for what, path := range paths {
		if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, " \t\r\n#") {
			return fault.New(fault.Usage, `begin it with "/"`, "%s has the path %q", what, path)
		}
	}
	if len(s.Smoke) > maxSmoke {
		return fault.New(fault.Usage, "", "%d smoke tests; at most %d are run", len(s.Smoke), maxSmoke)
	}
	for what, d := range map[string]time.Duration{"health": s.HealthTimeout, "drain": s.DrainTimeout, "stop": s.StopTimeout} {
		if d < 0 || d > maxTimeout {
			return fault.New(fault.Usage, "", "%s timeout is %s, not 0 to %s", what, d, maxTimeout)
		}
	}
	return nil
}

// digest names everything that shapes a release besides its image.
func (s Service) digest() (state.Digest, error) {
	b, err := canonical(s)
	return state.DigestOf(b), err
}

func (s Service) release() target.Service {
	return target.Service{
		Command: s.Command, Env: s.Env, Port: s.Port, HealthPath: s.HealthPath,
		HealthTimeout: s.HealthTimeout, StopTimeout: s.StopTimeout,
	}
}

// Plan is what a run shall make true. It names no host, address, time or release:
// the same inputs give the same plan everywhere.
type Plan struct {
	Schema      int          `json:"schema"`
	Environment string       `json:"environment"`
	Strategy    string       `json:"strategy"`
	Target      string       `json:"target"`
	Image       state.Digest `json:"image"`
	Service     Service      `json:"service"`
}

// Encode returns the canonical form, whose digest names the plan.
func (p Plan) Encode() ([]byte, error) { return canonical(p) }

// canonical is JSON in field order, map keys sorted, without white space.
func canonical(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// plan finds the image in the state and says what shall be done with it. An image
// before a clean room that failed is not looked for: it was made from another tree.
func (s Step) plan(in state.State) (Plan, *state.Link, error) {
	if err := s.Check(); err != nil {
		return Plan{}, nil, err
	}
	for i := len(in) - 1; i >= 0; i-- {
		a, ok := in[i].Entry.Artifact(state.ArtifactImage)
		if !ok && in[i].Entry.Phase == phase.Cleanroom {
			return Plan{}, nil, fault.New(fault.Finding, "fix what it found, and deploy the state of a run that passed", "the cleanroom-test entry %s did not pass and made no image", in[i].Digest.Short())
		}
		if !ok {
			continue
		}
		return Plan{
			Schema: 1, Environment: s.Environment, Strategy: s.strategy(), Target: s.Target.Name(),
			Image: a.Digest, Service: s.Service.withDefaults(),
		}, &in[i], nil
	}
	return Plan{}, nil, fault.New(fault.Usage, "run `cleanroom-test run` first, or give its state with --state", "the state holds no image to deploy")
}
