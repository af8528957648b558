package reference

import (
	"context"
	"time"

	cleanroom "github.com/ultrafast-ci/ultrafast/actions/cleanroom-test/door"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/keeper"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Cleanroom is the command line of cleanroom.
type Cleanroom struct {
	Globals
	Environment Environment `cmd:"" help:"Environments in which containers and tests run."`
	Container   Container   `cmd:"" help:"Containers of an environment."`
	Test        Test        `cmd:"" help:"Tests in an environment."`
	Metrics     Metrics     `cmd:"" help:"What was measured."`
}

// Environment are the verbs for environments.
type Environment struct {
	Create EnvironmentCreate `cmd:"" help:"Create environment."`
	Delete EnvironmentDelete `cmd:"" help:"Delete environment."`
	List   EnvironmentList   `cmd:"" help:"List environments."`
}

// EnvironmentCreate makes an environment.
type EnvironmentCreate struct {
	Name       string   `required:"" placeholder:"NAME" help:"Environment name."`
	Isolated   bool     `help:"Use network isolation."`
	Persistent bool     `help:"Keep environment after exit."`
	Memory     *int     `placeholder:"MB" help:"Memory limit."`
	CPUs       *float64 `name:"cpus" placeholder:"N" help:"CPU limit."`
}

// Help shows how it is called.
func (*EnvironmentCreate) Help() string {
	return "Example:\n  cleanroom environment create --name test-env --isolated --memory 512 --cpus 2"
}

// Run makes it. An environment is isolated with or without --isolated.
func (e *EnvironmentCreate) Run(ctx context.Context, a *app.App) error {
	create := cleanroom.EnvironmentCreate{Name: e.Name, Persistent: e.Persistent, TTL: keeper.DefaultTTL, Memory: e.Memory, CPUs: e.CPUs}
	if e.Isolated {
		create.Isolated = &e.Isolated
	}
	return create.Run(ctx, a)
}

// EnvironmentDelete removes an environment.
type EnvironmentDelete struct {
	Name  string `required:"" placeholder:"NAME" help:"Environment name."`
	Force bool   `help:"Force deletion."`
	Prune bool   `help:"Remove all resources."`
}

// Help shows how it is called.
func (*EnvironmentDelete) Help() string {
	return "Example:\n  cleanroom environment delete --name test-env --prune"
}

// Run removes it.
func (e *EnvironmentDelete) Run(ctx context.Context, a *app.App) error {
	return (&cleanroom.EnvironmentDelete{Name: e.Name, Force: e.Force, Prune: e.Prune}).Run(ctx, a)
}

// EnvironmentList lists environments.
type EnvironmentList struct {
	Format
	Status string `enum:"running,stopped,all" default:"all" placeholder:"STATUS" help:"Filter by status: ${enum}."`
}

// Help shows how it is called.
func (*EnvironmentList) Help() string {
	return "Example:\n  cleanroom environment list --status running --output json"
}

// Run lists them.
func (e *EnvironmentList) Run(ctx context.Context, a *app.App) error {
	e.apply(a)
	return (&cleanroom.EnvironmentList{Status: e.Status}).Run(ctx, a)
}

// Container are the verbs for containers.
type Container struct {
	Start ContainerStart `cmd:"" help:"Start container."`
	Stop  ContainerStop  `cmd:"" help:"Stop container."`
	List  ContainerList  `cmd:"" help:"List containers."`
}

// ContainerStart starts a container.
type ContainerStart struct {
	Image     string            `arg:"" help:"Image."`
	Name      string            `placeholder:"NAME" help:"Container name."`
	Env       map[string]string `mapsep:"none" placeholder:"KEY=VALUE" help:"Environment variable (can be repeated)."`
	DB        string            `name:"db" placeholder:"NAME" help:"Database name (for database containers)."`
	User      string            `placeholder:"USER" help:"Database user."`
	Password  app.Secret        `placeholder:"PASS" help:"Database password."`
	WaitReady bool              `help:"Wait for container to be ready."`
	Timeout   *int              `placeholder:"SECONDS" help:"Wait timeout."`
}

// Help shows how it is called.
func (*ContainerStart) Help() string {
	return "Example:\n  cleanroom container start postgres:15 --name db --db app --user app --wait-ready --timeout 60"
}

// Run starts it in the only environment that exists, or in a new one called default.
func (c *ContainerStart) Run(ctx context.Context, a *app.App) error {
	start := cleanroom.ContainerStart{
		Image: c.Image, Name: c.Name, Env: c.Env, DB: c.DB, User: c.User, Password: c.Password, WaitReady: c.WaitReady, Timeout: c.Timeout,
	}
	return start.Run(ctx, a)
}

// ContainerStop stops a container.
type ContainerStop struct {
	Name    string `arg:"" help:"Container name."`
	Timeout *int   `placeholder:"SECONDS" help:"Stop timeout."`
	Force   bool   `help:"Force stop."`
}

// Help shows how it is called.
func (*ContainerStop) Help() string {
	return "Example:\n  cleanroom container stop db --timeout 10"
}

// Run stops it.
func (c *ContainerStop) Run(ctx context.Context, a *app.App) error {
	return (&cleanroom.ContainerStop{Name: c.Name, Timeout: c.Timeout, Force: c.Force}).Run(ctx, a)
}

// ContainerList lists containers.
type ContainerList struct {
	Status string `enum:"running,stopped,all" default:"running" placeholder:"STATUS" help:"Filter by status: ${enum}."`
	Format
}

// Help shows how it is called.
func (*ContainerList) Help() string {
	return "Example:\n  cleanroom container list --status all --output json"
}

// Run lists them.
func (c *ContainerList) Run(ctx context.Context, a *app.App) error {
	c.apply(a)
	return (&cleanroom.ContainerList{Status: c.Status}).Run(ctx, a)
}

// Test are the verbs for tests.
type Test struct {
	Run     TestRun     `cmd:"" help:"Run tests."`
	Results TestResults `cmd:"" help:"Show test results."`
}

// TestRun runs tests.
type TestRun struct {
	File        []string `placeholder:"FILE" help:"Test file (can be repeated)."`
	Files       string   `placeholder:"PATTERN" help:"Test file pattern (glob)."`
	Parallel    bool     `help:"Run tests in parallel."`
	MaxParallel *int     `placeholder:"N" help:"Max parallel tests."`
	Timeout     *int     `placeholder:"SECONDS" help:"Test timeout."`
	Env         string   `placeholder:"NAME" help:"Use existing environment."`
	Debug       bool     `help:"Enable debug output."`
	Profile     bool     `help:"Enable profiling."`
}

// Help shows how it is called.
func (*TestRun) Help() string {
	return "Example:\n  cleanroom test run --files 'tests/*_test.go' --parallel --timeout 60"
}

// Run runs them.
func (t *TestRun) Run(ctx context.Context, a *app.App) error {
	if t.Timeout != nil && *t.Timeout < 1 {
		return fault.New(fault.Usage, "choose a positive number of seconds", "--timeout %d", *t.Timeout)
	}
	run := cleanroom.TestRun{Debug: t.Debug, Profile: t.Profile}
	run.Environment, run.File, run.MaxParallel = t.Env, t.File, t.MaxParallel
	if t.Timeout != nil {
		run.TestTimeout = new(time.Duration(*t.Timeout) * time.Second)
	}
	if t.Files != "" {
		run.Files = []string{t.Files}
	}
	if t.Parallel {
		run.Parallel = &t.Parallel
	}
	return run.Run(ctx, a)
}

// TestResults shows results.
type TestResults struct {
	Format string `enum:"text,json,junit" default:"text" placeholder:"FORMAT" help:"Output format: ${enum}."`
	Output string `type:"path" placeholder:"FILE" help:"Write to file."`
}

// Help shows how it is called.
func (*TestResults) Help() string {
	return "Example:\n  cleanroom test results --format junit --output results.xml"
}

// Run shows them.
func (t *TestResults) Run(ctx context.Context, a *app.App) error {
	return (&cleanroom.TestResults{Format: t.Format, File: t.Output}).Run(ctx, a)
}

// Metrics are the verbs for measurements.
type Metrics struct {
	Show MetricsShow `cmd:"" help:"Show metrics."`
}

// MetricsShow shows measurements.
type MetricsShow struct {
	Detailed bool   `help:"Show detailed metrics."`
	Output   string `enum:"text,json" default:"text" placeholder:"FORMAT" help:"Output format: ${enum}."`
	File     string `type:"path" placeholder:"FILE" help:"Write to file."`
}

// Help shows how it is called.
func (*MetricsShow) Help() string {
	return "Example:\n  cleanroom metrics show --detailed --output json --file metrics.json"
}

// Run shows them.
func (m *MetricsShow) Run(ctx context.Context, a *app.App) error {
	a.Output = m.Output
	return (&cleanroom.MetricsShow{Detailed: m.Detailed, File: m.File}).Run(ctx, a)
}
