package generate

import (
	"errors"
	"fmt"
	"strings"
)

// word is one argument of a command, not yet rendered.
type word struct {
	text string
	// quoted keeps a word that is empty when it has been rendered.
	quoted bool
}

// splitWords splits a command into words by the quoting of the shell (POSIX.1-2017,
// 2.2 Quoting, 2.3 Token Recognition) and expands nothing. What a shell would do more
// than that is refused, so that no command means here what it does not mean there.
// Tags of the template language stand for themselves, blanks and quotes included: a
// value never becomes two words.
func splitWords(s string) ([]word, error) {
	p := wordParser{rest: strings.TrimSpace(s)}
	for p.rest != "" {
		if err := p.next(); err != nil {
			return nil, err
		}
	}
	p.end()
	switch {
	case len(p.words) == 0:
		return nil, errors.New("the command is empty")
	case p.assigns:
		return nil, fmt.Errorf("%s sets a variable of a shell; write [env, …, command]", clip(p.words[0].text))
	}
	return p.words, nil
}

// wordParser holds a word that is being read.
type wordParser struct {
	rest   string
	words  []word
	text   strings.Builder
	open   bool // a word has begun, though it may be empty
	quoted bool
	// assigns reports that the first word is NAME=value.
	assigns bool
}

// tagPairs are what begins and ends a tag.
var tagPairs = [...][2]string{{"{{", "}}"}, {"{%", "%}"}, {"{#", "#}"}}

// tag takes a tag, if there is one, as it is.
func (p *wordParser) tag() (bool, error) {
	for _, pair := range tagPairs {
		if !strings.HasPrefix(p.rest, pair[0]) {
			continue
		}
		end := strings.Index(p.rest[2:], pair[1])
		if end < 0 {
			return false, fmt.Errorf("%s is not closed", pair[0])
		}
		p.take(2 + end + 2)
		return true, nil
	}
	return false, nil
}

// take adds the next n bytes to the word.
func (p *wordParser) take(n int) {
	p.text.WriteString(p.rest[:n])
	p.rest, p.open = p.rest[n:], true
}

func (p *wordParser) end() {
	if p.open {
		p.words = append(p.words, word{p.text.String(), p.quoted})
	}
	p.text.Reset()
	p.open, p.quoted = false, false
}

// next reads what is not in quotes, or one pair of quotes.
func (p *wordParser) next() error {
	if is, err := p.tag(); is || err != nil {
		return err
	}
	c := p.rest[0]
	switch {
	case c == ' ' || c == '\t':
		p.rest = p.rest[1:]
		p.end()
	case c == '\n' || c == '\r':
		return errors.New("the command has more than one line")
	case c == '\\':
		return p.escaped()
	case c == '\'' || c == '"':
		return p.quotes(c)
	case strings.IndexByte("$`", c) >= 0:
		return expands(p.rest)
	case strings.IndexByte("|&;<>()", c) >= 0:
		return fmt.Errorf("%q is for a shell, and none runs", operator(p.rest))
	case strings.IndexByte("*?[", c) >= 0, !p.open && (c == '~' || c == '#'):
		return fmt.Errorf("%q has a meaning for a shell, and none runs", c)
	default:
		if c == '=' && len(p.words) == 0 && !p.quoted && isName(p.text.String()) {
			p.assigns = true
		}
		p.take(1)
	}
	return nil
}

// escaped reads a backslash outside of quotes: the next character stands for
// itself, and the end of a line for nothing.
func (p *wordParser) escaped() error {
	p.rest = p.rest[1:]
	switch {
	case p.rest == "":
		return errors.New("nothing follows the last backslash")
	case strings.HasPrefix(p.rest, "\n"):
		p.rest = p.rest[1:]
	default:
		p.quoted = true
		p.take(1)
	}
	return nil
}

// quotes reads up to the closing quote. In double quotes a backslash keeps its
// meaning before four characters.
func (p *wordParser) quotes(quote byte) error {
	p.rest = p.rest[1:]
	p.open, p.quoted = true, true
	for p.rest != "" {
		if is, err := p.tag(); err != nil {
			return err
		} else if is {
			continue
		}
		c := p.rest[0]
		switch {
		case c == quote:
			p.rest = p.rest[1:]
			return nil
		case quote == '"' && strings.IndexByte("$`", c) >= 0:
			return expands(p.rest)
		case quote == '"' && c == '\\' && len(p.rest) > 1 && strings.IndexByte("$`\"\\\n", p.rest[1]) >= 0:
			p.rest = p.rest[1:]
			if p.rest[0] == '\n' {
				p.rest = p.rest[1:]
				continue
			}
		}
		p.take(1)
	}
	return fmt.Errorf("the quote %c is not closed", quote)
}

func expands(rest string) error {
	what := rest[:1]
	if strings.HasPrefix(rest, "$(") {
		what = "$("
	}
	return fmt.Errorf("%q is for a shell to expand, and none runs", what)
}

// operator returns the operator that rest begins with, two characters if it has two.
func operator(rest string) string {
	if len(rest) > 1 && (rest[1] == rest[0] || strings.HasPrefix(rest, ">&") || strings.HasPrefix(rest, "<&")) {
		return rest[:2]
	}
	return rest[:1]
}

// isName reports whether s may be the name of a variable of a shell.
func isName(s string) bool {
	return identifier.FindString(s) == s && s != ""
}
