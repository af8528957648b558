// Command artifact speaks version 4 of the artifact protocol of GitHub Actions, which
// act's server speaks too: it stands in for upload-artifact and download-artifact
// where a test runs a workflow without a network.
//
//	artifact upload NAME DIR
//	artifact download NAME DIR
//
// The environment holds ACTIONS_RESULTS_URL and ACTIONS_RUNTIME_TOKEN, as runners set
// them. The protocol is not documented; it was read in act v0.2.89
// (pkg/artifacts/artifacts_v4.go), and nothing that is published depends on it.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	err := run(ctx, os.Args[1:])
	cancel()
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "artifact: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 3 || args[0] != "upload" && args[0] != "download" {
		return fmt.Errorf("write upload NAME DIR or download NAME DIR")
	}
	c, err := newClient(os.Getenv("ACTIONS_RESULTS_URL"), os.Getenv("ACTIONS_RUNTIME_TOKEN"), http.DefaultClient)
	if err != nil {
		return err
	}
	if args[0] == "upload" {
		err = c.upload(ctx, args[1], args[2])
	} else {
		err = c.download(ctx, args[1], args[2])
	}
	if err != nil {
		return fmt.Errorf("%s artifact %s: %w", args[0], args[1], err)
	}
	return nil
}
