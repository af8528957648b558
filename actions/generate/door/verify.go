package door

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/config"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Verify renders twice under different circumstances and compares.
type Verify struct {
	Options
}

// Help shows how it is called.
func (*Verify) Help() string {
	return `Two processes render the same templates in different directories, time zones, locales and
with another number of processors; both trees and both claims must be the same, byte for byte.
Both see the time of SOURCE_DATE_EPOCH where that is set, else 1970-01-01T00:00:00Z.

Examples:
  ultrafast-generate verify
  ultrafast-generate verify 'go-http-service:*' --package packages/go-http-service`
}

// circumstances are the environments of the two processes. Nothing of them may be
// found in a tree.
var circumstances = [2]map[string]string{
	{"TZ": "Pacific/Kiritimati", "LANG": "C", "LC_ALL": "C", "GOMAXPROCS": "1", "USER": "first"},
	{"TZ": "America/St_Johns", "LANG": "tr_TR.UTF-8", "LC_ALL": "tr_TR.UTF-8", "GOMAXPROCS": "4", "USER": "second"},
}

// rendering is what one of the processes made.
type rendering struct {
	claim string
	files map[string]state.Digest
}

// Run renders twice and compares.
func (v *Verify) Run(ctx context.Context, a *app.App) error {
	a.Checked()
	project, err := a.LoadProject()
	if err != nil {
		return err
	}
	tidy(ctx, a)
	var made [2]rendering
	for i := range made {
		room, err := newScratch(ctx, os.TempDir())
		if err != nil {
			return err
		}
		a.AtEnd(room.remove)
		if made[i], err = v.render(ctx, a, project, room.dir, i); err != nil {
			return err
		}
	}
	return compare(a, made[0], made[1])
}

// render runs one process in dir.
func (v *Verify) render(ctx context.Context, a *app.App, project *config.Project, dir string, number int) (rendering, error) {
	dir = filepath.Join(dir, strings.Repeat("deeper/", number*3), "rendering")
	tree := filepath.Join(dir, "tree")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return rendering{}, fault.Wrap(err, fault.Unavailable, "", "make a directory to render in")
	}
	self, err := os.Executable()
	if err != nil {
		return rendering{}, fault.Wrap(err, fault.Unavailable, "", "find this program's file")
	}
	args := slices.Concat(v.arguments(a), []string{
		"--project", project.Dir, "--store", "layout:" + filepath.Join(dir, "state"), "--output-dir", tree, "--no-cache", "--progress", "quiet",
	})
	if a.State != "" {
		// The chain that is rendered from is read where it is; what is added goes elsewhere.
		args = append(slices.DeleteFunc(args, func(s string) bool { return strings.HasPrefix(s, "layout:") || s == "--store" }), "--state", a.State)
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Args = append([]string{os.Args[0]}, args...)
	cmd.Dir, cmd.Env = dir, environment(a, circumstances[number])
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := runBound(cmd); err != nil {
		if ctx.Err() != nil {
			return rendering{}, context.Cause(ctx)
		}
		return rendering{}, failed(err, errs.String())
	}
	files, err := digests(tree)
	_, claim, _ := strings.Cut(strings.TrimSpace(out.String()), "@")
	return rendering{claim, files}, err
}

// failed passes on how the process ended: its exit code says whose turn it is.
func failed(err error, said string) error {
	kind := fault.Unavailable
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		for _, k := range []fault.Kind{fault.Finding, fault.Usage, fault.Unavailable, fault.Internal} {
			if k.ExitCode() == exit.ExitCode() {
				kind = k
			}
		}
	}
	return fault.New(kind, "", "render to compare: %s", strings.TrimSpace(said))
}

// environment is that of this process with some variables changed.
func environment(a *app.App, changed map[string]string) []string {
	var out []string
	if a.Environ != nil {
		for _, pair := range a.Environ() {
			name, _, _ := strings.Cut(pair, "=")
			// The platform would take the state of the rendering for that of the job.
			if _, isChanged := changed[name]; isChanged || strings.HasPrefix(name, "GITHUB_") || strings.HasPrefix(name, "GITLAB_") || strings.HasPrefix(name, "INPUT_") {
				continue
			}
			out = append(out, pair)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(changed)) {
		out = append(out, name+"="+changed[name])
	}
	return out
}

// arguments is the command line that renders what v asks for.
func (v *Verify) arguments(a *app.App) []string {
	args := []string{"template"}
	if a.Tool == "ultrafast" {
		args = []string{"generate", "template"}
	}
	args = append(args, v.Templates...)
	add := func(name string, values ...string) {
		for _, value := range values {
			if value != "" {
				args = append(args, "--"+name+"="+value)
			}
		}
	}
	add("template", v.Template...)
	for _, key := range slices.Sorted(maps.Keys(v.Vars)) {
		add("vars", key+"="+v.Vars[key])
	}
	if v.VarsFile != "" {
		add("vars-file", a.Abs(v.VarsFile))
	}
	add("graph", v.Graph...)
	add("min-isolation", v.MinIsolation)
	for _, dir := range v.Package {
		add("package", a.Abs(dir))
	}
	for name, is := range map[string]bool{"strict": v.Strict, "allow-shell-chars": v.AllowShellChars, "allow-ci": v.AllowCI, "allow-hooks": v.AllowHooks, "keep-map-order": v.KeepMapOrder} {
		if is {
			args = append(args, "--"+name)
		}
	}
	for name, value := range map[string]int64{
		"max-rows": int64(v.MaxRows), "max-memory": v.MaxMemory, "max-depth": int64(v.MaxDepth), "max-path-length": int64(v.MaxPathLength),
	} {
		if value != 0 {
			add(name, strconv.FormatInt(value, 10))
		}
	}
	if v.QueryTimeout != 0 {
		add("query-timeout", v.QueryTimeout.String())
	}
	if v.Seed != 0 {
		add("seed", strconv.FormatUint(v.Seed, 10))
	}
	return args
}

// digests returns what is in a tree, but for the papers of the write.
func digests(dir string) (map[string]state.Digest, error) {
	files := map[string]state.Digest{}
	err := filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == ".ggen":
			return filepath.SkipDir
		case d.IsDir():
			return nil
		}
		content, err := os.ReadFile(at)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, at)
		files[filepath.ToSlash(rel)] = state.DigestOf(append([]byte(info.Mode().String()+"\n"), content...))
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // no file was made
	}
	return files, fault.Wrap(err, fault.Unavailable, "", "read what was rendered")
}

// compare tells of every file that differs.
func compare(a *app.App, one, other rendering) error {
	const most = 20
	differ := 0
	for _, name := range slices.Sorted(maps.Keys(union(one.files, other.files))) {
		if one.files[name] == other.files[name] {
			continue
		}
		if differ++; differ <= most {
			a.Note(finding.Finding{
				Rule: "generate-differs", Severity: finding.High, Where: finding.Place{File: name}, What: fmt.Sprintf("%s differs between two renderings of the same inputs", name),
				Fix: "look for what its template takes from the clock, the environment or chance",
			})
		}
	}
	if differ > 0 || one.claim != other.claim {
		return fault.New(fault.Finding, "", "two renderings of the same inputs differ in %s; claims %s and %s", count(differ, "file"), one.claim, other.claim)
	}
	_, err := fmt.Fprintf(a.Stdout, "%s, the same twice: %s\n", count(len(one.files), "file"), one.claim)
	return err
}

func union(a, b map[string]state.Digest) map[string]state.Digest {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}
