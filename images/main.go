// Command images builds what is published as container images: one per phase and
// one with all of them, for two architectures, in three flavours; and, for a release,
// the same programs as binaries for six systems. Run it at the root of the repository:
//
//	go run ./images --output layout:build/images
//	go run ./images --push ghcr.io/ultrafast-ci --tag v1.2.3
//	go run ./images --binaries build/binaries --actions build/release --tag v1.2.3
//	go run ./images --check build/release --tag v1.2.3
//
// It needs Go and nothing else: no daemon, no base image. Equal source gives equal
// digests on every machine, so a digest can be written into action.yml, or into
// actions/setup/checksums.txt, before what it stands for is published, and anyone can check that an image is what the source says. Programs
// are compiled by one version of Go; certificates, shell and toolchain are pinned by
// digest; nothing in an image depends on a clock, a path or a host.
//
// Standard output is one line per image: name, flavour, digest of the index, and
// compressed bytes per platform; with --json, an array of the same.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return
	}
	fmt.Fprintf(os.Stderr, "images: %v\n", err)
	if hint := fault.HintOf(err); hint != "" {
		fmt.Fprintf(os.Stderr, "  %s\n", hint)
	}
	os.Exit(fault.KindOf(err).ExitCode())
}

// command is the command line.
type command struct {
	output, push, tag, binaries string
	actions, check, registry    string
	phases, flavours, platforms string
	source                      string
	json                        bool
}

func parse(args []string, stderr io.Writer) (command, error) {
	var c command
	flags := flag.NewFlagSet("images", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&c.output, "output", "", "write an OCI image layout: layout:`DIR`")
	flags.StringVar(&c.push, "push", "", "push to `host/path`/<name>:<tag>")
	flags.StringVar(&c.tag, "tag", "main", "tag of the scratch flavour; others add -shell or -go. A version such as v1.2.3 is also what the programs call themselves")
	flags.StringVar(&c.actions, "actions", "", "write the digests of images and binaries into the actions of the release tree `DIR`")
	flags.StringVar(&c.check, "check", "", "fail if the actions of the release tree `DIR` name other digests")
	flags.StringVar(&c.binaries, "binaries", "", "write the programs for every system to `DIR`, as <name>_<os>_<arch>[.exe]")
	flags.StringVar(&c.registry, "registry", registry, "`host/path` that a release tree names")
	flags.StringVar(&c.phases, "phase", "", "only these `phases`, \"all\" for the image with all (default every image)")
	flags.StringVar(&c.flavours, "flavour", "", "only these: scratch,shell,toolchain (default every one that can be built here)")
	flags.StringVar(&c.platforms, "platform", "", "only these: linux/amd64,linux/arm64, and for binaries darwin/ and windows/ too (default every one)")
	flags.StringVar(&c.source, "source", ".", "root of the module to build")
	flags.BoolVar(&c.json, "json", false, "print JSON")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return c, err
		}
		return c, fault.Wrap(err, fault.Usage, "images --help shows what can be written", "command line")
	}
	if flags.NArg() > 0 {
		return c, fault.New(fault.Usage, "images --help shows what can be written", "unexpected argument %q", flags.Arg(0))
	}
	return c, nil
}

const layoutScheme = "layout:"

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	c, err := parse(args, stderr)
	if err != nil {
		return err
	}
	dir, ok := strings.CutPrefix(c.output, layoutScheme)
	if c.output != "" && (!ok || dir == "") {
		return fault.New(fault.Usage, "write --output layout:DIR", "output %q has an unknown form", c.output)
	}
	released := c.actions != "" || c.check != ""
	if released && !releaseTag.MatchString(c.tag) {
		return fault.New(fault.Usage, "write --tag with letters, digits, dots and dashes, such as v1.2.3", "tag %q cannot be that of a release", c.tag)
	}
	chosen, err := choose(c.phases, c.flavours, c.platforms, released || c.binaries != "")
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "ultrafast-images-*")
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "set TMPDIR to a directory that can be written", "build images")
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	b := &builder{source: c.source, work: work, log: stderr}
	if version.MatchString(c.tag) {
		b.version = c.tag
	}
	images, err := b.build(ctx, chosen, c.flavours != "")
	if err != nil {
		return err
	}
	if dir != "" {
		if err := writeLayout(dir, c.tag, images); err != nil {
			return err
		}
	}
	if c.push != "" {
		if err := push(ctx, c.push, c.tag, images); err != nil {
			return err
		}
	}
	binaries, err := b.binaries(ctx, chosen, c.binaries)
	if err != nil {
		return err
	}
	if err := c.release(images, binaries, chosen); err != nil {
		return err
	}
	return report(stdout, images, chosen.platforms, c.json)
}

// release writes or checks a release tree, if the command line names one.
func (c command) release(images []built, binaries []binary, chosen selection) error {
	r := release{registry: c.registry, tag: c.tag, images: images, partial: c.phases != "" || c.flavours != ""}
	s := checksums{tag: c.tag, binaries: binaries, partial: c.phases != "" || c.platforms != ""}
	hasImages := len(chosen.platforms) > 0
	if c.actions != "" {
		r.dir, s.dir = c.actions, c.actions
		if hasImages {
			if err := r.write(); err != nil {
				return err
			}
		}
		if err := s.write(); err != nil {
			return err
		}
	}
	if c.check == "" {
		return nil
	}
	r.dir, s.dir = c.check, c.check
	var wrong error
	if hasImages {
		wrong = r.check()
	}
	return errors.Join(wrong, s.check())
}

func report(w io.Writer, images []built, platforms []string, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(images)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, b := range images {
		fmt.Fprintf(table, "%s\t%s\t%s", b.Name, b.Flavour, b.Digest)
		for _, platform := range platforms {
			fmt.Fprintf(table, "\t%s %.1f MB", archOf(platform), float64(b.Sizes[platform])/megabyte)
		}
		fmt.Fprintln(table)
	}
	return table.Flush()
}
