package config

import (
	"encoding/json"
	"reflect"
	"strings"
)

// Schemas returns a JSON Schema (draft 2020-12) for each file that the package
// reads, by the path below the repository where it is published. Editors check and
// complete the files with them; the package itself checks more than they can say.
func Schemas() map[string][]byte {
	p := defaults()
	return map[string][]byte{
		"docs/ggen.schema.json": schemaOf(FileName, "The project file of Ultrafast.", p.projectFile(), projectKeys),
		"docs/ggen-config.schema.json": schemaOf(".ggen/config.toml",
			"Settings of the marketplace, templates, lifecycle and deployment. What it defines wins over ggen.toml.", p.ggenFile(), ggenKeys),
		"docs/cleanroom-config.schema.json": schemaOf(".cleanroom/config.toml",
			"Settings of the clean room. What it defines wins over ggen.toml.", p.cleanroomFile(), cleanroomKeys),
	}
}

// schema is the part of JSON Schema that is needed.
type schema struct {
	Dialect     string             `json:"$schema,omitempty"`
	Title       string             `json:"title,omitempty"`
	Description string             `json:"description,omitempty"`
	Type        string             `json:"type,omitempty"`
	Enum        []string           `json:"enum,omitempty"`
	Minimum     *float64           `json:"minimum,omitempty"`
	Maximum     *float64           `json:"maximum,omitempty"`
	Default     any                `json:"default,omitempty"`
	Required    []string           `json:"required,omitempty"`
	Properties  map[string]*schema `json:"properties,omitempty"`
	Items       *schema            `json:"items,omitempty"`
	// Others is a schema for properties that are not named, false for none.
	Others any `json:"additionalProperties,omitempty"`
}

// schemaOf returns the schema of the layout file, whose fields hold the defaults.
func schemaOf(name, description string, file any, rename map[string]string) []byte {
	s := describe(reflect.ValueOf(file), "", rename)
	s.Dialect, s.Title, s.Description = "https://json-schema.org/draft/2020-12/schema", name, description
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		panic(err) // no default is beyond JSON
	}
	return append(b, '\n')
}

// describe returns the schema of v, which stands at the dotted path key.
func describe(v reflect.Value, key string, rename map[string]string) *schema {
	if v.Kind() == reflect.Pointer {
		return describe(v.Elem(), key, rename)
	}
	setting := key
	if own, ok := rename[key]; ok {
		setting = own
	}
	s := &schema{Description: descriptions[setting]}
	switch v.Kind() {
	case reflect.Struct:
		s.object(v, key, rename)
	case reflect.Map:
		s.Type, s.Others = "object", true
		if v.Type().Elem().Kind() == reflect.String {
			s.Others = &schema{Type: "string"}
		}
	case reflect.Slice:
		s.Type, s.Items = "array", describe(reflect.Zero(v.Type().Elem()), key+"[]", rename)
	case reflect.Bool:
		s.Type, s.Default = "boolean", v.Bool()
	case reflect.String:
		s.Type, s.Enum = "string", choices[setting]
		s.setDefault(v)
	case reflect.Int:
		s.Type = "integer"
		s.number(v, setting)
	case reflect.Float64:
		s.Type = "number"
		s.number(v, setting)
	}
	return s
}

func (s *schema) object(v reflect.Value, key string, rename map[string]string) {
	s.Type, s.Others, s.Properties = "object", false, map[string]*schema{}
	for i := range v.NumField() {
		tag, ok := v.Type().Field(i).Tag.Lookup("doc")
		if !ok {
			continue
		}
		name, option, _ := strings.Cut(tag, ",")
		if option == "required" {
			s.Required = append(s.Required, name)
		}
		s.Properties[name] = describe(v.Field(i), strings.TrimPrefix(key+"."+name, "."), rename)
	}
}

func (s *schema) number(v reflect.Value, setting string) {
	if r, ok := bounds[setting]; ok {
		s.Minimum, s.Maximum = &r[0], &r[1]
	}
	s.setDefault(v)
}

// setDefault names the default; nothing and 0 mean that there is none.
func (s *schema) setDefault(v reflect.Value) {
	if !v.IsZero() {
		s.Default = v.Interface()
	}
}

