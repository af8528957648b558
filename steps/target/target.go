// Package target is the contract between the deploy phase and the place where
// releases run: processes on a host, containers of an engine, pods of a cluster.
//
// A [Target] is one environment: a front that takes the users' requests, and
// releases behind it. What changes traffic or processes goes through a
// [Session], of which there is at most one at a time; its commands are fenced,
// so that one whose session was lost can do no harm. Every command is
// idempotent: a deploy that was killed anywhere is finished or taken back by
// repeating commands. The package declares; it starts nothing itself. Targets
// prove themselves with package targettest.
package target

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Target is one environment of one service.
type Target interface {
	// Name is "local", "docker" or "kubernetes".
	Name() string
	// Acquire takes the environment for one run. If another run has it, the error
	// is fault.Unavailable and names that run by its holder. Acquire starts and
	// changes nothing.
	Acquire(ctx context.Context, holder string) (Session, error)
	// Live reads what is there now. It changes nothing and needs no session.
	Live(ctx context.Context) (Live, error)
	// Probe sends one request to a running release, past the front, or with an
	// empty release to the front. An answer of any status is a [Response]; the
	// error, of kind fault.Finding, is for no answer.
	Probe(ctx context.Context, release string, r Request) (Response, error)
}

// Session is the right to change one environment. Commands that name a release
// which was never prepared fail with fault.Finding, except Stop and Drain, for
// which it is already gone. After the session is lost every command fails.
type Session interface {
	// Prepare makes the release startable: its image is on the target, its
	// service is known, the front listens. Source may be empty when the target
	// has the image from an earlier release; fault.Finding if it has not.
	Prepare(ctx context.Context, r Release, from Source) error
	// Start makes the release run and returns once it does; it need not answer yet.
	Start(ctx context.Context, release string) error
	// Ready waits until the release answers its health path with 2xx. It fails
	// with fault.Finding, and the last lines of the log, when the process ends or
	// the service's HealthTimeout passes.
	Ready(ctx context.Context, release string) error
	// Route divides requests among releases in proportion to their weights. An
	// empty list means that nothing is served. It holds until the session ends;
	// only Commit makes it last.
	Route(ctx context.Context, weights []Weight) error
	// Commit makes the present weights those to which the target returns whenever
	// a session ends without Commit, and after any restart.
	Commit(ctx context.Context) error
	// Drain waits until no request is in flight in a release that has no weight,
	// at most for the given time. What is then left is an error of kind fault.Unavailable.
	Drain(ctx context.Context, release string, timeout time.Duration) error
	// Stop ends the release's processes: politely, then after the service's
	// StopTimeout by force.
	Stop(ctx context.Context, release string) error
	// Prune deletes the files of releases that are not kept and do not run.
	Prune(ctx context.Context, keep []string) error
	// Down stops every release and the front and removes what they left, except
	// records. Afterwards Live finds nothing.
	Down(ctx context.Context) error
	// Facts are worth recording as evidence: "router.epoch", "router.address".
	Facts() map[string]string
	// Lost is closed when the session is lost before Close.
	Lost() <-chan struct{}
	// Close ends the session. Weights that were not committed are taken back, and
	// a front that serves nothing is stopped. It may be called more than once.
	Close(ctx context.Context) error
}

// Release is one version of a service, with its configuration, as it is run.
type Release struct {
	// ID is unique within the environment; see [CheckID].
	ID string `json:"id"`
	// Image is the digest of the image's manifest.
	Image state.Digest `json:"image"`
	// Config is the digest of everything else that shapes the release.
	Config  state.Digest `json:"config"`
	Service Service      `json:"service"`
}

// Service says how a release is run and when it is well.
type Service struct {
	// Command replaces the image's entry point and command; empty keeps them.
	Command []string `json:"command,omitempty"`
	// Env is added to the image's environment. Values end up in records: no secrets.
	Env map[string]string `json:"env,omitempty"`
	// Port is the one the service listens on by itself. A target that runs several
	// releases on one address hands another in the variable PORT, and the host to
	// listen on in LISTEN.
	Port int `json:"port,omitempty"`
	// HealthPath answers 2xx when the service can serve.
	HealthPath string `json:"healthPath"`
	// HealthTimeout bounds the time from start to the first healthy answer.
	HealthTimeout time.Duration `json:"healthTimeoutNanoseconds"`
	// StopTimeout is the time between the polite signal and the forced end.
	StopTimeout time.Duration `json:"stopTimeoutNanoseconds"`
}

// Source is where a target gets an image from. The zero value is no source.
type Source struct {
	// Entry has the image's artifacts.
	Entry *state.Entry
	Blobs state.Blobs
}

// Weight is a release's share of the traffic.
type Weight struct {
	Release string `json:"release"`
	// Weight counts in proportion to the others, 0 to [MaxWeight].
	Weight int `json:"weight"`
}

// MaxWeight bounds the sum of the weights of a route.
const MaxWeight = 1000

