package cleanroom

import (
	"context"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
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
	// User is "uid:gid" in numbers; empty means that of the base if it is a number other
	// than 0, else [DefaultUser].
	User string `json:"user,omitempty"`
	// Base is the image on which this one is built, for [Step.Bases]; empty for none.
	Base string `json:"base,omitempty"`
	// Files are patterns of files of the tree that the image holds below /app, where
	// "**" stands for any number of directories; empty means none beside a compiled
	// program, else all.
	Files []string `json:"files,omitempty"`
	// Entrypoint is what the image starts; empty means the compiled program, else what
	// the base starts. Args follow it.
	Entrypoint []string `json:"entrypoint,omitempty"`
	Args       []string `json:"args,omitempty"`
	// Env are variables of the image.
	Env map[string]string `json:"env,omitempty"`
	// Dockerfile is a file of the tree that makes the image in place of all the above,
	// built by [Step.Builder]. Builder names that, for the resume key; if it is set and
	// no file is, a Dockerfile at the root of the tree is taken where there is one.
	Dockerfile string `json:"dockerfile,omitempty"`
	Builder    string `json:"builder,omitempty"`
	// BuildNetwork is what the commands of the file reach: "none", also if it is empty,
	// or "default", what the engine lets them.
	BuildNetwork string `json:"build_network,omitempty"`
	// Labels are added to the image's own. They hold nothing that differs between runs.
	Labels map[string]string `json:"labels,omitempty"`
}

// Bases finds the images on which others are built.
type Bases interface {
	// Resolve returns the reference pinned to a digest.
	Resolve(ctx context.Context, reference string) (sandbox.Reference, error)
	// Base copies the layers of a pinned image into blobs, every byte verified.
	Base(ctx context.Context, blobs state.Blobs, reference string) (state.BaseImage, error)
}

// Labels of an image (OCI image specification, annotations).
const (
	labelTitle      = "org.opencontainers.image.title"
	labelBaseName   = "org.opencontainers.image.base.name"
	labelBaseDigest = "org.opencontainers.image.base.digest"
)

// InputBase is the name of the input of an entry whose image is built on another one.
const InputBase = "base"

var (
	programName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`) })
	userNumbers = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9]{1,10}(:[0-9]{1,10})?$`) })
)

func (p Package) check() error {
	switch {
	case p.Name != "" && !programName().MatchString(p.Name):
		return fault.New(fault.Usage, "use lower-case letters, digits, dots, hyphens and underscores", "name of the image %q", p.Name)
	case p.Port < 0 || p.Port > 65535:
		return fault.New(fault.Usage, "ports are 1 to 65535", "port of the image %d", p.Port)
	case p.User != "" && !userNumbers().MatchString(p.User):
		return fault.New(fault.Usage, `write it in numbers, for example "`+DefaultUser+`"`, "user of the image %q", p.User)
	case p.Main != "" && !fs.ValidPath(strings.TrimPrefix(p.Main, "./")):
		return fault.New(fault.Usage, "name a directory below the root of the tree", "main package %q", p.Main)
	case len(p.Entrypoint) > 0 && p.Entrypoint[0] == "":
		return fault.New(fault.Usage, "name a program of the image", "entry point of the image %q", p.Entrypoint)
	case p.Dockerfile != "" && !fs.ValidPath(p.Dockerfile):
		return fault.New(fault.Usage, "name a file below the root of the tree", "Dockerfile %q", p.Dockerfile)
	}
	for _, pattern := range p.Files {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" || path.IsAbs(pattern) || slices.Contains(strings.Split(pattern, "/"), "..") {
			return fault.New(fault.Usage, `write a pattern below the root of the tree, such as "static/**"`, "files %q of the image", pattern)
		}
	}
	for name, value := range p.Env {
		if !variableName.MatchString(name) || strings.Contains(value, "\x00") {
			return fault.New(fault.Usage, "names have letters, digits and underscores", "environment variable %q of the image", name)
		}
	}
	return nil
}

// starts reports that something is said of how the image is started.
func (p Package) starts() bool { return len(p.Entrypoint) > 0 || len(p.Args) > 0 }

