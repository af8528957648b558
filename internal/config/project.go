package config

// DefaultIndex is the published registry index.
const DefaultIndex = "https://seanchatmangpt.github.io/ggen/registry/index.json"

// Project is everything that a project's files say, with defaults for the rest.
type Project struct {
	// Dir is the directory of the project file, absolute; relative paths in the
	// project file are relative to it. File is the project file, empty if there is none.
	Dir, File string

	// Name and Version describe the project; Output is a directory below Dir into
	// which the generated tree is also written, empty for none.
	Name, Version, Description, Output string
	// Packages are the version ranges of the packages asked for, by id.
	Packages map[string]string
	Market   Market
	// Vars are the variables of every template.
	Vars      map[string]any
	Generate  []Generate
	Query     Query
	Cleanroom Cleanroom
	Service   Service
	Deploy    Deploy

	// Quarantine are the tests of .cleanroom/quarantine.toml.
	Quarantine []Quarantined

	// What only the files .ggen/config.toml and .cleanroom/config.toml define.
	Template    Template
	Lifecycle   Lifecycle
	Deployment  Deployment
	Backend     Backend
	Environment Environment
	Containers  Containers
	Testing     Testing
	Policy      Policy
	Metrics     Metrics

	settings map[string]source
}

// Market says where packages come from and where they are kept.
type Market struct {
	// Index is a URL or an absolute path.
	Index        string `doc:"registry_url"`
	CacheEnabled bool   `doc:"cache_enabled"`
	// CacheTTLSeconds is how long a fetched index counts as fresh.
	CacheTTLSeconds int `doc:"cache_ttl_seconds"`
	// CacheDir and InstallDir are absolute paths.
	CacheDir        string `doc:"cache_dir"`
	InstallDir      string `doc:"install_dir"`
	VerifyChecksums bool   `doc:"verify_checksums"`
	AllowPrerelease bool   `doc:"allow_prerelease"`
}

// Generate is one template to render.
type Generate struct {
	// Template is "package:file", or a path relative to the project.
	Template string         `doc:"template,required"`
	Vars     map[string]any `doc:"vars"`
	// Output is a directory below the root of the tree.
	Output string `doc:"output"`
	// Graphs are files of the project, relative to Dir.
	Graphs []string `doc:"graphs"`
}

// Query bounds what one SPARQL query may cost, in a template or on the command
// line.
type Query struct {
	MaxRows        int `doc:"max_rows"`
	TimeoutSeconds int `doc:"timeout_seconds"`
	MaxMemoryMB    int `doc:"max_memory_mb"`
	// MaxDepth bounds nesting in graph files, and in queries, which have 256 levels
	// at most.
	MaxDepth int `doc:"max_depth"`
	// MaxPathLength bounds the steps of a property path with * or +.
	MaxPathLength int `doc:"max_path_length"`
}

// Cleanroom says how the tree is built, tested and packaged.
type Cleanroom struct {
	// Runner builds and tests the tree, for example "go"; empty to detect it.
	Runner   string  `doc:"runner"`
	MemoryMB int     `doc:"memory_mb"`
	CPUs     float64 `doc:"cpus"`
	PIDs     int     `doc:"pids"`
	DiskMB   int     `doc:"disk_mb"`
	// TimeoutSeconds bounds the whole run.
	TimeoutSeconds int `doc:"timeout_seconds"`
	// MinIsolation is "full", "reduced" or "none".
	MinIsolation string `doc:"min_isolation"`
	// Network is whom builds and tests reach: "none", "internal" or "allow-list".
	Network string  `doc:"network"`
	Package Package `doc:"package"`
	Prepare Prepare `doc:"prepare"`
	Suites  []Suite `doc:"suite"`
	// Services run beside the tests.
	Services []Sidecar `doc:"service"`
}

// Prepare says how dependencies are fetched.
type Prepare struct {
	// Network is "allow-list", or "none" to fetch nothing.
	Network string `doc:"network"`
	// Allow are hosts that may be reached; empty means those of the registries.
	Allow []string `doc:"allow"`
	// The registries; empty means the public one.
	GoProxy     string `doc:"go_proxy"`
	NPMRegistry string `doc:"npm_registry"`
	PyPIIndex   string `doc:"pypi_index"`
	CargoIndex  string `doc:"cargo_index"`
}

