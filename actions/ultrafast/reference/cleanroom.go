package reference

import "github.com/ultrafast-ci/ultrafast/internal/app"

// Cleanroom is the command line of cleanroom.
type Cleanroom struct {
	Globals
	Environment Environment `cmd:"" help:"Environments in which containers and tests run."`
	Container   Container   `cmd:"" help:"Containers of an environment."`
	Test        Test        `cmd:"" help:"Tests in an environment."`
	Metrics     Metrics     `cmd:"" help:"What was measured."`
}

const (
	insteadEnvironment = "use `ultrafast cleanroom-test run` or `ultrafast cleanroom-test exec -- <command>`: each makes an environment of its own and removes it"
	insteadContainer   = "use `ultrafast cleanroom-test exec -- <command>`, which runs a command in an environment of its own"
)

// Environment are the verbs for environments.
type Environment struct {
	Create EnvironmentCreate `cmd:"" help:"Create environment."`
	Delete EnvironmentDelete `cmd:"" help:"Delete environment."`
	List   EnvironmentList   `cmd:"" help:"List environments."`
}

// EnvironmentCreate makes an environment.
type EnvironmentCreate struct {
	Name       string  `required:"" placeholder:"NAME" help:"Environment name."`
	Isolated   bool    `help:"Use network isolation."`
	Persistent bool    `help:"Keep environment after exit."`
	Memory     int     `placeholder:"MB" help:"Memory limit."`
	CPUs       float64 `name:"cpus" placeholder:"N" help:"CPU limit."`
}

// Help shows how it is called.
func (*EnvironmentCreate) Help() string {
	return "Example:\n  cleanroom environment create --name test-env --isolated --memory 512 --cpus 2"
}

// Run says that it is not built.
func (*EnvironmentCreate) Run() error {
	return unbuilt("cleanroom environment create", insteadEnvironment)
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

// Run says that it is not built.
func (*EnvironmentDelete) Run() error {
	return unbuilt("cleanroom environment delete", insteadEnvironment)
}

// EnvironmentList lists environments.
type EnvironmentList struct {
	Format
	Status string `placeholder:"STATUS" help:"Filter by status."`
}

// Help shows how it is called.
func (*EnvironmentList) Help() string {
	return "Example:\n  cleanroom environment list --status running --output json"
}

// Run says that it is not built.
func (*EnvironmentList) Run() error {
	return unbuilt("cleanroom environment list", insteadEnvironment)
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
	Timeout   int               `placeholder:"SECONDS" help:"Wait timeout."`
}

// Help shows how it is called.
func (*ContainerStart) Help() string {
	return "Example:\n  cleanroom container start postgres:15 --name db --db app --user app --wait-ready --timeout 60"
}

// Run says that it is not built.
func (*ContainerStart) Run() error { return unbuilt("cleanroom container start", insteadContainer) }

// ContainerStop stops a container.
type ContainerStop struct {
	Name    string `arg:"" help:"Container name."`
	Timeout int    `placeholder:"SECONDS" help:"Stop timeout."`
	Force   bool   `help:"Force stop."`
}

// Help shows how it is called.
func (*ContainerStop) Help() string {
	return "Example:\n  cleanroom container stop db --timeout 10"
}

// Run says that it is not built.
func (*ContainerStop) Run() error { return unbuilt("cleanroom container stop", insteadContainer) }

// ContainerList lists containers.
type ContainerList struct {
	Status string `enum:"running,stopped,all" default:"running" placeholder:"STATUS" help:"Filter by status: ${enum}."`
	Format
}

// Help shows how it is called.
func (*ContainerList) Help() string {
	return "Example:\n  cleanroom container list --status all --output json"
}

// Run says that it is not built.
func (*ContainerList) Run() error { return unbuilt("cleanroom container list", insteadContainer) }

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
	MaxParallel int      `placeholder:"N" help:"Max parallel tests."`
	Timeout     int      `placeholder:"SECONDS" help:"Test timeout."`
	Env         string   `placeholder:"NAME" help:"Use existing environment."`
	Debug       bool     `help:"Enable debug output."`
	Profile     bool     `help:"Enable profiling."`
}

// Help shows how it is called.
func (*TestRun) Help() string {
	return "Example:\n  cleanroom test run --files 'tests/*_test.go' --parallel --timeout 60"
}

// Run says that it is not built.
func (*TestRun) Run() error {
	return unbuilt("cleanroom test run", "use `ultrafast cleanroom-test run --state <state>`, which builds, tests and packages the generated tree")
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

// Run says that it is not built.
func (*TestResults) Run() error {
	return unbuilt("cleanroom test results", "use `ultrafast state extract junit --to <file> --state <state>`, or --report-dir with `ultrafast cleanroom-test run`")
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

// Run says that it is not built.
func (*MetricsShow) Run() error {
	return unbuilt("cleanroom metrics show", "use `ultrafast state show --output json --state <state>`: the evidence of cleanroom-test has times and limits")
}
