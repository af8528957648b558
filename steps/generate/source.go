package generate

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/document"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

const (
	templatesDir  = "templates"
	templateEnd   = ".tmpl"
	packManifest  = "gpack.toml"
	maxSourceSize = 8 << 20  // bytes of a template or include
	maxGraphSize  = 64 << 20 // bytes of a graph file of a package
)

// reference names a template (spec B1): a file of a package, or, with an empty
// pack, of the project.
type reference struct{ pack, file string }

func (r reference) String() string {
	if r.pack == "" {
		return r.file
	}
	return r.pack + ":" + r.file
}

// isPattern reports whether the file part names several templates.
func (r reference) isPattern() bool { return r.pack != "" && strings.ContainsAny(r.file, "*?[") }

// parseReference reads "<package>:<file>", with exactly one colon, or a path.
func parseReference(text string) (reference, error) {
	bad := func(why string) error {
		return fault.New(fault.Usage, "write <package>:<file>, for example go-http-service:main.go.tmpl", "template reference %.200q %s", text, why)
	}
	pack, file, found := strings.Cut(text, ":")
	switch {
	case text == "":
		return reference{}, bad("is empty")
	case !found:
		pack, file = "", text
	case strings.Contains(file, ":"):
		return reference{}, bad("has more than one colon")
	case pack == "" || file == "":
		return reference{}, bad("has nothing on one side of the colon")
	case strings.ContainsAny(pack, `/\`) || pack == "..":
		return reference{}, bad("has a path for a package name")
	}
	if file = strings.TrimPrefix(file, "./"); !fs.ValidPath(file) || file == "." || strings.ContainsAny(file, "\\\x00") {
		return reference{}, bad("is not a clean path below the templates")
	}
	return reference{pack, file}, nil
}

// pack is the folder in which templates, their includes and their graphs are
// found: a package, or, with an empty id, a folder of the project.
type pack struct {
	id   string
	dir  string // of a local package, for messages; empty if that is not known
	root string // of a folder of the project, relative to it
	fsys fs.FS
	// base is the folder below which templates are named; "." or "templates".
	base string
	// flat is set for the project folder itself: a template at its top sees the
	// files beside it, not the whole project.
	flat bool
	// dependencies are the packages whose files an include may name.
	dependencies map[string]bool
	// variables are those that the package declares, in the order of its manifest.
	variables []Variable
}

// read returns a file below base. What leads out of it does not exist. A folder of
// the project is an input without its links: no other folder is read with one in it.
func (p *pack) read(file string, limit int) ([]byte, error) {
	if !fs.ValidPath(file) || file == "." || strings.Contains(file, `\`) || p.flat && strings.Contains(file, "/") {
		return nil, &fs.PathError{Op: "open", Path: file, Err: fs.ErrNotExist}
	}
	if info, err := fs.Lstat(p.fsys, path.Join(p.base, file)); p.flat && err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return nil, fault.New(fault.Finding, "replace it by a regular file", "%s is a symbolic link", file)
	}
	return readFile(p.fsys, path.Join(p.base, file), limit)
}

// name returns how messages and includes name a file below base.
func (p *pack) name(file string) string {
	if p.id == "" {
		return path.Join(p.root, file)
	}
	return p.id + ":" + file
}

// library finds packages. It is filled before rendering begins and only read then.
type library struct {
	packs map[string]*pack
}

// library reads the packages of the market entry, or takes the local ones.
func (s *Step) library(ctx context.Context, in state.State, blobs state.Blobs) (*library, error) {
	lib := &library{packs: map[string]*pack{}}
	link, ok := in.Last(phase.Market)
	if !ok {
		for _, id := range slices.Sorted(maps.Keys(s.Packages)) {
			p, err := localPack(id, s.PackageDirs[id], s.Packages[id])
			if err != nil {
				return nil, err
			}
			lib.packs[id] = p
		}
		return lib, nil
	}
	for _, known := range link.Entry.Market.Packages {
		p, err := marketPack(ctx, &link.Entry, known, blobs)
		if err != nil {
			return nil, err
		}
		lib.packs[known.ID] = p
	}
	return lib, nil
}

func marketPack(ctx context.Context, entry *state.Entry, known state.Package, blobs state.Blobs) (*pack, error) {
	artifact, ok := entry.Artifact(state.ArtifactPackage(known.ID))
	if !ok {
		return nil, fault.New(fault.Finding, "run market again", "the market entry has no artifact for package %s", known.ID)
	}
	archive, err := state.ReadBlob(ctx, blobs, artifact)
	if err != nil {
		return nil, err
	}
	t, err := unpack(archive)
	if err != nil {
		return nil, fmt.Errorf("package %s: %w", known.ID, err)
	}
	p := &pack{id: known.ID, fsys: t, base: templatesDir, dependencies: map[string]bool{}}
	for _, dependency := range known.Dependencies {
		id, _, _ := strings.Cut(dependency, "@")
		p.dependencies[id] = true
	}
	manifest, err := p.manifest()
	if err == nil && manifest != nil {
		err = p.declare(manifest)
	}
	return p, err
}

// manifest returns the manifest of a package, or nil if it has none.
func (p *pack) manifest() (*document.Node, error) {
	b, err := readFile(p.fsys, packManifest, document.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("package %s: %w", p.id, err)
	}
	manifest, err := document.ParseTOML(path.Join(cmp.Or(p.dir, p.id), packManifest), b)
	if err != nil {
		return nil, asFinding(err, "package "+p.id)
	}
	return manifest, nil
}

func (p *pack) declare(manifest *document.Node) (err error) {
	if p.variables, err = declared(manifest); err != nil {
		return asFinding(err, "package "+p.id)
	}
	return nil
}

// localPack reads the dependencies of a local package from its manifest, if it has one.
func localPack(id, dir string, fsys fs.FS) (*pack, error) {
	p := &pack{id: id, dir: dir, fsys: fsys, base: templatesDir, dependencies: map[string]bool{}}
	manifest, err := p.manifest()
	if err != nil || manifest == nil {
		return p, err
	}
	if dependencies := manifest.Get("dependencies"); dependencies != nil {
		for _, key := range dependencies.Keys() {
			p.dependencies[key] = true
		}
	}
	return p, p.declare(manifest)
}

// localFolder returns the folder of the project that a template by path belongs
// to: the nearest one called templates above it, or its own.
func (s *Step) localFolder(ref reference) (*pack, error) {
	if s.Files == nil {
		return nil, fault.New(fault.Usage, "write <package>:<file>", "template %s names no package", ref)
	}
	root := path.Dir(ref.file)
	for folder := root; folder != "."; folder = path.Dir(folder) {
		if path.Base(folder) == templatesDir {
			root = folder
			break
		}
	}
	fsys, err := fs.Sub(s.Files, root)
	if err != nil {
		return nil, err
	}
	return &pack{root: root, fsys: fsys, base: ".", flat: root == ".", dependencies: map[string]bool{}}, nil
}

// template is a loaded template.
type template struct {
	pack *pack
	// file is its path below the pack's base, name how messages call it.
	file, name string
	header     header
	body       string
	bodyLine   int // of the file, from 1
	lines      []string
	warnings   []finding.Finding
}

// place returns a position in the template.
func (t *template) place(line int) finding.Place { return finding.Place{File: t.name, Line: line} }

// expand returns the templates that a unit names, patterns resolved in sorted
// order: only files that end in .tmpl and whose name does not begin with "_". A
// pattern without a slash matches names in all folders.
func (lib *library) expand(s *Step, unit *Unit) ([]reference, *pack, error) {
	ref, err := parseReference(unit.Template)
	if err != nil {
		return nil, nil, err
	}
	if ref.pack == "" {
		p, err := s.localFolder(ref)
		if err != nil {
			return nil, nil, err
		}
		inside := ref.file
		if p.root != "." {
			inside = strings.TrimPrefix(ref.file, p.root+"/")
		}
		return []reference{{"", inside}}, p, nil
	}
	p := lib.packs[ref.pack]
	if p == nil {
		return nil, nil, lib.unknownPackage(ref)
	}
	if !ref.isPattern() {
		return []reference{ref}, p, nil
	}
	names, err := p.templates()
	if err != nil {
		return nil, nil, err
	}
	var out []reference
	for _, name := range names {
		subject := name
		if !strings.Contains(ref.file, "/") {
			subject = path.Base(name)
		}
		matched, err := path.Match(ref.file, subject)
		if err != nil {
			return nil, nil, fault.New(fault.Usage, "", "template pattern %s: %w", ref, err)
		}
		if matched && !strings.HasPrefix(path.Base(name), "_") {
			out = append(out, reference{ref.pack, name})
		}
	}
	if len(out) == 0 {
		return nil, nil, fault.New(fault.Finding, listHint(names), "no template of package %s matches %q", ref.pack, ref.file)
	}
	return out, p, nil
}

func (lib *library) unknownPackage(ref reference) error {
	known := slices.Sorted(maps.Keys(lib.packs))
	hint := fault.DidYouMean(ref.pack, known)
	switch {
	case hint == "" && len(known) > 0:
		hint = "known packages are " + strings.Join(known, ", ")
	case hint == "":
		hint = "name its directory with --package, or install it: list it under [packages], and give --state what `market add` prints"
	}
	return fault.New(fault.Finding, hint, "package %q of template %s is not installed", ref.pack, ref)
}

// templates returns the sorted paths of all template files below base.
func (p *pack) templates() ([]string, error) {
	var names []string
	err := fs.WalkDir(p.fsys, p.base, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.HasSuffix(name, templateEnd) {
			names = append(names, strings.TrimPrefix(name, p.base+"/"))
		}
		if len(names) > maxEntries {
			return fault.New(fault.Finding, "", "more than %d templates", maxEntries)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list templates of %s: %w", p.name("*"), err)
	}
	slices.Sort(names)
	return names, nil
}

// load reads a template and the structure of its front matter.
func (p *pack) load(file string) (*template, error) {
	name := p.name(file)
	source, err := p.read(file, maxSourceSize)
	if errors.Is(err, fs.ErrNotExist) {
		names, _ := p.templates() // best effort: the names only explain
		hint := listHint(names)
		if near, ok := fault.Nearest(file, names); ok {
			hint = fmt.Sprintf("did you mean %q?", p.name(near))
		}
		return nil, fault.New(fault.Finding, hint, "template %s does not exist", name)
	}
	if err != nil {
		return nil, fmt.Errorf("template %s: %w", name, err)
	}
	t := &template{pack: p, file: file, name: name}
	front, body, bodyLine, found, err := split(string(source))
	if err != nil {
		return nil, fault.New(fault.Finding, "close it with a line of three dashes", "%s:1: %w", name, err)
	}
	t.body, t.bodyLine = body, bodyLine
	if !found {
		return t, nil
	}
	t.lines = strings.Split(string(source), "\n")
	var unknown []document.Entry
	if t.header, unknown, err = parseHeader(name, front); err != nil {
		return nil, err
	}
	for _, e := range unknown {
		t.warnings = append(t.warnings, unknownKey(e))
	}
	return t, nil
}

func listHint(names []string) string {
	const most = 8
	switch {
	case len(names) == 0:
		return "the package has no templates"
	case len(names) > most:
		return fmt.Sprintf("its templates are %s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	default:
		return "its templates are " + strings.Join(names, ", ")
	}
}

// readFile reads a regular file of at most limit bytes.
func readFile(fsys fs.FS, name string, limit int) (_ []byte, err error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fault.New(fault.Finding, "", "%s is not a regular file", name)
	}
	var buf bytes.Buffer
	if _, err := io.Copy(&buf, io.LimitReader(f, int64(limit)+1)); err != nil {
		return nil, err
	}
	if buf.Len() > limit {
		return nil, fault.New(fault.Finding, "", "%s has more than %d bytes", name, limit)
	}
	return buf.Bytes(), nil
}

// include finds a file that the template called from names: beside it first, then
// below the templates of its package, and "package:path" in a declared dependency.
func (lib *library) include(home *pack, name, from string) (resolved, source string, err error) {
	if home == nil {
		return "", "", &fs.PathError{Op: "include", Path: name, Err: fs.ErrNotExist}
	}
	id, file, foreign := strings.Cut(name, ":")
	candidates := []string{path.Join(path.Dir(home.inside(from)), name), path.Clean(name)}
	if foreign {
		if id != home.id && !home.dependencies[id] {
			return "", "", fault.New(fault.Finding, "declare it under [dependencies] in its "+packManifest,
				"%s includes from package %q, which its package does not depend on", from, id)
		}
		if home = lib.packs[id]; home == nil {
			return "", "", fault.New(fault.Finding, "add it with `market add`", "%s includes from package %q, which is not installed", from, id)
		}
		candidates = []string{path.Clean(file)}
	}
	for _, candidate := range candidates {
		b, err := home.read(candidate, maxSourceSize)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", "", err
		}
		return home.name(candidate), string(b), nil
	}
	return "", "", &fs.PathError{Op: "include", Path: name, Err: fs.ErrNotExist}
}

// inside returns the path below base of a file called name.
func (p *pack) inside(name string) string {
	if p.id != "" {
		return strings.TrimPrefix(name, p.id+":")
	}
	if p.root == "." {
		return name
	}
	return strings.TrimPrefix(name, p.root+"/")
}

// loader serves the includes of one template.
type loader struct {
	lib  *library
	home *pack
}

// Load implements render.Loader. Packages include by their own rules once inside
// one: what "from" names decides, not where rendering began.
func (l loader) Load(name, from string) (resolved, source string, err error) {
	home := l.home
	if id, _, ok := strings.Cut(from, ":"); ok {
		if other := l.lib.packs[id]; other != nil {
			home = other
		}
	}
	return l.lib.include(home, name, from)
}
