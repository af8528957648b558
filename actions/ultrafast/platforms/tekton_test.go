package platforms

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/oci/ocitest"
)

// tektonModule holds Tekton: its types, its reconcilers and its entrypoint.
var tektonModule = filepath.Join("internal", "tools", "tektonlint")

// buildTekton returns the directory of the programs tektonlint and entrypoint. A cold
// build takes minutes, so they stay in build/ under a name made of their source and
// the version of Go.
var buildTekton = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(root(), tektonModule)
	sources, err := filepath.Glob(filepath.Join(dir, "*.*"))
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintln(h, runtime.Version())
	for _, name := range sources {
		text, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d\n%s", filepath.Base(name), len(text), text)
	}
	out := kept("tools", "tekton", hex.EncodeToString(h.Sum(nil)[:8]))
	if _, err := os.Stat(filepath.Join(out, "entrypoint")); err == nil {
		return out, nil
	}
	part := out + ".part"
	build := append(append([]string{}, goBuild...), "-o", part+string(filepath.Separator), ".", "github.com/tektoncd/pipeline/cmd/entrypoint")
	for _, args := range [][]string{{"go", "test", "-count=1", "."}, build} {
		if _, all, err := (command{dir: dir, env: goEnv, limit: 40 * time.Minute, args: args}).output(context.Background()); err != nil {
			return "", fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, all)
		}
	}
	return out, os.Rename(part, out)
})

// tektonProgram returns a program of Tekton's module.
func tektonProgram(t testing.TB, name string) string {
	t.Helper()
	dir, err := buildTekton()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// tektonFiles are the files that a user applies.
func tektonFiles() []string {
	var files []string
	for _, name := range []string{"market", "generate", "cleanroom-test", "validate", "sign", "deploy", "ultrafast"} {
		files = append(files, filepath.Join(root(), "actions", name, "tekton.yaml"))
	}
	return files
}

// pipelineRun returns the run that docs/tekton.md shows, with edits.
func pipelineRun(t testing.TB, edits ...string) string {
	t.Helper()
	page := read(t, filepath.Join(root(), "docs", "tekton.md"))
	found := regexp.MustCompile("(?s)```yaml\n(apiVersion: tekton.dev/v1\nkind: PipelineRun\n.*?)```").FindStringSubmatch(page)
	if found == nil {
		t.Fatal("docs/tekton.md shows no PipelineRun")
	}
	text := found[1]
	for i := 0; i < len(edits); i += 2 {
		if !strings.Contains(text, edits[i]) {
			t.Fatalf("the PipelineRun of docs/tekton.md has no %q", edits[i])
		}
		text = strings.Replace(text, edits[i], edits[i+1], 1)
	}
	name := filepath.Join(t.TempDir(), "run.yaml")
	write(t, name, text)
	return name
}

// TestTektonLint judges what is published with Tekton's own code, the run in the
// documentation included.
func TestTektonLint(t *testing.T) {
	on(t, tekton)
	args := append([]string{tektonProgram(t, "tektonlint"), "lint", pipelineRun(t)}, tektonFiles()...)
	if out := call(t, command{args: args}); out != "" {
		t.Errorf("findings:\n%s", out)
	}
}

// pod is what the tests read of a Pod.
type pod struct {
	Spec struct {
		Volumes                    []volume
		InitContainers, Containers []container
		SecurityContext            struct{ FSGroup *int }
	}
}

type volume struct {
	Name                  string
	PersistentVolumeClaim *struct{ ClaimName string }
	Secret                *struct{ SecretName string }
	ConfigMap             *struct{ Name string }
	EmptyDir, DownwardAPI *struct{}
}

type container struct {
	Name, Image, WorkingDir string
	Command, Args           []string
	Env                     []struct{ Name, Value string }
	VolumeMounts            []struct {
		Name, MountPath string
		ReadOnly        bool
	}
	TerminationMessagePath string
	SecurityContext        struct {
		RunAsUser                *int
		RunAsNonRoot             bool
		AllowPrivilegeEscalation *bool
		Capabilities             struct{ Drop []string }
		SeccompProfile           struct{ Type string }
	}
}

// node stands for a node of a cluster: it runs the containers of a Pod one after the
// other by Docker, with what the Pod says of users, volumes and walls.
type node struct {
	run string
	// claims are the directories of volumes that are not made for a Pod, by claim,
	// secret and config map.
	claims map[string]string
	// images are the images here by the references in the Pods.
	images map[string]string
	// seccomp, if set, is in force whatever a Pod says: a node whose administrator
	// does not allow an unconfined one.
	seccomp bool
	// cache is the cache directory of all steps.
	cache   string
	results map[string]map[string]string
}

// request is what tektonlint is asked.
type request struct {
	Run      string                       `json:"run"`
	Task     string                       `json:"task"`
	Results  map[string]map[string]string `json:"results"`
	ExitCode *int                         `json:"exitCode,omitempty"`
	Message  *string                      `json:"message,omitempty"`
}

// ask runs a verb of tektonlint.
func (n *node) ask(t *testing.T, verb string, r request, answer any) {
	t.Helper()
	r.Run = "orders"
	in, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "request.json")
	write(t, file, string(in))
	stdin, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	cmd := exec.CommandContext(t.Context(), tektonProgram(t, "tektonlint"), append([]string{verb, n.run}, tektonFiles()...)...)
	cmd.Stdin = stdin
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tektonlint %s: %v\n%s", verb, err, out)
	}
	if err := json.Unmarshal(out, answer); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
}

