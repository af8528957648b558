package validate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// testsPassed decides by the claims of the chain, whose digests were verified.
func testsPassed(_ context.Context, s *subject) (opinion, error) {
	const again = "run `cleanroom-test run` on the tree that is to be released"
	entry, claim := &s.built.Entry, s.built.Entry.Cleanroom
	if s.generated == nil {
		return unknown("the state does not say which tree is to be released"), nil
	}
	tree, ok := s.generated.Entry.Artifact(state.ArtifactTree)
	if !ok {
		return unknown("the generate entry has no tree"), nil
	}
	count := map[state.Outcome]int{}
	var failed []string
	for _, c := range entry.Checks {
		count[c.Outcome]++
		if c.Outcome != state.Passed && c.Outcome != state.Skipped {
			failed = append(failed, c.Name)
		}
	}
	switch {
	case claim.Tree != tree.Digest:
		return fail(finding.Finding{
			What: fmt.Sprintf("tests ran on tree %s, not on the generated tree %s", claim.Tree.Short(), tree.Digest.Short()), Fix: again,
		}), nil
	case entry.Outcome != state.Passed || len(failed) > 0:
		return fail(finding.Finding{
			What: fmt.Sprintf("cleanroom-test %s: %d of %d tests did not pass", entry.Outcome, len(failed), len(entry.Checks)), Why: strings.Join(failed[:min(len(failed), 20)], "\n"),
			Fix: "fix the tests and run `cleanroom-test run` again", Reproduce: "ultrafast cleanroom-test run",
		}), nil
	case count[state.Passed] == 0:
		return fail(finding.Finding{What: "no test passed: 0 of 1 needed", Fix: "add a test that runs", Reproduce: "ultrafast cleanroom-test run"}), nil
	}
	return pass(fmt.Sprintf("entry %s: %d tests passed, %d skipped on tree %s", s.built.Digest.Short(), count[state.Passed], count[state.Skipped], tree.Digest.Short())), nil
}

const (
	fileMod = "go.mod"
	fileSum = "go.sum"
	maxMod  = 1 << 20
	maxSum  = 16 << 20
)

// lockfileConsistent compares go.mod with go.sum.
func lockfileConsistent(ctx context.Context, s *subject) (opinion, error) {
	tree, err := s.sourceTree(ctx)
	if err != nil {
		return opinion{}, err
	}
	if tree == nil {
		return unknown("the state has no tree to read"), nil
	}
	modText, found, err := readText(tree, fileMod, maxMod)
	switch {
	case err != nil:
		return unknown(err.Error()), nil
	case !found:
		return notApplicable("the tree has no go.mod at its root"), nil
	}
	sumText, hasSum, err := readText(tree, fileSum, maxSum)
	if err != nil {
		return unknown(err.Error()), nil
	}
	mod, err := parseMod(modText)
	if err != nil {
		return fail(atLine(fileMod, err)), nil
	}
	sums, err := parseSums(sumText)
	if err != nil {
		return fail(atLine(fileSum, err)), nil
	}
	if len(mod.requires) == 0 {
		return pass(fileMod + " requires no module, so there is nothing to lock"), nil
	}
	evidence := fmt.Sprintf("%s requires %d modules, %s has %d checksums", fileMod, len(mod.requires), fileSum, len(sums))
	if missing := mod.missing(sums); len(missing) > 0 {
		where := finding.Place{File: fileMod, Line: missing[0].line}
		why := "there is no " + fileSum
		if hasSum {
			why = evidence
		}
		return fail(finding.Finding{
			What: fmt.Sprintf("%s lacks %s", fileSum, listed(missing)), Where: where, Why: why,
			Fix: "run `go mod tidy` and keep go.sum with go.mod", Reproduce: "go mod verify",
		}, evidence), nil
	}
	return pass(evidence, "every required module has its checksums"), nil
}

// readText returns the content of a regular file of the tree, and whether it is there.
func readText(tree *os.Root, name string, limit int64) (string, bool, error) {
	info, err := tree.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", false, nil
	case err != nil:
		return "", false, err
	case !info.Mode().IsRegular() || info.Size() > limit:
		return "", false, fmt.Errorf("%s is no regular file of at most %d bytes", name, limit)
	}
	b, err := tree.ReadFile(name)
	return string(b), true, err
}

// lineError is an error in a line of a file.
type lineError struct {
	line int
	text string
}

func (e *lineError) Error() string { return "line " + strconv.Itoa(e.line) + ": " + e.text }

func atLine(file string, err error) finding.Finding {
	f := finding.Finding{What: file + " cannot be read: " + err.Error(), Where: finding.Place{File: file}, Fix: "run `go mod tidy`", Reproduce: "go mod verify"}
	var at *lineError
	if errors.As(err, &at) {
		f.What, f.Where.Line = file+" cannot be read: "+at.text, at.line
	}
	return f
}

// listed names the first of many.
func listed(missing []requirement) string {
	const most = 10
	var names []string
	for _, m := range missing[:min(len(missing), most)] {
		names = append(names, m.String())
	}
	if more := len(missing) - most; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, ", ")
}
