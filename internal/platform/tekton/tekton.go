// Package tekton is a step of a Tekton task: results are files, inputs variables.
// A step has no log commands, no masks and no summary; it may run as any user and
// in an image without a shell.
package tekton

import (
	"encoding/json"
	"path/filepath"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/platform/runner"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// ResultsVariable names the directory that results are written to, one file each. A
// step action sets it to the directory of $(step.results.state.path).
const ResultsVariable = "ULTRAFAST_RESULTS_DIR"

// Home reports whether the environment is that of a step: its home directory, or the
// directory of its results, is below /tekton.
func Home(lookup runner.Lookup) bool {
	return lookup.Get(ResultsVariable) != "" || strings.HasPrefix(lookup.Get("HOME")+"/", "/tekton/")
}

// Platform is a step.
type Platform struct {
	runner.Base
	used map[string]int // bytes of the termination message, by result
}

// New returns the platform.
func New(host runner.Host) *Platform {
	return &Platform{Base: runner.NewBase(host, runner.Syntax{}), used: map[string]int{}}
}

// Name is "tekton".
func (*Platform) Name() string { return "tekton" }

// Input reads INPUT_<NAME>.
func (p *Platform) Input(name string) (string, bool) { return p.Lookup.Input(name) }

// maxMessage is the size of a container's termination message, in which all results
// of a step travel as JSON (Kubernetes API, terminationMessagePath).
const maxMessage = 4096

// maxResults is what is left of it for results: Tekton's entrypoint adds entries of its
// own, when the step began and how it ended, and writes nothing at all if the sum is
// too much.
const maxResults = maxMessage - 256

// Output writes a result: the value and nothing else, since Tekton hands a line
// break at its end on.
func (p *Platform) Output(name, value string) error {
	if err := runner.CheckOutput(name, value, maxResults); err != nil {
		return err
	}
	dir := p.Lookup.Get(ResultsVariable)
	if dir == "" {
		return nil
	}
	entry, err := json.Marshal(map[string]any{"key": name, "value": value, "type": 4})
	if err != nil {
		return err
	}
	total := len("[]") + len(entry)
	for other, size := range p.used {
		if other != name {
			total += len(",") + size
		}
	}
	if total > maxResults {
		return fault.New(fault.Usage, "shorten it, for example by a shorter store path", "output %s: the results of the step would have %d bytes; at most %d are allowed", name, total, maxResults)
	}
	p.used[name] = len(entry)
	return fault.Wrap(runner.WriteFile(filepath.Join(dir, name), value), fault.Unavailable, "", "output "+name)
}
