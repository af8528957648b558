// Command services builds the images of the services that tests use, busybox, redis
// and postgres, from packages of Debian 12, without a registry and without a daemon:
//
//	go run ./images/services --output layout:build/services
//
// The images start as the official ones of their names do, from the same variables.
// They are for the processor of this machine, and published nowhere.
//
// It needs apt with its lists of packages, and dpkg-deb; no package is installed and
// none of their scripts is run. What is there already for the same versions is not
// built again. Equal packages give equal layers, with one exception: the database
// cluster that initdb makes for the postgres image, in the sandbox, has an identity of
// its own each time.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

func main() {
	if embedded.Reexec() {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return
	}
	fmt.Fprintf(os.Stderr, "services: %v\n", err)
	if hint := fault.HintOf(err); hint != "" {
		fmt.Fprintf(os.Stderr, "  %s\n", hint)
	}
	os.Exit(fault.KindOf(err).ExitCode())
}

func command(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("services", flag.ContinueOnError)
	flags.SetOutput(stderr)
	output := flags.String("output", "layout:build/services", "write an OCI image layout: layout:`DIR`; what is there is replaced")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return fault.Wrap(err, fault.Usage, "services --help shows what can be written", "command line")
	}
	dir, ok := strings.CutPrefix(*output, "layout:")
	if !ok || dir == "" || flags.NArg() > 0 {
		return fault.New(fault.Usage, "write --output layout:DIR", "output %q %q", *output, flags.Args())
	}
	b := &builder{dir: dir, log: stderr}
	images, err := b.make(ctx)
	if err != nil {
		return err
	}
	for _, line := range images {
		fmt.Fprintln(stdout, line)
	}
	return nil
}
