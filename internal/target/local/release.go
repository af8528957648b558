package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/oci"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
	"github.com/ultrafast-ci/ultrafast/steps/target"
)

// prepared is a release as it is kept on disk.
type prepared struct {
	target.Release
	// Address is where it answers. It is fixed when the release is prepared, so
	// that the router can keep it while the process is started again.
	Address string `json:"address"`
}

const (
	releaseFile = "release.json"
	configFile  = "config.json"
	serviceLog  = "service.log"
	// logLimit bounds the log of a release; one older file of this size is kept.
	logLimit = 4 << 20
	maxFile  = 1 << 20
)

// known returns a prepared release; fs.ErrNotExist if there is none.
func (t *Target) known(release string) (prepared, error) {
	var p prepared
	if err := target.CheckID(release); err != nil {
		return p, fault.New(fault.Usage, "", "release %w", err)
	}
	return p, readJSON(filepath.Join(t.releaseDir(release), releaseFile), &p)
}

// mustKnow is known with a finding for a release that is not there.
func (t *Target) mustKnow(release string) (prepared, error) {
	p, err := t.known(release)
	if errors.Is(err, fs.ErrNotExist) {
		return p, fault.New(fault.Finding, "", "release %s is not on this target", release)
	}
	return p, err
}

func readJSON(path string, into any) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := json.NewDecoder(io.LimitReader(f, maxFile)).Decode(into); err != nil {
		return fault.New(fault.Unavailable, "move the file away and deploy again", "read %s: %w", path, err)
	}
	return nil
}

// prepare unpacks the image, unless it is there, and writes the release down.
func (t *Target) prepare(ctx context.Context, r target.Release, from target.Source) error {
	if err := target.CheckID(r.ID); err != nil {
		return fault.New(fault.Usage, "", "release %w", err)
	}
	if _, err := state.ParseDigest(string(r.Image)); err != nil {
		return fault.New(fault.Usage, "", "release %s: image: %w", r.ID, err)
	}
	if err := t.unpack(ctx, r.Image, from); err != nil {
		return fmt.Errorf("image %s: %w", r.Image.Short(), err)
	}
	if p, err := t.known(r.ID); err == nil && p.Image == r.Image && p.Config == r.Config {
		return nil
	}
	if err := os.MkdirAll(t.releaseDir(r.ID), 0o700); err != nil {
		return fault.New(fault.Unavailable, "", "release %s: %w", r.ID, err)
	}
	port, err := freePort(t.dir + r.ID)
	if err != nil {
		return err
	}
	b, err := json.Marshal(prepared{Release: r, Address: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))})
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(t.releaseDir(r.ID), releaseFile), b); err != nil {
		return fault.New(fault.Unavailable, "", "release %s: %w", r.ID, err)
	}
	return nil
}

// unpack puts the image's files below its directory. What is there under the
// final name is whole: it was renamed after the last byte.
func (t *Target) unpack(ctx context.Context, image state.Digest, from target.Source) (err error) {
	dir := t.imageDir(image)
	if _, err := os.Stat(filepath.Join(dir, configFile)); err == nil {
		return nil
	}
	if from.Entry == nil || from.Blobs == nil {
		return fault.New(fault.Finding, "deploy the version again from its state", "is not on this target any more")
	}
	if a, ok := from.Entry.Artifact(state.ArtifactImage); !ok || a.Digest != image {
		return fault.New(fault.Usage, "", "is not the image of the given entry")
	}
	temp := dir + ".new"
	defer func() { err = fault.Wrap(err, fault.Unavailable, "", "unpack") }()
	if err := os.RemoveAll(temp); err != nil { // left by a run that was killed
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	root := filepath.Join(temp, "root")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(root, 0o755); err != nil { // whatever the umask: the service's user must enter
		return err
	}
	// Owners of the image may be other users of the host, and some directories anybody's.
	if err := os.Chmod(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	config, err := t.o.Images.Install(ctx, from.Blobs, from.Entry, root)
	if err != nil {
		return err
	}
	b, err := json.Marshal(config)
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(temp, configFile), b); err != nil {
		return err
	}
	return os.Rename(temp, dir)
}

// Ports for releases lie below the ports that systems hand out to outgoing
// connections (from 32768 on Linux, 49152 elsewhere), so that no connection of
// the router takes one between the choice and the start.
const firstPort, lastPort = 20000, 32000

// freePort returns a port on which nothing listens, beginning the search at a
// place that depends on seed only.
func freePort(seed string) (int, error) {
	h := fnv.New32a()
	_, _ = h.Write([]byte(seed)) // a hash takes everything
	const n = lastPort - firstPort
	for i := range n {
		port := firstPort + (int(h.Sum32()%n)+i)%n
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			return 0, err
		}
		return port, nil
	}
	return 0, fault.New(fault.Unavailable, "", "no free port between %d and %d", firstPort, lastPort)
}