// checkBase refuses a tree that is to be started where nothing can start it, before
// an hour of tests.
func (t *trial) checkBase() error {
	p := t.step.Package
	switch {
	case p.Base != "" && t.step.Bases == nil:
		return fault.New(fault.Usage, "", "nothing can find the base %q of the image", p.Base)
	case t.compiled() && (p.Base != "" && slices.Contains(systemNames, t.program.name) || len(p.Files) > 0 && t.program.name == treeName):
		return fault.New(fault.Usage, "set another name of the project", "the program %q would take the place of a directory of the image", t.program.name)
	case p.Base == "" && p.starts() && !t.compiled():
		return fault.New(fault.Usage, `name an image that holds what runs it: base = "..." in [cleanroom.package] of ggen.toml`,
			"an image of a tree of kind %s has an entry point and no base", t.packaged.kind())
	case len(p.Files) > 0:
		_, err := choose(t.work.tree.FS(), p.Files)
		return err
	}
	return nil
}

// systemNames are the directories at the root of systems (Filesystem Hierarchy
// Standard 3.0, chapter 3).
var systemNames = []string{
	"bin", "boot", "dev", "etc", "home", "lib", "lib32", "lib64", "media", "mnt", "opt", "proc", "root", "run", "sbin", "srv", "sys", "tmp", "usr", "var",
}

// compiled reports that a build may make a program for the image.
func (t *trial) compiled() bool {
	switch t.packaged.runner.(type) {
	case golang, cargo:
		return !t.program.library
	}
	return false
}

// imageConfig returns the configuration of the image on the base.
func (t *trial) imageConfig(base state.BaseImage) (state.ImageConfig, error) {
	p, tool := t.step.Package, t.packaged.tool
	cfg := state.ImageConfig{User: p.user(base), Entrypoint: p.Entrypoint, Cmd: p.Args, OS: tool.OS, Architecture: tool.Arch, Labels: p.labels(t.program.name, base)}
	if p.Port != 0 {
		cfg.Ports = []string{strconv.Itoa(p.Port) + "/tcp"}
	}
	switch {
	case !t.packaged.packs || len(p.Files) > 0:
		cfg.WorkingDir = "/" + treeName
	case base.Digest == "":
		cfg.WorkingDir = "/"
	}
	if t.packaged.packs {
		if len(cfg.Entrypoint) == 0 {
			cfg.Entrypoint = []string{"/" + t.program.name}
		}
		if on := base.Config; base.Digest != "" && (on.OS != tool.OS || on.Architecture != tool.Arch) {
			return cfg, fault.New(fault.Finding, "choose a base for the platform of the program", "the base is for %s/%s, the program for %s/%s", on.OS, on.Architecture, tool.OS, tool.Arch)
		}
	} else if base.Digest != "" {
		cfg.OS, cfg.Architecture = "", "" // those of the base: a tree runs where its interpreter does
	}
	env := maps.Clone(p.Env)
	for name, value := range t.dependencyEnv() {
		if _, ok := env[name]; !ok {
			if env == nil {
				env = map[string]string{}
			}
			env[name] = value
		}
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		cfg.Env = append(cfg.Env, name+"="+env[name])
	}
	return cfg, nil
}

// user returns who owns the process. The base's own is taken where it says so in
// numbers, by which a platform sees that it is not root.
func (p Package) user(base state.BaseImage) string {
	id, _, _ := strings.Cut(base.Config.User, ":")
	switch {
	case p.User != "":
		return p.User
	case userNumbers().MatchString(base.Config.User) && strings.Trim(id, "0") != "":
		return base.Config.User
	}
	return DefaultUser
}

func (p Package) labels(name string, base state.BaseImage) map[string]string {
	labels := map[string]string{labelTitle: name}
	if base.Digest != "" {
		labels[labelBaseDigest] = string(base.Digest)
	}
	if base.Name != "" {
		labels[labelBaseName] = base.Name
	}
	maps.Copy(labels, p.Labels)
	return labels
}

