package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/config"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

const full = `
[project]
name = "orders"
version = "1.2.3"
output = "gen"

[packages]
go-http-service = "^1.0"

[market]
index = "registry/index.json"

[vars]
name = "orders"
port = 8080

[[generate]]
template = "go-http-service:service.tmpl"
vars = {greeting = "hello"}
output = "cmd/orders"
graphs = ["model/orders.ttl"]

[cleanroom]
runner = "go"
memory_mb = 512
cpus = 1.5
pids = 200
timeout_seconds = 120
disk_mb = 256
min_isolation = "reduced"
network = "internal"
[cleanroom.prepare]
allow = ["*.example.org"]
go_proxy = "https://goproxy.example.org"
[[cleanroom.suite]]
runner = "sh"
files = ["checks/*.sh"]
env = {MODE = "strict"}
[[cleanroom.suite]]
command = ["make", "check"]
dir = "sub"
[cleanroom.package]
entrypoint = ["/orders"]
port = 8080
[[cleanroom.service]]
name = "db"
image = "postgres:15"
init = ["db/schema.sql"]
[[cleanroom.service]]
name = "redis"

[service]
command = ["/orders", "-v"]
port = 8080
health = "/healthz"
smoke = [{path = "/healthz"}, {path = "/missing", status = 404}]
stop_timeout_seconds = 5

[deploy]
environment = "staging"
target = "local"
strategy = "blue-green"
listen = "127.0.0.1:18080"
drain_seconds = 3
health_timeout_seconds = 20
`

// reference are the two files as the reference shows them.
const (
	referenceGgen = `
[marketplace]
registry_url = "https://example.com/registry/index.json"
cache_enabled = true
cache_ttl_seconds = 60
cache_dir = "~/.ggen/marketplace/cache"
install_dir = "/srv/installed"
verify_checksums = true
allow_prerelease = false
[template]
engine = "tera"
strict_variables = true
trim_blocks = true
lstrip_blocks = true
parallel_generation = true
max_parallel_files = 8
output_buffer_size = 8192
rdf_cache_enabled = true
rdf_cache_ttl_seconds = 1800
[lifecycle]
default_env = "development"
state_file = ".ggen/lifecycle-state.json"
state_backup = true
state_backup_count = 5
readiness_file = ".ggen/production-requirements.yaml"
hooks_dir = ".ggen/hooks"
hooks_timeout_seconds = 300
[deployment]
profiles_dir = ".ggen/deployment-profiles"
default_profile = "standard"
validate_before_deploy = true
require_tests_passing = true
require_security_scan = false
enable_automatic_rollback = true
rollback_timeout_seconds = 300
`
	referenceCleanroom = `
[backend]
type = "testcontainers"
docker_host = "unix:///var/run/docker.sock"
docker_api_version = "1.41"
[environment]
default_isolated = true
default_network = "isolated"
default_memory_mb = 2048
default_cpus = 2
default_timeout_seconds = 300
[containers]
registry = "docker.io"
always_pull_latest = false
pull_timeout_seconds = 300
start_timeout_seconds = 60
stop_timeout_seconds = 30
[testing]
default_parallel = true
max_parallel_tests = 8
test_timeout_seconds = 90
collect_logs = true
collect_metrics = true
results_dir = ".cleanroom/test-results"
[policy]
enforce_isolation = true
allow_host_network = false
allow_privileged = false
max_memory_mb = 4096
max_cpus = 8
max_containers = 20
[metrics]
enabled = true
detailed = false
output_format = "json"
metrics_file = ".cleanroom/metrics.json"
`
)

