package generate

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// tree is a file system in memory: a plan to be packed, or an unpacked package.
// It holds regular files; folders follow from their paths.
type tree struct {
	files   map[string]*treeFile
	folders map[string][]fs.DirEntry // sorted by name
}

type treeFile struct {
	name    string // of the last component
	content []byte
	mode    fs.FileMode
}

func newTree() *tree {
	return &tree{files: map[string]*treeFile{}, folders: map[string][]fs.DirEntry{}}
}

func (t *tree) add(name string, content []byte, mode fs.FileMode) {
	t.files[name] = &treeFile{path.Base(name), content, mode}
}

// index builds the folders; no file is added afterwards.
func (t *tree) index() {
	t.folders["."] = nil
	for name, f := range t.files {
		folder := t.enter(path.Dir(name))
		t.folders[folder] = append(t.folders[folder], fs.FileInfoToDirEntry(treeInfo{f}))
	}
	for _, entries := range t.folders {
		slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	}
}

// check refuses a path that is both a file and a folder.
func (t *tree) check() error {
	for _, folder := range slices.Sorted(maps.Keys(t.folders)) {
		if t.files[folder] != nil {
			return fault.New(fault.Finding, "", "entry %.200q is both a file and a folder", folder)
		}
	}
	return nil
}

func (t *tree) enter(folder string) string {
	if _, ok := t.folders[folder]; !ok {
		t.folders[folder] = nil
		parent := t.enter(path.Dir(folder))
		entry := fs.FileInfoToDirEntry(treeInfo{&treeFile{name: path.Base(folder), mode: fs.ModeDir | 0o755}})
		t.folders[parent] = append(t.folders[parent], entry)
	}
	return folder
}

// Open implements [fs.FS].
func (t *tree) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	if f, ok := t.files[name]; ok {
		return &openFile{treeInfo{f}, bytes.NewReader(f.content)}, nil
	}
	if entries, ok := t.folders[name]; ok {
		return &openFolder{treeInfo{&treeFile{name: path.Base(name), mode: fs.ModeDir | 0o755}}, entries}, nil
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

type treeInfo struct{ f *treeFile }

func (i treeInfo) Name() string       { return i.f.name }
func (i treeInfo) Size() int64        { return int64(len(i.f.content)) }
func (i treeInfo) Mode() fs.FileMode  { return i.f.mode }
func (i treeInfo) ModTime() time.Time { return time.Unix(0, 0) }
func (i treeInfo) IsDir() bool        { return i.f.mode.IsDir() }
func (i treeInfo) Sys() any           { return nil }

type openFile struct {
	info treeInfo
	*bytes.Reader
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *openFile) Close() error               { return nil }

type openFolder struct {
	info treeInfo
	left []fs.DirEntry
}

func (f *openFolder) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *openFolder) Close() error               { return nil }
func (f *openFolder) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: f.info.Name(), Err: errors.New("is a folder")}
}

// ReadDir implements [fs.ReadDirFile].
func (f *openFolder) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 || n > len(f.left) {
		if n > 0 && len(f.left) == 0 {
			return nil, io.EOF
		}
		n = len(f.left)
	}
	out := slices.Clone(f.left[:n])
	f.left = f.left[n:]
	return out, nil
}

// treeOf reads a tree into memory, with the bounds of one that is unpacked. Links and
// what tools keep for themselves are left out.
func treeOf(fsys fs.FS) (*tree, error) {
	if t, ok := fsys.(*tree); ok {
		return t, nil
	}
	t := newTree()
	n, left := 0, int64(maxArchive)
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if _, forbidden := forbiddenFolder(path.Base(name)); forbidden && d.IsDir() {
			return fs.SkipDir
		}
		if n++; n > maxEntries {
			return fault.New(fault.Finding, "name the tree that was generated, and nothing above it", "more than %d files and folders", maxEntries)
		}
		if !d.Type().IsRegular() {
			return nil
		}
		content, err := readFile(fsys, name, int(left))
		if err != nil {
			return err
		}
		left -= int64(len(content))
		t.add(name, content, 0o644)
		return nil
	})
	t.index()
	return t, fault.Wrap(err, fault.Unavailable, "", "read the base of the merge")
}

