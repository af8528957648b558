package platforms

import (
	"archive/zip"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/oci/ocitest"
)

// act runs workflows of a workspace.
type act struct {
	program string
	// workspace is the user's repository, shared a directory that runner, containers and
	// this process see under one path.
	workspace, shared string
	// replaced maps "owner/repository@ref" to directories that stand for them.
	replaced map[string]string
	// image is the runner's; empty for this host. options are more arguments of
	// docker run for jobs and container actions.
	image, options string
	env, args      []string
}

const actVersion = "v0.2.89"

func newAct(t *testing.T) *act {
	t.Helper()
	return &act{
		program: goTool(t, "act", "github.com/nektos/act", actVersion), workspace: workspace(t, freeAddress(t)),
		shared: t.TempDir(), replaced: map[string]string{},
	}
}

// workflow puts a workflow of testdata into the workspace.
func (a *act) workflow(t *testing.T, name string) {
	t.Helper()
	write(t, filepath.Join(a.workspace, ".github", "workflows", name+".yml"), read(t, filepath.Join("testdata", "act", name+".yml")))
}

func read(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// run runs an event and returns the log.
func (a *act) run(t *testing.T, event string, args ...string) (log string, err error) {
	t.Helper()
	// On the host, containers must see the command files under the path that they are
	// told; and they must reach loopback.
	runner, options := "-self-hosted", fmt.Sprintf("-v %s:%s --network host", a.shared, a.shared)
	if a.image != "" {
		// An image has its own /tmp, which is what act calls the runner's temporary
		// directory, and does not share with container actions as GitHub does.
		runner, options = a.image, fmt.Sprintf("-v %s:%s -v %s:/tmp %s", a.shared, a.shared, filepath.Join(a.shared, "tmp"), a.options)
	}
	all := []string{
		a.program, event, "-P", "ubuntu-latest=" + runner, "--pull=false", "--rm", "--action-cache-path", filepath.Join(a.shared, "act"),
		"--container-options", options, "--no-cache-server", "--action-offline-mode",
	}
	for from, to := range a.replaced {
		all = append(all, "--local-repository", from+"="+to)
	}
	_, log, err = command{dir: a.workspace, env: a.env, args: append(append(all, a.args...), args...)}.output(t.Context())
	return log, err
}

// must is run for a workflow that must succeed.
func (a *act) must(t *testing.T, event string, args ...string) string {
	t.Helper()
	log, err := a.run(t, event, args...)
	if err != nil {
		t.Fatalf("act %s: %v\n%s", event, err, log)
	}
	return log
}

// nothingLeft wants no container that has mounted the shared directory, and no process
// of a program below it.
func (a *act) nothingLeft(t *testing.T) {
	t.Helper()
	if left := call(t, command{args: []string{"docker", "ps", "--all", "--filter", "volume=" + a.shared}}); strings.Count(left, "\n") > 1 {
		t.Errorf("containers are left:\n%s", left)
	}
	programs, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range programs {
		// What cannot be read has ended meanwhile.
		if program, _ := os.Readlink(name); strings.HasPrefix(program, a.shared+"/") {
			t.Errorf("%s is left running", program)
		}
	}
}

// released makes an act that runs the reusable workflow of a release tree, with keys.
// store is the input of that name.
func released(t *testing.T, store func(a *act) string) *act {
	t.Helper()
	a := newAct(t)
	a.workflow(t, "release")
	// The user's workflow says main; the reusable one of a release names the release.
	tree := releaseTree(t)
	a.replaced["ultrafast-ci/ultrafast@main"], a.replaced["ultrafast-ci/ultrafast@test"] = tree, tree
	a.standIn(t, goRoot(t))
	k := signingKeys(t)
	a.env = []string{"SIGNING_KEY=" + read(t, k.signing), "TRUST_ROOT=" + read(t, k.trust)}
	a.args = []string{"-s", "SIGNING_KEY", "-s", "TRUST_ROOT", "--var", "REPORT=" + a.report(), "--var", "STORE=" + store(a)}
	return a
}

// report is the file into which the last job writes the state.
func (a *act) report() string { return filepath.Join(a.shared, "state") }

// store is a store on the disk that all jobs share.
func (a *act) store() string { return "layout:" + filepath.Join(a.shared, "store") }

// TestActHost runs the reusable workflow, a job for each phase, on this machine: twice,
// the second time with all results in the store.
func TestActHost(t *testing.T) {
	on(t, actHost)
	a := released(t, (*act).store)
	for _, what := range []string{"first", "cached"} {
		start := time.Now()
		log := a.must(t, "push")
		t.Logf("%s: %.1f s", what, time.Since(start).Seconds())
		compareClaims(t, strings.TrimSpace(read(t, a.report())))
		for _, phase := range compared {
			if cached := regexp.MustCompile(`\| +[0-9.]+s ` + phase + ` +ok cached `); cached.MatchString(log) != (what == "cached") {
				t.Errorf("%s run: %s was cached: %t\n%s", what, phase, what != "cached", log)
			}
		}
		a.nothingLeft(t)
	}
}

// TestActArtifacts runs it with the default store: each job hands it to the next as an
// artifact.
func TestActArtifacts(t *testing.T) {
	on(t, actHost)
	if !full() {
		t.Skip("the short form shares a store")
	}
	a := released(t, func(*act) string { return "" })
	a.serveArtifacts(t)
	a.must(t, "push")
	a.compareArtifacts(t)
}

// TestActRegistry keeps the state in a registry that asks for credentials: those of the
// secret, in containers and on the runner.
func TestActRegistry(t *testing.T) {
	on(t, actHost)
	if !full() {
		t.Skip("the short form shares a store")
	}
	const password = "s3cret-of-the-registry"
	registry := ocitest.New(t, ocitest.WithReferrers(), ocitest.WithPassword("robot", password))
	a := released(t, func(*act) string { return "oci://" + registry.Host + "/example/orders/state" })
	auth := fmt.Sprintf(`{"auths": {%q: {"username": "robot", "password": %q}}}`, registry.Host, password)
	a.env, a.args = append(a.env, "REGISTRY_AUTH="+auth), append(a.args, "-s", "REGISTRY_AUTH")
	if log := a.must(t, "push"); strings.Contains(log, password) {
		t.Errorf("the password is in the log:\n%s", log)
	}
	t.Setenv("DOCKER_AUTH_CONFIG", auth) // not before: the jobs of act would see it
	compareClaims(t, strings.TrimSpace(read(t, a.report())))
	a.nothingLeft(t)
}

// compareArtifacts compares the claims of the store that the last job has uploaded.
func (a *act) compareArtifacts(t *testing.T) {
	t.Helper()
	compareClaims(t, a.artifactState(t, "ultrafast-state-deploy", read(t, a.report())))
	a.nothingLeft(t)
}

// artifactState returns a reference to the state that ref names in the store of a
// runner, for the artifact that this store was uploaded as.
func (a *act) artifactState(t *testing.T, name, ref string) string {
	t.Helper()
	_, digest, ok := strings.Cut(strings.TrimSpace(ref), "@")
	if !ok {
		t.Fatalf("the state is %q", ref)
	}
	return "layout:" + a.artifact(t, name) + "@" + digest
}

// serveArtifacts has act serve artifacts below the shared directory.
func (a *act) serveArtifacts(t *testing.T) {
	t.Helper()
	host, port, err := net.SplitHostPort(freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	a.args = append(a.args, "--artifact-server-path", filepath.Join(a.shared, "artifacts"), "--artifact-server-addr", host, "--artifact-server-port", port)
}

// artifact extracts an artifact of the run and returns the directory.
func (a *act) artifact(t *testing.T, name string) string {
	t.Helper()
	z, err := zip.OpenReader(filepath.Join(a.shared, "artifacts", "1", name, name+".zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	dir := filepath.Join(t.TempDir(), name)
	if err := os.CopyFS(dir, z); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestActImage runs it in the image of a runner, where a job is a container and a
// container action is another.
func TestActImage(t *testing.T) {
	on(t, actImage)
	a := released(t, func(*act) string { return "" })
	a.inImage(t)
	a.serveArtifacts(t)
	a.must(t, "push")
	a.compareArtifacts(t)
}

// inImage has jobs run in the runner's image, with the toolchain and the caches of
// this machine. The clean room makes namespaces in a job, which Docker's default filter
// of system calls forbids: a hosted runner is a machine, not a container.
func (a *act) inImage(t *testing.T) {
	t.Helper()
	a.image = runnerImage(t)
	user, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	goRoot := goRoot(t)
	options := []string{"--security-opt", "seccomp=unconfined", "-v", goRoot + ":" + goRoot + ":ro"}
	for from, to := range map[string]string{
		goVariable(t, "GOCACHE"): "/root/.cache/go-build", goVariable(t, "GOMODCACHE"): "/root/go/pkg/mod",
		filepath.Join(user, "ultrafast"): "/root/.cache/ultrafast",
	} {
		options = append(options, "-v", from+":"+to)
	}
	a.options = strings.Join(options, " ")
	if err := os.MkdirAll(filepath.Join(a.shared, "tmp"), 0o1777); err != nil {
		t.Fatal(err)
	}
}
