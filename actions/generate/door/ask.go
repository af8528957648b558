package door

import (
	"context"
	"fmt"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/generate"
)

// maxTries is how often a person is asked for one variable.
const maxTries = 3

// ask asks for the variables that are required and not set, where a person is there
// to answer. Elsewhere the run itself says what is missing.
func ask(ctx context.Context, a *app.App, chain *app.Chain, step *generate.Step) error {
	if !a.Interactive() {
		return nil
	}
	missing, err := step.Missing(ctx, chain.State, chain.Store)
	if err != nil {
		return err
	}
	for i := range missing {
		answer, err := askFor(ctx, a, &missing[i])
		if err != nil {
			return err
		}
		if step.Options.Flags == nil {
			step.Options.Flags = map[string]string{}
		}
		step.Options.Flags[missing[i].Name] = answer
	}
	return nil
}

func askFor(ctx context.Context, a *app.App, v *generate.Variable) (string, error) {
	about := v.Type
	if len(v.Enum) > 0 {
		about = strings.Join(v.Enum, ", ")
	}
	if v.Description != "" {
		about = v.Description + "; " + about
	}
	for range maxTries {
		answer, err := a.Ask(ctx, fmt.Sprintf("%s (%s): ", v.Name, about))
		if err != nil {
			return "", err
		}
		_, err = v.Parse(answer)
		if err == nil && answer != "" {
			return answer, nil
		}
		if err == nil {
			err = fmt.Errorf("a value is needed")
		}
		a.Terminal.Failure(err.Error(), "")
	}
	return "", fault.New(fault.Usage, "pass --vars "+v.Name+"=…", "no value was given for variable %s", v.Name)
}
