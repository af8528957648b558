package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// toolchainSums are the digests of the module zips of goVersion, as the checksum
// database sum.golang.org has them.
var toolchainSums = map[string]string{
	"amd64": "h1:ZOmGe1OnfREDMIdb1Qi4G9JSuDPBLGExZMQ4nis1RXM=",
	"arm64": "h1:sYL/O6MqS68ML0kjsQ36WoYIpJqkw60TxizWUYUKQMc=",
}

// busyboxSums are the digests of bin/busybox in Debian's package busybox-static
// 1:1.35.0-4+deb12u1+b1, which busybox.sh brings.
var busyboxSums = map[string]state.Digest{
	"amd64": "sha256:3d9f2889d6782537624a4e1a10e68a2ddd53e0ee8bac02676f27308f42ec6bf6",
	"arm64": "sha256:61781806ad3650b0b9d2b3fc6971e2bffdca967af1a95375abd0578bafff14fb",
}

// errNoBusybox reports that the shell is not on this machine.
var errNoBusybox = errors.New("busybox is not there; images/busybox.sh brings it")

// builder makes layers, each once. It is for one goroutine.
type builder struct {
	// source is the root of the module, work an empty directory for what is made.
	source, work string
	// version is what the programs call themselves; empty for a development version.
	version string
	log     io.Writer
	layers  map[string]*layer
}

// layer returns the layer called key, made by write when it is first asked for.
func (b *builder) layer(key, what string, write func() (func(archive) error, error)) (*layer, error) {
	if l := b.layers[key]; l != nil {
		return l, nil
	}
	content, err := write()
	if err != nil {
		return nil, err
	}
	l, err := newLayer(b.work, what, content)
	if err != nil {
		return nil, err
	}
	if b.layers == nil {
		b.layers = map[string]*layer{}
	}
	b.layers[key] = l
	return l, nil
}

// stack returns the layers of an image, lowest first. What changes least lies
// lowest.
func (b *builder) stack(ctx context.Context, i image, f flavour, arch string) ([]*layer, error) {
	bottom, err := b.layer("base", "certificates, /tmp", func() (func(archive) error, error) { return base, nil })
	if err != nil {
		return nil, err
	}
	stack := []*layer{bottom}
	for _, name := range f.layers {
		l, err := b.layer(name+" "+arch, name, func() (func(archive) error, error) {
			if name == busyboxLayer {
				return b.busybox(arch)
			}
			return b.toolchain(ctx, arch)
		})
		if err != nil {
			return nil, err
		}
		stack = append(stack, l)
	}
	for _, name := range i.programs {
		l, err := b.layer("program "+name+" "+arch, "/"+name, func() (func(archive) error, error) {
			return program(name, filepath.Join(b.compiled("linux/"+arch), name)), nil
		})
		if err != nil {
			return nil, err
		}
		stack = append(stack, l)
	}
	return stack, nil
}

// compiled is where the programs for a platform are.
func (b *builder) compiled(platform string) string {
	return filepath.Join(b.work, strings.ReplaceAll(platform, "/", "_"))
}

// compile builds programs, directories below actions/, for a platform. The result
// depends on the source, the version and goVersion alone: no path, no version control,
// no setting of the machine.
func (b *builder) compile(ctx context.Context, programs []string, platform string) error {
	out := b.compiled(platform)
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	var packages []string
	for _, name := range programs {
		packages = append(packages, "./actions/"+name)
	}
	slices.Sort(packages)
	packages = slices.Compact(packages)
	fmt.Fprintf(b.log, "images: compile %d programs for %s\n", len(packages), platform)
	link := "-ldflags=-s -w"
	if !strings.HasPrefix(platform, "darwin/") {
		// The linker makes LC_UUID of the build id, and macOS 26 may refuse to start a
		// program that has none.
		link += " -buildid="
	}
	if b.version != "" {
		link += " -X github.com/ultrafast-ci/ultrafast/internal/app.released=" + b.version
	}
	args, err := b.embedHelper(ctx, platform)
	if err != nil {
		return err
	}
	args = slices.Concat([]string{
		"build", "-trimpath", "-buildvcs=false", "-mod=readonly", link,
		"-o", out + string(filepath.Separator),
	}, args, packages)
	_, err = b.goCommand(ctx, platform, args...)
	return fault.Wrap(err, fault.Finding, "make `go build ./...` work", "compile for "+platform)
}