// choices are the words that a setting accepts, for check too; bounds are the numbers, as
// check has them: a test asks the loader.
var (
	choices = map[string][]string{
		"cleanroom.min_isolation":         {"full", "reduced", "none"},
		"cleanroom.network":               {"none", "internal", "allow-list"},
		"cleanroom.prepare.network":       {"none", "allow-list"},
		"cleanroom.runner":                runners,
		"cleanroom.service[].kind":        sidecarKinds,
		"cleanroom.package.builder":       {"", "auto", "docker", "buildah"},
		"cleanroom.package.build_network": {"none", "default"},
		"backend.type":                    {"auto", "embedded", "docker", "podman", "testcontainers"},
		"environment.default_network":     {"isolated", "host"},
		"template.engine":                 {"tera", "gotmpl"},
		"deploy.target":                   {"local", "docker", "kubernetes"},
		"deploy.strategy":                 {"blue-green", "canary", "rolling"},
		"metrics.output_format":           {"json", "text"},
	}
	bounds = map[string][2]float64{
		"query.max_rows":                 {1, 1 << 30},
		"query.timeout_seconds":          {1, 24 * 60 * 60},
		"query.max_memory_mb":            {1, 1 << 22},
		"query.max_depth":                {1, 10_000},
		"query.max_path_length":          {1, 1 << 30},
		"template.rdf_cache_ttl_seconds": {0, 365 * 24 * 60 * 60},
		"cleanroom.memory_mb":            {16, 1 << 22},
		"cleanroom.cpus":                 {0.01, 4096},
		"cleanroom.pids":                 {1, 1 << 22},
		"cleanroom.disk_mb":              {1, 1 << 24},
		"cleanroom.timeout_seconds":      {1, 24 * 60 * 60},
		"cleanroom.package.port":         {0, 65535},
		"testing.test_timeout_seconds":   {1, 24 * 60 * 60},
		"testing.max_parallel_tests":     {1, 1024},
		"testing.retries":                {0, 100},
		"template.max_parallel_files":    {1, 1024},
		"market.cache_ttl_seconds":       {0, 365 * 24 * 60 * 60},
		"policy.max_memory_mb":           {16, 1 << 22},
		"policy.max_cpus":                {0.01, 4096},
		"policy.max_containers":          {1, 1 << 16},
		"service.port":                   {0, 65535},
		"service.stop_timeout_seconds":   {1, 3600},
		"deploy.drain_seconds":           {0, 3600},
		"deploy.health_timeout_seconds":  {1, 3600},
	}
)

