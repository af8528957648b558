package door

import (
	"context"
	"errors"
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
	answer, err := askUntil(ctx, a, fmt.Sprintf("%s (%s):", v.Name, about), func(answer string) error {
		if answer == "" {
			return errors.New("a value is needed")
		}
		_, err := v.Parse(answer)
		return err
	})
	if errors.Is(err, errNoAnswer) {
		err = fault.New(fault.Usage, "pass --vars "+v.Name+"=…", "no value was given for variable %s", v.Name)
	}
	return answer, err
}

var errNoAnswer = errors.New("no answer was accepted")

// askUntil asks again, a few times, while the answer is not accepted.
func askUntil(ctx context.Context, a *app.App, question string, accept func(answer string) error) (string, error) {
	for range maxTries {
		answer, err := a.Ask(ctx, question)
		if err != nil {
			return "", err
		}
		if err = accept(answer); err == nil {
			return answer, nil
		}
		a.Terminal.Failure(err.Error(), "")
	}
	return "", fault.New(fault.Usage, "give it as a flag", "%s %w", question, errNoAnswer)
}
