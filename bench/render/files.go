package main

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

const manyTemplate = `---
to: "src/{{ name | truncate(length=2, end='') }}/{{ name }}.go"
prefixes:
  ex: "http://example.com/ns#"
sparql:
  things: |
    SELECT ?name ?doc WHERE { ?thing a ex:Thing ; ex:name ?name ; ex:doc ?doc } ORDER BY ?name
for_each: things
---
package model

// {{ name | pascal }} is {{ doc }}.
type {{ name | pascal }} struct {
{% for i in range(end=12) -%}
	Field{{ i }} string ` + "`json:\"field_{{ i }}\"`" + `
{% endfor -%}
}
`

// manyFiles compares a run of generate, as a process, with unpacking what it made.
func manyFiles(ctx context.Context, o options, out io.Writer) (err error) {
	dir, err := filepath.Abs(o.work)
	if err != nil {
		return err
	}
	if dir, err = os.MkdirTemp(dir, "files-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := project(dir, o.files); err != nil {
		return err
	}
	binary, err := filepath.Abs(o.binary)
	if err != nil {
		return err
	}
	const rounds = 5
	var generated, untarred, lasting []time.Duration // lasting: untarred, and synced
	memory := int64(0)
	archive := filepath.Join(dir, "tree.tar")
	for i := range rounds {
		tree := filepath.Join(dir, fmt.Sprintf("tree%d", i))
		cmd := exec.CommandContext(ctx, binary, "template", "templates/thing.tmpl", "--graph", "model.ttl", "--output-dir", tree, "--no-cache", "--progress", "quiet",
			"--store", "layout:"+filepath.Join(dir, fmt.Sprintf("state%d", i)))
		cmd.Dir = dir
		began := time.Now()
		if said, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("generate: %w: %s", err, said)
		}
		generated = append(generated, time.Since(began))
		if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
			memory = max(memory, usage.Maxrss<<10)
		}
		if i == 0 {
			if err := pack(tree, archive); err != nil {
				return err
			}
		}
		into := filepath.Join(dir, fmt.Sprintf("untar%d", i))
		if err := os.Mkdir(into, 0o755); err != nil {
			return err
		}
		began = time.Now()
		if said, err := exec.CommandContext(ctx, "tar", "-xf", archive, "-C", into).CombinedOutput(); err != nil {
			return fmt.Errorf("tar: %w: %s", err, said)
		}
		untarred = append(untarred, time.Since(began))
		if said, err := exec.CommandContext(ctx, "sync", "-f", into).CombinedOutput(); err != nil {
			return fmt.Errorf("sync: %w: %s", err, said)
		}
		lasting = append(lasting, time.Since(began))
	}
	var ratio, ratioLasting []float64 // of one round, so that the noise falls on both
	for i := range generated {
		ratio = append(ratio, float64(generated[i])/float64(untarred[i]))
		ratioLasting = append(ratioLasting, float64(generated[i])/float64(lasting[i]))
	}
	slices.Sort(ratio)
	slices.Sort(ratioLasting)
	slices.Sort(lasting)
	slices.Sort(generated)
	slices.Sort(untarred)
	fmt.Fprintf(out, "\n## %d files from one graph of %d triples\n\n| | median | of tar -xf | of tar -xf, synced | peak memory |\n|---|---|---|---|---|\n", o.files, o.files*triplesPerFile)
	fmt.Fprintf(out, "| generate template, synced | %.2f s | %.2f | %.2f | %d MB |\n| tar -xf, not synced | %.2f s | 1 | | |\n| tar -xf, then sync -f | %.2f s | | 1 | |\n",
		generated[rounds/2].Seconds(), ratio[rounds/2], ratioLasting[rounds/2], memory>>20, untarred[rounds/2].Seconds(), lasting[rounds/2].Seconds())
	return nil
}

const triplesPerFile = 20

// project writes a graph with so many things, and a template of one file for each.
func project(dir string, things int) (err error) {
	if err := os.Mkdir(filepath.Join(dir, "templates"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "templates", "thing.tmpl"), []byte(manyTemplate), 0o644); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, "model.ttl"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriter(f)
	fmt.Fprintln(w, "@prefix ex: <http://example.com/ns#> .")
	for i := range things {
		fmt.Fprintf(w, "ex:t%d a ex:Thing ; ex:name \"%02d_thing_%d\" ; ex:doc \"thing number %d\"", i, i%40, i, i)
		for p := 3; p < triplesPerFile; p++ {
			fmt.Fprintf(w, " ; ex:p%d %d", p, i*p)
		}
		fmt.Fprintln(w, " .")
	}
	return w.Flush()
}

// pack makes an archive of a tree, but for the papers of its write.
func pack(tree, archive string) (err error) {
	f, err := os.Create(archive)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := tar.NewWriter(f)
	defer func() { err = errors.Join(err, w.Close()) }()
	return filepath.WalkDir(tree, func(at string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.Name() == ".ggen":
			return filepath.SkipDir
		case d.IsDir():
			return nil
		}
		content, err := os.ReadFile(at)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(tree, at)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: filepath.ToSlash(name), Mode: 0o644, Size: int64(len(content))}); err != nil {
			return err
		}
		_, err = w.Write(content)
		return err
	})
}
