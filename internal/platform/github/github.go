// Package github is GitHub Actions, or act: inputs from INPUT_ variables, outputs to
// the command file, annotations as workflow commands.
package github

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/finding"
)

// Platform talks to the runner.
type Platform struct {
	// Lookup reads the environment.
	Lookup func(string) (string, bool)
	// Commands receives workflow commands: the standard output of the step.
	Commands io.Writer
}

// Name is "github".
func (p *Platform) Name() string { return "github" }

// Input reads INPUT_<NAME>. The runner upper-cases the name and keeps its dashes;
// a shell cannot set such a variable, so underscores are taken too.
func (p *Platform) Input(name string) (string, bool) {
	upper := strings.ToUpper(name)
	for _, key := range []string{"INPUT_" + upper, "INPUT_" + strings.ReplaceAll(upper, "-", "_")} {
		if v, ok := p.Lookup(key); ok && v != "" {
			return v, true
		}
	}
	return "", false
}

// Output appends to the file named by GITHUB_OUTPUT in its multi-line form, with a
// delimiter that no value can know in advance. Without the file there is nobody to
// hand the value to, which is no error.
func (p *Platform) Output(name, value string) error {
	if strings.ContainsAny(value, "\r\n") {
		return fmt.Errorf("output %s has a line break", name)
	}
	path, ok := p.Lookup("GITHUB_OUTPUT")
	if !ok || path == "" {
		return nil
	}
	var random [16]byte
	if _, err := rand.Read(random[:]); err != nil {
		return err
	}
	delimiter := "end_" + hex.EncodeToString(random[:])
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("write output %s: %w", name, err)
	}
	_, err = fmt.Fprintf(f, "%s<<%s\n%s\n%s\n", name, delimiter, value, delimiter)
	return errors.Join(err, f.Close())
}

var (
	escapeData     = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	escapeProperty = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)

// Annotate writes a workflow command.
func (p *Platform) Annotate(f finding.Finding) {
	command := "warning"
	if f.Severity.Gates() {
		command = "error"
	}
	properties := "title=" + escapeProperty.Replace(f.Rule)
	if f.Where.File != "" {
		properties += ",file=" + escapeProperty.Replace(f.Where.File)
	}
	if f.Where.Line > 0 {
		properties += fmt.Sprintf(",line=%d", f.Where.Line)
	}
	if f.Where.Column > 0 {
		properties += fmt.Sprintf(",col=%d", f.Where.Column)
	}
	text := f.What
	if f.Fix != "" {
		text += "\n" + f.Fix
	}
	fmt.Fprintf(p.Commands, "::%s %s::%s\n", command, properties, escapeData.Replace(text))
}