// outcome is what Tekton makes of a task that has ended.
type outcome struct {
	Succeeded bool
	Reason    string
	Results   map[string]string
	exit      int
	log       string
}

// task runs a task of the pipeline as Tekton does, and keeps its results for those
// that follow.
func (n *node) task(t *testing.T, name string) outcome {
	t.Helper()
	var p pod
	n.ask(t, "pod", request{Task: name, Results: n.results}, &p)
	volumes := n.volumes(t, p)
	for _, c := range p.Spec.InitContainers {
		if _, log, exit := n.start(t, p, c, volumes); exit != 0 {
			t.Fatalf("%s of %s: exit code %d\n%s", c.Name, name, exit, log)
		}
	}
	if len(p.Spec.Containers) != 1 {
		t.Fatalf("%d containers", len(p.Spec.Containers))
	}
	message, log, exit := n.start(t, p, p.Spec.Containers[0], volumes)
	out := outcome{exit: exit, log: log}
	n.ask(t, "results", request{Task: name, Results: n.results, ExitCode: &exit, Message: &message}, &out)
	if out.Succeeded {
		n.results[name] = out.Results
	}
	return out
}

// volumes returns the directories of the volumes of a Pod.
func (n *node) volumes(t *testing.T, p pod) map[string]string {
	t.Helper()
	dirs := map[string]string{}
	for _, v := range p.Spec.Volumes {
		var claim string
		switch {
		case v.PersistentVolumeClaim != nil:
			claim = v.PersistentVolumeClaim.ClaimName
		case v.Secret != nil:
			claim = v.Secret.SecretName
		case v.ConfigMap != nil:
			claim = v.ConfigMap.Name
		default:
			dirs[v.Name] = t.TempDir()
			if err := os.Chmod(dirs[v.Name], 0o777); err != nil {
				t.Fatal(err)
			}
			if v.DownwardAPI != nil { // the annotation that says that all containers are up
				write(t, filepath.Join(dirs[v.Name], "ready"), "READY")
			}
			continue
		}
		if dirs[v.Name] = n.claims[claim]; dirs[v.Name] == "" {
			t.Fatalf("volume %s: nothing is called %q", v.Name, claim)
		}
		if group := p.Spec.SecurityContext.FSGroup; group != nil {
			giveGroup(t, dirs[v.Name], *group)
		}
	}
	return dirs
}

