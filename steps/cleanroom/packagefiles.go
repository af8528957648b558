package cleanroom

import (
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// depsName is the directory of an image that holds dependencies which are not looked
// for in the tree.
const depsName = "deps"

// output returns what the image holds, a layer each, what changes least at first:
// prepared dependencies, the tested tree below [treeName] where nothing is compiled,
// else the files of it that were asked for and the program.
func (t *trial) output() ([]fs.FS, error) {
	var roots []fs.FS
	tree := t.room.treeRoot.FS()
	if len(t.step.Package.Files) > 0 {
		chosen, err := choose(tree, t.step.Package.Files)
		if err != nil {
			return nil, err
		}
		roots = append(roots, below{treeName, chosen})
	} else if !t.packaged.packs {
		roots = append(roots, below{treeName, tree})
	}
	if !t.packaged.packs {
		if t.step.Package.Base == "" {
			return roots, nil // nothing in the image could use dependencies
		}
		deps, err := t.packedDependencies()
		return append(deps, roots...), err
	}
	program, err := onlyFile(t.room.outRoot, t.program.name)
	return append(roots, program), err
}

// choose returns a file system with the files of the tree that match a pattern.
func choose(tree fs.FS, patterns []string) (fs.FS, error) {
	kept, matched := map[string]bool{".": true}, map[string]bool{}
	files := 0
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if files++; files > maxTreeFiles {
			return fault.New(fault.Finding, "", "the tree has more than %d files", maxTreeFiles)
		}
		for _, pattern := range patterns {
			if !match(pattern, name) {
				continue
			}
			matched[pattern] = true
			for at := name; at != "."; at = path.Dir(at) {
				kept[at] = true
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, pattern := range patterns {
		if !matched[pattern] {
			return nil, fault.New(fault.Finding, "correct files in [cleanroom.package]", "no file of the tree matches %q, which the image is to hold", pattern)
		}
	}
	return some{tree, func(name string, _ fs.DirEntry) bool { return kept[name] }}, nil
}

// packedDependencies returns the prepared dependencies of the suites whose language
// looks for them when the program runs, where the image has them.
func (t *trial) packedDependencies() ([]fs.FS, error) {
	var roots []fs.FS
	seen := map[string]bool{}
	for _, s := range t.suites {
		if s.deps == nil {
			continue
		}
		from, err := fs.Sub(os.DirFS(s.deps.mount.Source), ".")
		if err != nil {
			return nil, err
		}
		switch at := path.Join(treeName, s.deps.link); {
		case s.kind() == Python:
			libraries, err := fs.Glob(from, sitePackages)
			if err != nil || len(libraries) != 1 {
				return nil, fault.New(fault.Internal, "", "the dependencies of %s have %d directories %s", s.name, len(libraries), sitePackages)
			}
			if from, err = fs.Sub(from, libraries[0]); err != nil {
				return nil, err
			}
			roots = append(roots, under(path.Join(depsName, s.name), some{from, keepPython}))
		case s.deps.link != "" && !seen[at]:
			seen[at] = true
			if from, err = fs.Sub(from, s.deps.target); err != nil {
				return nil, err
			}
			roots = append(roots, under(at, from))
		}
	}
	return roots, nil
}

// sitePackages is where a virtual environment has its packages.
const sitePackages = "lib/python*/site-packages"

// keepPython leaves out what differs between two installations of the same packages:
// byte code, which has the time of its source, and the list of installed files, which
// has digests of scripts that name the path of the interpreter.
func keepPython(name string, d fs.DirEntry) bool {
	return d.Name() != "__pycache__" && !(d.Name() == "RECORD" && strings.HasSuffix(path.Dir(name), ".dist-info"))
}

// dependencyEnv returns the variables by which dependencies are found in the image.
func (t *trial) dependencyEnv() map[string]string {
	var paths []string
	for _, s := range t.suites {
		if s.deps != nil && s.kind() == Python && !t.packaged.packs && t.step.Package.Base != "" {
			paths = append(paths, "/"+path.Join(depsName, s.name))
		}
	}
	if paths == nil {
		return nil
	}
	return map[string]string{"PYTHONPATH": strings.Join(paths, ":")}
}

// some is a file system without what is not kept.
type some struct {
	fs.FS
	keep func(name string, d fs.DirEntry) bool
}

// ReadDir lists what is kept of a directory.
func (s some) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(s.FS, name)
	return slices.DeleteFunc(entries, func(d fs.DirEntry) bool { return !s.keep(path.Join(name, d.Name()), d) }), err
}

// ReadLink returns where a link leads.
func (s some) ReadLink(name string) (string, error) { return fs.ReadLink(s.FS, name) }

// Lstat describes a file, a link as itself.
func (s some) Lstat(name string) (fs.FileInfo, error) { return fs.Lstat(s.FS, name) }

// under returns a file system that has another one at a path.
func under(at string, fsys fs.FS) fs.FS {
	for at != "." {
		fsys = below{path.Base(at), fsys}
		at = path.Dir(at)
	}
	return fsys
}
