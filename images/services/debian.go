package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// deb is a package as apt would fetch it now.
type deb struct {
	name, file string
	digest     state.Digest
}

// uriLine is a line of apt-get --print-uris: 'URI' file size SHA256:hex.
var uriLine = regexp.MustCompile(`(?m)^'[^']+' (([a-z0-9][a-z0-9.+-]*)_\S+\.deb) \d+ SHA256:([0-9a-f]{64})$`)

// aptOptions let apt work as root without a user of its own, and as a plain user.
var aptOptions = []string{"-q", "-o", "APT::Sandbox::User=root"}

// find asks apt for the versions of packages, sorted by name.
func find(ctx context.Context, names []string) ([]deb, error) {
	const hint = "this needs Debian 12: run `apt-get update` there as root, or leave the service images out"
	out, err := run(ctx, "", "apt-get", append(append(slices.Clone(aptOptions), "--print-uris", "download"), names...)...)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, hint, "find the packages of the service images")
	}
	found := map[string]deb{}
	for _, m := range uriLine.FindAllSubmatch(out, -1) {
		found[string(m[2])] = deb{name: string(m[2]), file: string(m[1]), digest: state.Digest("sha256:" + string(m[3]))}
	}
	var debs []deb
	var missing []string
	for _, name := range names {
		if d, ok := found[name]; ok {
			debs = append(debs, d)
		} else {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return nil, fault.New(fault.Unavailable, hint, "apt does not know %s", strings.Join(missing, ", "))
	}
	return debs, nil
}

// download brings packages into dir, unless they are there, and verifies each.
func download(ctx context.Context, dir string, debs []deb) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var missing []string
	for _, d := range debs {
		if d.verify(dir) != nil {
			missing = append(missing, d.name)
		}
	}
	if len(missing) > 0 {
		if _, err := run(ctx, dir, "apt-get", append(append(slices.Clone(aptOptions), "download"), missing...)...); err != nil {
			return fault.Wrap(err, fault.Unavailable, "check that the Debian mirror can be reached", "download packages")
		}
	}
	for _, d := range debs {
		if err := d.verify(dir); err != nil {
			return fault.Wrap(err, fault.Unavailable, "run it again", "download package "+d.name)
		}
	}
	return nil
}

func (d deb) verify(dir string) error {
	f, err := os.Open(filepath.Join(dir, d.file))
	if err != nil {
		return err
	}
	defer f.Close()
	h := state.NewHasher()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if h.Digest() != d.digest {
		return fmt.Errorf("%s has digest %s, not %s", d.file, h.Digest(), d.digest)
	}
	return nil
}

// unneeded are parts of packages that no service needs.
var unneeded = regexp.MustCompile(`^(usr/share/(doc|doc-base|man|locale|lintian|bug|perl5)|lib/systemd|etc/(init\.d|logrotate\.d|cron\.d))(/|$)|bitcode|llvmjit`)

// extract adds the files of a package to content.
func (d deb) extract(ctx context.Context, dir string, content content) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", filepath.Join(dir, d.file))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = content.addTar(out)
	if err != nil {
		cancel()
	}
	if waitErr := cmd.Wait(); err == nil && waitErr != nil {
		err = fmt.Errorf("%w: %s", waitErr, bytes.TrimSpace(stderr.Bytes()))
	}
	if err != nil {
		return fmt.Errorf("extract %s: %w", d.file, err)
	}
	return nil
}

const maxFile = 256 << 20 // bytes of one file of a package

func (c content) addTar(r io.Reader) error {
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, r) // dpkg-deb writes to the end
			return err
		}
		if err != nil {
			return err
		}
		name := path.Clean("/" + h.Name)[1:]
		if name == "" || unneeded.MatchString(name) {
			continue
		}
		e := entry{kind: h.Typeflag, mode: h.Mode & 0o777, link: h.Linkname}
		switch h.Typeflag {
		case tar.TypeReg:
			if h.Size > maxFile {
				return fmt.Errorf("%s has %d bytes; at most %d are allowed", name, h.Size, maxFile)
			}
			if e.body, err = io.ReadAll(tr); err != nil {
				return err
			}
		case tar.TypeLink:
			e.link = path.Clean("/" + h.Linkname)[1:]
		case tar.TypeDir, tar.TypeSymlink:
		default:
			return fmt.Errorf("%s has the type %q", name, h.Typeflag)
		}
		c[name] = e
	}
}

// run runs a program and returns its standard output.
func run(ctx context.Context, dir, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", program, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.Bytes(), nil
}
