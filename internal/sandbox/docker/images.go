package docker

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/engine"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/inside"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

const (
	// emptyImage has no files: the program inside needs none.
	emptyImage = "localhost/ultrafast-empty:1"
	// insideDir is where a container has what belongs to the back end.
	insideDir = "/.ultrafast"
)

// pinned matches a reference by digest.
var pinned = regexp.MustCompile(`@sha256:([0-9a-f]{64})$`)

// image returns an image by its reference, and the name by which the engine knows it.
// One that the engine does not have is brought to it.
func (b *Backend) image(ctx context.Context, f *found, ref string) (engine.Image, string, error) {
	m := pinned.FindStringSubmatch(ref)
	if m == nil {
		return engine.Image{}, "", fault.New(fault.Usage, "write name@sha256:…", "image %q is not named by its digest", ref)
	}
	defer b.oneAtATime(ref)()
	// What we brought has our name: engines forget the digest of what they load.
	ours := "localhost/ultrafast-image:" + m[1]
	for _, name := range []string{ours, ref} {
		i, err := f.Image(ctx, name)
		if err == nil {
			return i, i.ID, nil
		}
		// A name that an engine cannot read is one that it does not have.
		if fault.KindOf(err) == fault.Unavailable {
			return i, "", err
		}
	}
	if b.options.Images == nil {
		if err := f.PullImage(ctx, ref); err != nil {
			return engine.Image{}, "", fault.Wrap(err, fault.Unavailable, "check that the engine can reach the registry", "fetch image "+ref)
		}
		i, err := f.Image(ctx, ref)
		return i, i.ID, err
	}
	name, err := b.load(ctx, f, ref)
	if err != nil {
		return engine.Image{}, "", err
	}
	if err := f.TagImage(ctx, name, ours); err != nil {
		return engine.Image{}, "", err
	}
	i, err := f.Image(ctx, ours)
	return i, i.ID, err
}

// oneAtATime keeps two containers from bringing one image at once.
func (b *Backend) oneAtATime(ref string) (unlock func()) {
	b.mu.Lock()
	m := b.images[ref]
	if m == nil {
		m = new(sync.Mutex)
		b.images[ref] = m
	}
	b.mu.Unlock()
	m.Lock()
	return m.Unlock
}

// load has the engine read what the source of images writes.
func (b *Backend) load(ctx context.Context, f *found, ref string) (string, error) {
	r, w := io.Pipe()
	type exported struct {
		name string
		err  error
	}
	done := make(chan exported, 1)
	go func() {
		name, err := b.options.Images.Export(ctx, ref, w)
		w.CloseWithError(err)
		done <- exported{name, err}
	}()
	err := f.LoadImage(ctx, r)
	r.CloseWithError(errors.New("the engine reads no more"))
	e := <-done
	if e.err != nil && fault.KindOf(e.err) != fault.Internal {
		err = nil // it says why the engine got no image
	}
	return e.name, errors.Join(err, e.err)
}

// user returns the user of an image in numbers; zeros for root or none.
func (b *Backend) user(ctx context.Context, f *found, image engine.Image, ref string) (uid, gid int, err error) {
	if image.User == "" || image.User == "0" || image.User == "root" {
		return 0, 0, nil
	}
	b.mu.Lock()
	known, ok := b.users[image.ID]
	b.mu.Unlock()
	if ok {
		return known[0], known[1], nil
	}
	name, group, hasGroup := strings.Cut(image.User, ":")
	uid, uidErr := strconv.Atoi(name)
	gid, gidErr := strconv.Atoi(group)
	if uidErr != nil || gidErr != nil {
		var passwd, groups []byte
		if passwd, groups, err = b.accounts(ctx, f, ref); err != nil {
			return 0, 0, fmt.Errorf("look up user %q of image %s: %w", image.User, ref, err)
		}
		if uid, gid, err = lookUp(name, group, hasGroup, passwd, groups); err != nil {
			return 0, 0, err
		}
	}
	b.mu.Lock()
	b.users[image.ID] = [2]int{uid, gid}
	b.mu.Unlock()
	return uid, gid, nil
}