// Suite is a part of the tests that one runner runs.
type Suite struct {
	Runner string `doc:"runner"`
	// Files are patterns relative to Dir.
	Files   []string          `doc:"files"`
	Image   string            `doc:"image"`
	Command []string          `doc:"command"`
	Dir     string            `doc:"dir"`
	Env     map[string]string `doc:"env"`
}

// Quarantined is a test that may fail until a date: an element of [[quarantine]] in
// .cleanroom/quarantine.toml.
type Quarantined struct {
	Test   string `doc:"test,required"`
	Owner  string `doc:"owner,required"`
	Reason string `doc:"reason,required"`
	// Expiry is the last day, "2027-01-31".
	Expiry string `doc:"expiry,required"`
}

// Sidecar is a service that runs beside the tests.
type Sidecar struct {
	// Name is its host name.
	Name string `doc:"name,required"`
	// Image is a reference or an alias; empty for a program of the host.
	Image string `doc:"image"`
	// Kind is "postgres", "redis" or "other"; empty for that of the image, or of the
	// name where there is no image.
	Kind string `doc:"kind"`
	// Command and Args are the program's, for kind other and for all kinds.
	Command []string          `doc:"command"`
	Args    []string          `doc:"args"`
	Env     map[string]string `doc:"env"`
	// Port is where it listens; 0 for the kind's own.
	Port int `doc:"port"`
	// Health is a path, Check a command: see the service is ready.
	Health string   `doc:"health"`
	Check  []string `doc:"check"`
	// TimeoutSeconds bounds the time until it is ready; 0 for
	// containers.start_timeout_seconds.
	TimeoutSeconds int    `doc:"timeout_seconds"`
	Database       string `doc:"database"`
	User           string `doc:"user"`
	// PasswordFile and PasswordEnv say where the password is; without both one is
	// made up for each run.
	PasswordFile string `doc:"password_file"`
	PasswordEnv  string `doc:"password_env"`
	// Init are SQL files of the project.
	Init []string `doc:"init"`
	// Shared leaves all tests with one database.
	Shared   bool `doc:"shared"`
	MemoryMB int  `doc:"memory_mb"`
}

// Package describes the image.
type Package struct {
	// Dockerfile is a file of the tree that makes the image, Builder what builds it:
	// "docker", "buildah" or "auto", and BuildNetwork what its commands reach: "none" or
	// "default".
	Dockerfile   string `doc:"dockerfile"`
	Builder      string `doc:"builder"`
	BuildNetwork string `doc:"build_network"`
	// Main is the directory of the main package of a Go module; empty for the root, or the
	// only one below cmd.
	Main string `doc:"main"`
	// Base is the image on which ours is built; empty for none.
	Base string `doc:"base"`
	// Files are patterns of files of the tree that the image holds.
	Files      []string          `doc:"files"`
	Entrypoint []string          `doc:"entrypoint"`
	Args       []string          `doc:"args"`
	Env        map[string]string `doc:"env"`
	// Port is the TCP port the service listens on; 0 for none.
	Port int `doc:"port"`
	// User is "uid:gid" in numbers; empty for that of the base, else 65532:65532.
	User   string            `doc:"user"`
	Labels map[string]string `doc:"labels"`
}

// Service says how the running service is started and asked for its health.
type Service struct {
	Command []string `doc:"command"`
	// Port is where the service listens; 0 for the port of the package.
	Port int `doc:"port"`
	// Health is the path that answers 200 when the service can take traffic.
	Health             string  `doc:"health"`
	Smoke              []Smoke `doc:"smoke"`
	StopTimeoutSeconds int     `doc:"stop_timeout_seconds"`
}

// Smoke is one request that must be answered as told.
type Smoke struct {
	Path   string `doc:"path,required"`
	Status int    `doc:"status"`
}

// Deploy says where and how a release goes live.
type Deploy struct {
	Environment          string `doc:"environment"`
	Target               string `doc:"target"`
	Strategy             string `doc:"strategy"`
	Listen               string `doc:"listen"`
	DrainSeconds         int    `doc:"drain_seconds"`
	HealthTimeoutSeconds int    `doc:"health_timeout_seconds"`
}

