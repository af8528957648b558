package door

import (
	"context"
	"fmt"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/graph/shacl"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/generate"
)

// Shapes holds graphs against SHACL shapes.
type Shapes struct {
	Data   []string `required:"" type:"existingfile" placeholder:"FILE" help:"Graph file that is checked; may be repeated."`
	Shapes []string `required:"" type:"existingfile" placeholder:"FILE" help:"File with SHACL shapes; may be repeated."`
	Base   string   `placeholder:"IRI" help:"Base IRI of the files. Default: each file's own URL."`
	Limits
}

// Help shows how it is called.
func (*Shapes) Help() string {
	return `Examples:
  ultrafast-generate shapes --data model.ttl --shapes shapes.ttl
  ultrafast-generate shapes --data model.ttl --shapes shapes.ttl --output json`
}

// Run prints the validation report. What violates a shape is a finding; results
// of severity sh:Warning and sh:Info are printed, and that is all.
func (s *Shapes) Run(ctx context.Context, a *app.App) error {
	project, err := a.LoadProject()
	if err != nil {
		return err
	}
	check := generate.Shapes{Limits: s.limits(project)}
	if check.Data, err = documents(a, s.Data, s.Base); err != nil {
		return err
	}
	if check.Shapes, err = documents(a, s.Shapes, s.Base); err != nil {
		return err
	}
	report, remarks, err := check.Validate(ctx)
	if err != nil {
		return err
	}
	if a.Output == "json" {
		return s.printJSON(a, report, remarks)
	}
	for _, f := range remarks {
		a.Terminal.Finding(f)
	}
	if err := report.WriteText(a.Stdout); err != nil {
		return err
	}
	if n := report.Violations(); n > 0 {
		return fault.New(fault.Finding, "change the data, or the shapes", "the data violates its shapes: %s", results(len(report.Results), n))
	}
	_, err = fmt.Fprintf(a.Stdout, "no violation; %s\n", results(len(report.Results), 0))
	return err
}

// printJSON prints one document, whatever the verdict.
func (*Shapes) printJSON(a *app.App, report *shacl.Report, remarks []finding.Finding) error {
	err := a.PrintJSON(struct {
		Report  *shacl.Report     `json:"report"`
		Remarks []finding.Finding `json:"remarks,omitempty"`
	}{report, remarks})
	if err == nil && report.Violations() > 0 {
		return app.ExitError{Code: fault.Finding.ExitCode()}
	}
	return err
}

func results(n, violations int) string {
	noun := "results"
	if n == 1 {
		noun = "result"
	}
	if violations == 0 || violations == n {
		return fmt.Sprintf("%d %s", n, noun)
	}
	return fmt.Sprintf("%d %s, of which %d gate", n, noun, violations)
}
