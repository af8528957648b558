package toolchain

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// asker is a way to ask an installation about itself.
type asker struct {
	// command is what is looked for in PATH.
	command string
	// hint says what to install.
	hint string
	// ask returns the installation of the command at path, without its digest.
	ask func(ctx context.Context, path string) (Toolchain, error)
}

// languages are those besides Go, by the name that the clean room has for them.
var languages = map[string]asker{
	"py":   {"python3", "install Python 3, Debian's package python3", askPython},
	"js":   {"node", "install Node.js 18 or later from https://nodejs.org", askNode},
	"ts":   {"node", "install Node.js 22 or later from https://nodejs.org", askNode},
	"bats": {"bats", "install Bats, Debian's package bats", askBats},
	"rs":   {"rustc", "install Rust from https://rustup.rs", askRust},
	"sh":   {"sh", "install a POSIX shell", askShell},
}

const hintImage = ", or set image in [[cleanroom.suite]]"

// FindLanguage returns the installation of the host for a language other than Go: "py",
// "rs", "js", "ts", "bats", "sh". The one counts that is first in PATH, as everyone there
// would use it; a shim of a version manager is asked what it stands for. None, or one that
// does not work, is an error of kind fault.Unavailable.
func FindLanguage(ctx context.Context, name string) (Toolchain, error) {
	lang, ok := languages[name]
	if !ok {
		return Toolchain{}, fault.New(fault.Internal, "", "no toolchain is known for %q", name)
	}
	hint := lang.hint + hintImage
	path, err := exec.LookPath(lang.command)
	if err != nil {
		return Toolchain{}, fault.New(fault.Unavailable, hint, "find the command %s: %w", lang.command, err)
	}
	t, err := lang.ask(ctx, path)
	if err != nil {
		return Toolchain{}, fault.Wrap(err, fault.Unavailable, hint, "ask "+path+" about its installation")
	}
	t.OS, t.Arch = runtime.GOOS, runtime.GOARCH
	sum, err := digestFile(t.Program)
	if err != nil {
		return Toolchain{}, fault.Wrap(err, fault.Unavailable, hint, "read "+t.Program)
	}
	t.Digest = state.DigestOf(fmt.Appendf(nil, "toolchain 1\n%s %s\n%s\n%s %s\n", t.Version, t.build, t.Platform(), lang.command, sum))
	return t, nil
}

// askJSON runs a program that prints a JSON document.
func askJSON(ctx context.Context, answer any, argv ...string) error {
	out, err := run(ctx, string(filepath.Separator), nil, argv...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, answer); err != nil {
		return fmt.Errorf("it answers %.200q: %w", out, err)
	}
	return nil
}

// installed returns the toolchain of a program in the directory bin of its prefix.
func installed(program, version string) (Toolchain, error) {
	program, err := filepath.EvalSymlinks(program)
	if err != nil {
		return Toolchain{}, err
	}
	return Toolchain{Root: filepath.Dir(filepath.Dir(program)), Program: program, Version: version}, nil
}

func askPython(ctx context.Context, path string) (Toolchain, error) {
	const question = "import json, sys; print(json.dumps([sys.base_prefix, getattr(sys, '_base_executable', sys.executable), '%d.%d.%d' % sys.version_info[:3]]))"
	var answer [3]string
	if err := askJSON(ctx, &answer, path, "-I", "-c", question); err != nil {
		return Toolchain{}, err
	}
	if !strings.HasPrefix(answer[2], "3.") {
		return Toolchain{}, fmt.Errorf("it is Python %s, and 3 is needed", answer[2])
	}
	t, err := installed(answer[1], "python "+answer[2])
	if err != nil {
		return t, err
	}
	t.Root, err = filepath.EvalSymlinks(answer[0])
	return t, err
}

func askNode(ctx context.Context, path string) (Toolchain, error) {
	var answer [2]string
	if err := askJSON(ctx, &answer, path, "-p", "JSON.stringify([process.execPath, process.version])"); err != nil {
		return Toolchain{}, err
	}
	return installed(answer[0], "node "+answer[1])
}

// askRust finds the toolchain behind the shims of rustup: rustc tells its sysroot, in
// which cargo is too unless the distribution keeps it in PATH alone.
func askRust(ctx context.Context, path string) (Toolchain, error) {
	out, err := run(ctx, string(filepath.Separator), nil, path, "-vV")
	if err != nil {
		return Toolchain{}, err
	}
	facts := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if name, value, ok := strings.Cut(line, ":"); ok {
			facts[name] = strings.TrimSpace(value)
		}
	}
	if facts["release"] == "" || facts["host"] == "" {
		return Toolchain{}, fmt.Errorf("it answers %.200q, which names no release and host", out)
	}
	if out, err = run(ctx, string(filepath.Separator), nil, path, "--print", "sysroot"); err != nil {
		return Toolchain{}, err
	}
	root, err := filepath.EvalSymlinks(strings.TrimSpace(string(out)))
	if err != nil {
		return Toolchain{}, err
	}
	program := filepath.Join(root, "bin", "cargo"+exe())
	if _, err := os.Stat(program); err != nil {
		if program, err = exec.LookPath("cargo"); err != nil {
			return Toolchain{}, err
		}
	}
	t := Toolchain{Root: root, Program: program, Version: "rustc " + facts["release"], Target: facts["host"]}
	if commit := facts["commit-hash"]; commit != "" && commit != "unknown" {
		t.build = commit
	}
	return t, nil
}

var batsVersion = regexp.MustCompile(`\b\d+\.\d+\.\d+\b`)

func askBats(ctx context.Context, path string) (Toolchain, error) {
	out, err := run(ctx, string(filepath.Separator), nil, path, "--version")
	if err != nil {
		return Toolchain{}, err
	}
	version := batsVersion.Find(out)
	if version == nil {
		return Toolchain{}, fmt.Errorf("it answers %.200q, which names no version", out)
	}
	return installed(path, "bats "+string(version))
}

// askShell asks nothing: POSIX shells do not tell their version. Their digest does.
func askShell(_ context.Context, path string) (Toolchain, error) { return installed(path, "sh") }

// Fingerprint returns a text that changes when an installation that [FindLanguage] may
// return is replaced. It starts no program: it looks at the files, and at where version
// managers note what is current.
func Fingerprint() string {
	var b strings.Builder
	seen := map[string]bool{}
	for _, name := range []string{"bats", "js", "py", "rs", "sh"} {
		path, err := exec.LookPath(languages[name].command)
		if err != nil {
			continue
		}
		note(&b, seen, path)
		if real, err := filepath.EvalSymlinks(path); err == nil {
			note(&b, seen, real)
		}
	}
	if home, err := os.UserHomeDir(); err == nil {
		for _, file := range []string{".pyenv/version", ".rustup/settings.toml", ".tool-versions"} {
			note(&b, seen, filepath.Join(home, filepath.FromSlash(file)))
		}
	}
	return string(state.DigestOf([]byte(b.String())))
}

// note writes what a file looks like from outside.
func note(b *strings.Builder, seen map[string]bool, path string) {
	info, err := os.Stat(path)
	if err == nil && !seen[path] {
		fmt.Fprintf(b, "%s %d %d\n", path, info.Size(), info.ModTime().UnixNano())
	}
	seen[path] = true
}
