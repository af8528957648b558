package platforms

import (
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// Actions of others that the reusable workflow uses, as this machine can run them:
// without a network and without node.
var standIns = map[string]string{
	"actions/upload-artifact": `name: upload-artifact, by the same protocol
description: Stands in for the action that needs node.
inputs: {name: {description: Name}, path: {description: Directory}, include-hidden-files: {description: Always}, if-no-files-found: {description: Always error}, retention-days: {description: Not kept}, overwrite: {description: Nothing is there}}
runs:
  using: composite
  steps:
    - shell: bash
      run: '"$GITHUB_ACTION_PATH/artifact" upload "$NAME" "$DIR"'
      env: {NAME: "${{ inputs.name }}", DIR: "${{ inputs.path }}"}
`,
	"actions/download-artifact": `name: download-artifact, by the same protocol
description: Stands in for the action that needs node.
inputs: {name: {description: Name}, path: {description: Directory}}
runs:
  using: composite
  steps:
    - shell: bash
      run: '"$GITHUB_ACTION_PATH/artifact" download "$NAME" "$DIR"'
      env: {NAME: "${{ inputs.name }}", DIR: "${{ inputs.path }}"}
`,
	"actions/setup-go": `name: setup-go, from this machine
description: Puts the toolchain of this machine on PATH.
inputs: {go-version: {description: That of this machine}, cache: {description: None}}
runs:
  using: composite
  steps:
    - shell: bash
      run: printf '%s\n' 'GOROOT/bin' >> "$GITHUB_PATH"
`,
}

// standIn writes the stand-ins and names them in a, at the commits that the reusable
// workflow has pinned.
func (a *act) standIn(t *testing.T, goRoot string) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "artifact")
	call(t, command{dir: root(), env: goEnv, args: append(append([]string{}, goBuild...), "-o", program, "./internal/tools/artifact")})
	workflow := read(t, filepath.Join(root(), ".github", "workflows", "pipeline.yml"))
	for name, text := range standIns {
		dir := filepath.Join(t.TempDir(), filepath.Base(name))
		write(t, filepath.Join(dir, "action.yml"), strings.ReplaceAll(text, "GOROOT", goRoot))
		if err := copyFile(program, filepath.Join(dir, "artifact"), 0o755); err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(regexp.QuoteMeta(name) + `@[0-9a-f]{40}`).FindString(workflow)
		if found == "" {
			t.Fatalf("pipeline.yml does not use %s", name)
		}
		a.replaced[found] = dir
		// READMEs name the version that the comment behind the commit tells of.
		if major := regexp.MustCompile(regexp.QuoteMeta(found) + ` # (v[0-9]+)\.`).FindStringSubmatch(workflow); major != nil {
			a.replaced[name+"@"+major[1]] = dir
		}
	}
}

// goRoot is the toolchain of this machine.
func goRoot(t testing.TB) string {
	t.Helper()
	return goVariable(t, "GOROOT")
}

func goVariable(t testing.TB, name string) string {
	t.Helper()
	return strings.TrimSpace(call(t, command{args: []string{"go", "env", name}}))
}

// native is the platform of images for this machine.
var native = "linux/" + runtime.GOARCH
