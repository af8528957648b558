package platforms

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// compared are the phases whose claims are the same wherever they are made. What
// deploy claims tells of the machine that it deploys to.
var compared = []string{"market", "generate", "cleanroom-test", "validate"}

// project is the name of the directory of the example in a workspace.
const project = "orders"

// workspace makes a directory as a user's checkout is: the example and the registry
// that it takes its packages from, in a git repository with an origin. The service is
// deployed to listen.
func workspace(t testing.TB, listen string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "workspace")
	for _, name := range []string{project, "registry"} {
		if err := os.CopyFS(filepath.Join(dir, name), os.DirFS(filepath.Join(root(), "examples", name))); err != nil {
			t.Fatal(err)
		}
	}
	// What earlier runs in the example itself have left.
	for _, name := range []string{".ggen", ".cleanroom", "service"} {
		if err := os.RemoveAll(filepath.Join(dir, project, name)); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(dir, project, "ggen.toml")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	changed := regexp.MustCompile(`(?m)^listen = .*$`).ReplaceAllString(string(text), `listen = "`+listen+`"`)
	if !strings.Contains(changed, listen) {
		t.Fatal("ggen.toml of the example has no listen address")
	}
	write(t, config, changed)
	commit(t, dir)
	return dir
}

// commit makes dir a repository with one commit and an origin, which runners look up.
func commit(t testing.TB, dir string) {
	t.Helper()
	who := []string{
		"GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_CONFIG_SYSTEM=" + os.DevNull,
		"GIT_AUTHOR_NAME=test", "GIT_AUTHOR_EMAIL=test@example.com", "GIT_COMMITTER_NAME=test", "GIT_COMMITTER_EMAIL=test@example.com",
	}
	for _, args := range [][]string{
		{"git", "init", "--quiet", "--initial-branch=main"},
		{"git", "remote", "add", "origin", "https://github.com/example/orders.git"},
		{"git", "add", "--all"},
		{"git", "commit", "--quiet", "--message=orders"},
	} {
		call(t, command{dir: dir, env: who, args: args})
	}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// keys are the signing key and the trust root of all tests.
type keys struct{ signing, trust string }

var keyOnce sync.Once

// signingKeys returns the keys, made when they are first asked for.
func signingKeys(t testing.TB) keys {
	t.Helper()
	dir := filepath.Join(scratch, "keys")
	keyOnce.Do(func() {
		call(t, command{dir: scratch, args: []string{filepath.Join(binaries(t), "validate"), "keygen", "--output-dir", dir}})
	})
	return keys{filepath.Join(dir, "signing.pem"), filepath.Join(dir, "trust.toml")}
}

var (
	referenceOnce sync.Once
	referenced    map[string]string
)

// reference returns the digests of the claims by phase that the command line makes, a
// process for each phase. It runs once, up to a deployed service, which is taken down.
func reference(t testing.TB) map[string]string {
	t.Helper()
	referenceOnce.Do(func() { referenced = commandLine(t) })
	if referenced == nil {
		t.Fatal("the command line has failed before")
	}
	return referenced
}

func commandLine(t testing.TB) map[string]string {
	t.Helper()
	dir := filepath.Join(workspace(t, freeAddress(t)), project)
	k := signingKeys(t)
	state := ""
	phase := func(args ...string) {
		args[0] = filepath.Join(binaries(t), args[0])
		if state != "" {
			args = append(args, "--state", state)
		}
		state = strings.TrimSpace(call(t, command{dir: dir, env: local, args: args}))
	}
	phase("market", "add")
	phase("generate", "template")
	phase("cleanroom-test", "run", "--min-isolation", "none")
	phase("validate", "run", "--min-isolation", "none", "--trust-root", k.trust)
	phase("validate", "sign", "--key", k.signing)
	digests := claims(t, state)
	phase("deploy", "run", "--trust-root", k.trust)
	call(t, command{dir: dir, env: local, args: []string{filepath.Join(binaries(t), "deploy"), "down"}})
	return digests
}

// local are the variables that keep a process from taking the machine for a CI
// system, which the tests themselves may run on.
var local = []string{"ULTRAFAST_PLATFORM=local"}

// claims returns the digests of the claims in the chain that ends at state, by phase.
// Every artifact of the chain is read and verified.
func claims(t testing.TB, state string) map[string]string {
	t.Helper()
	program := filepath.Join(binaries(t), "ultrafast")
	call(t, command{dir: scratch, env: local, args: []string{program, "state", "verify", "--state", state}})
	out := call(t, command{dir: scratch, env: local, args: []string{program, "state", "show", "--output", "json", "--state", state}})
	var links []struct {
		Digest string
		Entry  struct{ Phase string }
	}
	if err := json.Unmarshal([]byte(out), &links); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	digests := map[string]string{}
	for _, l := range links {
		digests[l.Entry.Phase] = l.Digest
	}
	return digests
}

// compareClaims wants the chain that ends at state, a reference that this machine can
// read, to make the claims that the command line makes.
func compareClaims(t testing.TB, state string) {
	t.Helper()
	for _, wrong := range wrongClaims(claims(t, state), reference(t), compared) {
		t.Error(wrong)
	}
}

// wrongClaims returns a line for each of the phases whose claim is not the wanted one,
// or that either of them lacks.
func wrongClaims(got, want map[string]string, phases []string) []string {
	var wrong []string
	for _, phase := range phases {
		if want[phase] == "" || got[phase] != want[phase] {
			wrong = append(wrong, fmt.Sprintf("the claim of %s is %q, and on the command line %q", phase, got[phase], want[phase]))
		}
	}
	return wrong
}
