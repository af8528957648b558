package door

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/config"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/depot"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/egress"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/rootfs"
	"github.com/ultrafast-ci/ultrafast/steps/cleanroom"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// TestOptions are what a caller may say of the tests besides the project's files.
type TestOptions struct {
	File        []string       `sep:"none" placeholder:"FILE" help:"Run this test file alone, and make no image; may be repeated."`
	Files       []string       `sep:"none" placeholder:"PATTERN" help:"Run the test files that match, ** being any number of directories, and make no image; may be repeated."`
	MaxParallel *int           `placeholder:"N" help:"Test processes that run at a time. Default: as the project says, else 8."`
	TestTimeout *time.Duration `placeholder:"DURATION" help:"Time limit of one test process. Default: as the project says, else 1m."`
	Retries     *int           `placeholder:"N" help:"Run again what failed, up to N times; what passes then is reported as flaky. Default: as the project says."`
	FailFast    bool           `help:"End the run at the first failure."`
	Durations   string         `type:"path" placeholder:"FILE" help:"Cut shards by the durations.json of an earlier run. Default: .cleanroom/durations.json of the project, if it is there."`
	ResultsDir  string         `type:"path" placeholder:"DIR" help:"Write results.json, junit.xml, results.txt, durations.json and logs to DIR. Default: as the project says, else .cleanroom/test-results."`
}

// durationsFile is where a project keeps its durations.
const durationsFile = ".cleanroom/durations.json"

// apply says to the phase how tests run.
func (o TestOptions) apply(a *app.App, project *config.Project, t *cleanroom.Tests) error {
	if err := o.check(); err != nil {
		return err
	}
	c := project.Testing
	*t = cleanroom.Tests{Files: append(append([]string{}, o.File...), o.Files...)}
	t.FailFast, t.Retries = o.FailFast || c.FailFast, c.Retries
	if o.Retries != nil {
		t.Retries = *o.Retries
	}
	switch {
	case o.MaxParallel != nil:
		t.Parallel = *o.MaxParallel
	case !c.DefaultParallel:
		t.Parallel = 1
	case project.Given("testing.max_parallel_tests"):
		t.Parallel = c.MaxParallelTests
	}
	if err := withinContainers(project, t); err != nil {
		return err
	}
	switch {
	case o.TestTimeout != nil:
		t.Timeout = *o.TestTimeout
	case project.Given("testing.test_timeout_seconds"):
		t.Timeout = time.Duration(c.TestTimeoutSeconds) * time.Second
	}
	switch {
	case o.ResultsDir != "":
		t.ResultsDir = a.Abs(o.ResultsDir)
	default:
		// Where nobody asked for a directory, one that cannot be written is no failure.
		t.ResultsDir, t.ResultsOptional = filepath.Join(project.Dir, filepath.FromSlash(c.ResultsDir)), !project.Given("testing.results_dir")
		if !c.CollectLogs {
			t.NoLogs = true
		}
	}
	for _, q := range project.Quarantine {
		until, err := time.Parse(time.DateOnly, q.Expiry)
		if err != nil {
			return fault.Wrap(err, fault.Usage, "", "quarantine of "+q.Test)
		}
		t.Quarantine = append(t.Quarantine, cleanroom.Quarantined{Test: q.Test, Owner: q.Owner, Reason: q.Reason, Until: until})
	}
	return o.readDurations(a, project, t)
}

// check refuses the zeros that would be the default: what is too much the phase refuses.
func (o TestOptions) check() error {
	switch {
	case o.MaxParallel != nil && *o.MaxParallel < 1:
		return fault.New(fault.Usage, "choose 1 or more, or leave it out for the default", "--max-parallel %d: no test would run", *o.MaxParallel)
	case o.TestTimeout != nil && *o.TestTimeout <= 0:
		return fault.New(fault.Usage, "choose more, such as 30s, or leave it out for the default", "--test-timeout %s: no test would have time", *o.TestTimeout)
	}
	return nil
}

