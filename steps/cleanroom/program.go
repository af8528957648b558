package cleanroom

import (
	"cmp"
	"go/build"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

const (
	// maxSource bounds what is read of one file to find its package, in bytes.
	maxSource = 4 << 20
	// maxFiles bounds the entries that are looked at in one directory.
	maxFiles = 5000
)

// program is what is built.
type program struct {
	// module is the module path of the tree.
	module string
	// dir is the directory of the main package, "." or "cmd/x".
	dir string
	// name is the name of the executable.
	name string
	// library is set where a module has no main package: its image is the tree, as that
	// of a language that is not compiled.
	library bool
}

// findProgram finds the main package of the tree: the one that is configured,
// else the root, else the only one in a directory below cmd. A module that has none is
// a library, unless something is said of how it runs.
func findProgram(tree *os.Root, pack Package, tool Toolchain) (program, error) {
	module, err := modulePath(tree)
	if err != nil {
		return program{}, err
	}
	p := program{module: module}
	if p.dir, err = mainPackage(tree, pack.Main, tool); err != nil {
		return program{}, err
	}
	p.name = pack.Name
	if p.library = p.dir == ""; p.library {
		if pack.Port != 0 || pack.starts() {
			return program{}, fault.New(fault.Finding, "put one at the root or in a directory below cmd", "the tree has no main package")
		}
		p.name = cmp.Or(p.name, treeName)
		return p, nil
	}
	if p.name == "" {
		p.name = path.Base(path.Join(module, p.dir))
		if !programName().MatchString(p.name) {
			return program{}, fault.New(fault.Usage, "set the name of the image", "%q, the name of the main package, cannot name an executable", p.name)
		}
	}
	return p, nil
}

// mainPackage returns the directory of the main package; empty if there is none.
func mainPackage(tree *os.Root, configured string, tool Toolchain) (string, error) {
	if configured != "" {
		dir := path.Clean(configured)
		if ok, err := isMain(tree, dir, tool); err != nil || !ok {
			return "", fault.New(fault.Finding, "name the directory of a main package", "%s is not a main package", dir)
		}
		return dir, nil
	}
	if ok, err := isMain(tree, ".", tool); err != nil || ok {
		return ".", err
	}
	entries, err := fs.ReadDir(tree.FS(), "cmd")
	if err != nil {
		entries = nil // there is no cmd
	}
	var found []string
	for _, e := range entries[:min(len(entries), maxFiles)] {
		dir := path.Join("cmd", e.Name())
		if ok, err := isMain(tree, dir, tool); e.IsDir() && err == nil && ok {
			found = append(found, dir)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", nil
	default:
		return "", fault.New(fault.Usage, "say which one is the program: main = "+strconv.Quote(found[0])+" in [cleanroom.package] of ggen.toml", "the tree has %d main packages: %s", len(found), strings.Join(found, ", "))
	}
}

// isMain reports whether a Go file of dir that counts on the toolchain's platform
// is of package main.
func isMain(tree *os.Root, dir string, tool Toolchain) (bool, error) {
	entries, err := fs.ReadDir(tree.FS(), dir)
	if err != nil {
		return false, err
	}
	on := tool.platform(tree)
	for _, e := range entries[:min(len(entries), maxFiles)] {
		name := path.Join(dir, e.Name())
		if !e.Type().IsRegular() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		b, err := readFile(tree, name)
		if err != nil {
			return false, err
		}
		// A file that does not parse is left for the compiler, which says it better.
		f, err := parser.ParseFile(token.NewFileSet(), name, b, parser.PackageClauseOnly)
		if err != nil || f.Name.Name != "main" {
			continue
		}
		if ok, err := on.MatchFile(dir, e.Name()); ok && err == nil {
			return true, nil
		}
	}
	return false, nil
}

// platform is where a program is built: by its name and its build constraint it says which
// files of a tree count.
func (t Toolchain) platform(tree *os.Root) *build.Context {
	return &build.Context{
		GOOS: t.OS, GOARCH: t.Arch, Compiler: "gc", ReleaseTags: releases(), JoinPath: path.Join,
		OpenFile: func(name string) (io.ReadCloser, error) { return tree.Open(name) },
	}
}

// releases are tags of all versions of Go: what a tree asks of its toolchain the compiler
// tells better.
var releases = sync.OnceValue(func() (tags []string) {
	const latest = 99
	for minor := range latest {
		tags = append(tags, "go1."+strconv.Itoa(minor+1))
	}
	return tags
})

// modulePath reads the module line of go.mod (Go modules reference, "go.mod files").
func modulePath(tree *os.Root) (string, error) {
	b, err := readFile(tree, "go.mod")
	if err != nil {
		return "", fault.New(fault.Finding, "the clean room builds Go modules; run `go mod init` or add a template that makes go.mod", "the tree has no go.mod at its root")
	}
	for line := range strings.Lines(string(b)) {
		line, _, _ = strings.Cut(line, "//")
		fields := strings.Fields(line)
		if len(fields) != 2 || fields[0] != "module" {
			continue
		}
		if name, err := strconv.Unquote(fields[1]); err == nil {
			return name, nil
		}
		return fields[1], nil
	}
	return "", fault.New(fault.Finding, "add a module line", "go.mod names no module")
}

func readFile(tree *os.Root, name string) ([]byte, error) {
	info, err := tree.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxSource {
		return nil, fault.New(fault.Finding, "", "%s is no regular file of at most %d bytes", name, maxSource)
	}
	return tree.ReadFile(name)
}
