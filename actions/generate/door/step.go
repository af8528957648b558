package door

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/config"
	"github.com/ultrafast-ci/ultrafast/internal/document"
	"github.com/ultrafast-ci/ultrafast/internal/render"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/hook"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/generate"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// maxInput bounds a graph or variables file, in bytes.
const maxInput = 256 << 20

// NewStep returns the phase as project and options ask for it.
func NewStep(a *app.App, project *config.Project, o Options) (*generate.Step, error) {
	files, err := openDir(a, project.Dir)
	if err != nil {
		return nil, err
	}
	step := &generate.Step{
		Options: generate.Options{
			Vars: project.Vars, Flags: o.Vars, AllowShellChars: o.AllowShellChars, AllowCI: o.AllowCI,
			TemplateVarsWin: o.TemplateVarsWin, Strict: o.Strict, Force: o.Force, Seed: o.Seed, Limits: o.limits(project),
			Dialect: dialect(project, o.KeepMapOrder), Workers: workers(project, o),
		},
		Files:      files,
		GraphCache: graphCache(a, project),
		Log:        a.Log,
	}
	if o.AllowHooks || project.Template.AllowHooks {
		if step.Hooks, err = hooks(a, project, o); err != nil {
			return nil, err
		}
	}
	if step.Options.Now, err = fixed(a); err != nil {
		return nil, err
	}
	if o.VarsFile != "" {
		vars, err := readVars(a, o.VarsFile)
		if err != nil {
			return nil, err
		}
		step.Options.VarsFile = vars
	}
	if step.Packages, step.PackageDirs, err = localPackages(a, project.Dir, o.Package); err != nil {
		return nil, err
	}
	step.Units, err = units(project, o)
	return step, err
}

// hooks returns what runs the commands of templates: the sandbox of this machine.
func hooks(a *app.App, project *config.Project, o Options) (generate.Hooks, error) {
	level, err := sandbox.ParseLevel(cmp.Or(o.MinIsolation, project.Cleanroom.MinIsolation))
	if err != nil {
		return nil, fault.Wrap(err, fault.Usage, "", "minimum isolation")
	}
	cache, err := a.CacheDir()
	if err != nil {
		return nil, err
	}
	back := embedded.New(embedded.Options{StateDir: filepath.Join(cache, "environments"), Log: a.Log})
	return &hook.Runner{Backend: back, MinIsolation: level, Path: shownPath(a), Log: a.Log}, nil
}

// shownPath is the part of PATH that the sandbox shows: what is below /usr, and what
// links into it.
func shownPath(a *app.App) string {
	all, _ := a.Lookup("PATH")
	var shown []string
	for _, dir := range filepath.SplitList(all) {
		for _, top := range []string{"/usr/", "/bin/", "/sbin/"} {
			if strings.HasPrefix(filepath.Clean(dir)+"/", top) {
				shown = append(shown, filepath.Clean(dir))
			}
		}
	}
	return strings.Join(shown, ":")
}

// dialect returns how the project has its templates read (rows K-08 to K-10).
func dialect(project *config.Project, keepMapOrder bool) generate.Dialect {
	t := project.Template
	return generate.Dialect{
		Engine: t.Engine, Lenient: !t.StrictVariables, TrimBlocks: t.TrimBlocks, LstripBlocks: t.LstripBlocks, KeepMapOrder: keepMapOrder,
	}
}

// workers returns how many files the project has rendered at once (row K-11).
func workers(project *config.Project, o Options) int {
	if o.Workers > 0 {
		return o.Workers
	}
	if !project.Template.ParallelGeneration {
		return 1
	}
	return project.Template.MaxParallelFiles
}

// graphCache returns the cache of graphs that the project asks for (spec K-13).
func graphCache(a *app.App, project *config.Project) *generate.GraphCache {
	ttl := time.Duration(project.Template.RDFCacheTTLSeconds) * time.Second
	if !project.Template.RDFCacheEnabled {
		ttl = 0
	}
	return generate.NewGraphCache(ttl, a.Now)
}

// openDir returns the files below dir; links that lead out of it are refused.
func openDir(a *app.App, dir string) (fs.FS, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", "open "+dir)
	}
	a.AtEnd(root.Close)
	return root.FS(), nil
}

