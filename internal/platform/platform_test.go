package platform_test

import (
	"bytes"
	"io"
	"maps"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/platform"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
)

func detect(env map[string]string, w io.Writer) (platform.Platform, error) {
	return platform.Detect(platform.Host{Lookup: func(k string) (string, bool) { v, ok := env[k]; return v, ok }, Stdout: w, Stderr: w, Now: time.Now})
}

func TestDetect(t *testing.T) {
	t.Parallel()
	cases := []struct {
		env  map[string]string
		want string
	}{
		{nil, "local"},
		{map[string]string{"GITHUB_ACTIONS": "true"}, "github"},
		{map[string]string{"GITHUB_ACTIONS": "false"}, "local"},
		{map[string]string{"GITLAB_CI": "true"}, "gitlab"},
		{map[string]string{"GITLAB_CI": "false", "CI_PROJECT_DIR": "/builds/a/b"}, "gitlab"},
		{map[string]string{"GITLAB_CI": "false"}, "local"},
		{map[string]string{"HOME": "/tekton/home"}, "tekton"},
		{map[string]string{"ULTRAFAST_RESULTS_DIR": "/x"}, "tekton"},
		{map[string]string{"GITHUB_ACTIONS": "true", platform.Variable: "local"}, "local"},
		{map[string]string{platform.Variable: "tekton"}, "tekton"},
	}
	for _, c := range cases {
		p, err := detect(c.env, nil)
		if err != nil || p.Name() != c.want {
			t.Errorf("%v: %s, %v, want %s", c.env, p.Name(), err, c.want)
		}
	}
	p, err := detect(map[string]string{platform.Variable: "githbu"}, nil)
	if p == nil || fault.KindOf(err) != fault.Usage || fault.HintOf(err) != `did you mean "github"?` {
		t.Errorf("%v %v", p, err)
	}
}

func TestProtected(t *testing.T) {
	t.Parallel()
	github, gitlab := map[string]string{"GITHUB_ACTIONS": "true", "GITHUB_REF_PROTECTED": "true"}, map[string]string{"GITLAB_CI": "true", "CI_COMMIT_REF_PROTECTED": "true"}
	with := func(env map[string]string, name, value string) map[string]string {
		env = maps.Clone(env)
		env[name] = value
		return env
	}
	for _, c := range []struct {
		env  map[string]string
		want bool
	}{
		{with(github, "GITHUB_EVENT_NAME", "push"), true},
		{with(github, "GITHUB_REF_PROTECTED", "false"), false},
		{with(github, "GITHUB_EVENT_NAME", "pull_request"), false},
		{with(github, "GITHUB_EVENT_NAME", "pull_request_target"), false},
		{with(github, "GITHUB_EVENT_NAME", "workflow_run"), false},
		{gitlab, true},
		{with(gitlab, "CI_COMMIT_REF_PROTECTED", "false"), false},
		{with(gitlab, "CI_MERGE_REQUEST_IID", "7"), false},
		{map[string]string{"GITHUB_REF_PROTECTED": "true"}, false},
		{map[string]string{platform.Variable: "tekton"}, false},
	} {
		p, err := detect(c.env, nil)
		if err != nil || p.Protected() != c.want {
			t.Errorf("%v: protected %t (%v), want %t", c.env, p.Protected(), err, c.want)
		}
	}
}

// TestEverywhere calls everything on every platform with an empty environment:
// nothing panics and nothing fails, since nobody listens.
func TestEverywhere(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"local", "github", "gitlab", "tekton"} {
		for _, w := range []io.Writer{nil, new(bytes.Buffer)} {
			p, err := detect(map[string]string{platform.Variable: name}, w)
			if err != nil {
				t.Fatal(err)
			}
			p.Mask("secret-value")
			p.Group("x")()
			p.Annotate(finding.Finding{Rule: "r", What: "w"})
			for what, err := range map[string]error{
				"output": p.Output("state", "x"), "summary": p.Summary("x"), "subject": p.Subject("oci://h/r@sha256:1"), "flush": p.Flush(), "enter": p.Enter(true),
			} {
				if err != nil {
					t.Errorf("%s %s: %v", name, what, err)
				}
			}
			if p.SummaryLimit() != 0 || p.NoSecrets() != "" || p.Debug() || p.Root() != "" {
				t.Errorf("%s knows what nobody told it", name)
			}
		}
	}
}
