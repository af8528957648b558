package generate

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/render"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Body is one template without front matter, for whoever wants to see what the
// engine makes of it.
type Body struct {
	// Name stands for the template in messages. Its folder is none of Includes.
	Name, Source string
	// Vars is a JSON object, and VarsName stands for it in messages. Empty is no variable.
	Vars     []byte
	VarsName string
	// Includes is where includes are found; nil finds none.
	Includes fs.FS
	Seed     uint64
	// Now is what templates take for the present time; zero is the Unix epoch.
	Now time.Time
	Dialect
}

// Render writes what the template gives, byte for byte, or nothing if it fails.
func (b Body) Render(ctx context.Context, w io.Writer) error {
	vars := render.NewMap()
	if len(b.Vars) > 0 {
		if err := vars.UnmarshalJSON(b.Vars); err != nil {
			var broken *render.Error
			if errors.As(err, &broken) {
				broken.File = b.VarsName
			}
			return fault.New(fault.Usage, `variables are a JSON object, as {"name": "value"}`, "variables of %s: %w", b.Name, err)
		}
	}
	o := surroundings{seed: b.Seed, now: (&Options{Now: b.Now}).now()}
	if b.Includes != nil {
		o.loader = folderLoader{b.Includes, b.Name}
	}
	return b.Dialect.engine(o).Render(ctx, w, b.Name, b.Source, vars)
}

// folderLoader finds includes beside the including file, then at the top, where the
// template called body looks too.
type folderLoader struct {
	fsys fs.FS
	body string
}

// Load implements render.Loader.
func (l folderLoader) Load(name, from string) (resolved, source string, err error) {
	if from == l.body {
		from = "."
	}
	for _, candidate := range []string{path.Join(path.Dir(from), name), path.Clean(name)} {
		if !fs.ValidPath(candidate) || strings.Contains(candidate, `\`) {
			continue // leads out of the folder
		}
		b, err := readFile(l.fsys, candidate, maxSourceSize)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		return candidate, string(b), err
	}
	return "", "", &fs.PathError{Op: "include", Path: name, Err: fs.ErrNotExist}
}