// descriptions are what editors show; a test asks for one of each key of ggen.toml.
var descriptions = map[string]string{
	"project":             "Name and version of what is built.",
	"project.name":        "Name of the project and of its image.",
	"project.version":     "Version of the project.",
	"project.description": "One sentence about the project.",
	"project.output":      "Directory below the project into which the generated tree is also written.",

	"packages": "Template packages: id = version range, for example go-http-service = \"^1.0\"; \"*\" is any version.",

	"market":       "Where packages come from.",
	"market.index": "Registry index: a URL, or a path relative to the project.",

	"vars": "Variables of every template.",

	"generate":            "Templates to render.",
	"generate[]":          "One template, or a pattern that names several of a package.",
	"generate[].template": "<package>:<file>, where the file may be a pattern, or the path of a template of the project.",
	"generate[].vars":     "Variables of this template; they win over [vars].",
	"generate[].output":   "Directory below the root of the tree.",
	"generate[].graphs":   "Graph files of the project: .ttl, .nt, .rdf or .jsonld.",
	"generate[].graphs[]": "Path relative to the project.",

	"query":                 "What one SPARQL query may cost, in a template or on the command line.",
	"query.max_rows":        "Most rows or triples of a result.",
	"query.timeout_seconds": "Time limit of one query, in seconds.",
	"query.max_memory_mb":   "Memory limit of one query, and apart from that of its graphs, in MiB.",
	"query.max_depth":       "Deepest nesting in graph files and, up to 256, in queries.",
	"query.max_path_length": "Most steps of a property path with * or +.",

	"cleanroom":                       "How the tree is built, tested and packaged.",
	"cleanroom.runner":                "What builds and tests the tree, for example go. Default: found from the files.",
	"cleanroom.memory_mb":             "Memory limit of one command, in MiB.",
	"cleanroom.cpus":                  "Processor limit of one command.",
	"cleanroom.pids":                  "Limit of processes and threads.",
	"cleanroom.disk_mb":               "Limit of what may be written, in MiB.",
	"cleanroom.timeout_seconds":       "Time limit of one command, in seconds.",
	"cleanroom.min_isolation":         "Weakest isolation that is accepted.",
	"cleanroom.network":               "Whom builds and tests reach: none, the services beside them (internal), or the hosts of [cleanroom.prepare] too.",
	"cleanroom.prepare":               "How the dependencies that lock files name are fetched, before anything is built.",
	"cleanroom.prepare.network":       "allow-list, or none to fetch nothing.",
	"cleanroom.prepare.allow":         "Hosts that may be reached. Default: those of the registries.",
	"cleanroom.prepare.allow[]":       "host, *.host, host:port, or an address or address/bits where it is not public.",
	"cleanroom.prepare.go_proxy":      "Proxy for Go modules. Default: https://proxy.golang.org.",
	"cleanroom.prepare.npm_registry":  "Registry of npm. Default: https://registry.npmjs.org/.",
	"cleanroom.prepare.pypi_index":    "Simple index of Python packages. Default: https://pypi.org/simple.",
	"cleanroom.prepare.cargo_index":   "Registry of crates, sparse+https://… Default: sparse+https://index.crates.io/.",
	"cleanroom.suite":                 "What is tested. Default: what the tree has files of.",
	"cleanroom.suite[]":               "Tests that one runner runs.",
	"cleanroom.suite[].runner":        "Kind of tests.",
	"cleanroom.suite[].files":         "Test files. Default: as the tools of the language find them.",
	"cleanroom.suite[].files[]":       "Pattern relative to dir; ** is any number of directories.",
	"cleanroom.suite[].image":         "Image by digest, in place of the host's toolchain.",
	"cleanroom.suite[].command":       "Command that tests, for each of files or once; its exit code decides.",
	"cleanroom.suite[].command[]":     "One argument; {file} is the test file.",
	"cleanroom.suite[].dir":           "Working directory below the tree.",
	"cleanroom.suite[].env":           "Environment variables of the tests.",
	"cleanroom.package":               "The image.",
	"cleanroom.package.dockerfile":    "Dockerfile of the tree that makes the image, in place of the keys below; built outside of the clean room by an engine of this machine, twice, to say whether it is reproducible. Default: if builder is set, Dockerfile where the tree has one.",
	"cleanroom.package.builder":       "Program that builds the Dockerfile: docker, buildah, or auto for the first of buildah and docker that answers. Default: auto if dockerfile is set.",
	"cleanroom.package.build_network": "Network of the commands of the Dockerfile: none, or default for that of the engine. Base images are pulled in both cases.",
	"cleanroom.package.main":          "Directory of the main package of a Go module. Default: the root, or the only one below cmd; a module without one is packaged as its tree.",
	"cleanroom.package.base":          "Image on which this one is built: name:tag, name@sha256:…, layout:DIR or tarball:FILE. Default: none for a compiled program.",
	"cleanroom.package.files":         "Files of the tree that the image holds below /app, as patterns. Default: none beside a compiled program, else all.",
	"cleanroom.package.files[]":       "One pattern; ** stands for any number of directories.",
	"cleanroom.package.entrypoint":    "Entry point of the image. Default: the compiled program, else that of the base.",
	"cleanroom.package.entrypoint[]":  "One argument.",
	"cleanroom.package.args":          "Arguments after the entry point.",
	"cleanroom.package.args[]":        "One argument.",
	"cleanroom.package.env":           "Environment variables of the image.",
	"cleanroom.package.port":          "TCP port on which the service listens; 0 for none.",
	"cleanroom.package.user":          "uid:gid in numbers. Default: that of the base if it is a number other than 0, else 65532:65532.",
	"cleanroom.package.labels":        "Labels of the image.",

	"testing":                      "How tests run.",
	"testing.default_parallel":     "Whether several test processes run at a time.",
	"testing.max_parallel_tests":   "How many run at a time.",
	"testing.test_timeout_seconds": "Time limit of one test process, in seconds. Default for Go: what is left of the run.",
	"testing.retries":              "How often what failed runs again. What passes then is reported as flaky.",
	"testing.fail_fast":            "Whether a run ends at the first failure.",
	"testing.collect_logs":         "Whether the log of each test is kept in results_dir.",
	"testing.collect_metrics":      "Whether metrics are kept.",
	"testing.results_dir":          "Directory of the project for results.json, junit.xml, results.txt and logs.",

	"backend":                    "What makes the clean room.",
	"backend.type":               "Back end; auto is embedded where the kernel allows it, else docker, else podman.",
	"backend.docker_host":        "Socket of the container engine. Default: what the engine's own command uses.",
	"backend.docker_api_version": "Version of the engine's interface. Default: what both sides have.",

	"environment":                  "Environments where nothing else is said.",
	"environment.default_isolated": "Whether an environment has a network of its own.",
	"environment.default_network":  "isolated, or host, which the policy has to allow.",

	"containers":                       "Images and containers.",
	"containers.registry":              "Registry of a name without a host.",
	"containers.always_pull_latest":    "Whether a tag is resolved again although the lock file of images has it.",
	"containers.pull_timeout_seconds":  "How long an image may take to arrive, in seconds.",
	"containers.start_timeout_seconds": "How long a service may take to be ready, in seconds.",
	"containers.stop_timeout_seconds":  "How long a container may take to end after SIGTERM, in seconds.",

	"policy":                    "What may be asked of a clean room. More is refused; defaults become less.",
	"policy.enforce_isolation":  "Whether an environment without a network of its own is refused.",
	"policy.allow_host_network": "Whether the network of the host may be asked for. No back end offers it.",
	"policy.allow_privileged":   "Whether a privileged container may be asked for. No back end offers it.",
	"policy.max_memory_mb":      "Memory of one command or container, in MiB.",
	"policy.max_cpus":           "Processors of one command or container.",
	"policy.max_containers":     "Containers, tests and services among them, at a time.",

	"metrics":               "What is measured.",
	"metrics.enabled":       "Whether metrics are kept.",
	"metrics.detailed":      "Whether metrics show has each container and test.",
	"metrics.output_format": "Form of metrics show --file: json or text.",
	"metrics.metrics_file":  "File in which the last metrics are kept, as JSON.",

	"cleanroom.service":                   "Services that run beside the tests.",
	"cleanroom.service[]":                 "One service.",
	"cleanroom.service[].name":            "Host name of the service, and with _HOST, _PORT, _URL the beginning of its variables.",
	"cleanroom.service[].image":           "Image reference, or an alias: postgres, redis. Default: a program of the host.",
	"cleanroom.service[].kind":            "What it is. Default: as the image, or else the name, says.",
	"cleanroom.service[].command":         "Command of a service of kind other.",
	"cleanroom.service[].command[]":       "One argument.",
	"cleanroom.service[].args":            "Further arguments.",
	"cleanroom.service[].args[]":          "One argument.",
	"cleanroom.service[].env":             "Environment variables of the service.",
	"cleanroom.service[].port":            "TCP port on which it listens; 0 for the kind's own.",
	"cleanroom.service[].health":          "Path that answers GET with 200 to 399 when it is ready.",
	"cleanroom.service[].check":           "Command in the container that ends with 0 when it is ready.",
	"cleanroom.service[].check[]":         "One argument.",
	"cleanroom.service[].timeout_seconds": "How long it may take to be ready, in seconds; 0 for containers.start_timeout_seconds.",
	"cleanroom.service[].database":        "Name of the database. Default: app.",
	"cleanroom.service[].user":            "User of the tests. Default: app.",
	"cleanroom.service[].password_file":   "File of the password. Default: one is made up for each run.",
	"cleanroom.service[].password_env":    "Environment variable of the password.",
	"cleanroom.service[].init":            "SQL files of the project that prepare the database of which every test gets a copy.",
	"cleanroom.service[].init[]":          "Path relative to the project.",
	"cleanroom.service[].shared":          "All tests share one database.",
	"cleanroom.service[].memory_mb":       "Memory limit of the service, in MiB.",

	"service":                      "How the running service is started and asked for its health.",
	"service.command":              "Command and arguments. Default: as the image says.",
	"service.command[]":            "One argument.",
	"service.port":                 "Where the service listens; 0 for the port of the package.",
	"service.health":               "Path that answers 200 when the service can take traffic.",
	"service.smoke":                "Requests that must be answered as told.",
	"service.smoke[]":              "One request.",
	"service.smoke[].path":         "Path of the request.",
	"service.smoke[].status":       "Status of the answer. Default: 200.",
	"service.stop_timeout_seconds": "How long the service may take to stop, in seconds.",

	"deploy":                        "Where and how a release goes live.",
	"deploy.environment":            "Name of the environment.",
	"deploy.target":                 "What the release runs on.",
	"deploy.strategy":               "How the traffic moves.",
	"deploy.listen":                 "Address of the router, host:port.",
	"deploy.drain_seconds":          "How long requests of the old release may end, in seconds.",
	"deploy.health_timeout_seconds": "How long a release may take to be healthy, in seconds.",
}
