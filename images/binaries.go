package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// systems are what a release has binaries for: what actions/setup/install.sh knows.
var systems = append(slices.Clone(platforms), "darwin/amd64", "darwin/arm64", "windows/amd64", "windows/arm64")

// downloads is where the files of a release are, each below its tag.
const downloads = home + "/releases/download"

// releaseTag is the form of a tag that a URL and a line of checksums.txt can hold: that
// of a registry.
var releaseTag = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)

// binary is a program as a file that a release is downloaded with.
type binary struct {
	// file is its name, <name>_<os>_<arch>[.exe].
	file string
	// sum is its SHA-256 in hex.
	sum string
}

// binaries makes the first program of every image in s for every system in s, from
// the files that the images hold where there is an image. If dir is not empty, they
// are written to it.
func (b *builder) binaries(ctx context.Context, s selection, dir string) ([]binary, error) {
	if dir != "" {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fault.Wrap(err, fault.Unavailable, "name a directory that can be written", "write binaries")
		}
	}
	var out []binary
	for _, system := range s.systems {
		if !slices.Contains(s.platforms, system) {
			if err := b.compile(ctx, entrypoints(s.images), system); err != nil {
				return nil, err
			}
		}
		suffix := ""
		if strings.HasPrefix(system, "windows/") {
			suffix = ".exe"
		}
		for _, i := range s.images {
			content, err := os.ReadFile(filepath.Join(b.compiled(system), i.programs[0]+suffix))
			if err != nil {
				return nil, fmt.Errorf("read what was compiled: %w", err)
			}
			one := binary{
				file: i.name + "_" + strings.ReplaceAll(system, "/", "_") + suffix,
				sum:  fmt.Sprintf("%x", sha256.Sum256(content)),
			}
			if dir != "" {
				if err := replace(filepath.Join(dir, one.file), content); err != nil {
					return nil, fault.Wrap(err, fault.Unavailable, "check that the disk is not full", "write binary")
				}
			}
			out = append(out, one)
		}
	}
	return out, nil
}

// entrypoints returns the first program of each image.
func entrypoints(images []image) []string {
	var out []string
	for _, i := range images {
		out = append(out, i.programs[0])
	}
	return out
}

// replace writes an executable file in one step, so that none is ever half there.
func replace(name string, content []byte) error {
	part := name + ".part"
	err := os.WriteFile(part, content, 0o755)
	if err == nil {
		err = os.Rename(part, name)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(part))
	}
	return nil
}

// checksums is the file of a release tree that names its binaries by URL and digest,
// for actions/setup/install.sh.
type checksums struct {
	dir, tag string
	binaries []binary
	// partial is set where only some binaries were asked for: lines of others stay.
	partial bool
}

func (c checksums) name() string { return filepath.Join(c.dir, "actions", "setup", "checksums.txt") }

func (c checksums) write() error { return rewrite(c.name(), c.lines) }

// lines returns the text of the file with a line for each binary, in order of their
// names, below the comments it has.
func (c checksums) lines(text string) string {
	var out strings.Builder
	var entries []string
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		// What the installer reads as a comment, it reads after blanks too.
		if word := strings.TrimLeft(line, " \t"); word == "" || strings.HasPrefix(word, "#") {
			out.WriteString(line + "\n")
		} else if c.partial && !slices.ContainsFunc(c.binaries, func(b binary) bool { return b.file == path.Base(line) }) {
			entries = append(entries, line)
		}
	}
	for _, b := range c.binaries {
		entries = append(entries, fmt.Sprintf("%s  %s/%s/%s", b.sum, downloads, c.tag, b.file))
	}
	slices.SortFunc(entries, func(a, b string) int { return strings.Compare(path.Base(a), path.Base(b)) })
	for _, line := range entries {
		out.WriteString(line + "\n")
	}
	return out.String()
}

// check compares the file with what this build would write: an error of kind
// fault.Finding names every line that is missing, and every line that should not be
// there.
func (c checksums) check() error {
	b, err := os.ReadFile(c.name())
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "name a tree that can be read", "check the release")
	}
	text := string(b)
	want := c.lines(text)
	if text == want {
		return nil
	}
	has, wants := strings.Split(text, "\n"), strings.Split(want, "\n")
	var differ []error
	for _, line := range wants {
		if !slices.Contains(has, line) {
			differ = append(differ, fmt.Errorf("%s has no line %q, which the source gives", c.name(), line))
		}
	}
	for n, line := range has {
		if !slices.Contains(wants, line) {
			differ = append(differ, fmt.Errorf("%s:%d: %q is not what the source gives", c.name(), n+1, line))
		}
	}
	if len(differ) == 0 {
		differ = append(differ, fmt.Errorf("%s has a line twice, in another order or without an end", c.name()))
	}
	return fault.Wrap(errors.Join(differ...), fault.Finding,
		"build from the commit that the release was made of, with the same tag; if that gives this again, do not trust the binaries", "check the release in "+c.dir)
}