// pack makes an image of the output, and of nothing else, and says so in the entry.
func (t *trial) pack(ctx context.Context, blobs state.Blobs, e *state.Entry) error {
	t.step.progress("package " + t.program.name)
	if err := t.removeLinks(); err != nil {
		return err
	}
	var base state.BaseImage
	var err error
	if t.builder != "" {
		e.Artifacts, err = t.buildDockerfile(ctx, blobs)
	} else {
		base, e.Artifacts, err = t.buildImage(ctx, blobs)
	}
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "", "package "+t.program.name)
	}
	if base.Digest != "" {
		e.Inputs = append(e.Inputs, state.Input{Name: InputBase, Digest: base.Digest})
	}
	image, ok := e.Artifact(state.ArtifactImage)
	if !ok {
		return fault.New(fault.Internal, "", "the image builder returned no artifact %q", state.ArtifactImage)
	}
	e.Cleanroom.Image = image.Digest
	return t.attach(ctx, blobs, e, image, base)
}

// buildImage makes the image of the output, on the base.
func (t *trial) buildImage(ctx context.Context, blobs state.Blobs) (base state.BaseImage, made []state.Artifact, err error) {
	if base, err = t.base(ctx, blobs); err != nil {
		return base, nil, err
	}
	roots, err := t.output()
	if err != nil {
		return base, nil, err
	}
	cfg, err := t.imageConfig(base)
	if err != nil {
		return base, nil, err
	}
	made, err = t.step.Imager.BuildOn(ctx, blobs, base, roots, cfg)
	return base, made, err
}

// attach adds what the image holds and from what it was made, as referrers of it.
func (t *trial) attach(ctx context.Context, blobs state.Blobs, e *state.Entry, image state.Artifact, base state.BaseImage) error {
	var own []state.Artifact
	for i := len(base.Layers); ; i++ {
		layer, ok := e.Artifact(state.ArtifactImageLayer(i))
		if !ok {
			break
		}
		own = append(own, layer)
	}
	in, err := takeInventory(ctx, blobs, own)
	if err != nil {
		return err
	}
	if t.builder == "" && t.packaged.packs && t.packaged.kind() == Rust {
		if b, err := readBounded(t.work.tree, path.Join(t.packaged.dir(), "Cargo.lock"), maxLock); err == nil {
			in.named[t.program.name] = append(in.named[t.program.name], cargoPackages(b)...)
		}
	}
	sbom, err := bill(t.program.name, image.Digest, base, in)
	if err != nil {
		return err
	}
	made, err := t.provenance(image.Digest, base)
	if err != nil {
		return err
	}
	for _, r := range []struct {
		name, mediaType string
		content         []byte
	}{{state.ReferrerSBOM, state.MediaTypeSPDX, sbom}, {state.ReferrerProvenance, state.MediaTypeInToto, made}} {
		artifacts, err := t.step.Imager.Attach(ctx, blobs, image, r.name, r.mediaType, r.content)
		if err != nil {
			return fault.Wrap(err, fault.Unavailable, "", "keep the "+r.name+" of the image")
		}
		e.Artifacts = append(e.Artifacts, artifacts...)
	}
	return nil
}

// base brings the layers of the base into blobs.
func (t *trial) base(ctx context.Context, blobs state.Blobs) (state.BaseImage, error) {
	p := t.step.Package
	if p.Base == "" {
		if p.starts() && !t.packaged.packs { // a crate that has turned out to be a library
			return state.BaseImage{}, fault.New(fault.Usage, `name an image that holds what runs it: base = "..." in [cleanroom.package] of ggen.toml`,
				"the build made no program, and the image has an entry point and no base")
		}
		return state.BaseImage{}, nil
	}
	t.step.progress("base " + t.baseRef.String())
	return t.step.Bases.Base(ctx, blobs, t.baseRef.String())
}

// packageFacts adds what is known of the image.
func (t *trial) packageFacts(facts map[string]string) {
	switch {
	case t.builder != "":
		facts["package.builder"] = t.builder
		if t.reproducible != "" {
			facts["package.reproducible"] = t.reproducible
		}
	case t.baseRef.Pinned():
		facts["package.base"] = t.baseRef.String()
	case !t.compiled() && !t.step.Tests.selects():
		facts["package.note"] = `the image holds the tree and nothing that runs it: to deploy it, name base and entrypoint in [cleanroom.package] of ggen.toml`
	}
}
