package cleanroom

import (
	"context"
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

// imageConfig returns the configuration of the image.
func (t *trial) imageConfig() state.ImageConfig {
	cfg := t.step.Package.config(t.program, t.packaged.tool)
	if !t.packaged.packs { // how a tree is started only its owner knows
		cfg.Entrypoint, cfg.WorkingDir = nil, "/"+treeName
	}
	return cfg
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

// output returns what the image holds: the program alone, or the tested tree below
// [treeName] where nothing is compiled.
//
// What makes an image of it on another base, or adds the dependencies, starts here:
// the program lies in the room's out directory, the tree in its tree, the prepared
// dependencies in suite.deps.
func (t *trial) output() (fs.FS, error) {
	if t.packaged.packs {
		return onlyFile(t.room.outRoot, t.program.name)
	}
	if err := t.removeLinks(); err != nil {
		return nil, err
	}
	return below{treeName, t.room.treeRoot.FS()}, nil
}

// pack makes an image of the output, and of nothing else.
func (t *trial) pack(ctx context.Context, blobs state.Blobs) ([]state.Artifact, error) {
	t.step.progress("package " + t.program.name)
	files, err := t.output()
	if err != nil {
		return nil, err
	}
	artifacts, err := t.step.Imager.Build(ctx, blobs, files, t.imageConfig())
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", "package "+t.program.name)
	}
	return artifacts, nil
}