// project writes files below a new directory and returns it.
func project(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func environment(t *testing.T, pairs ...string) config.Lookup {
	t.Helper()
	home := "HOME"
	if runtime.GOOS == "windows" {
		home = "USERPROFILE"
	}
	m := map[string]string{home: filepath.Join(t.TempDir(), "home")}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return func(name string) (string, bool) { v, ok := m[name]; return v, ok }
}

func TestLoad(t *testing.T) {
	t.Parallel()
	dir := project(t, map[string]string{"ggen.toml": full, "sub/deep/x": ""})
	p, err := config.Load(filepath.Join(dir, "sub", "deep"), environment(t))
	if err != nil {
		t.Fatal(err)
	}
	if p.Dir != dir || p.File != filepath.Join(dir, "ggen.toml") {
		t.Errorf("found %s in %s", p.File, p.Dir)
	}
	if want := filepath.Join(dir, "registry", "index.json"); p.Market.Index != want {
		t.Errorf("index %s, want %s", p.Market.Index, want)
	}
	if p.Name != "orders" || p.Version != "1.2.3" || p.Output != "gen" || p.Packages["go-http-service"] != "^1.0" || p.Vars["port"] != int64(8080) {
		t.Errorf("project %+v", p)
	}
	wantGenerate := []config.Generate{{Template: "go-http-service:service.tmpl", Vars: map[string]any{"greeting": "hello"}, Output: "cmd/orders", Graphs: []string{"model/orders.ttl"}}}
	if !reflect.DeepEqual(p.Generate, wantGenerate) {
		t.Errorf("generate %+v", p.Generate)
	}
	wantRoom := config.Cleanroom{
		Runner: "go", MemoryMB: 512, CPUs: 1.5, PIDs: 200, DiskMB: 256, TimeoutSeconds: 120, MinIsolation: "reduced", Network: "internal",
		Prepare: config.Prepare{Network: "allow-list", Allow: []string{"*.example.org"}, GoProxy: "https://goproxy.example.org"},
		Suites: []config.Suite{
			{Runner: "sh", Files: []string{"checks/*.sh"}, Env: map[string]string{"MODE": "strict"}}, {Command: []string{"make", "check"}, Dir: "sub"},
		},
		Package:  config.Package{BuildNetwork: "none", Entrypoint: []string{"/orders"}, Port: 8080},
		Services: []config.Sidecar{{Name: "db", Image: "postgres:15", Init: []string{"db/schema.sql"}}, {Name: "redis", Kind: "redis"}},
	}
	if !reflect.DeepEqual(p.Cleanroom, wantRoom) {
		t.Errorf("cleanroom %+v", p.Cleanroom)
	}
	wantService := config.Service{Command: []string{"/orders", "-v"}, Port: 8080, Health: "/healthz", Smoke: []config.Smoke{{"/healthz", 200}, {"/missing", 404}}, StopTimeoutSeconds: 5}
	if !reflect.DeepEqual(p.Service, wantService) {
		t.Errorf("service %+v", p.Service)
	}
	wantDeploy := config.Deploy{Environment: "staging", Target: "local", Strategy: "blue-green", Listen: "127.0.0.1:18080", DrainSeconds: 3, HealthTimeoutSeconds: 20}
	if p.Deploy != wantDeploy {
		t.Errorf("deploy %+v", p.Deploy)
	}
}

func TestReferenceFilesWin(t *testing.T) {
	t.Parallel()
	dir := project(t, map[string]string{"ggen.toml": full, ".ggen/config.toml": referenceGgen, ".cleanroom/config.toml": referenceCleanroom})
	env := environment(t, "CLEANROOM_TIMEOUT_SECONDS", "77", "GGEN_CACHE_DIR", "")
	p, err := config.Load(dir, env)
	if err != nil {
		t.Fatal(err)
	}
	home, _ := env("HOME")
	if home == "" {
		home, _ = env("USERPROFILE")
	}
	checks := []struct {
		setting string
		got     any
		want    any
		from    string
	}{
		{"market.index", p.Market.Index, "https://example.com/registry/index.json", ".ggen/config.toml:3:16"},
		{"market.cache_dir", p.Market.CacheDir, filepath.Join(home, ".ggen", "marketplace", "cache"), ".ggen/config.toml:6:13"},
		{"market.cache_ttl_seconds", p.Market.CacheTTLSeconds, 60, ".ggen/config.toml:5:21"},
		{"template.trim_blocks", p.Template.TrimBlocks, true, ".ggen/config.toml:13:15"},
		{"backend.type", p.Backend.Type, "testcontainers", ".cleanroom/config.toml:3:8"},
		{"cleanroom.memory_mb", p.Cleanroom.MemoryMB, 2048, ".cleanroom/config.toml:9:21"},
		{"cleanroom.pids", p.Cleanroom.PIDs, 200, "ggen.toml:27:8"},
		{"cleanroom.timeout_seconds", p.Cleanroom.TimeoutSeconds, 77, "environment CLEANROOM_TIMEOUT_SECONDS"},
		{"testing.test_timeout_seconds", p.Testing.TestTimeoutSeconds, 90, ".cleanroom/config.toml:21:24"},
		{"cleanroom.min_isolation", p.Cleanroom.MinIsolation, "reduced", "ggen.toml:30:17"},
		{"project.name", p.Name, "orders", "ggen.toml:3:8"},
	}
	origins := map[string]config.Origin{}
	for _, o := range p.Origins() {
		origins[o.Setting] = o
	}
	for _, c := range checks {
		if c.got != c.want {
			t.Errorf("%s is %v, want %v", c.setting, c.got, c.want)
		}
		if got := origins[c.setting].From; got != c.from {
			t.Errorf("%s comes from %q, want %q", c.setting, got, c.from)
		}
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	dir := project(t, map[string]string{".cleanroom/config.toml": "[policy]\nmax_memory_mb = 512\n"})
	if _, err := config.Load(dir, environment(t)); !errors.Is(err, config.ErrNoProject) || fault.KindOf(err) != fault.Usage {
		t.Fatalf("without a project file: %v", err)
	}
	p, err := config.LoadOrDefault(dir, environment(t, "GGEN_REGISTRY_URL", "file:///srv/index.json"))
	if err != nil {
		t.Fatal(err)
	}
	if p.Market.Index != "file:///srv/index.json" || p.File != "" || p.Dir != dir || p.Cleanroom.MinIsolation != "full" {
		t.Errorf("%+v", p)
	}
	if p.Cleanroom.MemoryMB != 512 {
		t.Errorf("default memory %d is over the policy's 512", p.Cleanroom.MemoryMB)
	}
	for _, o := range p.Origins() {
		if o.Setting == "deploy.target" && (o.From != "default" || o.Value != "local") {
			t.Errorf("%+v", o)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, file, text, want, hint string
	}{
		{"unknown section", "ggen.toml", "[projct]\n", `ggen.toml:1:2: unknown key "projct"`, `did you mean "project"?`},
		{"unknown key", "ggen.toml", "[deploy]\nstratgy = 'x'\n", `ggen.toml:2:1: unknown key "stratgy" in [deploy]`, `did you mean "strategy"?`},
		{"unknown key in a list", "ggen.toml", "[[generate]]\ntemplate = 'a:b'\nout = 'x'\n", `ggen.toml:3:1: unknown key "out" in [generate]`, ""},
		{"unknown reference key", ".ggen/config.toml", "[marketplace]\nregistry = 'x'\n", `.ggen/config.toml:2:1: unknown key "registry" in [marketplace]`, ""},
		{"unknown clean room key", ".cleanroom/config.toml", "[policy]\nmax_cpu = 1\n", `.cleanroom/config.toml:2:1: unknown key "max_cpu" in [policy]`, `did you mean "max_cpus"?`},
		{"wrong type", "ggen.toml", "[cleanroom]\nmemory_mb = 'much'\n", "ggen.toml:2:13: cleanroom.memory_mb: expected an integer, found a string", ""},
		{"syntax", "ggen.toml", "[project\n", "ggen.toml:1:", ""},
		{"empty name", "ggen.toml", "[project]\nname = ' '\n", "ggen.toml:2:8: project.name: empty", "give the project a name"},
		{"output leaves the project", "ggen.toml", "[project]\noutput = '../x'\n", `ggen.toml:2:10: project.output: "../x" is not a path below the project`, ""},
		{"output is absolute", "ggen.toml", "[project]\noutput = '/etc'\n", `"/etc" is not a path`, ""},
		{"output is a drive", "ggen.toml", "[project]\noutput = 'C:/x'\n", `"C:/x" is not a path`, ""},
		{"output is .git", "ggen.toml", "[project]\noutput = './.Git/hooks'\n", "is not for generated files", ""},
		{"template reference", "ggen.toml", "[[generate]]\ntemplate = 'a'\n", `ggen.toml:2:12: generate.0.template: "a" is not a template reference`, ""},
		{"template path escapes", "ggen.toml", "[[generate]]\ntemplate = '../templates/a.tmpl'\n", "is not a template reference", ""},
		{"template escapes", "ggen.toml", "[[generate]]\ntemplate = 'a:../b'\n", "is not a template reference", ""},
		{"template missing", "ggen.toml", "[[generate]]\noutput = 'x'\n", `key "template" is missing in [generate]`, ""},
		{"graph escapes", "ggen.toml", "[[generate]]\ntemplate = 'a:b'\ngraphs = ['../m.ttl']\n", "is not a path below the project", ""},
		{"empty range", "ggen.toml", "[packages]\nx = ''\n", "ggen.toml:2:5: packages.x: empty", ""},
		{"out of range", "ggen.toml", "[service]\nport = 70000\n", "ggen.toml:2:8: service.port: 70000 is outside 0 to 65535", ""},
		{"no time", "ggen.toml", "[cleanroom]\ntimeout_seconds = 0\n", "cleanroom.timeout_seconds: 0 is outside 1 to 86400", ""},
		{"service without a name", "ggen.toml", "[[cleanroom.service]]\nimage = 'x'\n", `key "name" is missing in [cleanroom.service]`, ""},
		{"service of no kind", "ggen.toml", "[[cleanroom.service]]\nname = 'db'\nkind = 'postgre'\n", `ggen.toml:3:8: cleanroom.service.0.kind: "postgre" is not one of postgres, redis, other`, `did you mean "postgres"?`},
		{"service without anything", "ggen.toml", "[[cleanroom.service]]\nname = 'db'\n", "ggen.toml:1:13: cleanroom.service.0.image: service db has neither an image nor a command", "name an image, or a command of the host's"},
		{"service in upper case", "ggen.toml", "[[cleanroom.service]]\nname = 'DB'\n", `"DB" is not a host name`, ""},
		{"two services of one name", "ggen.toml", "[[cleanroom.service]]\nname = 'redis'\n[[cleanroom.service]]\nname = 'redis'\n", `two services are called "redis"`, ""},
		{"two passwords", "ggen.toml", "[[cleanroom.service]]\nname = 'redis'\npassword_env = 'A'\npassword_file = 'b'\n", "is said to be in two places", ""},
		{"services without a network", "ggen.toml", "[cleanroom]\nnetwork = 'none'\n[[cleanroom.service]]\nname = 'redis'\n", "ggen.toml:2:11: cleanroom.network: none keeps tests and their services apart", `leave it out, or write "internal"`},
		{"script escapes", "ggen.toml", "[[cleanroom.service]]\nname = 'postgres'\ninit = ['../x.sql']\n", "is not a path below the project", ""},
		{"section of another file", "ggen.toml", "[policy]\nmax_cpus = 1\n", `[policy] is no section of ggen.toml`, "write it into .cleanroom/config.toml"},
		{"network that is none", ".cleanroom/config.toml", "[environment]\ndefault_network = 'hots'\n", `.cleanroom/config.toml:2:19: environment.default_network: "hots" is not one of isolated, host`, `did you mean "host"?`},
		{"over the policy", "ggen.toml", "[cleanroom]\nmemory_mb = 8192\n", "8192 is more than policy.max_memory_mb, 4096", ""},
		{"isolation word", "ggen.toml", "[cleanroom]\nmin_isolation = 'ful'\n", `"ful" is not one of full, reduced, none`, `did you mean "full"?`},
		{"listen", "ggen.toml", "[deploy]\nlisten = 'localhost'\n", `"localhost" is not an address`, ""},
		{"health", "ggen.toml", "[service]\nhealth = 'healthz'\n", `"healthz" does not begin with a slash`, ""},
		{"status", "ggen.toml", "[service]\nsmoke = [{path = '/', status = 99}]\n", "99 is not an HTTP status", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			files := map[string]string{"ggen.toml": ""}
			files[tt.file] = tt.text
			_, err := config.Load(project(t, files), environment(t))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			if fault.KindOf(err) != fault.Usage {
				t.Errorf("kind %s, want usage", fault.KindOf(err))
			}
			if fault.HintOf(err) == "" || tt.hint != "" && fault.HintOf(err) != tt.hint {
				t.Errorf("hint %q, want %q", fault.HintOf(err), tt.hint)
			}
		})
	}
}

// What bears the name of a file and is none is an error, never no file.
func TestNotAFile(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"ggen.toml", ".ggen/config.toml", ".cleanroom/config.toml"} {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		_, err := config.LoadOrDefault(dir, environment(t))
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "not a regular file") || fault.HintOf(err) == "" {
			t.Errorf("%s: %v, hint %q", name, err, fault.HintOf(err))
		}
	}
}

