// Command tektonlint judges Tekton's objects with Tekton's own code, and turns a
// task of a pipeline into the Pod that Tekton would create, without a cluster.
//
//	tektonlint lint FILE…                  findings on standard output, exit 1 if there are any
//	tektonlint pod FILE… <request.json     the Pod of a task of a pipeline, as JSON
//	tektonlint results FILE… <ended.json   what the ended Pod hands on, as JSON
//
// It is a module of its own, since Tekton brings a thousand packages with it. It
// opens the files it is given and nothing else: no network, no cluster.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

func main() {
	code, err := run(context.Background(), os.Args[1:], os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintf(os.Stderr, "tektonlint: %v\n", err)
		code = 2
	}
	os.Exit(code)
}

var errUsage = errors.New("usage: tektonlint lint|pod|results FILE…")

// run returns the exit code: 1 for findings and for a run that Tekton refuses.
func run(ctx context.Context, args []string, in io.Reader, out io.Writer) (int, error) {
	if len(args) < 2 {
		return 2, errUsage
	}
	catalog, findings, err := read(ctx, args[1:])
	if err != nil {
		return 2, err
	}
	if args[0] == "lint" {
		return show(out, append(findings, catalog.references(ctx)...))
	}
	if len(findings) > 0 {
		return show(out, findings)
	}
	var answer any
	switch args[0] {
	case "pod":
		var request Request
		if err := decode(in, &request); err != nil {
			return 2, err
		}
		answer, err = catalog.pod(ctx, request)
	case "results":
		var ended Ended
		if err := decode(in, &ended); err != nil {
			return 2, err
		}
		answer, err = catalog.results(ctx, ended)
	default:
		return 2, errUsage
	}
	if err != nil {
		return show(out, []string{err.Error()})
	}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return 0, enc.Encode(answer)
}

// maxRequest bounds standard input, in bytes.
const maxRequest = 1 << 20

func decode(in io.Reader, v any) error {
	dec := json.NewDecoder(io.LimitReader(in, maxRequest))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("standard input: %w", err)
	}
	return nil
}

func show(out io.Writer, findings []string) (int, error) {
	for _, f := range findings {
		if _, err := fmt.Fprintln(out, f); err != nil {
			return 2, err
		}
	}
	if len(findings) > 0 {
		return 1, nil
	}
	return 0, nil
}