// giveGroup does what a kubelet does for fsGroup.
func giveGroup(t *testing.T, dir string, group int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil || info.Mode()&os.ModeSymlink != 0 {
			return err
		}
		mode := info.Mode().Perm() | 0o660
		if d.IsDir() {
			mode |= 0o770 | os.ModeSetgid
		}
		return errors.Join(os.Lchown(name, -1, group), os.Chmod(name, mode))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// start runs a container and returns its termination message, its output and its exit
// code.
func (n *node) start(t *testing.T, p pod, c container, volumes map[string]string) (message, log string, exit int) {
	t.Helper()
	image := n.images[c.Image]
	if image == "" {
		t.Fatalf("container %s: no image %s is here", c.Name, c.Image)
	}
	// The registry is on loopback.
	args := []string{"docker", "run", "--rm", "--network", "host", "--entrypoint", c.Command[0]}
	args = append(args, n.walls(p, c)...)
	if c.WorkingDir != "" {
		args = append(args, "--workdir", c.WorkingDir)
	}
	for _, e := range c.Env {
		args = append(args, "--env", e.Name+"="+e.Value)
	}
	// Outer mounts first, as a kubelet sorts them.
	slices.SortFunc(c.VolumeMounts, func(a, b struct {
		Name, MountPath string
		ReadOnly        bool
	}) int {
		return strings.Compare(a.MountPath, b.MountPath)
	})
	for _, m := range c.VolumeMounts {
		mount := "type=bind,source=" + volumes[m.Name] + ",target=" + m.MountPath
		if m.ReadOnly {
			mount += ",readonly"
		}
		args = append(args, "--mount", mount)
	}
	if n.cache != "" && c.TerminationMessagePath != "" {
		args = append(args, "--mount", "type=bind,source="+n.cache+",target=/tekton/home/.cache")
	}
	if c.TerminationMessagePath != "" {
		file := filepath.Join(t.TempDir(), "termination")
		write(t, file, "")
		if err := os.Chmod(file, 0o666); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--mount", "type=bind,source="+file+",target="+c.TerminationMessagePath)
		defer func() { message = cutMessage(read(t, file)) }()
	}
	args = append(args, image)
	args = append(append(args, c.Command[1:]...), c.Args...)
	_, log, err := command{args: args}.output(t.Context())
	var ended *exec.ExitError
	switch {
	case errors.As(err, &ended):
		exit = ended.ExitCode()
	case err != nil:
		t.Fatalf("container %s: %v\n%s", c.Name, err, log)
	}
	return "", log, exit
}

// cutMessage returns what a kubelet reads of a termination message.
func cutMessage(text string) string {
	const most = 4096 // Kubernetes API, terminationMessagePath
	return text[:min(len(text), most)]
}

// walls returns the arguments of docker run for the security context of a container.
func (n *node) walls(p pod, c container) []string {
	s := c.SecurityContext
	var args []string
	if s.RunAsUser != nil {
		args = append(args, "--user", strconv.Itoa(*s.RunAsUser))
	}
	if group := p.Spec.SecurityContext.FSGroup; group != nil {
		args = append(args, "--group-add", strconv.Itoa(*group))
	}
	if s.AllowPrivilegeEscalation != nil && !*s.AllowPrivilegeEscalation {
		args = append(args, "--security-opt", "no-new-privileges")
	}
	for _, name := range s.Capabilities.Drop {
		args = append(args, "--cap-drop", name)
	}
	if s.SeccompProfile.Type == "Unconfined" && !n.seccomp {
		args = append(args, "--security-opt", "seccomp=unconfined")
	}
	return args
}

// entrypointImage returns an image with Tekton's entrypoint where its controller has it.
func entrypointImage(t *testing.T) string {
	t.Helper()
	const tag = "ultrafast.test/tekton-entrypoint:v1.6.0"
	program := tektonProgram(t, "entrypoint")
	imported(t, tag, func() (err error) {
		name := filepath.Join(scratch, "entrypoint.tar")
		f, err := os.Create(name)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		content, err := os.ReadFile(program)
		if err != nil {
			return err
		}
		w := tar.NewWriter(f)
		header := &tar.Header{Name: "ko-app/entrypoint", Mode: 0o755, Size: int64(len(content))}
		if err := w.WriteHeader(header); err != nil {
			return err
		}
		if _, err := w.Write(content); err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
		_, all, err := command{args: []string{"docker", "import", name, tag}}.output(t.Context())
		if err != nil {
			return fmt.Errorf("%w\n%s", err, all)
		}
		return nil
	})
	return tag
}

// newNode returns a node with a checkout, the keys, and the images that the steps name.
// store is the value of the parameter.
func newNode(t *testing.T, store string, edits ...string) *node {
	t.Helper()
	docker(t)
	k := signingKeys(t)
	n := &node{
		run:    pipelineRun(t, append(edits, "oci://registry.example.com/team/orders-state", store)...),
		claims: map[string]string{"orders": workspace(t, freeAddress(t)), "ultrafast-keys": only(t, k.signing), "ultrafast-trust": only(t, k.trust)},
		images: map[string]string{"tekton/entrypoint": entrypointImage(t)}, results: map[string]map[string]string{},
		cache: kept("platforms", "tekton-cache"),
	}
	for flavour, suffix := range map[string]string{"scratch": "", "toolchain": "-go"} {
		for _, i := range images(t, flavour) {
			n.images["ghcr.io/ultrafast-ci/"+i.Name+":main"+suffix] = i.ref
		}
	}
	if err := errors.Join(os.MkdirAll(n.cache, 0o777), os.Chmod(n.cache, 0o777)); err != nil {
		t.Fatal(err)
	}
	return n
}

// only returns a directory that holds a copy of one file.
func only(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "only")
	if err := copyFile(name, filepath.Join(dir, path.Base(name)), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestTekton runs the tasks of the Pipeline, each in the Pod that Tekton makes of it,
// by Tekton's entrypoint, as a user without privileges. The state goes from one to the
// next as a result, and lies in a registry.
func TestTekton(t *testing.T) {
	on(t, tekton)
	store := "oci://" + ocitest.New(t, ocitest.WithReferrers()).Host + "/team/orders"
	n := newNode(t, store)
	for _, name := range []string{"market", "generate", "cleanroom-test", "validate", "sign", "deploy"} {
		start := time.Now()
		out := n.task(t, name)
		if !out.Succeeded || !strings.HasPrefix(out.Results["state"], store+"@sha256:") {
			t.Fatalf("%s: %+v\n%s", name, out.Results, out.log)
		}
		t.Logf("%s: %.1f s", name, time.Since(start).Seconds())
		if name == "validate" {
			compareClaims(t, out.Results["state"])
		}
	}
}

// TestTektonConfined runs the clean room on a node that does not allow what its step
// asks for.
func TestTektonConfined(t *testing.T) {
	on(t, tekton)
	store := "oci://" + ocitest.New(t, ocitest.WithReferrers()).Host + "/team/orders"
	n := newNode(t, store)
	n.seccomp = true
	for _, name := range []string{"market", "generate"} {
		if out := n.task(t, name); !out.Succeeded {
			t.Fatalf("%s: %s", name, out.log)
		}
	}
	out := n.task(t, "cleanroom-test")
	if out.exit != 3 || out.Succeeded {
		t.Errorf("exit code %d, want 3\n%s", out.exit, out.log)
	}
	for _, want := range []string{"the kernel refused", "a system call filter is in force", "--min-isolation reduced"} {
		if !strings.Contains(out.log, want) {
			t.Errorf("no %q in\n%s", want, out.log)
		}
	}
}

// TestTektonMessage has a reference so long that the termination message is nearly
// full, which arrives whole, and one that is longer, which is refused before it is lost.
func TestTektonMessage(t *testing.T) {
	on(t, tekton)
	for size, fits := range map[int]bool{3800: true, 3900: false} {
		store := "layout:/workspace/source"
		for name := strings.Repeat("n", 199); len(store) < size-300; {
			store += "/" + name
		}
		store += "/" + strings.Repeat("n", size-len(store)-len("/@sha256:")-64)
		n := newNode(t, store)
		out := n.task(t, "market")
		if out.Succeeded != fits || fits && len(out.Results["state"]) != size || !fits && (out.exit != 2 || !strings.Contains(out.log, "shorten it")) {
			t.Errorf("%d bytes: exit code %d, a result of %d\n%s", size, out.exit, len(out.Results["state"]), out.log)
		}
	}
}