func TestEnvironmentRefused(t *testing.T) {
	t.Parallel()
	dir := project(t, map[string]string{"ggen.toml": ""})
	_, err := config.Load(dir, environment(t, "CLEANROOM_MEMORY_MB", "lots"))
	if err == nil || !strings.Contains(err.Error(), `environment CLEANROOM_MEMORY_MB: expected an integer, found "lots"`) {
		t.Errorf("got %v", err)
	}
	_, err = config.Load(dir, environment(t, "CLEANROOM_MIN_ISOLATION", "some"))
	if err == nil || !strings.Contains(err.Error(), `environment CLEANROOM_MIN_ISOLATION: cleanroom.min_isolation: "some" is not one of`) {
		t.Errorf("got %v", err)
	}
}

func TestHomeUnknown(t *testing.T) {
	t.Parallel()
	none := func(string) (string, bool) { return "", false }
	dir := project(t, map[string]string{"ggen.toml": ""})
	p, err := config.Load(dir, none)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, ".ggen", "marketplace", "cache"); p.Market.CacheDir != want {
		t.Errorf("cache in %s, want %s", p.Market.CacheDir, want)
	}
	dir = project(t, map[string]string{"ggen.toml": "", ".ggen/config.toml": "[marketplace]\ncache_dir = '~/c'\n"})
	_, err = config.Load(dir, none)
	if err == nil || !strings.Contains(err.Error(), ".ggen/config.toml:2:13: market.cache_dir: \"~/c\": the home directory is unknown") {
		t.Errorf("got %v", err)
	}
}