// sandboxDir is the package that starts the helper.
const sandboxDir = "internal/sandbox/embedded"

// embedHelper builds the small program that the sandbox starts, and returns the
// arguments with which the go command puts it into others; none where there is no
// sandbox. An overlay stands for the file: nothing is written into the source.
func (b *builder) embedHelper(ctx context.Context, platform string) ([]string, error) {
	system, arch, _ := strings.Cut(platform, "/")
	if system != "linux" {
		return nil, nil
	}
	work, err := filepath.Abs(b.work)
	if err != nil {
		return nil, err
	}
	helper := filepath.Join(work, "helper_linux_"+arch)
	if _, err := b.goCommand(ctx, platform, "build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags=-s -w -buildid=",
		"-o", helper, "./"+sandboxDir+"/helper"); err != nil {
		return nil, fault.Wrap(err, fault.Finding, "make `go build ./...` work", "compile the sandbox's helper for "+platform)
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {
		filepath.Join(sandboxDir, filepath.Base(helper)): helper,
	}})
	if err != nil {
		return nil, err
	}
	file := helper + ".json"
	return []string{"-tags=helper", "-overlay=" + file}, os.WriteFile(file, overlay, 0o600)
}

// goCommand runs the go command of goVersion and returns its standard output.
func (b *builder) goCommand(ctx context.Context, platform string, args ...string) ([]byte, error) {
	system, arch, _ := strings.Cut(platform, "/")
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = b.source
	cmd.Env = append(os.Environ(),
		"GOTOOLCHAIN="+goVersion, "GOOS="+system, "GOARCH="+arch, "GOAMD64=v1", "GOARM64=v8.0", "CGO_ENABLED=0",
		"GOFLAGS=", "GOEXPERIMENT=", "GOFIPS140=off", "GOWORK=off", "GO111MODULE=on")
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("go %s: %w\n%s", args[0], err, strings.TrimSpace(stderr.String()+stdout.String()))
	}
	return []byte(stdout.String()), nil
}

// busybox returns the layer content of the shell that busybox.sh has brought.
func (b *builder) busybox(arch string) (func(archive) error, error) {
	file := filepath.Join(b.source, "build", "busybox", arch)
	binary, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, errNoBusybox
	}
	if err != nil {
		return nil, err
	}
	if got := state.DigestOf(binary); got != busyboxSums[arch] {
		return nil, fault.New(fault.Finding, "run images/busybox.sh, or change the digests in images/build.go knowingly",
			"%s has digest %s, not %s", file, got, busyboxSums[arch])
	}
	return busybox(file), nil
}

// toolchain returns the layer content of the Go toolchain, which the go command
// fetches as the module golang.org/toolchain.
func (b *builder) toolchain(ctx context.Context, arch string) (func(archive) error, error) {
	module := fmt.Sprintf("golang.org/toolchain@v0.0.1-%s.linux-%s", goVersion, arch)
	fmt.Fprintf(b.log, "images: fetch %s\n", module)
	out, err := b.goCommand(ctx, "linux/"+arch, "mod", "download", "-json", module)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "check that the Go module proxy can be reached", "fetch the Go toolchain")
	}
	var got struct{ Zip, Sum string }
	if err := json.Unmarshal(out, &got); err != nil {
		return nil, fmt.Errorf("read the answer of go mod download: %w", err)
	}
	if got.Sum != toolchainSums[arch] {
		return nil, fault.New(fault.Finding, "do not use it: ask the module proxy again", "%s has the sum %s, not %s", module, got.Sum, toolchainSums[arch])
	}
	return toolchain(got.Zip), nil
}
