package door

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/attest"
	"github.com/ultrafast-ci/ultrafast/internal/config"
	"github.com/ultrafast-ci/ultrafast/internal/lock"
	"github.com/ultrafast-ci/ultrafast/internal/oci"
	"github.com/ultrafast-ci/ultrafast/internal/policy"
	"github.com/ultrafast-ci/ultrafast/internal/router"
	"github.com/ultrafast-ci/ultrafast/internal/supervisor"
	"github.com/ultrafast-ci/ultrafast/internal/target/local"
	"github.com/ultrafast-ci/ultrafast/steps/deploy"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// NewStep returns the phase as project and options ask for it. The trust root must
// be named: a key found in the workspace proves nothing.
func NewStep(a *app.App, project *config.Project, o Options) (*deploy.Step, error) {
	if o.TrustRoot == "" {
		return nil, fault.New(fault.Usage, "name a file outside the workspace, as `ultrafast-validate keygen` writes one", "no --trust-root was given")
	}
	if err := a.CheckOutside(project, "trust root", o.TrustRoot); err != nil {
		return nil, err
	}
	root, err := readTrustRoot(a, o.TrustRoot)
	if err != nil {
		return nil, err
	}
	step, err := newStep(a, project, o)
	if err != nil {
		return nil, err
	}
	step.Verifier = root
	return step, nil
}

// NewPlanner returns the phase for plans alone: it has no verifier and can deploy nothing.
func NewPlanner(a *app.App, project *config.Project, o Options) (*deploy.Step, error) {
	return newStep(a, project, o)
}

// newStep returns the phase without a verifier, for verbs that deploy nothing new.
func newStep(a *app.App, project *config.Project, o Options) (*deploy.Step, error) {
	environment, destination := project.Deploy.Environment, o.Destination
	if o.Env != "" {
		environment = o.Env
	}
	if destination == "" {
		destination = "layout:" + filepath.Join(project.Dir, ".ggen", "images")
	}
	if project.Deploy.Target != "local" {
		return nil, fault.New(fault.Usage, "write target = \"local\"", "unknown deploy target %q", project.Deploy.Target)
	}
	dir := filepath.Join(project.Dir, ".ggen", "deploy", environment)
	step := &deploy.Step{
		Environment: environment, Strategy: project.Deploy.Strategy, Service: service(project),
		Pusher: pusher{oci.Client{}}, Destination: destination, Dir: dir,
		Holder: fmt.Sprintf("%s, process %d", a.Tool, os.Getpid()), Clock: clock{a.Now},
		Log: a.Log, Progress: a.ProgressOf(phase.Deploy),
	}
	if o.Strategy != "" {
		step.Strategy = o.Strategy
	}
	// The environment's name is part of a path: it is judged before any is used.
	if err := step.Check(); err != nil {
		return nil, err
	}
	where, err := newTarget(a, project, o, dir)
	if err != nil {
		return nil, err
	}
	step.Target = where
	return step, nil
}

// pusher lets one process at a time write into a directory of images, which the
// environments of a project share.
type pusher struct{ deploy.Pusher }

// pushWait bounds the wait for another push.
const pushWait = 5 * time.Minute

func (p pusher) Push(ctx context.Context, blobs state.Blobs, entry *state.Entry, destination string) (_ string, err error) {
	dir, ok := strings.CutPrefix(destination, "layout:")
	if !ok || dir == "" {
		return p.Pusher.Push(ctx, blobs, entry, destination)
	}
	bounded, cancel := context.WithTimeout(ctx, pushWait)
	defer cancel()
	held, err := lock.Acquire(bounded, filepath.Clean(dir)+".lock")
	if err != nil {
		return "", fault.Wrap(err, fault.Unavailable, "check that the directory is writable and no other deploy hangs", "wait for "+dir)
	}
	defer func() { err = errors.Join(err, held.Release()) }()
	return p.Pusher.Push(ctx, blobs, entry, destination)
}

func stepFor(a *app.App, o Options) (*deploy.Step, error) {
	project, err := a.LoadProject()
	if err != nil {
		return nil, err
	}
	return newStep(a, project, o)
}

func service(project *config.Project) deploy.Service {
	s := deploy.Service{
		Command: project.Service.Command, Port: project.Service.Port, HealthPath: project.Service.Health,
		HealthTimeout: seconds(project.Deploy.HealthTimeoutSeconds), DrainTimeout: seconds(project.Deploy.DrainSeconds),
		StopTimeout: seconds(project.Service.StopTimeoutSeconds),
	}
	for _, test := range project.Service.Smoke {
		s.Smoke = append(s.Smoke, deploy.Smoke{Path: test.Path, Status: test.Status})
	}
	return s
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

type clock struct{ now func() time.Time }

func (c clock) Now() time.Time { return c.now() }

// newTarget joins the local target with router and supervisor, both of which are
// this program in a process of its own.
func newTarget(a *app.App, project *config.Project, o Options, dir string) (*local.Target, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program's file: %w", err)
	}
	again := []string{self}
	if a.Tool == "ultrafast" {
		again = append(again, "deploy")
	}
	listen := project.Deploy.Listen
	if o.Listen != "" {
		listen = o.Listen
	}
	return local.New(local.Options{
		Dir: dir, Listen: listen, Images: oci.Client{}, Log: a.Log,
		RouterArgv: func(l local.RouterLaunch) []string {
			return append(again[:len(again):len(again)], "router", "run", "--listen", l.Listen, "--admin-socket", l.AdminSocket, "--state-dir", l.StateDir)
		},
		SupervisorArgv: func(spec string) []string { return append(again[:len(again):len(again)], "supervise", spec) },
		EncodeSpec:     func(l local.Launch) ([]byte, error) { return supervisor.Spec(l).Encode() },
		Router:         func(socket string) local.Router { return router.NewClient(socket) },
		Supervisor:     func(socket, record string) local.Supervisor { return supervisor.NewClient(socket, record) },
	})
}

// readTrustRoot reads the file that names keys and policy.
func readTrustRoot(a *app.App, path string) (deploy.Signed, error) {
	b, err := a.ReadFile("trust root", path)
	if err != nil {
		return deploy.Signed{}, err
	}
	root, err := policy.ParseTrustRoot(path, b)
	if err != nil {
		return deploy.Signed{}, err
	}
	signed := deploy.Signed{Policy: root.Policy.Digest()}
	for _, k := range root.Keys {
		key, err := attest.ParsePublic(k.PEM)
		if err != nil {
			return deploy.Signed{}, fault.Wrap(err, fault.Usage, "", fmt.Sprintf("trust root %s: key %q", path, k.Name))
		}
		signed.Trusted = append(signed.Trusted, key)
	}
	return signed, nil
}
