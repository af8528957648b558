package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// The versions of the service that the demo puts live.
const (
	firstVersion  = "1.0.0"
	secondVersion = "1.1.0"
)

// workspace is the copy of the example that the demo works in.
type workspace struct {
	project string
	// address is where the deployed service is reached.
	address string
}

// ours are the names in the project that the program writes and later runs need.
var ours = []string{".ggen", ".cleanroom", "service"}

// prepare makes or refreshes the copy. What earlier runs stored stays, and the
// model is that of the first version again.
func prepare(dir, sources string) (*workspace, error) {
	w := &workspace{project: filepath.Join(dir, "orders")}
	for from, to := range map[string]string{
		filepath.Join(sources, "orders"):   w.project,
		filepath.Join(sources, "registry"): filepath.Join(dir, "registry"),
	} {
		if err := mirror(from, to, ours); err != nil {
			return nil, err
		}
	}
	config, err := os.ReadFile(filepath.Join(w.project, "ggen.toml"))
	if err != nil {
		return nil, err
	}
	found := regexp.MustCompile(`(?m)^listen = "([^"]+)"$`).FindSubmatch(config)
	if found == nil {
		return nil, errors.New("ggen.toml has no listen address")
	}
	w.address = string(found[1])
	return w, nil
}

// mirror makes the files below to the same as those below from; at the top, the
// names in keep are left alone on both sides.
func mirror(from, to string, keep []string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	source, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, entry := range source {
		if slices.Contains(keep, entry.Name()) {
			continue
		}
		wanted[entry.Name()] = true
		if err := copyEntry(filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name()), entry); err != nil {
			return err
		}
	}
	present, err := os.ReadDir(to)
	if err != nil {
		return err
	}
	for _, entry := range present {
		if !wanted[entry.Name()] && !slices.Contains(keep, entry.Name()) {
			if err := os.RemoveAll(filepath.Join(to, entry.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func copyEntry(from, to string, entry fs.DirEntry) error {
	switch {
	case entry.IsDir():
		return mirror(from, to, nil)
	case !entry.Type().IsRegular():
		return fmt.Errorf("%s is neither file nor directory", from)
	}
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	info, err := entry.Info()
	if err != nil {
		return err
	}
	mode := fs.FileMode(0o644)
	if info.Mode()&0o100 != 0 {
		mode = 0o755
	}
	if err := os.WriteFile(to, content, mode); err != nil {
		return err
	}
	return os.Chmod(to, mode)
}

// change turns the project into its second version: it raises the two version
// numbers and adds the triples of orders-v2.ttl to the model.
func (w *workspace) change() error {
	model := filepath.Join(w.project, "model", "orders.ttl")
	for _, edit := range []struct{ file, format string }{
		{filepath.Join(w.project, "ggen.toml"), "\nversion = %q\n"},
		{model, "owl:versionInfo %q ;\n"},
	} {
		if err := replaceOnce(edit.file, fmt.Sprintf(edit.format, firstVersion), fmt.Sprintf(edit.format, secondVersion)); err != nil {
			return err
		}
	}
	addition, err := os.ReadFile(filepath.Join(w.project, "model", "orders-v2.ttl"))
	if err != nil {
		return err
	}
	content, err := os.ReadFile(model)
	if err != nil {
		return err
	}
	return os.WriteFile(model, slices.Concat(content, []byte("\n"), addition), 0o644)
}

// replaceOnce changes the one place in file where old stands.
func replaceOnce(file, old, fresh string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if n := bytes.Count(content, []byte(old)); n != 1 {
		return fmt.Errorf("%s has %q %d times, want once", file, strings.TrimSpace(old), n)
	}
	return os.WriteFile(file, bytes.Replace(content, []byte(old), []byte(fresh), 1), 0o644)
}

// refuses returns an error if something accepts connections at address.
func refuses(ctx context.Context, address string) error {
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return ctx.Err()
	}
	return errors.Join(fmt.Errorf("something listens on %s", address), conn.Close())
}

// noProcess returns an error if a process runs a program below dir, or runs
// program in or for something below dir. Where there is no /proc it cannot tell
// and says nothing.
func noProcess(dir, program string) error {
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	below := func(path string) bool {
		return strings.HasPrefix(path+string(filepath.Separator), dir+string(filepath.Separator))
	}
	var left []string
	for _, process := range processes {
		// What cannot be read has ended meanwhile, or belongs to somebody else.
		executable, _ := os.Readlink(filepath.Join(process, "exe"))
		working, _ := os.Readlink(filepath.Join(process, "cwd"))
		command, _ := os.ReadFile(filepath.Join(process, "cmdline"))
		args := strings.Split(strings.TrimRight(string(command), "\x00"), "\x00")
		here := below(working) || slices.ContainsFunc(args, below)
		if below(executable) || executable == program && here {
			left = append(left, fmt.Sprintf("  %s: %s", filepath.Base(process), strings.Join(args, " ")))
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("left running:\n%s", strings.Join(left, "\n"))
	}
	return nil
}
