package config

// Template is [template] of .ggen/config.toml.
type Template struct {
	Engine             string `doc:"engine"`
	StrictVariables    bool   `doc:"strict_variables"`
	TrimBlocks         bool   `doc:"trim_blocks"`
	LstripBlocks       bool   `doc:"lstrip_blocks"`
	ParallelGeneration bool   `doc:"parallel_generation"`
	MaxParallelFiles   int    `doc:"max_parallel_files"`
	OutputBufferSize   int    `doc:"output_buffer_size"`
	RDFCacheEnabled    bool   `doc:"rdf_cache_enabled"`
	RDFCacheTTLSeconds int    `doc:"rdf_cache_ttl_seconds"`
	// AllowHooks has the commands of templates run, in the sandbox. No template can
	// set it: none may write below .ggen.
	AllowHooks bool `doc:"allow_hooks"`
}

// Lifecycle is [lifecycle] of .ggen/config.toml.
type Lifecycle struct {
	DefaultEnv          string `doc:"default_env"`
	StateFile           string `doc:"state_file"`
	StateBackup         bool   `doc:"state_backup"`
	StateBackupCount    int    `doc:"state_backup_count"`
	ReadinessFile       string `doc:"readiness_file"`
	HooksDir            string `doc:"hooks_dir"`
	HooksTimeoutSeconds int    `doc:"hooks_timeout_seconds"`
}

// Deployment is [deployment] of .ggen/config.toml.
type Deployment struct {
	ProfilesDir             string `doc:"profiles_dir"`
	DefaultProfile          string `doc:"default_profile"`
	ValidateBeforeDeploy    bool   `doc:"validate_before_deploy"`
	RequireTestsPassing     bool   `doc:"require_tests_passing"`
	RequireSecurityScan     bool   `doc:"require_security_scan"`
	EnableAutomaticRollback bool   `doc:"enable_automatic_rollback"`
	RollbackTimeoutSeconds  int    `doc:"rollback_timeout_seconds"`
}

// Backend is [backend] of .cleanroom/config.toml.
type Backend struct {
	Type             string `doc:"type"`
	DockerHost       string `doc:"docker_host"`
	DockerAPIVersion string `doc:"docker_api_version"`
}

// Containers is [containers] of .cleanroom/config.toml.
type Containers struct {
	Registry            string `doc:"registry"`
	AlwaysPullLatest    bool   `doc:"always_pull_latest"`
	PullTimeoutSeconds  int    `doc:"pull_timeout_seconds"`
	StartTimeoutSeconds int    `doc:"start_timeout_seconds"`
	StopTimeoutSeconds  int    `doc:"stop_timeout_seconds"`
}

// Testing is [testing] of ggen.toml and .cleanroom/config.toml.
type Testing struct {
	DefaultParallel  bool `doc:"default_parallel"`
	MaxParallelTests int  `doc:"max_parallel_tests"`
	// TestTimeoutSeconds bounds one test.
	TestTimeoutSeconds int `doc:"test_timeout_seconds"`
	// Retries is how often what failed runs again. FailFast ends a run at the first
	// failure.
	Retries        int    `doc:"retries"`
	FailFast       bool   `doc:"fail_fast"`
	CollectLogs    bool   `doc:"collect_logs"`
	CollectMetrics bool   `doc:"collect_metrics"`
	ResultsDir     string `doc:"results_dir"`
}

// Environment is what [environment] of .cleanroom/config.toml says besides the
// limits, which are fields of [Cleanroom].
type Environment struct {
	DefaultIsolated bool
	// DefaultNetwork is "isolated" or "host".
	DefaultNetwork string
}

// Policy is [policy] of .cleanroom/config.toml.
type Policy struct {
	EnforceIsolation bool    `doc:"enforce_isolation"`
	AllowHostNetwork bool    `doc:"allow_host_network"`
	AllowPrivileged  bool    `doc:"allow_privileged"`
	MaxMemoryMB      int     `doc:"max_memory_mb"`
	MaxCPUs          float64 `doc:"max_cpus"`
	MaxContainers    int     `doc:"max_containers"`
}

// Metrics is [metrics] of .cleanroom/config.toml.
type Metrics struct {
	Enabled      bool   `doc:"enabled"`
	Detailed     bool   `doc:"detailed"`
	OutputFormat string `doc:"output_format"`
	MetricsFile  string `doc:"metrics_file"`
}

// ggenFile is the layout of .ggen/config.toml. Its pointers are set to the
// fields of the project before it is read, so what the file defines lands there
// and what it leaves out stays.
type ggenFile struct {
	Marketplace *Market     `doc:"marketplace"`
	Template    *Template   `doc:"template"`
	Lifecycle   *Lifecycle  `doc:"lifecycle"`
	Deployment  *Deployment `doc:"deployment"`
}

func (p *Project) ggenFile() *ggenFile {
	return &ggenFile{Marketplace: &p.Market, Template: &p.Template, Lifecycle: &p.Lifecycle, Deployment: &p.Deployment}
}

// cleanroomFile is the layout of .cleanroom/config.toml, read like [ggenFile].
type cleanroomFile struct {
	Backend     *Backend        `doc:"backend"`
	Environment environmentFile `doc:"environment"`
	Containers  *Containers     `doc:"containers"`
	Testing     *Testing        `doc:"testing"`
	Policy      *Policy         `doc:"policy"`
	Metrics     *Metrics        `doc:"metrics"`
}

// quarantineFile is the layout of .cleanroom/quarantine.toml, read like [ggenFile].
type quarantineFile struct {
	Quarantine *[]Quarantined `doc:"quarantine"`
}

type environmentFile struct {
	DefaultIsolated       *bool    `doc:"default_isolated"`
	DefaultNetwork        *string  `doc:"default_network"`
	DefaultMemoryMB       *int     `doc:"default_memory_mb"`
	DefaultCPUs           *float64 `doc:"default_cpus"`
	DefaultTimeoutSeconds *int     `doc:"default_timeout_seconds"`
}

func (p *Project) cleanroomFile() *cleanroomFile {
	return &cleanroomFile{
		Backend: &p.Backend, Containers: &p.Containers, Testing: &p.Testing, Policy: &p.Policy, Metrics: &p.Metrics,
		Environment: environmentFile{
			DefaultIsolated: &p.Environment.DefaultIsolated, DefaultNetwork: &p.Environment.DefaultNetwork,
			DefaultMemoryMB: &p.Cleanroom.MemoryMB, DefaultCPUs: &p.Cleanroom.CPUs, DefaultTimeoutSeconds: &p.Cleanroom.TimeoutSeconds,
		},
	}
}
