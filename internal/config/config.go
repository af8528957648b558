package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/ultrafast-ci/ultrafast/internal/document"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// FileName is the name of the project file.
const FileName = "ggen.toml"

// maxParents is how many directories upwards the project file is looked for.
const maxParents = 64

// ErrNoProject is wrapped by the error of [Load] when there is no project file.
var ErrNoProject = errors.New("no project file")

const hintDirectory = "call it from a directory that exists, or name the project's with --project"

// Lookup returns an environment variable, as os.LookupEnv does.
type Lookup func(name string) (value string, ok bool)

// Find returns the path of the project file in dir or the nearest directory
// above it, or an error that wraps [ErrNoProject].
func Find(dir string) (string, error) {
	start, err := filepath.Abs(dir)
	if err != nil {
		return "", fault.Wrap(err, fault.Usage, hintDirectory, "project directory "+dir)
	}
	for at, n := start, 0; n < maxParents; n++ {
		file := filepath.Join(at, FileName)
		info, err := os.Stat(file)
		switch {
		case err == nil && !info.Mode().IsRegular():
			return "", fault.New(fault.Usage, "make it a regular file, or move it away", "%s is not a regular file (%s)", file, info.Mode())
		case err == nil:
			return file, nil
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return "", fault.Wrap(err, fault.Unavailable, "make the directory readable, or name the project's", "look for "+FileName)
		}
		parent := filepath.Dir(at)
		if parent == at {
			break
		}
		at = parent
	}
	return "", fault.New(fault.Usage, "create "+FileName+" there, or name the project's directory", "%w: %s is neither in %s nor above it", ErrNoProject, FileName, start)
}

// Given reports whether a file or the environment says something of the setting, a
// dotted name such as "testing.retries".
func (p *Project) Given(setting string) bool {
	_, ok := p.settings[setting]
	return ok
}

// Load reads the project that dir belongs to.
func Load(dir string, env Lookup) (*Project, error) {
	file, err := Find(dir)
	if err != nil {
		return nil, err
	}
	return read(filepath.Dir(file), file, env)
}

// LoadOrDefault is [Load], except that without a project file it returns the
// defaults for dir, with what the other files there and the environment say.
func LoadOrDefault(dir string, env Lookup) (*Project, error) {
	p, err := Load(dir, env)
	if !errors.Is(err, ErrNoProject) {
		return p, err
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fault.Wrap(err, fault.Usage, hintDirectory, "project directory "+dir)
	}
	return read(abs, "", env)
}

// read reads the files in the order in which they override each other. A file
// with an error does not hide those of the next.
func read(dir, file string, env Lookup) (*Project, error) {
	if env == nil {
		env = func(string) (string, bool) { return "", false }
	}
	p := defaults()
	p.Dir, p.File = dir, file
	p.settings = map[string]source{}
	var errs []error
	if file != "" {
		errs = append(errs, p.readFile(FileName, p.projectFile(), projectKeys))
	}
	errs = append(errs,
		p.readFile(".ggen/config.toml", p.ggenFile(), ggenKeys),
		p.readFile(".cleanroom/config.toml", p.cleanroomFile(), cleanroomKeys),
		p.readFile(".cleanroom/quarantine.toml", &quarantineFile{&p.Quarantine}, nil))
	if err := errors.Join(errs...); err != nil {
		return nil, single(errs)
	}
	if err := p.readEnvironment(env); err != nil {
		return nil, err
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	return p, p.resolve(env)
}

// single returns the only error among errs as itself, several joined.
func single(errs []error) error {
	var found []error
	for _, err := range errs {
		if err != nil {
			found = append(found, err)
		}
	}
	if len(found) == 1 {
		return found[0]
	}
	return errors.Join(found...)
}

// readFile decodes the file called name below the project into target and notes
// where its keys stand. rename gives the setting of a key whose name differs.
// A missing file is no error.
func (p *Project) readFile(name string, target any, rename map[string]string) error {
	text, err := readBounded(filepath.Join(p.Dir, filepath.FromSlash(name)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "make it a file that can be read, or move it away", "read "+name)
	}
	root, err := document.ParseTOML(name, text)
	if err != nil {
		return err
	}
	if name == FileName {
		for _, e := range root.Entries {
			if file, ok := elsewhere[e.Key]; ok {
				return fault.New(fault.Usage, "write it into "+file, "%s: [%s] is no section of %s", e.Value.Place, e.Key, FileName)
			}
		}
	}
	if err := document.Decode(root, target); err != nil {
		return err
	}
	p.note(root, nil, rename)
	return nil
}

// elsewhere are the sections of other files that are looked for in the project file.
var elsewhere = map[string]string{
	"backend": ".cleanroom/config.toml", "environment": ".cleanroom/config.toml", "containers": ".cleanroom/config.toml",
	"policy": ".cleanroom/config.toml", "metrics": ".cleanroom/config.toml",
	"marketplace": ".ggen/config.toml", "lifecycle": ".ggen/config.toml", "deployment": ".ggen/config.toml",
}

// readBounded reads at most one byte more than a document may have, so that the
// parser can tell that it is too large. A pipe, which could keep its reader for
// ever, is refused, and opening one does not wait for a writer.
func readBounded(file string) (_ []byte, err error) {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("it is not a regular file (%s)", info.Mode())
	}
	return io.ReadAll(io.LimitReader(f, document.MaxSize+1))
}

// resolve makes the paths of the market absolute. Relative ones begin at the
// project, "~" at the user's home directory; where that is unknown, as in bare
// containers, the defaults move into the project.
func (p *Project) resolve(env Lookup) error {
	for _, dir := range []struct {
		setting, base string
		path          *string
	}{{"market.cache_dir", "cache", &p.Market.CacheDir}, {"market.install_dir", "installed", &p.Market.InstallDir}} {
		path, err := p.absolute(*dir.path, env)
		if _, given := p.settings[dir.setting]; err != nil && !given {
			path, err = filepath.Join(p.Dir, ".ggen", "marketplace", dir.base), nil
		}
		if err != nil {
			return p.fail(dir.setting, "set it to an absolute path", "%w", err)
		}
		*dir.path = path
	}
	if isURL(p.Market.Index) {
		return nil
	}
	path, err := p.absolute(p.Market.Index, env)
	if err != nil {
		return p.fail("market.index", "set it to an absolute path", "%w", err)
	}
	p.Market.Index = path
	return nil
}

func (p *Project) absolute(path string, env Lookup) (string, error) {
	if rest, ok := strings.CutPrefix(path, "~"); ok && (rest == "" || rest[0] == '/' || rest[0] == filepath.Separator) {
		home, err := home(env)
		if err != nil {
			return "", fmt.Errorf("%q: %w", path, err)
		}
		return filepath.Join(home, filepath.FromSlash(rest)), nil
	}
	path = filepath.FromSlash(path)
	if filepath.IsAbs(path) {
		return filepath.Clean(path), nil
	}
	return filepath.Join(p.Dir, path), nil
}

func home(env Lookup) (string, error) {
	name := "HOME"
	if runtime.GOOS == "windows" {
		name = "USERPROFILE"
	}
	if dir, ok := env(name); ok && filepath.IsAbs(dir) {
		return dir, nil
	}
	return "", fmt.Errorf("the home directory is unknown, since %s is not set to an absolute path", name)
}

// isURL tells a URL from a path: "C:\x" is a path, "file:x" and "https://x" are not.
func isURL(s string) bool {
	scheme, _, ok := strings.Cut(s, ":")
	return ok && len(scheme) > 1 && !strings.ContainsAny(scheme, `/\.`)
}
