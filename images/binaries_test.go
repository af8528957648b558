package main

import (
	"bytes"
	"debug/macho"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

const checksumsFile = "actions/setup/checksums.txt"

// setupTree is a copy of what the installer of binaries is made of.
func setupTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{checksumsFile, "actions/setup/install.sh"} {
		writeText(t, filepath.Join(dir, name), readText(t, filepath.Join(root, name)))
	}
	return dir
}

// TestInstallerKnowsBinaries compares the names and systems of a release with those
// that the installer asks for.
func TestInstallerKnowsBinaries(t *testing.T) {
	t.Parallel()
	script := readText(t, filepath.Join(root, "actions", "setup", "install.sh"))
	known := regexp.MustCompile(`(?m)^ +(ultrafast(?: \| ultrafast-[a-z-]+)+)\) ;;$`).FindStringSubmatch(script)
	if known == nil {
		t.Fatal("the installer has no list of names")
	}
	names := strings.Split(known[1], " | ")
	slices.Sort(names)
	var ours []string
	for _, i := range table {
		ours = append(ours, i.name)
		if want := "./actions/" + strings.TrimPrefix(i.name, "ultrafast-"); "./actions/"+i.programs[0] != want {
			t.Errorf("%s is built from %s, and by the installer from %s", i.name, i.programs[0], want)
		}
	}
	slices.Sort(ours)
	if !slices.Equal(names, ours) {
		t.Errorf("the installer knows %q, a release has %q", names, ours)
	}
	var want []string
	for _, system := range regexp.MustCompile(`\bos=([a-z]+) ;;`).FindAllStringSubmatch(script, -1) {
		for _, arch := range regexp.MustCompile(`\barch=([a-z0-9]+) ;;`).FindAllStringSubmatch(script, -1) {
			want = append(want, system[1]+"/"+arch[1])
		}
	}
	if !slices.Equal(systems, want) {
		t.Errorf("the installer knows %q, a release has %q", want, systems)
	}
}

func TestChecksums(t *testing.T) {
	t.Parallel()
	b := fake(t)
	chosen := selection{images: table, platforms: platforms, systems: platforms}
	dir := filepath.Join(t.TempDir(), "new", "binaries")
	binaries, err := b.binaries(t.Context(), chosen, dir)
	if err != nil {
		t.Fatal(err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != len(table)*len(platforms) || len(binaries) != len(files) {
		t.Errorf("%v %v", files, err)
	}
	if got := readText(t, filepath.Join(dir, "ultrafast-deploy_linux_arm64")); got != "deploy for linux/arm64" {
		t.Errorf("%q", got)
	}
	c := checksums{dir: setupTree(t), tag: "v1.2.3", binaries: binaries}
	name := filepath.Join(c.dir, checksumsFile)
	before := readText(t, name)
	if err := c.check(); fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), "has no line") {
		t.Errorf("a tree without binaries passes: %v", err)
	}
	for range 2 { // the second changes nothing
		if err := c.write(); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.check(); err != nil {
		t.Error(err)
	}
	whole := readText(t, name)
	// The digest is that of "market for linux/amd64", from sha256sum.
	line := "2316908bb9df8ad91f339a0e04fc930564e13ad39c1c1f3fe0ca84fda63a4b66" +
		"  https://github.com/ultrafast-ci/ultrafast/releases/download/v1.2.3/ultrafast-market_linux_amd64\n"
	if !strings.HasPrefix(whole, before) || !strings.Contains(whole, "\n"+line) {
		t.Errorf("no %q in:\n%s", line, whole)
	}
	for what, change := range map[string]func(*checksums){
		"a rebuild": func(c *checksums) {
			c.binaries = slices.Clone(c.binaries)
			c.binaries[3].sum = strings.Repeat("0", 64)
		},
		"another tag":   func(c *checksums) { c.tag = "v1.2.4" },
		"not built":     func(c *checksums) { c.binaries = c.binaries[1:] },
		"one digest":    func(*checksums) { writeText(t, name, strings.Replace(whole, line, "a"+line[1:], 1)) },
		"lacks one":     func(*checksums) { writeText(t, name, strings.Replace(whole, line, "", 1)) },
		"commented out": func(*checksums) { writeText(t, name, strings.Replace(whole, line, " # "+line, 1)) },
		"one before":    func(*checksums) { writeText(t, name, strings.Replace(whole, line, "a"+line[1:]+line, 1)) },
		"twice":         func(*checksums) { writeText(t, name, strings.Replace(whole, line, line+line, 1)) },
		"no end":        func(*checksums) { writeText(t, name, strings.TrimSuffix(whole, "\n")) },
		"another host":  func(*checksums) { writeText(t, name, strings.Replace(whole, "github.com", "example.com", 1)) },
	} {
		other := c
		change(&other)
		if err := other.check(); fault.KindOf(err) != fault.Finding || fault.HintOf(err) == "" {
			t.Errorf("%s: %v", what, err)
		}
		writeText(t, name, whole)
	}
	// A part compares what was asked for, and leaves the rest.
	part := checksums{dir: c.dir, tag: c.tag, binaries: binaries[:1], partial: true}
	if err := part.check(); err != nil {
		t.Error(err)
	}
	part.binaries = []binary{{file: binaries[0].file, sum: strings.Repeat("0", 64)}}
	if err := part.check(); fault.KindOf(err) != fault.Finding {
		t.Errorf("another binary: %v", err)
	}
	if err := part.write(); err != nil {
		t.Fatal(err)
	}
	if got := readText(t, name); got != strings.Replace(whole, binaries[0].sum, part.binaries[0].sum, 1) {
		t.Errorf("%s", got)
	}
	part.dir = t.TempDir()
	if err := part.write(); fault.KindOf(err) != fault.Usage {
		t.Errorf("no tree: %v", err)
	}
	if err := part.check(); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("no tree: %v", err)
	}
}