// lookUp finds a user and a group as passwd(5) and group(5) have them. A number needs
// no entry; its group then is that of the entry, or of the same number.
func lookUp(name, group string, hasGroup bool, passwd, groups []byte) (uid, gid int, err error) {
	uid, numErr := strconv.Atoi(name)
	found := numErr == nil
	gid = uid
	for line := range strings.Lines(string(passwd)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) >= 4 && (f[0] == name || numErr == nil && f[2] == name) {
			u, uErr := strconv.Atoi(f[2])
			g, gErr := strconv.Atoi(f[3])
			if uErr == nil && gErr == nil {
				uid, gid, found = u, g, true
				break
			}
		}
	}
	if !found {
		return 0, 0, fault.New(fault.Finding, "give the container a user in numbers", "the image has no user %q", name)
	}
	if !hasGroup {
		return uid, gid, nil
	}
	if gid, err = strconv.Atoi(group); err == nil {
		return uid, gid, nil
	}
	for line := range strings.Lines(string(groups)) {
		if f := strings.Split(strings.TrimSpace(line), ":"); len(f) >= 3 && f[0] == group {
			if gid, err = strconv.Atoi(f[2]); err == nil {
				return uid, gid, nil
			}
		}
	}
	return 0, 0, fault.New(fault.Finding, "give the container a user in numbers", "the image has no group %q", group)
}

// maxAccounts bounds /etc/passwd and /etc/group.
const maxAccounts = 4 << 20

// accounts reads /etc/passwd and /etc/group of an image, through a container that never
// starts.
func (b *Backend) accounts(ctx context.Context, f *found, ref string) (passwd, groups []byte, err error) {
	id, err := f.CreateContainer(ctx, engine.ContainerSpec{Image: ref, Entrypoint: []string{"/none"}, Network: "none", Labels: b.labels("_users", roleFiller)})
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, f.RemoveContainer(context.WithoutCancel(ctx), id)) }()
	read := func(name string) ([]byte, error) {
		r, err := f.CopyFrom(ctx, id, name)
		if errors.Is(err, engine.ErrNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		defer r.Close()
		t := tar.NewReader(r)
		if _, err := t.Next(); err != nil {
			return nil, err
		}
		return io.ReadAll(io.LimitReader(t, maxAccounts))
	}
	if passwd, err = read("/etc/passwd"); err != nil {
		return nil, nil, err
	}
	groups, err = read("/etc/group")
	return passwd, groups, err
}

// program is the executable that runs inside.
type program struct {
	path   string
	digest string // in hexadecimal
}

// program returns the executable that runs inside, if the engine can run it.
func (b *Backend) program(f *found) (string, error) {
	path := b.options.Helper
	if path == "" {
		if runtime.GOOS != "linux" {
			return "", fault.New(fault.Unavailable, "run on Linux, or name a Linux executable of this program as the helper",
				"containers need this program for linux/%s, this one is for %s", f.Arch, runtime.GOOS)
		}
		path = "/proc/self/exe" // also when the file was replaced
	}
	e, err := elf.Open(path)
	if err != nil {
		return "", fault.Wrap(err, fault.Unavailable, "", "read the program for containers")
	}
	defer e.Close()
	if arch := architectures[e.Machine]; arch != f.Arch {
		return "", fault.New(fault.Unavailable, "install this program for that processor, and name it as the helper",
			"the engine runs on %s, the program for containers on %s", f.Arch, arch)
	}
	if slices.ContainsFunc(e.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		return "", fault.New(fault.Unavailable, "build it with CGO_ENABLED=0", "the program for containers needs shared libraries")
	}
	return path, nil
}

var architectures = map[elf.Machine]string{
	elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64", elf.EM_386: "386", elf.EM_ARM: "arm", elf.EM_RISCV: "riscv64",
	elf.EM_PPC64: "ppc64le", elf.EM_S390: "s390x", elf.EM_LOONGARCH: "loong64",
}

// install brings the program that runs inside to the engine, if it is not there, and
// returns the volume that it is in. The volume is kept for those who come later; a name
// of the empty image says that it is complete.
func (b *Backend) install(ctx context.Context, f *found) (string, error) {
	v, err := b.helper.do(func() (any, error) {
		path, err := b.program(f)
		if err != nil {
			return nil, err
		}
		p := program{path: path}
		if p.digest, err = fileDigest(path); err != nil {
			return nil, err
		}
		return b.bring(ctx, f, p)
	})
	if err != nil {
		return "", fmt.Errorf("bring the program for containers to the engine: %w", err)
	}
	return v.(string), nil
}

// reinstall brings it once more: somebody has removed it.
func (b *Backend) reinstall(ctx context.Context, f *found) (string, error) {
	b.helper.mu.Lock()
	b.helper.done = false
	b.helper.mu.Unlock()
	return b.install(ctx, f)
}

