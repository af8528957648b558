package oci

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strings"
)

// Enclose rewrites the links of the image that was unpacked below dir, so that a process
// whose root directory is another finds behind each what one finds that has dir for its
// root. A link to nothing in the image stays one to nothing.
func (Client) Enclose(ctx context.Context, dir string) (err error) {
	tree, err := OpenTree(dir)
	if err != nil {
		return StorageFault(err)
	}
	defer func() { err = errors.Join(err, tree.Close()) }()
	return StorageFault(fs.WalkDir(tree.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case d.Type()&fs.ModeSymlink == 0:
			return nil
		}
		return tree.enclose(name)
	}))
}

// engineGives are the links into what every container has whatever its image: they stay.
var engineGives = map[string]bool{
	"/dev/null": true, "/dev/zero": true, "/dev/full": true, "/dev/random": true, "/dev/urandom": true, "/dev/tty": true,
	"/dev/stdin": true, "/dev/stdout": true, "/dev/stderr": true, "/dev/fd": true, "/proc/self/fd": true,
	"/proc/self/fd/0": true, "/proc/self/fd/1": true, "/proc/self/fd/2": true, "/proc/mounts": true, "/proc/self/mounts": true,
}

// enclose rewrites one link, at a real path. One without ".." that is not absolute leads
// nowhere but below its own directory, or through another that is rewritten.
func (t *Tree) enclose(name string) error {
	target, err := t.root.Readlink(name)
	if err != nil {
		return err
	}
	if engineGives[target] || !path.IsAbs(target) && !strings.Contains("/"+target+"/", "/../") {
		return nil
	}
	to, _, err := t.Follow(name)
	if err != nil {
		to = path.Join("/", path.Dir(name), target)
		if path.IsAbs(target) {
			to = path.Clean(target)
		}
		if to = to[1:]; to == "" {
			to = "."
		}
		if _, _, err := t.Follow(to); err == nil { // by the words there is something, by the links there is not
			to = name
		}
	}
	if err := t.root.Remove(name); err != nil {
		return err
	}
	// The path has no links, so each ".." is one directory up.
	return t.root.Symlink(strings.Repeat("../", strings.Count(name, "/"))+to, name)
}
