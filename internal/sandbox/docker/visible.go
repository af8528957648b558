package docker

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/engine"
)

// manyProcesses is what the service of Podman limits itself to: it grants no more without
// CAP_SYS_RESOURCE.
const manyProcesses = 1 << 15

func randomName() string { return strings.ToLower(rand.Text()) }

// sharesFiles reports whether a path of this machine is the same path for the engine:
// who listens at the socket has the same mounts and root as this process, and a file
// that was just written is seen through the engine. Otherwise files are copied.
func (b *Backend) sharesFiles(ctx context.Context, f *found) bool {
	socket, local := strings.CutPrefix(f.Host(), "unix://")
	if !local || b.options.Copy {
		return false
	}
	for _, s := range f.Security {
		if strings.Contains(s, "selinux") {
			return false // it labels files, and refuses those that have another label
		}
	}
	v, err := b.visible.do(func() (any, error) {
		if !sameMounts(socket) {
			return false, nil
		}
		return b.seesFile(ctx, f)
	})
	if err != nil {
		b.log.DebugContext(ctx, "whether the engine sees the files of this machine", "error", err)
		return false
	}
	return v.(bool)
}

// seesFile writes a file and has the engine read it.
func (b *Backend) seesFile(ctx context.Context, f *found) (_ bool, err error) {
	dir, err := os.MkdirTemp("", "ultrafast-seen-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	text := randomName()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte(text), 0o644); err != nil {
		return false, err
	}
	id, err := f.CreateContainer(ctx, engine.ContainerSpec{
		Image: emptyImage, Entrypoint: []string{"/none"}, Network: "none", Labels: b.labels("_seen", roleFiller),
		Mounts: []engine.Mount{{Path: dir, Target: "/seen", ReadOnly: true}},
	})
	if err != nil {
		return false, err
	}
	defer func() { _ = f.RemoveContainer(context.WithoutCancel(ctx), id) }() // it has labels
	r, err := f.CopyFrom(ctx, id, "/seen/file")
	if err != nil {
		return false, err
	}
	defer r.Close()
	t := tar.NewReader(r)
	if _, err := t.Next(); err != nil {
		return false, err
	}
	got, err := io.ReadAll(io.LimitReader(t, 1<<10))
	return string(got) == text, err
}
