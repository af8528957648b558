package sandbox

import (
	"cmp"
	"regexp"
	"strings"
	"sync"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Transport says how the bytes of an image are reached.
type Transport string

const (
	// FromRegistry is a registry that speaks the OCI distribution specification.
	FromRegistry Transport = ""
	// FromLayout is a directory with an OCI image layout.
	FromLayout Transport = "layout"
	// FromTarball is a file that `docker save` or a tool like it wrote.
	FromTarball Transport = "tarball"
)

// DefaultRegistry is where an image is looked for whose name has no registry.
const DefaultRegistry = "docker.io"

// Reference names an image in full. It is comparable, and its zero value names nothing.
type Reference struct {
	Transport Transport
	// Path is the directory of a layout or the file of a tarball.
	Path string
	// Registry is "host" or "host:port"; only with [FromRegistry].
	Registry string
	// Repository is the path in the registry, "library/postgres". With the other
	// transports it is the name that the image has there, or empty.
	Repository string
	// Tag is never empty with [FromRegistry].
	Tag string
	// Digest is that of the manifest or of the index; empty if the reference is
	// not pinned.
	Digest state.Digest
}

// aliases are the names that stand for a version (C-11). Only the bare name does:
// "postgres:16" is what it says.
var aliases = map[string]string{"postgres": "15", "redis": "7"}

// Bounds and forms of the OCI distribution specification 1.1.
const maxReference = 4096

var (
	hostForm       = lazy(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?$`)
	repositoryForm = lazy(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagForm        = lazy(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
)

// ParseReference reads an image reference as people write it:
//
//	postgres                               docker.io/library/postgres:15
//	postgres:16                            docker.io/library/postgres:16
//	nginx                                  docker.io/library/nginx:latest
//	localhost:5000/team/app:v1@sha256:…    that digest, whatever the tag says
//	layout:DIR, layout:DIR#NAME:TAG        an image of an OCI layout
//	tarball:FILE                           what docker save wrote
//
// registry is where names without a registry are looked for: empty for
// [DefaultRegistry], "host[:port][/path]", or "layout:DIR" for images that are on
// this machine. Errors are of kind fault.Usage.
func ParseReference(text, registry string) (Reference, error) {
	r, err := parseReference(text, registry)
	if err != nil {
		return Reference{}, fault.Wrap(err, fault.Usage, "write name:tag, host:port/name:tag, name@sha256:…, layout:DIR or tarball:FILE",
			"image reference "+quoted(text))
	}
	return r, nil
}

func quoted(text string) string {
	if len(text) > 200 {
		text = text[:200] + "…"
	}
	return `"` + text + `"`
}

func parseReference(text, registry string) (Reference, error) {
	if text == "" || len(text) > maxReference || strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return Reference{}, fault.New(fault.Usage, "", "it is empty, too long or has control characters")
	}
	rest, digest, err := cutDigest(text)
	if err != nil {
		return Reference{}, err
	}
	for _, transport := range []Transport{FromLayout, FromTarball} {
		if place, ok := strings.CutPrefix(rest, string(transport)+":"); ok {
			return parsePlace(transport, place, digest)
		}
	}
	name, tag := cutTag(rest)
	if tag == "" && digest == "" {
		tag = cmp.Or(aliases[name], "latest")
	}
	if strings.HasSuffix(rest, ":") || tag != "" && !tagForm().MatchString(tag) {
		return Reference{}, fault.New(fault.Usage, "", "tag %s is empty, has other characters than letters, digits, dots, dashes and underscores, or more than 128", quoted(tag))
	}
	r := Reference{Tag: tag, Digest: digest}
	host, path, found := strings.Cut(name, "/")
	if found && isHost(host) {
		r.Registry, r.Repository = host, path
	} else if err := r.placeIn(cmp.Or(registry, DefaultRegistry), name); err != nil {
		return Reference{}, err
	}
	return r.checked()
}

func cutDigest(text string) (rest string, digest state.Digest, err error) {
	i := strings.LastIndex(text, "@")
	if i < 0 {
		return text, "", nil
	}
	digest, err = state.ParseDigest(text[i+1:])
	return text[:i], digest, err
}

// cutTag splits at the last colon, unless that is the one before a port.
func cutTag(text string) (name, tag string) {
	i := strings.LastIndex(text, ":")
	if i < 0 || strings.Contains(text[i:], "/") {
		return text, ""
	}
	return text[:i], text[i+1:]
}

// isHost tells a registry from the first part of a repository, as every engine does.
func isHost(first string) bool {
	return strings.ContainsAny(first, ".:") || first == "localhost"
}

// placeIn completes a reference whose name has no registry.
func (r *Reference) placeIn(registry, name string) error {
	if dir, ok := strings.CutPrefix(registry, string(FromLayout)+":"); ok {
		r.Transport, r.Path, r.Repository = FromLayout, dir, name
		return nil
	}
	host, prefix, _ := strings.Cut(strings.TrimSuffix(registry, "/"), "/")
	if !hostForm().MatchString(host) {
		return fault.New(fault.Usage, "write host, host:port or layout:DIR", "the default registry %s is not a host", quoted(registry))
	}
	r.Registry, r.Repository = host, strings.TrimPrefix(prefix+"/"+name, "/")
	return nil
}

func parsePlace(transport Transport, place string, digest state.Digest) (Reference, error) {
	path, name, named := strings.Cut(place, "#")
	r := Reference{Transport: transport, Path: path, Digest: digest}
	if path == "" || named && (name == "" || strings.HasSuffix(name, ":") || strings.HasPrefix(name, ":")) {
		return Reference{}, fault.New(fault.Usage, "", "it has no path, or no whole name after #")
	}
	r.Repository, r.Tag = cutTag(name)
	return r, nil
}

func (r Reference) checked() (Reference, error) {
	if r.Transport != FromRegistry {
		return r, nil
	}
	if r.Registry == "index.docker.io" || r.Registry == "registry-1.docker.io" {
		r.Registry = DefaultRegistry
	}
	if r.Registry == DefaultRegistry && !strings.Contains(r.Repository, "/") {
		r.Repository = "library/" + r.Repository
	}
	if !hostForm().MatchString(r.Registry) {
		return Reference{}, fault.New(fault.Usage, "", "registry %s is not a host name", quoted(r.Registry))
	}
	if len(r.Repository) > 255 || !repositoryForm().MatchString(r.Repository) {
		return Reference{}, fault.New(fault.Usage, "", "repository %s may have lower-case letters, digits, and single . _ - between them", quoted(r.Repository))
	}
	return r, nil
}

// String returns the reference in full; [ParseReference] reads it again.
func (r Reference) String() string {
	var b strings.Builder
	switch {
	case r.Transport == FromRegistry:
		b.WriteString(r.Registry + "/" + r.Repository)
	case r.Name() == "":
		b.WriteString(string(r.Transport) + ":" + r.Path)
	default:
		b.WriteString(string(r.Transport) + ":" + r.Path + "#" + r.Repository)
	}
	if r.Tag != "" {
		b.WriteString(":" + r.Tag)
	}
	if r.Digest != "" {
		b.WriteString("@" + string(r.Digest))
	}
	return b.String()
}

// Name returns repository and tag, by which a layout or a tarball knows the image.
func (r Reference) Name() string {
	if r.Tag == "" {
		return r.Repository
	}
	return r.Repository + ":" + r.Tag
}

// At returns the reference pinned to a digest.
func (r Reference) At(digest state.Digest) Reference {
	r.Digest = digest
	return r
}

// Pinned reports whether the reference names the same bytes for ever.
func (r Reference) Pinned() bool { return r.Digest != "" }

// Strict reports whether an environment, such as "production", accepts only images
// whose bytes are decided before the run.
func Strict(environment string) bool {
	switch strings.ToLower(environment) {
	case "staging", "production", "prod":
		return true
	}
	return false
}

// CheckPinned refuses, for an environment that is [Strict], a reference that is not
// pinned and that no lock file pins either; and the tag latest, locked or not, since
// nobody can tell which version it is. The error is fault.Finding.
func (r Reference) CheckPinned(environment string, locked bool) error {
	switch {
	case !Strict(environment) || r.Pinned():
		return nil
	case r.Tag == "latest":
		return fault.New(fault.Finding, "name a version, such as "+r.Repository+":1.2, or a digest",
			"image %s is refused for %s: the tag latest says nothing of what runs", r, environment)
	case r.Transport != FromRegistry:
		return fault.New(fault.Finding, "write its digest after it, as in "+r.String()+"@sha256:…",
			"image %s is refused for %s: no digest pins it", r, environment)
	case !locked:
		return fault.New(fault.Finding, "run once for development and commit the lock file of the images, or name the digest",
			"image %s is refused for %s: no digest pins it", r, environment)
	}
	return nil
}

// lazy compiles when first asked: the sandboxes' helper, which parses no reference, links
// this package, and should not pay for it at every start.
func lazy(pattern string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(pattern) })
}