// withinContainers keeps test processes and services within the containers that the
// policy allows at a time. What nobody asked for becomes less; more than it is refused.
func withinContainers(project *config.Project, t *cleanroom.Tests) error {
	most, services := project.Policy.MaxContainers, len(project.Cleanroom.Services)
	const hint = "ask for less, or raise max_containers in [policy] of .cleanroom/config.toml"
	switch left := most - services; {
	case left < 1:
		return fault.New(fault.Usage, hint, "%d services leave no container for a test: the policy allows %d at a time", services, most)
	case t.Parallel > left:
		return fault.New(fault.Usage, hint, "%d test processes at a time beside %d services: the policy allows %d containers", t.Parallel, services, most)
	case t.Parallel == 0 && cleanroom.DefaultParallel > left:
		t.Parallel = left
	}
	return nil
}

func (o TestOptions) readDurations(a *app.App, project *config.Project, t *cleanroom.Tests) (err error) {
	file := filepath.Join(project.Dir, filepath.FromSlash(durationsFile))
	if o.Durations != "" {
		file = a.Abs(o.Durations)
	} else if _, err := os.Stat(file); err != nil {
		return nil // a project need not have one
	}
	t.Durations, err = cleanroom.ReadDurations(os.DirFS(filepath.Dir(file)), filepath.Base(file))
	return fault.Wrap(err, fault.Usage, "take the durations.json of a run's results", "read the durations")
}

// suites returns what is tested: what the project says, or what the tree has.
func suites(ctx context.Context, project *config.Project, images *rootfs.Images) ([]cleanroom.Suite, error) {
	var all []cleanroom.Suite
	for i, s := range project.Cleanroom.Suites {
		if s.Image != "" {
			ref, err := images.Resolve(ctx, s.Image)
			if err != nil {
				return nil, fault.Wrap(err, fault.Unavailable, "", fmt.Sprintf("image of suite %d", i+1))
			}
			s.Image = pinned(project, ref)
		}
		all = append(all, cleanroom.Suite{
			Runner: cleanroom.Kind(s.Runner), Files: s.Files, Image: s.Image, Command: s.Command, Dir: s.Dir, Env: s.Env,
		})
	}
	if len(all) == 0 && project.Cleanroom.Runner != "" {
		return []cleanroom.Suite{{Runner: cleanroom.Kind(project.Cleanroom.Runner)}}, nil
	}
	return all, nil
}

// prepare says how dependencies are fetched.
func prepare(a *app.App, project *config.Project, cache string) cleanroom.Prepare {
	c := project.Cleanroom.Prepare
	p := cleanroom.Prepare{
		Allow: c.Allow, GoProxy: c.GoProxy, NPMRegistry: c.NPMRegistry, PyPIIndex: c.PyPIIndex, CargoIndex: c.CargoIndex,
		Certificates: certificates(a), Gateway: gateway,
	}
	if c.Network != "none" {
		p.Depot = depot.Depot{Root: filepath.Join(cache, "dependencies")}
	}
	return p
}

// certificateFiles are where systems keep the certificates of authorities.
var certificateFiles = []string{
	"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem",
}

// certificates returns the file with the certificates that this machine trusts; empty
// if none is found.
func certificates(a *app.App) string {
	files := certificateFiles
	if file, ok := a.Lookup("SSL_CERT_FILE"); ok && file != "" {
		files = append([]string{file}, files...)
	}
	for _, file := range files {
		if real, err := filepath.EvalSymlinks(file); err == nil {
			return real
		}
	}
	return ""
}

// gateway serves the proxy with an allow-list.
func gateway(l net.Listener, allow []string) (cleanroom.Gate, error) {
	rules, err := egress.ParseRules(allow)
	if err != nil {
		return nil, err
	}
	return gate{egress.Serve(l, rules, nil)}, nil
}

type gate struct{ proxy *egress.Proxy }

// Close ends the proxy.
func (g gate) Close() []cleanroom.Request {
	var asked []cleanroom.Request
	for _, n := range g.proxy.Close() {
		asked = append(asked, cleanroom.Request(n))
	}
	return asked
}
