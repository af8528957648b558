package app

import (
	"fmt"

	"github.com/alecthomas/kong"
)

// Choice is the value of a flag that may also stand alone: "--flag" gives [ChoiceAlone],
// "--flag=value" the value. CI inputs give "true" for the flag alone, and "false" or
// nothing for no flag.
type Choice string

// ChoiceAlone is what a flag without a value gives.
const ChoiceAlone Choice = "true"

// IsBool tells the parser that the flag does not need a value.
func (*Choice) IsBool() bool { return true }

// Decode reads the flag.
func (c *Choice) Decode(ctx *kong.DecodeContext) error {
	*c = ChoiceAlone
	if ctx.Scan.Peek().Type != kong.FlagValueToken {
		return nil
	}
	switch text := fmt.Sprint(ctx.Scan.Pop().Value); text {
	case "false":
		*c = ""
	default:
		*c = Choice(text)
	}
	return nil
}