// projectFile is the layout of ggen.toml. Its pointers are set to the fields of
// the project before it is read, so what the file leaves out keeps its default.
type projectFile struct {
	Project   head               `doc:"project"`
	Packages  *map[string]string `doc:"packages"`
	Market    marketSection      `doc:"market"`
	Vars      *map[string]any    `doc:"vars"`
	Generate  *[]Generate        `doc:"generate"`
	Query     *Query             `doc:"query"`
	Cleanroom *Cleanroom         `doc:"cleanroom"`
	Testing   *Testing           `doc:"testing"`
	Service   *Service           `doc:"service"`
	Deploy    *Deploy            `doc:"deploy"`
}

type head struct {
	Name        *string `doc:"name"`
	Version     *string `doc:"version"`
	Description *string `doc:"description"`
	Output      *string `doc:"output"`
}

type marketSection struct {
	Index *string `doc:"index"`
}

func (p *Project) projectFile() *projectFile {
	return &projectFile{
		Project:  head{Name: &p.Name, Version: &p.Version, Description: &p.Description, Output: &p.Output},
		Packages: &p.Packages, Market: marketSection{Index: &p.Market.Index}, Vars: &p.Vars, Generate: &p.Generate, Query: &p.Query,
		Cleanroom: &p.Cleanroom, Testing: &p.Testing, Service: &p.Service, Deploy: &p.Deploy,
	}
}

// defaults returns a project in which nothing was set.
func defaults() *Project {
	return &Project{
		Packages: map[string]string{},
		Vars:     map[string]any{},
		Market: Market{
			Index: DefaultIndex, CacheDir: "~/.ggen/marketplace/cache", InstallDir: "~/.ggen/marketplace/installed",
			CacheEnabled: true, CacheTTLSeconds: 3600, VerifyChecksums: true,
		},
		Query: Query{MaxRows: 1_000_000, TimeoutSeconds: 120, MaxMemoryMB: 1024, MaxDepth: 256, MaxPathLength: 1_000_000},
		Cleanroom: Cleanroom{
			MemoryMB: 1024, CPUs: 2, PIDs: 1000, DiskMB: 1024, TimeoutSeconds: 300,
			MinIsolation: "full", Network: "none", Prepare: Prepare{Network: "allow-list"}, Package: Package{BuildNetwork: "none"},
		},
		Service:     Service{Health: "/healthz", StopTimeoutSeconds: 10},
		Deploy:      Deploy{Environment: "development", Target: "local", Strategy: "blue-green", Listen: "127.0.0.1:18080", DrainSeconds: 10, HealthTimeoutSeconds: 30},
		Template:    Template{Engine: "tera", StrictVariables: true, ParallelGeneration: true, MaxParallelFiles: 8, OutputBufferSize: 8192, RDFCacheEnabled: true, RDFCacheTTLSeconds: 1800},
		Lifecycle:   Lifecycle{DefaultEnv: "development", StateFile: ".ggen/lifecycle-state.json", StateBackup: true, StateBackupCount: 5, ReadinessFile: ".ggen/production-requirements.yaml", HooksDir: ".ggen/hooks", HooksTimeoutSeconds: 300},
		Deployment:  Deployment{ProfilesDir: ".ggen/deployment-profiles", DefaultProfile: "standard", ValidateBeforeDeploy: true, RequireTestsPassing: true, EnableAutomaticRollback: true, RollbackTimeoutSeconds: 300},
		Backend:     Backend{Type: "auto", DockerHost: "unix:///var/run/docker.sock", DockerAPIVersion: "1.41"},
		Environment: Environment{DefaultIsolated: true, DefaultNetwork: "isolated"},
		Containers:  Containers{Registry: "docker.io", PullTimeoutSeconds: 300, StartTimeoutSeconds: 60, StopTimeoutSeconds: 30},
		Testing:     Testing{DefaultParallel: true, MaxParallelTests: 8, TestTimeoutSeconds: 60, CollectLogs: true, CollectMetrics: true, ResultsDir: ".cleanroom/test-results"},
		Policy:      Policy{EnforceIsolation: true, MaxMemoryMB: 4096, MaxCPUs: 8, MaxContainers: 20},
		Metrics:     Metrics{Enabled: true, OutputFormat: "json", MetricsFile: ".cleanroom/metrics.json"},
	}
}
