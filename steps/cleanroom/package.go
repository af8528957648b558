package cleanroom

import (
	"io/fs"
	"maps"
	"regexp"
	"strconv"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Package says how the image is made.
type Package struct {
	// Name is the name of the executable in the image, and its title; empty means
	// the name of the main package's directory or, at the root, of the module.
	Name string `json:"name,omitempty"`
	// Main is the directory of the main package, relative to the root of the
	// tree; empty means the root, or the only one below cmd.
	Main string `json:"package,omitempty"`
	// Port is the TCP port the program listens on; 0 for none.
	Port int `json:"port,omitempty"`
	// User is "uid:gid" in numbers; empty means [DefaultUser].
	User string `json:"user,omitempty"`
	// Labels are added to the image's own. They hold nothing that differs between runs.
	Labels map[string]string `json:"labels,omitempty"`
}

// labelTitle is the label that names an image (OCI image specification, annotations).
const labelTitle = "org.opencontainers.image.title"

var (
	programName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)
	userNumbers = regexp.MustCompile(`^[0-9]{1,10}(:[0-9]{1,10})?$`)
)

func (p Package) check() error {
	switch {
	case p.Name != "" && !programName.MatchString(p.Name):
		return fault.New(fault.Usage, "use lower-case letters, digits, dots, hyphens and underscores", "name of the image %q", p.Name)
	case p.Port < 0 || p.Port > 65535:
		return fault.New(fault.Usage, "ports are 1 to 65535", "port of the image %d", p.Port)
	case p.User != "" && !userNumbers.MatchString(p.User):
		return fault.New(fault.Usage, `write it in numbers, for example "`+DefaultUser+`"`, "user of the image %q", p.User)
	case p.Main != "" && !fs.ValidPath(strings.TrimPrefix(p.Main, "./")):
		return fault.New(fault.Usage, "name a directory below the root of the tree", "main package %q", p.Main)
	}
	return nil
}

// config returns the configuration of the image of the program.
func (p Package) config(prog program, tool Toolchain) state.ImageConfig {
	cfg := state.ImageConfig{
		User: p.User, Entrypoint: []string{"/" + prog.name}, WorkingDir: "/", OS: tool.OS, Architecture: tool.Arch,
		Labels: map[string]string{labelTitle: prog.name},
	}
	if cfg.User == "" {
		cfg.User = DefaultUser
	}
	if p.Port != 0 {
		cfg.Ports = []string{strconv.Itoa(p.Port) + "/tcp"}
	}
	maps.Copy(cfg.Labels, p.Labels)
	return cfg
}
