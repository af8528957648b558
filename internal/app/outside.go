package app

import (
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/ultrafast-ci/ultrafast/internal/config"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// CheckOutside refuses, as a fault.Usage, a signing key or a trust root at path that
// lies in the project or in the workspace that the CI system has checked out, links
// followed: what writes there would decide whom to trust. Where there is no project
// file there is no project to be in.
func (a *App) CheckOutside(project *config.Project, what, path string) error {
	inside := map[string]string{"workspace": a.Platform.Root()}
	if project.File != "" {
		inside["project"] = project.Dir
	}
	for _, name := range []string{"project", "workspace"} {
		if inside[name] == "" {
			continue
		}
		home, err := resolved(inside[name])
		if err != nil {
			return fault.Wrap(err, fault.Unavailable, "", "find the "+name)
		}
		// A link in there to a file outside is as bad as the file: both ends count.
		for _, at := range []func(string) (string, error){resolved, resolvedFolder} {
			real, err := at(a.Abs(path))
			if err != nil {
				return fault.Wrap(err, fault.Usage, "name a file that can be read", what)
			}
			if rel, err := filepath.Rel(home, real); err == nil && filepath.IsLocal(rel) {
				return fault.New(fault.Usage, "keep it where the workspace cannot change it", "%s %s lies in the %s %s", what, path, name, inside[name])
			}
		}
	}
	return nil
}

// resolved returns path with every link followed; what does not exist is as it is.
func resolved(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return real, err
	}
	if parent := filepath.Dir(path); parent != path {
		if parent, err = resolved(parent); err == nil {
			return filepath.Join(parent, filepath.Base(path)), nil
		}
		return "", err
	}
	return path, nil
}

// resolvedFolder follows the links above path, not path itself.
func resolvedFolder(path string) (string, error) {
	parent, err := resolved(filepath.Dir(path))
	return filepath.Join(parent, filepath.Base(path)), err
}
