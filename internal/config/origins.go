package config

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/document"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
)

// Origin says what a setting is and where it came from.
type Origin struct {
	// Setting is a dotted name such as "cleanroom.memory_mb".
	Setting string
	Value   string
	// From is "default", "file:line:column" or "environment NAME".
	From string
}

// source is where a setting was defined: a place in a file or a variable.
type source struct {
	place    finding.Place
	variable string
}

func (s source) String() string {
	if s.variable != "" {
		return "environment " + s.variable
	}
	return s.place.String()
}

// Names of keys that are another setting in our own words.
var (
	projectKeys = map[string]string{}
	ggenKeys    = map[string]string{
		"marketplace.registry_url":      "market.index",
		"marketplace.cache_enabled":     "market.cache_enabled",
		"marketplace.cache_ttl_seconds": "market.cache_ttl_seconds",
		"marketplace.cache_dir":         "market.cache_dir",
		"marketplace.install_dir":       "market.install_dir",
		"marketplace.verify_checksums":  "market.verify_checksums",
		"marketplace.allow_prerelease":  "market.allow_prerelease",
	}
	cleanroomKeys = map[string]string{
		"environment.default_memory_mb":       "cleanroom.memory_mb",
		"environment.default_cpus":            "cleanroom.cpus",
		"environment.default_timeout_seconds": "cleanroom.timeout_seconds",
	}
)

// note remembers the place of every key below n. Elements of lists are settings
// of their own: "generate.0.template".
func (p *Project) note(n *document.Node, path []string, rename map[string]string) {
	if len(path) > 0 {
		name := strings.Join(path, ".")
		if own, ok := rename[name]; ok {
			name = own
		}
		p.settings[name] = source{place: n.Place}
	}
	for _, e := range n.Entries {
		p.note(e.Value, append(path, e.Key), rename)
	}
	for i, item := range n.Items {
		p.note(item, append(path, strconv.Itoa(i)), rename)
	}
}

// variables are the environment variables that set something.
func (p *Project) variables() []variable {
	return []variable{
		{"GGEN_REGISTRY_URL", "market.index", text(&p.Market.Index)},
		{"GGEN_CACHE_DIR", "market.cache_dir", text(&p.Market.CacheDir)},
		{"GGEN_INSTALL_DIR", "market.install_dir", text(&p.Market.InstallDir)},
		{"GGEN_DEPLOY_ENVIRONMENT", "deploy.environment", text(&p.Deploy.Environment)},
		{"CLEANROOM_BACKEND", "backend.type", text(&p.Backend.Type)},
		{"CLEANROOM_MEMORY_MB", "cleanroom.memory_mb", integer(&p.Cleanroom.MemoryMB)},
		{"CLEANROOM_TIMEOUT_SECONDS", "cleanroom.timeout_seconds", integer(&p.Cleanroom.TimeoutSeconds)},
		{"CLEANROOM_MIN_ISOLATION", "cleanroom.min_isolation", text(&p.Cleanroom.MinIsolation)},
	}
}

type variable struct {
	name, setting string
	set           func(string) error
}

func text(target *string) func(string) error {
	return func(s string) error { *target = s; return nil }
}

func integer(target *int) func(string) error {
	return func(s string) (err error) {
		if *target, err = strconv.Atoi(s); err != nil {
			return fmt.Errorf("expected an integer, found %.40q", s)
		}
		return nil
	}
}

// readEnvironment applies the variables that are set; an empty one is unset.
func (p *Project) readEnvironment(env Lookup) error {
	for _, v := range p.variables() {
		value, ok := env(v.name)
		if !ok || value == "" {
			continue
		}
		if err := v.set(value); err != nil {
			return fault.New(fault.Usage, "correct the variable or unset it", "environment %s: %w", v.name, err)
		}
		p.settings[v.setting] = source{variable: v.name}
	}
	return nil
}

// fail returns an error about a setting at the place where it was defined. Without
// a hint of its own it has the one that always holds.
func (p *Project) fail(setting, hint, format string, args ...any) error {
	if hint == "" {
		hint = "correct the setting there"
	}
	from := "default"
	if s, ok := p.settings[setting]; ok {
		from = s.String()
	} else if s, ok := p.settings[element(setting)]; ok {
		from = s.String() // a key that the element of a list does not have
	}
	return fault.New(fault.Usage, hint, "%s: %s: "+format, append([]any{from, setting}, args...)...)
}

// element returns the element of a list that a setting is in, "generate.0" of
// "generate.0.template"; empty if it is in none.
func element(setting string) string {
	if at := strings.LastIndexByte(setting, '.'); at > 0 && setting[at-1] >= '0' && setting[at-1] <= '9' {
		return setting[:at]
	}
	return ""
}