// TreeOf returns the tree of a generate entry, as a base for a merge.
func TreeOf(ctx context.Context, link *state.Link, blobs state.Blobs) (fs.FS, error) {
	artifact, ok := link.Entry.Artifact(state.ArtifactTree)
	if !ok {
		return nil, fault.New(fault.Finding, "name a state with a generated tree", "the %s entry %s has no tree", link.Entry.Phase, link.Digest.Short())
	}
	archive, err := state.ReadBlob(ctx, blobs, artifact)
	if err != nil {
		return nil, err
	}
	t, err := unpack(archive)
	if err != nil {
		return nil, fmt.Errorf("tree of the %s entry %s: %w", link.Entry.Phase, link.Digest.Short(), err)
	}
	return t, nil
}

// pack writes the plan as the artifact that later phases read. The archive is kept:
// where the tree is written, it is the base of a later merge.
func (p *Plan) pack(ctx context.Context, blobs state.Blobs) (state.Artifact, error) {
	files := make([]*File, len(p.Files))
	for i := range p.Files {
		files[i] = &p.Files[i]
	}
	archive, err := packFiles(ctx, files)
	if err != nil {
		return state.Artifact{}, err
	}
	artifact, err := state.WriteBlob(ctx, blobs, state.ArtifactTree, state.MediaTypeTree, archive)
	if err == nil {
		p.packed = packed{archive, artifact.Digest}
	}
	return artifact, err
}

// packFiles returns the archive of files.
func packFiles(ctx context.Context, files []*File) ([]byte, error) {
	t := newTree()
	size := tarEnd // and what folders and long names take
	for _, f := range files {
		t.add(f.Path, f.Content, f.Mode)
		size += tarBlock + (len(f.Content)+tarBlock-1)/tarBlock*tarBlock
	}
	t.index()
	buf := bytes.NewBuffer(make([]byte, 0, size+len(t.folders)*tarBlock))
	if err := state.Pack(ctx, &bounded{buf, maxArchive}, t, nil); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// bounded takes at most left bytes. What it is given more was not foreseen by
// [Plan.check]: the names of some files take more than a block.
type bounded struct {
	to   io.Writer
	left int64
}

// Write implements [io.Writer].
func (b *bounded) Write(p []byte) (int, error) {
	if b.left -= int64(len(p)); b.left < 0 {
		return 0, fault.New(fault.Finding, hintLess, "the tree takes more than %d bytes as an archive", maxArchive)
	}
	return b.to.Write(p)
}

// unpack reads a tree made by [state.Pack] into memory, of at most [maxEntries] and
// with contents of at most [maxArchive].
func unpack(archive []byte) (*tree, error) {
	t := newTree()
	left := int64(maxArchive) // a sparse entry unpacks to more than it takes in the archive
	reader := tar.NewReader(bytes.NewReader(archive))
	for n := 0; ; n++ {
		header, err := reader.Next()
		switch {
		case errors.Is(err, io.EOF):
			t.index()
			return t, t.check()
		case err != nil:
			return nil, fault.New(fault.Finding, "", "archive is damaged at entry %d: %w", n+1, err)
		case n >= maxEntries:
			return nil, fault.New(fault.Finding, "", "archive has more than %d entries", maxEntries)
		case header.Typeflag == tar.TypeDir:
			continue
		case header.Typeflag != tar.TypeReg:
			return nil, fault.New(fault.Finding, "", "entry %.200q is neither a file nor a folder", header.Name)
		case header.Name == "." || !fs.ValidPath(header.Name) || strings.Contains(header.Name, `\`):
			return nil, fault.New(fault.Finding, "", "archive has an entry with the unsafe path %.200q", header.Name)
		case t.files[header.Name] != nil:
			return nil, fault.New(fault.Finding, "", "entry %.200q occurs twice", header.Name)
		}
		if left -= header.Size; left < 0 {
			return nil, fault.New(fault.Finding, "", "archive unpacks to more than %d bytes", maxArchive)
		}
		content, err := io.ReadAll(reader)
		if err != nil {
			return nil, fmt.Errorf("unpack %s: %w", header.Name, err)
		}
		mode := fs.FileMode(0o644)
		if header.Mode&0o100 != 0 {
			mode = 0o755
		}
		t.add(header.Name, content, mode)
	}
}