// Live is what runs and what is served.
type Live struct {
	// Instances are the releases with files or processes on the target, sorted by release.
	Instances []Instance `json:"instances"`
	// Traffic is what the front does; nil if no front answers.
	Traffic *Traffic `json:"traffic,omitempty"`
}

// Instance is a release on the target.
type Instance struct {
	Release string       `json:"release"`
	Image   state.Digest `json:"image"`
	Config  state.Digest `json:"config"`
	// Running reports whether its process runs.
	Running bool `json:"running"`
	// PID and Address are for people; they mean something on the target's host only.
	PID     int    `json:"pid,omitempty"`
	Address string `json:"address,omitempty"`
	// Restarts counts how often the process ended by itself and was started again.
	Restarts int `json:"restarts,omitempty"`
	// LastExit says how it ended the last time; empty if it never did.
	LastExit string `json:"lastExit,omitempty"`
}

// Traffic is the state of a front.
type Traffic struct {
	// Address is the one that users call, "host:port".
	Address string `json:"address"`
	// Epoch counts the sessions that changed the front; higher is later.
	Epoch uint64 `json:"epoch"`
	// Holder is the run that has the front now; empty if none has.
	Holder string `json:"holder,omitempty"`
	// Current are the weights in force, Stable the committed ones; sorted by release.
	Current []Weight `json:"current"`
	Stable  []Weight `json:"stable"`
	// Releases is what each release did since the front first knew it, sorted.
	Releases []Served `json:"releases"`
}

// Serving returns the one release that has all the committed traffic, or the
// empty string.
func (t *Traffic) Serving() string {
	if t == nil {
		return ""
	}
	serving := ""
	for _, w := range t.Stable {
		switch {
		case w.Weight == 0:
		case serving != "":
			return ""
		default:
			serving = w.Release
		}
	}
	return serving
}

// Backend is a release as a front sees it: its share and where it answers.
type Backend struct {
	Release string `json:"release"`
	Weight  int    `json:"weight"`
	// Addresses are "host:port", at least one.
	Addresses []string `json:"addresses"`
}

// Served counts what a front sent to one release and how it went.
type Served struct {
	Release string `json:"release"`
	// Requests are attempts, so one that was repeated elsewhere counts twice.
	Requests uint64 `json:"requests"`
	// Errors are answers of 5xx and attempts that got no whole answer, also when
	// another attempt saved the user from it.
	Errors uint64 `json:"errors"`
	// Retried are the errors after which another attempt was made.
	Retried uint64 `json:"retried"`
	// InFlight are requests that are not finished.
	InFlight int64 `json:"inFlight"`
	// P50 and P99 are upper bounds of the quantiles of the time to the whole
	// answer; zero before the first.
	P50 time.Duration `json:"p50Nanoseconds"`
	P99 time.Duration `json:"p99Nanoseconds"`
}

// Request is one probe.
type Request struct {
	// Method is GET if empty.
	Method string
	// Path starts with "/" and may have a query.
	Path   string
	Header http.Header
	Body   []byte
	// Timeout bounds the whole exchange; zero means 5 s.
	Timeout time.Duration
}

// Response is the answer to a probe.
type Response struct {
	Status int
	Header http.Header
	// Body is cut after [MaxProbeBody] bytes.
	Body []byte
}

// MaxProbeBody is the most of an answer's body that a probe reads, in bytes.
const MaxProbeBody = 64 << 10

// CheckID reports what is wrong with the name of a release or an environment:
// it is made of lower-case letters, digits and hyphens, starts with a letter or
// a digit, and has at most 63 bytes (the rule for DNS labels, RFC 1123).
func CheckID(id string) error {
	if id == "" || len(id) > 63 {
		return fmt.Errorf("%.80q has %d characters, not 1 to 63", id, len(id))
	}
	for i, c := range id {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && (c != '-' || i == 0) {
			return fmt.Errorf("%.80q has %q; lower-case letters, digits and inner hyphens are allowed", id, c)
		}
	}
	if id[len(id)-1] == '-' {
		return fmt.Errorf("%.80q ends with a hyphen", id)
	}
	return nil
}

// CheckWeights reports what is wrong with the weights of a route.
func CheckWeights(weights []Weight) error {
	seen := map[string]bool{}
	sum := 0
	for _, w := range weights {
		if err := CheckID(w.Release); err != nil {
			return fmt.Errorf("release %w", err)
		}
		if seen[w.Release] {
			return fmt.Errorf("release %s occurs twice", w.Release)
		}
		seen[w.Release] = true
		if w.Weight < 0 || w.Weight > MaxWeight {
			return fmt.Errorf("release %s has weight %d, not 0 to %d", w.Release, w.Weight, MaxWeight)
		}
		sum += w.Weight
	}
	if len(weights) > 0 && (sum == 0 || sum > MaxWeight) {
		return fmt.Errorf("weights add up to %d, not 1 to %d", sum, MaxWeight)
	}
	return nil
}