// Origins returns the settings that a person may want to trace, in a fixed
// order, each with its effective value and where that came from.
func (p *Project) Origins() []Origin {
	list := []Origin{
		{Setting: "project.name", Value: p.Name},
		{Setting: "project.version", Value: p.Version},
		{Setting: "project.output", Value: p.Output},
		{Setting: "market.index", Value: p.Market.Index},
		{Setting: "market.cache_enabled", Value: strconv.FormatBool(p.Market.CacheEnabled)},
		{Setting: "market.cache_ttl_seconds", Value: strconv.Itoa(p.Market.CacheTTLSeconds)},
		{Setting: "market.cache_dir", Value: p.Market.CacheDir},
		{Setting: "market.install_dir", Value: p.Market.InstallDir},
		{Setting: "market.verify_checksums", Value: strconv.FormatBool(p.Market.VerifyChecksums)},
		{Setting: "market.allow_prerelease", Value: strconv.FormatBool(p.Market.AllowPrerelease)},
		{Setting: "template.engine", Value: p.Template.Engine},
		{Setting: "template.trim_blocks", Value: strconv.FormatBool(p.Template.TrimBlocks)},
		{Setting: "template.lstrip_blocks", Value: strconv.FormatBool(p.Template.LstripBlocks)},
		{Setting: "template.rdf_cache_enabled", Value: strconv.FormatBool(p.Template.RDFCacheEnabled)},
		{Setting: "template.rdf_cache_ttl_seconds", Value: strconv.Itoa(p.Template.RDFCacheTTLSeconds)},
		{Setting: "template.allow_hooks", Value: strconv.FormatBool(p.Template.AllowHooks)},
		{Setting: "query.max_rows", Value: strconv.Itoa(p.Query.MaxRows)},
		{Setting: "query.timeout_seconds", Value: strconv.Itoa(p.Query.TimeoutSeconds)},
		{Setting: "query.max_memory_mb", Value: strconv.Itoa(p.Query.MaxMemoryMB)},
		{Setting: "query.max_depth", Value: strconv.Itoa(p.Query.MaxDepth)},
		{Setting: "query.max_path_length", Value: strconv.Itoa(p.Query.MaxPathLength)},
		{Setting: "backend.type", Value: p.Backend.Type},
		{Setting: "cleanroom.runner", Value: p.Cleanroom.Runner},
		{Setting: "cleanroom.memory_mb", Value: strconv.Itoa(p.Cleanroom.MemoryMB)},
		{Setting: "cleanroom.cpus", Value: strconv.FormatFloat(p.Cleanroom.CPUs, 'g', -1, 64)},
		{Setting: "cleanroom.pids", Value: strconv.Itoa(p.Cleanroom.PIDs)},
		{Setting: "cleanroom.disk_mb", Value: strconv.Itoa(p.Cleanroom.DiskMB)},
		{Setting: "cleanroom.timeout_seconds", Value: strconv.Itoa(p.Cleanroom.TimeoutSeconds)},
		{Setting: "cleanroom.min_isolation", Value: p.Cleanroom.MinIsolation},
		{Setting: "testing.test_timeout_seconds", Value: strconv.Itoa(p.Testing.TestTimeoutSeconds)},
		{Setting: "policy.max_memory_mb", Value: strconv.Itoa(p.Policy.MaxMemoryMB)},
		{Setting: "policy.max_cpus", Value: strconv.FormatFloat(p.Policy.MaxCPUs, 'g', -1, 64)},
		{Setting: "policy.max_containers", Value: strconv.Itoa(p.Policy.MaxContainers)},
		{Setting: "service.health", Value: p.Service.Health},
		{Setting: "service.port", Value: strconv.Itoa(p.Service.Port)},
		{Setting: "service.stop_timeout_seconds", Value: strconv.Itoa(p.Service.StopTimeoutSeconds)},
		{Setting: "deploy.environment", Value: p.Deploy.Environment},
		{Setting: "deploy.target", Value: p.Deploy.Target},
		{Setting: "deploy.strategy", Value: p.Deploy.Strategy},
		{Setting: "deploy.listen", Value: p.Deploy.Listen},
		{Setting: "deploy.drain_seconds", Value: strconv.Itoa(p.Deploy.DrainSeconds)},
		{Setting: "deploy.health_timeout_seconds", Value: strconv.Itoa(p.Deploy.HealthTimeoutSeconds)},
	}
	for i := range list {
		list[i].From = "default"
		if s, ok := p.settings[list[i].Setting]; ok {
			list[i].From = s.String()
		}
	}
	return list
}
