package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// engine is a program that holds a graph and answers queries: see [session].
type engine struct {
	name    string
	version string
	argv    []string
}

//go:embed drivers/oxigraph.mjs
var nodeDriver []byte

//go:embed drivers/pyoxigraph.py
var pythonDriver []byte

// npmOxigraph is the version that the figures are about; PyPI gives its newest.
const npmOxigraph = "oxigraph@0.5.11"

// engines returns this repository's engine and every peer that is there or
// can be installed into dir, and says why others are missing.
func engines(ctx context.Context, dir string, install bool) (found []engine, missing []string, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	found = []engine{{name: "ultrafast", version: runtime.Version(), argv: []string{self, "-serve"}}}
	for _, peer := range []struct {
		name  string
		setUp func(context.Context, string, bool) (engine, error)
	}{{"npm oxigraph", setUpNode}, {"pyoxigraph", setUpPython}} {
		e, err := peer.setUp(ctx, dir, install)
		if err != nil {
			missing = append(missing, fmt.Sprintf("%s is left out: %v", peer.name, err))
			continue
		}
		found = append(found, e)
	}
	return found, missing, ctx.Err()
}

func setUpNode(ctx context.Context, dir string, install bool) (engine, error) {
	dir = filepath.Join(dir, "npm")
	driver, err := write(dir, "oxigraph.mjs", nodeDriver)
	if err != nil {
		return engine{}, err
	}
	manifest := filepath.Join(dir, "node_modules", "oxigraph", "package.json")
	if _, err := os.Stat(manifest); err != nil && install {
		if _, err := output(ctx, "npm", "install", "--no-audit", "--no-fund", "--prefix", dir, npmOxigraph); err != nil {
			return engine{}, err
		}
	}
	text, err := os.ReadFile(manifest)
	if err != nil {
		return engine{}, err
	}
	var about struct{ Version string }
	if err := json.Unmarshal(text, &about); err != nil {
		return engine{}, err
	}
	node, err := output(ctx, "node", "--version")
	if err != nil {
		return engine{}, err
	}
	return engine{name: "npm oxigraph", version: about.Version + ", WebAssembly in node " + node, argv: []string{"node", driver, dir}}, nil
}

func setUpPython(ctx context.Context, dir string, install bool) (engine, error) {
	dir = filepath.Join(dir, "python")
	driver, err := write(dir, "pyoxigraph.py", pythonDriver)
	if err != nil {
		return engine{}, err
	}
	if _, err := os.Stat(filepath.Join(dir, "pyoxigraph")); err != nil && install {
		if _, err := output(ctx, "python3", "-m", "pip", "install", "--quiet", "--no-deps", "--target", dir, "pyoxigraph"); err != nil {
			return engine{}, err
		}
	}
	version, err := output(ctx, "python3", "-c",
		"import sys; sys.path.insert(0, sys.argv[1]); import pyoxigraph, platform; print(pyoxigraph.__version__ + ', native in Python ' + platform.python_version())", dir)
	if err != nil {
		return engine{}, err
	}
	return engine{name: "pyoxigraph", version: version, argv: []string{"python3", driver, dir}}, nil
}

func write(dir, name string, content []byte) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	return path, os.WriteFile(path, content, 0o644)
}

// output runs a command and returns what it prints, or an error with the last
// line of what it complains about.
func output(ctx context.Context, name string, args ...string) (string, error) {
	var complaint strings.Builder
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		lines := strings.Split(strings.TrimSpace(complaint.String()), "\n")
		return "", fmt.Errorf("%s: %w %s", name, err, lines[len(lines)-1])
	}
	return strings.TrimSpace(string(out)), nil
}