func fileDigest(path string) (string, error) {
	r, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer r.Close()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func (b *Backend) bring(ctx context.Context, f *found, p program) (string, error) {
	volume, complete := programNames(p.digest)
	there, err := f.HasVolume(ctx, volume)
	if err != nil {
		return "", err
	}
	if there {
		_, err = f.Image(ctx, complete)
		if err == nil {
			_, err = f.Image(ctx, emptyImage)
		}
		if err == nil {
			return volume, nil
		}
		if !errors.Is(err, engine.ErrNotFound) {
			return "", err
		}
	}
	archive, err := emptyArchive(f.Arch)
	if err != nil {
		return "", err
	}
	if err := f.LoadImage(ctx, archive); err != nil {
		return "", err
	}
	b.discard(ctx, f, volume)
	labels := map[string]string{labelProgram: p.digest, labelCreated: time.Now().UTC().Format(time.RFC3339Nano)}
	if err := f.CreateVolume(ctx, engine.Volume{Name: volume, Labels: labels}); err != nil {
		return "", err
	}
	id, err := f.CreateContainer(ctx, engine.ContainerSpec{
		Image: emptyImage, Entrypoint: []string{"/none"}, Network: "none", Labels: b.labels("_program", roleFiller),
		Mounts: []engine.Mount{{Volume: volume, Target: insideDir}},
	})
	if err != nil {
		return "", err
	}
	defer func() { _ = f.RemoveContainer(context.WithoutCancel(ctx), id) }() // it has labels
	r, w := io.Pipe()
	go func() { w.CloseWithError(programArchive(w, p.path)) }()
	err = f.CopyTo(ctx, id, insideDir, r)
	r.CloseWithError(io.ErrClosedPipe)
	if err != nil {
		return "", err
	}
	return volume, f.TagImage(ctx, emptyImage, complete)
}

// programNames are the volume of a program, and the name of an image that says that
// the volume is complete.
func programNames(digest string) (volume, complete string) {
	return "ultrafast-program-" + digest[:32], "localhost/ultrafast-program:" + digest[:32]
}

// programTime is how long an engine keeps a program that another version has replaced.
const programTime = 24 * time.Hour

// discard removes programs of other versions that nobody uses. Who still has one brings
// it again.
func (b *Backend) discard(ctx context.Context, f *found, current string) {
	all, err := f.Volumes(ctx, labelProgram)
	for _, v := range all {
		digest := v.Labels[labelProgram]
		if v.Name == current || len(digest) != 64 || time.Since(created(v.Labels)) < programTime {
			continue
		}
		_, complete := programNames(digest)
		err = errors.Join(err, f.RemoveImage(ctx, complete), f.RemoveVolume(ctx, v.Name))
	}
	if err != nil {
		b.log.DebugContext(ctx, "programs of other versions", "error", err)
	}
}

// programArchive writes the executable as a tar.
func programArchive(w io.Writer, path string) error {
	r, err := os.Open(path)
	if err != nil {
		return err
	}
	defer r.Close()
	st, err := r.Stat()
	if err != nil {
		return err
	}
	t := tar.NewWriter(w)
	if err := t.WriteHeader(&tar.Header{Name: inside.Program, Mode: 0o755, Size: st.Size(), Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	if _, err := io.Copy(t, bufio.NewReaderSize(r, 1<<20)); err != nil {
		return err
	}
	return t.Close()
}

// emptyArchive is an image with one layer, which is empty, as `docker save` writes it.
func emptyArchive(arch string) (io.Reader, error) {
	var layer bytes.Buffer
	if err := tar.NewWriter(&layer).Close(); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(layer.Bytes())
	config, err := json.Marshal(map[string]any{
		"architecture": arch, "os": "linux", "config": map[string]any{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(sum[:])}},
	})
	if err != nil {
		return nil, err
	}
	manifest, err := json.Marshal([]any{map[string]any{"Config": "config.json", "RepoTags": []string{emptyImage}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return nil, err
	}
	var archive bytes.Buffer
	t := tar.NewWriter(&archive)
	for _, file := range []struct {
		name    string
		content []byte
	}{{"config.json", config}, {"layer.tar", layer.Bytes()}, {"manifest.json", manifest}} {
		if err := t.WriteHeader(&tar.Header{Name: file.name, Mode: 0o644, Size: int64(len(file.content)), Typeflag: tar.TypeReg}); err != nil {
			return nil, err
		}
		if _, err := t.Write(file.content); err != nil {
			return nil, err
		}
	}
	return &archive, t.Close()
}

// parentOf returns the directory of a path inside, "/" at least.
func parentOf(target string) string { return path.Dir(path.Clean(target)) }