// localPackages returns the packages in dirs by id, and where each lies, relative to
// the project if it is in there.
func localPackages(a *app.App, project string, dirs []string) (packages map[string]fs.FS, at map[string]string, err error) {
	packages, at = map[string]fs.FS{}, map[string]string{}
	for _, dir := range dirs {
		files, err := openDir(a, a.Abs(dir))
		if err != nil {
			return nil, nil, err
		}
		b, err := fs.ReadFile(files, manifestName)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil, fault.New(fault.Usage, "name the directory of a package; `generate new NAME --package DIR` makes one", "package in %s: there is no %s", dir, manifestName)
		}
		if err != nil {
			return nil, nil, fault.Wrap(err, fault.Usage, "name the directory of a package", "package in "+dir)
		}
		node, err := document.ParseTOML(filepath.Join(dir, manifestName), b)
		if err != nil {
			return nil, nil, err
		}
		var manifest struct {
			Package struct {
				ID string `doc:"id,required"`
			} `doc:"gpack,required"`
		}
		if _, err := document.DecodeKnown(node, &manifest); err != nil {
			return nil, nil, err
		}
		packages[manifest.Package.ID], at[manifest.Package.ID] = files, below(project, a.Abs(dir))
	}
	return packages, at, nil
}

const manifestName = "gpack.toml"

func units(project *config.Project, o Options) ([]generate.Unit, error) {
	asked := project.Generate
	if refs := append(o.Templates, o.Template...); len(refs) > 0 {
		asked = nil
		for _, ref := range refs {
			asked = append(asked, ofProject(project, ref))
		}
	}
	if len(asked) == 0 {
		return nil, fault.New(fault.Usage, "name one, or write [[generate]] into "+config.FileName, "no template was named")
	}
	var out []generate.Unit
	for _, g := range asked {
		names := g.Graphs
		if len(o.Graph) > 0 {
			names = o.Graph
		}
		unit := generate.Unit{Template: g.Template, Vars: g.Vars, Output: g.Output}
		for _, name := range names {
			data, err := readGraph(project.Dir, name)
			if err != nil {
				return nil, err
			}
			unit.Graphs = append(unit.Graphs, generate.Graph{Name: filepath.ToSlash(name), Data: data})
		}
		out = append(out, unit)
	}
	return out, nil
}

// ofProject returns what the project says of a template named on the command line.
func ofProject(project *config.Project, ref string) config.Generate {
	for _, g := range project.Generate {
		if g.Template == ref {
			return g
		}
	}
	unit := config.Generate{Template: ref}
	if len(project.Generate) == 1 {
		unit.Vars, unit.Output, unit.Graphs = project.Generate[0].Vars, project.Generate[0].Output, project.Generate[0].Graphs
	}
	return unit
}

// readGraph reads a graph file of the project, which must lie below it.
func readGraph(dir, name string) (_ []byte, err error) {
	doing := "read graph " + name
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", doing)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	hint := "name a file below " + dir
	// Opened without waiting: a pipe may never have a writer.
	f, err := root.OpenFile(filepath.FromSlash(name), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, fault.Wrap(err, fault.Usage, hint, doing)
		case errors.Is(err, fs.ErrPermission):
			hint = "give this user the right to read it, or name another"
		}
		return nil, fault.Wrap(err, fault.Unavailable, hint, doing)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, hint, doing)
	}
	if !info.Mode().IsRegular() {
		return nil, fault.New(fault.Usage, hint, "%s: it is not a regular file (%s)", doing, info.Mode())
	}
	return readAll(f, doing)
}

func readAll(r io.Reader, doing string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", doing)
	}
	if len(b) > maxInput {
		return nil, fault.New(fault.Finding, "", "%s: more than %d bytes", doing, maxInput)
	}
	return b, nil
}

// readVars reads variables from a file: TOML by its name, else YAML or JSON.
func readVars(a *app.App, path string) (vars map[string]any, err error) {
	b, err := a.ReadFile("variables", path)
	if err != nil {
		return nil, err
	}
	parse := document.ParseYAML // which reads JSON too
	if filepath.Ext(path) == ".toml" {
		parse = document.ParseTOML
	}
	if filepath.Ext(path) == ".json" { // whose mistakes may be good YAML
		if err := checkJSON(path, b); err != nil {
			return nil, err
		}
	}
	node, err := parse(path, b)
	if err == nil {
		err = document.Decode(node, &vars)
	}
	return vars, err
}

func checkJSON(path string, b []byte) error {
	_, err := render.ParseJSON(b)
	var broken *render.Error
	if errors.As(err, &broken) {
		broken.File = path
	}
	if err != nil {
		return fault.Wrap(err, fault.Usage, "correct the file at that place", "read variables")
	}
	return nil
}
