package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/terminal"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// maxAnswer bounds what a person types for one question, in bytes.
const maxAnswer = 4096

// Interactive reports whether a person can be asked: standard input is a terminal,
// and no CI system says that it runs this.
func (a *App) Interactive() bool {
	ci, _ := a.Lookup("CI")
	return ci == "" && terminal.Is(a.Stdin)
}

// Ask shows a question on standard error and returns the line that is typed, without
// blanks around it. The end of the input is an error of kind fault.Usage.
func (a *App) Ask(ctx context.Context, question string) (string, error) {
	if _, err := fmt.Fprint(a.Stderr, terminal.Clean(question)+" "); err != nil {
		return "", fault.Wrap(err, fault.Unavailable, "", "ask")
	}
	type line struct {
		text string
		err  error
	}
	typed := make(chan line, 1)
	go func() { // ends with the line, or with the process
		text, err := readLine(a.Stdin)
		typed <- line{text, err}
	}()
	select {
	case <-ctx.Done():
		return "", context.Cause(ctx)
	case l := <-typed:
		return l.text, l.err
	}
}

// readLine reads byte by byte: what comes after the line is for the next question.
func readLine(r io.Reader) (string, error) {
	var text []byte
	for b := make([]byte, 1); len(text) <= maxAnswer; {
		n, err := r.Read(b)
		switch {
		case n == 1 && b[0] == '\n', errors.Is(err, io.EOF) && len(text) > 0:
			return strings.TrimSpace(string(text)), nil
		case n == 1:
			text = append(text, b[0])
		case err != nil:
			return "", fault.Wrap(err, fault.Usage, "answer, or pass the value as a flag", "read an answer")
		}
	}
	return "", fault.New(fault.Usage, "", "an answer has more than %d bytes", maxAnswer)
}
