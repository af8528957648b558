package registry

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// maxEntries is how many entries an archive may have.
const maxEntries = 10_000

// repack turns a tar, compressed by gzip or not, into the tar that [state.Pack]
// writes for the same files. Everything stays in memory, within [MaxArchive].
// Links, devices and unsafe paths are refused; owners and times are dropped.
func repack(ctx context.Context, data []byte) ([]byte, error) {
	var source io.Reader = bytes.NewReader(data)
	if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(source)
		if err != nil {
			return nil, damaged(err)
		}
		defer z.Close()
		source = z
	}
	t := newTree()
	// One byte over the bound, plus what headers and padding may take.
	limited := io.LimitReader(source, MaxArchive+maxEntries*2048)
	reader := tar.NewReader(limited)
	for n := 0; ; n++ {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, damaged(err)
		}
		if n >= maxEntries {
			return nil, fault.New(fault.Finding, "", "archive has more than %d entries", maxEntries)
		}
		if err := t.add(header, reader); err != nil {
			return nil, err
		}
	}
	w := &boundedBuffer{left: MaxArchive}
	if err := state.Pack(ctx, w, t, skipGit); err != nil {
		return nil, err
	}
	return w.Bytes(), nil
}

func damaged(err error) error {
	return fault.New(fault.Finding, "check that its location is a tar or tar.gz", "archive is damaged: %w", err)
}

// tree is a file system in memory, filled from an archive.
type tree struct {
	nodes map[string]*node
	left  int64
}

type node struct {
	name     string
	mode     fs.FileMode
	content  []byte
	children []fs.DirEntry
}

func newTree() *tree {
	return &tree{nodes: map[string]*node{".": {name: ".", mode: fs.ModeDir | 0o755}}, left: MaxArchive}
}

func (t *tree) add(header *tar.Header, content io.Reader) error {
	name := strings.TrimPrefix(strings.TrimSuffix(header.Name, "/"), "./")
	if header.Typeflag == tar.TypeXGlobalHeader || header.Typeflag == tar.TypeDir && (name == "" || name == ".") {
		return nil
	}
	if !fs.ValidPath(name) || name == "." || len(name) > 1024 || strings.Count(name, "/") > 64 || strings.ContainsAny(name, "\\\x00\n\r") {
		return fault.New(fault.Finding, "", "archive has an entry with the unsafe path %.200q", header.Name)
	}
	switch header.Typeflag {
	case tar.TypeDir:
		return t.mkdir(name)
	case tar.TypeReg:
	default:
		return fault.New(fault.Finding, "", "archive entry %s is neither a file nor a directory", name)
	}
	if t.left -= header.Size; t.left < 0 || header.Size < 0 {
		return fault.New(fault.Finding, "", "archive unpacks to more than %d bytes", MaxArchive)
	}
	if err := t.mkdir(path.Dir(name)); err != nil {
		return err
	}
	if _, ok := t.nodes[name]; ok {
		return fault.New(fault.Finding, "", "archive entry %s occurs twice", name)
	}
	data, err := io.ReadAll(io.LimitReader(content, header.Size))
	if err != nil || int64(len(data)) != header.Size {
		return damaged(errors.Join(err, io.ErrUnexpectedEOF))
	}
	mode := fs.FileMode(0o644)
	if header.Mode&0o111 != 0 {
		mode = 0o755
	}
	t.link(name, &node{name: path.Base(name), mode: mode, content: data})
	return nil
}

func (t *tree) mkdir(name string) error {
	if n, ok := t.nodes[name]; ok {
		if !n.mode.IsDir() {
			return fault.New(fault.Finding, "", "archive entry %s is both a file and a directory", name)
		}
		return nil
	}
	if err := t.mkdir(path.Dir(name)); err != nil {
		return err
	}
	if len(t.nodes) > 4*maxEntries {
		return fault.New(fault.Finding, "", "archive has more than %d directories", 4*maxEntries)
	}
	t.link(name, &node{name: path.Base(name), mode: fs.ModeDir | 0o755})
	return nil
}

func (t *tree) link(name string, n *node) {
	t.nodes[name] = n
	parent := t.nodes[path.Dir(name)]
	parent.children = append(parent.children, n)
}

// Open implements fs.FS.
func (t *tree) Open(name string) (fs.File, error) {
	n, ok := t.nodes[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &handle{node: n, Reader: bytes.NewReader(n.content)}, nil
}

// ReadDir implements fs.ReadDirFS.
func (t *tree) ReadDir(name string) ([]fs.DirEntry, error) {
	n, ok := t.nodes[name]
	if !ok || !n.mode.IsDir() {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	children := slices.Clone(n.children)
	slices.SortFunc(children, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return children, nil
}

// node is its own directory entry and file information.
func (n *node) Name() string               { return n.name }
func (n *node) IsDir() bool                { return n.mode.IsDir() }
func (n *node) Type() fs.FileMode          { return n.mode.Type() }
func (n *node) Info() (fs.FileInfo, error) { return n, nil }
func (n *node) Size() int64                { return int64(len(n.content)) }
func (n *node) Mode() fs.FileMode          { return n.mode }
func (n *node) ModTime() time.Time         { return time.Time{} }
func (n *node) Sys() any                   { return nil }

// handle is an open node.
type handle struct {
	*node
	*bytes.Reader
}

func (h *handle) Stat() (fs.FileInfo, error) { return h.node, nil }
func (h *handle) Close() error               { return nil }
func (h *handle) Size() int64                { return h.node.Size() }