// launch returns what the supervisor of a release is told. As root, the service
// sees its image as its root directory and runs as the image's user; as anybody
// else, which is not allowed either, it runs from the unpacked image as ourselves.
func (t *Target) launch(p prepared) (Launch, error) {
	var config state.ImageConfig
	if err := readJSON(filepath.Join(t.imageDir(p.Image), configFile), &config); err != nil {
		return Launch{}, fmt.Errorf("image %s: %w", p.Image.Short(), err)
	}
	root := filepath.Join(t.imageDir(p.Image), "root")
	argv := slices.Concat(config.Entrypoint, config.Cmd)
	if len(p.Service.Command) > 0 {
		argv = slices.Clone(p.Service.Command)
	}
	if len(argv) == 0 {
		return Launch{}, fault.New(fault.Finding, "set [service] command", "image %s says no command", p.Image.Short())
	}
	workdir := path.Join("/", filepath.ToSlash(config.WorkingDir))
	env := environment(config, p)
	program, real, err := locate(root, workdir, env["PATH"], argv[0])
	if err != nil {
		return Launch{}, err
	}
	l := Launch{
		Argv: argv, Env: pairs(env), Dir: workdir,
		Log: filepath.Join(t.releaseDir(p.ID), serviceLog), LogLimit: logLimit,
		Socket: t.socketOf(p.ID), Record: filepath.Join(t.releaseDir(p.ID), "process.json"),
		StopTimeout: p.Service.StopTimeout,
	}
	if confines() {
		l.Argv[0], l.Root = program, root
		return l, l.become(config.User)
	}
	if l.Argv[0], err = outside(root, program, real); err != nil {
		return Launch{}, err
	}
	l.Dir, err = directory(root, workdir)
	return l, err
}

// locate returns the program's absolute path inside the image, and the same without any
// link; a name without a slash is looked up in the image's PATH. Links are followed as the
// service would that has the image for its root.
func locate(root, workdir, searchPath, name string) (program, real string, err error) {
	tree, err := oci.OpenTree(root)
	if err != nil {
		return "", "", err
	}
	defer func() { err = errors.Join(err, tree.Close()) }()
	dirs := []string{workdir}
	if !strings.Contains(name, "/") {
		dirs = strings.Split(searchPath, ":")
	}
	for _, dir := range dirs {
		program := path.Join("/", dir, name)
		if path.IsAbs(name) {
			program = path.Clean(name)
		}
		real, info, err := tree.Follow(program)
		if err == nil && info.Mode().IsRegular() {
			return program, path.Join("/", real), nil
		}
	}
	return "", "", fault.New(fault.Finding, "check the image's entry point, or [service] command",
		"program %q is not a file of the image", name)
}

// become makes the service run as a user of the image that is its root.
func (l *Launch) become(user string) (err error) {
	tree, err := oci.OpenTree(l.Root)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tree.Close()) }()
	if l.UID, l.GID, err = tree.User(user); err == nil {
		l.Groups, err = tree.Groups(user)
	}
	return err
}

// directory returns the path at which the host has a directory of the image.
func directory(root, dir string) (_ string, err error) {
	tree, err := oci.OpenTree(root)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, tree.Close()) }()
	real, _, err := tree.Follow(dir)
	return filepath.Join(root, filepath.FromSlash(real)), fault.Wrap(err, fault.Finding, "", "working directory of the image")
}

// outside returns the path at which the host has a program of the image. One that is
// called by several names, as busybox is, keeps the name if the host finds the same
// behind it.
func outside(root, program, real string) (_ string, err error) {
	r, err := os.OpenRoot(root)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if _, err := r.Stat(filepath.FromSlash(program[1:])); err != nil { // a link that is absolute, or leads out
		program = real
	}
	return filepath.Join(root, filepath.FromSlash(program)), nil
}

// environment is the image's, then the service's, then the address: later wins.
// The host is told too, as where the image was validated: a service that listens
// on every interface could be reached past the router.
func environment(config state.ImageConfig, p prepared) map[string]string {
	set := map[string]string{"PATH": defaultPath}
	for _, kv := range config.Env {
		name, value, _ := strings.Cut(kv, "=")
		set[name] = value
	}
	maps.Copy(set, p.Service.Env)
	set["LISTEN"], set["PORT"], _ = net.SplitHostPort(p.Address) // it was joined by us
	return set
}

// defaultPath is what container engines set when the image does not.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func pairs(set map[string]string) []string {
	env := make([]string, 0, len(set))
	for _, name := range slices.Sorted(maps.Keys(set)) {
		env = append(env, name+"="+set[name])
	}
	return env
}