// TestReleasedBinaryIsInstalled releases one binary for this machine and installs it
// from a server, as a composite action of the release does: without Go.
func TestReleasedBinaryIsInstalled(t *testing.T) {
	t.Parallel()
	host := runtime.GOOS + "/" + runtime.GOARCH
	curl, err := exec.LookPath("curl")
	if testing.Short() || err != nil || !slices.Contains(platforms, host) {
		t.Skip("compiles a program, and needs curl and a Linux that there are binaries for")
	}
	dir, files := tree(t), t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(setupTree(t))); err != nil {
		t.Fatal(err)
	}
	install := filepath.Join(dir, "actions", "setup", "install.sh")
	if err := os.Chmod(install, 0o755); err != nil {
		t.Fatal(err)
	}
	args := []string{
		"--source", root, "--phase", "market", "--flavour", "scratch", "--platform", host, "--tag", "v9.8.7",
		"--binaries", files, "--actions", dir, "--check", dir,
	}
	if err := run(t.Context(), args, io.Discard, t.Output()); err != nil {
		t.Fatal(err)
	}
	const below = "/ultrafast-ci/ultrafast/releases/download/v9.8.7/"
	server := httptest.NewTLSServer(http.StripPrefix(below, http.FileServer(http.Dir(files))))
	defer server.Close()
	home := t.TempDir()
	// Not even the name of the server is checked: the digest decides.
	writeText(t, filepath.Join(home, ".curlrc"), "insecure\nconnect-to = github.com:443:"+server.Listener.Addr().(*net.TCPAddr).String()+"\n")
	tools := filepath.Join(home, "tools")
	writeText(t, filepath.Join(tools, "go"), "#!/bin/sh\necho no Go here >&2\nexit 1\n")
	if err := os.Chmod(filepath.Join(tools, "go"), 0o755); err != nil {
		t.Fatal(err)
	}
	setup := func() ([]byte, error) {
		cmd := exec.Command("bash", install, "ultrafast-market")
		cmd.Env = []string{"PATH=" + tools + ":" + filepath.Dir(curl) + ":" + os.Getenv("PATH"), "HOME=" + home, "RUNNER_TEMP=" + home}
		return cmd.CombinedOutput()
	}
	if said, err := setup(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	out, err := exec.Command(filepath.Join(home, "ultrafast", "bin", "ultrafast-market"), "--version").Output()
	if err != nil || string(out) != "ultrafast-market v9.8.7\n" {
		t.Errorf("it says %q, %v", out, err)
	}
	name := filepath.Join(files, "ultrafast-market_"+strings.ReplaceAll(host, "/", "_"))
	writeText(t, name, readText(t, name)+"one byte more is another program")
	if said, err := setup(); err == nil || !bytes.Contains(said, []byte("is committed")) {
		t.Errorf("another program is installed: %s %v", said, err)
	}
}

// TestMacBinaryStarts looks for what macOS 26 asks of a program, LC_UUID, in one that
// is small enough to be compiled for it here; and compiles it in two places.
func TestMacBinaryStarts(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("compiles a program")
	}
	var sums []string
	for _, place := range []string{"a", "another/much longer path"} {
		b := &builder{source: filepath.Join(t.TempDir(), place), work: t.TempDir(), log: t.Output()}
		writeText(t, filepath.Join(b.source, "go.mod"), "module example.com/m\n\ngo 1.26\n")
		writeText(t, filepath.Join(b.source, "actions", "one", "main.go"), "package main\n\nfunc main() { println(1) }\n")
		s := selection{images: []image{{name: "ultrafast-one", programs: []string{"one"}}}, systems: []string{"darwin/arm64"}}
		binaries, err := b.binaries(t.Context(), s, "")
		if err != nil || len(binaries) != 1 || binaries[0].file != "ultrafast-one_darwin_arm64" {
			t.Fatalf("%v %v", binaries, err)
		}
		sums = append(sums, binaries[0].sum)
		file, err := macho.Open(filepath.Join(b.compiled("darwin/arm64"), "one"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		const uuid = 0x1b
		if !slices.ContainsFunc(file.Loads, func(l macho.Load) bool { return file.ByteOrder.Uint32(l.Raw()) == uuid }) {
			t.Error("it has no LC_UUID")
		}
	}
	if sums[0] != sums[1] {
		t.Errorf("two places give %q", sums)
	}
}
