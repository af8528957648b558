package app

import (
	"errors"
	"fmt"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// spelled adds to an error about an unknown verb or flag the name that was meant. Kong
// does so itself for some slips, not for short names.
func spelled(err error) error {
	var parse *kong.ParseError
	if !errors.As(err, &parse) || parse.Context == nil || strings.Contains(err.Error(), "did you mean") {
		return err
	}
	node := parse.Context.Selected()
	if node == nil {
		node = parse.Context.Model.Node
	}
	var known []string
	word, flag := strings.CutPrefix(err.Error(), "unknown flag --")
	dashes := ""
	if flag {
		dashes = "--"
		for _, flags := range node.AllFlags(true) {
			for _, f := range flags {
				known = append(known, f.Name)
			}
		}
	} else {
		word = strings.TrimPrefix(err.Error(), "unexpected argument ")
		for _, child := range node.Children {
			if !child.Hidden {
				known = append(known, child.Name)
			}
		}
	}
	if near, ok := fault.Nearest(word, known); ok {
		return fmt.Errorf("%w, did you mean %q?", err, dashes+near)
	}
	return err
}
