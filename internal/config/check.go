package config

import (
	"fmt"
	"maps"
	"net"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// check returns what is wrong with the values, all of it at once.
func (p *Project) check() error {
	var errs []error
	add := func(err error) { errs = append(errs, err) }
	p.lowerDefaults()
	p.checkProject(add)
	p.checkGenerate(add)
	p.checkService(add)
	p.checkSidecars(add)
	p.checkNumbers(add)
	p.checkWords(add)
	p.checkTests(add)
	return single(errs)
}

func (p *Project) checkProject(add func(error)) {
	if _, given := p.settings["project.name"]; given && strings.TrimSpace(p.Name) == "" {
		add(p.fail("project.name", "give the project a name", "empty"))
	}
	if p.Output != "" {
		if err := safeOutput(p.Output); err != nil {
			add(p.fail("project.output", "name a directory below the project", "%w", err))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(p.Packages)) {
		if id == "" || strings.TrimSpace(p.Packages[id]) == "" {
			add(p.fail("packages."+id, `for any version write "*"`, "empty package id or version range"))
		}
	}
	if p.Market.Index == "" {
		add(p.fail("market.index", "give a URL or a path", "empty"))
	}
}

func (p *Project) checkGenerate(add func(error)) {
	for i := range p.Generate {
		g, at := &p.Generate[i], "generate."+strconv.Itoa(i)
		if !templateReference(g.Template) {
			add(p.fail(at+".template", `write "package:file.tmpl", or the path of a template of the project, as "templates/file.tmpl"`, "%q is not a template reference", g.Template))
		}
		if g.Output == "" {
			g.Output = "."
		}
		if err := safeOutput(g.Output); err != nil {
			add(p.fail(at+".output", "name a directory below the tree", "%w", err))
		}
		for j, graph := range g.Graphs {
			if graph == "" || !localPath(graph) {
				add(p.fail(at+".graphs."+strconv.Itoa(j), "", "%q is not a path below the project", graph))
			}
		}
	}
}

// templateReference accepts a file of a package, and the path of a template below
// the project.
func templateReference(text string) bool {
	name, file, ofPackage := strings.Cut(text, ":")
	if !ofPackage {
		return localPath(text) && (strings.Contains(text, "/") || strings.HasSuffix(text, ".tmpl"))
	}
	return name != "" && file != "" && !strings.Contains(file, ":") && !slices.Contains(strings.Split(file, "/"), "..")
}

func (p *Project) checkService(add func(error)) {
	if !strings.HasPrefix(p.Service.Health, "/") {
		add(p.fail("service.health", "", "%q does not begin with a slash", p.Service.Health))
	}
	for i := range p.Service.Smoke {
		s, at := &p.Service.Smoke[i], "service.smoke."+strconv.Itoa(i)
		if !strings.HasPrefix(s.Path, "/") {
			add(p.fail(at+".path", "", "%q does not begin with a slash", s.Path))
		}
		if s.Status == 0 {
			s.Status = 200
		}
		if s.Status < 100 || s.Status > 599 {
			add(p.fail(at+".status", "", "%d is not an HTTP status", s.Status))
		}
	}
	host, port, err := net.SplitHostPort(p.Deploy.Listen)
	_, bad := strconv.ParseUint(port, 10, 16)
	if err != nil || bad != nil || strings.ContainsAny(host, "/ ") {
		add(p.fail("deploy.listen", `write "host:port"`, "%q is not an address", p.Deploy.Listen))
	}
}

// checkSidecars checks what can be said of a service without starting it.
func (p *Project) checkSidecars(add func(error)) {
	seen := map[string]bool{}
	for i := range p.Cleanroom.Services {
		s, at := &p.Cleanroom.Services[i], "cleanroom.service."+strconv.Itoa(i)
		if s.Kind == "" && s.Image == "" && slices.Contains(sidecarKinds, s.Name) {
			s.Kind = s.Name
		}
		switch {
		case !sidecarName().MatchString(s.Name):
			add(p.fail(at+".name", "use lower-case letters, digits and hyphens", "%q is not a host name", s.Name))
		case seen[s.Name]:
			add(p.fail(at+".name", "give each a name of its own", "two services are called %q", s.Name))
		case s.Kind != "" && !slices.Contains(sidecarKinds, s.Kind):
			add(p.fail(at+".kind", fault.DidYouMean(s.Kind, sidecarKinds), "%q is not one of %s", s.Kind, strings.Join(sidecarKinds, ", ")))
		case s.Image == "" && len(s.Command) == 0 && (s.Kind == "" || s.Kind == "other"):
			add(p.fail(at+".image", "name an image, or a command of the host's", "service %s has neither an image nor a command", s.Name))
		case s.Port < 0 || s.Port > 65535:
			add(p.fail(at+".port", "", "%d is outside 0 to 65535", s.Port))
		case s.TimeoutSeconds < 0 || s.TimeoutSeconds > 3600:
			add(p.fail(at+".timeout_seconds", "", "%d is outside 0 to 3600", s.TimeoutSeconds))
		case s.MemoryMB < 0 || s.MemoryMB > p.Policy.MaxMemoryMB:
			add(p.fail(at+".memory_mb", "", "%d is outside 0 to policy.max_memory_mb, %d", s.MemoryMB, p.Policy.MaxMemoryMB))
		case s.PasswordFile != "" && s.PasswordEnv != "":
			add(p.fail(at+".password_env", "remove one of the two", "the password of %s is said to be in two places", s.Name))
		}
		seen[s.Name] = true
		for j, file := range s.Init {
			if !localPath(file) {
				add(p.fail(at+".init."+strconv.Itoa(j), "", "%q is not a path below the project", file))
			}
		}
	}
	if len(p.Cleanroom.Services) > 0 && p.Cleanroom.Network == "none" {
		if _, given := p.settings["cleanroom.network"]; given {
			add(p.fail("cleanroom.network", `leave it out, or write "internal"`, "none keeps tests and their services apart"))
		}
		p.Cleanroom.Network = "internal"
	}
	if n := len(p.Cleanroom.Services); n > p.Policy.MaxContainers {
		add(p.fail("cleanroom.service", "", "%d services are more than policy.max_containers, %d", n, p.Policy.MaxContainers))
	}
}

var (
	sidecarKinds = []string{"postgres", "redis", "other"}
	sidecarName  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`) })
)

// lowerDefaults keeps a default from breaking a policy that is stricter than it.
func (p *Project) lowerDefaults() {
	if _, given := p.settings["cleanroom.memory_mb"]; !given {
		p.Cleanroom.MemoryMB = min(p.Cleanroom.MemoryMB, p.Policy.MaxMemoryMB)
	}
	if _, given := p.settings["cleanroom.cpus"]; !given {
		p.Cleanroom.CPUs = min(p.Cleanroom.CPUs, p.Policy.MaxCPUs)
	}
}

func (p *Project) checkNumbers(add func(error)) {
	const day = 24 * 60 * 60
	for _, r := range []struct {
		setting      string
		value        float64
		least, most  float64
		notMoreThan  string
		ceilingValue float64
	}{
		{setting: "query.max_rows", value: float64(p.Query.MaxRows), least: 1, most: 1 << 30},
		{setting: "query.timeout_seconds", value: float64(p.Query.TimeoutSeconds), least: 1, most: day},
		{setting: "query.max_memory_mb", value: float64(p.Query.MaxMemoryMB), least: 1, most: 1 << 22},
		{setting: "query.max_depth", value: float64(p.Query.MaxDepth), least: 1, most: 10_000},
		{setting: "query.max_path_length", value: float64(p.Query.MaxPathLength), least: 1, most: 1 << 30},
		{setting: "template.rdf_cache_ttl_seconds", value: float64(p.Template.RDFCacheTTLSeconds), most: 365 * day},
		{setting: "cleanroom.memory_mb", value: float64(p.Cleanroom.MemoryMB), least: 16, most: 1 << 22, notMoreThan: "policy.max_memory_mb", ceilingValue: float64(p.Policy.MaxMemoryMB)},
		{setting: "cleanroom.cpus", value: p.Cleanroom.CPUs, least: 0.01, most: 4096, notMoreThan: "policy.max_cpus", ceilingValue: p.Policy.MaxCPUs},
		{setting: "cleanroom.pids", value: float64(p.Cleanroom.PIDs), least: 1, most: 1 << 22},
		{setting: "cleanroom.disk_mb", value: float64(p.Cleanroom.DiskMB), least: 1, most: 1 << 24},
		{setting: "cleanroom.timeout_seconds", value: float64(p.Cleanroom.TimeoutSeconds), least: 1, most: day},
		{setting: "cleanroom.package.port", value: float64(p.Cleanroom.Package.Port), most: 65535},
		{setting: "testing.test_timeout_seconds", value: float64(p.Testing.TestTimeoutSeconds), least: 1, most: day},
		{setting: "testing.retries", value: float64(p.Testing.Retries), most: 100},
		{setting: "testing.max_parallel_tests", value: float64(p.Testing.MaxParallelTests), least: 1, most: 1024},
		{setting: "template.max_parallel_files", value: float64(p.Template.MaxParallelFiles), least: 1, most: 1024},
		{setting: "market.cache_ttl_seconds", value: float64(p.Market.CacheTTLSeconds), most: 365 * day},
		{setting: "policy.max_memory_mb", value: float64(p.Policy.MaxMemoryMB), least: 16, most: 1 << 22},
		{setting: "policy.max_cpus", value: p.Policy.MaxCPUs, least: 0.01, most: 4096},
		{setting: "policy.max_containers", value: float64(p.Policy.MaxContainers), least: 1, most: 1 << 16},
		{setting: "service.port", value: float64(p.Service.Port), most: 65535},
		{setting: "service.stop_timeout_seconds", value: float64(p.Service.StopTimeoutSeconds), least: 1, most: 3600},
		{setting: "deploy.drain_seconds", value: float64(p.Deploy.DrainSeconds), most: 3600},
		{setting: "deploy.health_timeout_seconds", value: float64(p.Deploy.HealthTimeoutSeconds), least: 1, most: 3600},
	} {
		switch {
		case r.value < r.least || r.value > r.most:
			add(p.fail(r.setting, "", "%s is outside %s to %s", plain(r.value), plain(r.least), plain(r.most)))
		case r.notMoreThan != "" && r.value > r.ceilingValue:
			add(p.fail(r.setting, "", "%s is more than %s, %s", plain(r.value), r.notMoreThan, plain(r.ceilingValue)))
		}
	}
}

// plain writes a number without an exponent.
func plain(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

func (p *Project) checkWords(add func(error)) {
	for _, w := range []struct {
		setting, value string
	}{
		{"cleanroom.min_isolation", p.Cleanroom.MinIsolation},
		{"cleanroom.network", p.Cleanroom.Network},
		{"cleanroom.prepare.network", p.Cleanroom.Prepare.Network},
		{"cleanroom.package.builder", p.Cleanroom.Package.Builder},
		{"cleanroom.package.build_network", p.Cleanroom.Package.BuildNetwork},
		{"backend.type", p.Backend.Type},
		{"environment.default_network", p.Environment.DefaultNetwork},
		{"template.engine", p.Template.Engine},
		{"deploy.target", p.Deploy.Target},
		{"deploy.strategy", p.Deploy.Strategy},
		{"metrics.output_format", p.Metrics.OutputFormat},
	} {
		if known := choices[w.setting]; !slices.Contains(known, w.value) {
			hint := fault.DidYouMean(w.value, known)
			add(p.fail(w.setting, hint, "%q is not one of %s", w.value, strings.Join(known, ", ")))
		}
	}
	if p.Deploy.Environment == "" || strings.ContainsAny(p.Deploy.Environment, "/\\ .") {
		add(p.fail("deploy.environment", "", "%q is not a name: no spaces, dots or slashes", p.Deploy.Environment))
	}
}

// runners are the kinds of tests.
var runners = []string{"go", "rs", "ts", "js", "py", "bats", "sh"}

func (p *Project) checkTests(add func(error)) {
	if r := p.Cleanroom.Runner; r != "" && !slices.Contains(runners, r) {
		add(p.fail("cleanroom.runner", fault.DidYouMean(r, runners), "%q is not one of %s", r, strings.Join(runners, ", ")))
	}
	for i, s := range p.Cleanroom.Suites {
		at := "cleanroom.suite." + strconv.Itoa(i)
		switch {
		case s.Runner == "" && len(s.Command) == 0:
			add(p.fail(at, `write runner = "sh", or the command that tests`, "neither a runner nor a command"))
		case s.Runner != "" && !slices.Contains(runners, s.Runner):
			add(p.fail(at+".runner", fault.DidYouMean(s.Runner, runners), "%q is not one of %s", s.Runner, strings.Join(runners, ", ")))
		}
		if s.Dir != "" && !localPath(s.Dir) {
			add(p.fail(at+".dir", "", "%q is not a path below the tree", s.Dir))
		}
	}
	for i, q := range p.Quarantine {
		at := "quarantine." + strconv.Itoa(i)
		for _, field := range []struct{ name, value string }{{"test", q.Test}, {"owner", q.Owner}, {"reason", q.Reason}} {
			if strings.TrimSpace(field.value) == "" {
				add(p.fail(at+"."+field.name, "", "empty"))
			}
		}
		if _, err := time.Parse(time.DateOnly, q.Expiry); err != nil {
			add(p.fail(at+".expiry", `write the last day as "2027-01-31"`, "%q is not a date", q.Expiry))
		}
	}
}

// safeOutput refuses what is not a directory below the project or belongs to others.
func safeOutput(dir string) error {
	if !localPath(dir) {
		return fmt.Errorf("%q is not a path below the project", dir)
	}
	first, _, _ := strings.Cut(path.Clean(dir), "/")
	if slices.ContainsFunc([]string{".git", ".ggen", ".cleanroom"}, func(name string) bool { return strings.EqualFold(first, name) }) {
		return fmt.Errorf("%q is not for generated files", dir)
	}
	return nil
}

// localPath reports whether name is a relative path with forward slashes that
// stays below where it begins, on every platform.
func localPath(name string) bool {
	return name != "" && !path.IsAbs(name) && !strings.ContainsAny(name, "\\:\x00") && path.Clean(name) != ".." && !strings.HasPrefix(path.Clean(name), "../")
}
