package main

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

//go:embed minijinja.cjs
var driver []byte

// nodeVersion is the package that is measured.
const nodeVersion = "minijinja-js@2.11.0"

// node is npm's minijinja-js in a process of its own, that measures itself.
type node struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
}

// startNode installs the package below dir and starts the process.
func startNode(ctx context.Context, dir string) (*node, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "minijinja-js")); err != nil {
		out, err := exec.CommandContext(ctx, "npm", "install", "--prefix", dir, "--no-audit", "--no-fund", nodeVersion).CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("npm install %s: %w: %s", nodeVersion, err, out)
		}
	}
	file := filepath.Join(dir, "minijinja.cjs")
	if err := os.WriteFile(file, driver, 0o644); err != nil {
		return nil, err
	}
	n := &node{cmd: exec.CommandContext(ctx, "node", filepath.Base(file))}
	n.cmd.Dir, n.cmd.Stderr = dir, os.Stderr
	var err error
	if n.stdin, err = n.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := n.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	n.stdout = bufio.NewReaderSize(stdout, 1<<20)
	return n, n.cmd.Start()
}

func (n *node) ask(request, answer any) error {
	b, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if _, err := n.stdin.Write(append(b, '\n')); err != nil {
		return err
	}
	line, err := n.stdout.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("minijinja-js ended: %w", err)
	}
	return json.Unmarshal(line, answer)
}

func (n *node) prepare(w *workload) (string, error) {
	var answer struct{ Output string }
	err := n.ask(map[string]any{"name": w.name, "source": w.jinja, "vars": w.vars}, &answer)
	return answer.Output, err
}

func (n *node) turn(budget time.Duration) (measure, error) {
	var answer struct{ Nanoseconds float64 }
	err := n.ask(map[string]any{"budget": budget.Seconds()}, &answer)
	return measure{time.Duration(answer.Nanoseconds), -1}, err
}

func (n *node) close() error {
	if err := n.stdin.Close(); err != nil {
		return err
	}
	return n.cmd.Wait()
}
