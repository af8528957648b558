// Package runnertest has texts that runners, browsers and terminals would act on,
// and reads logs and command files as the runners do: a test asks what they would
// understand. It understands at least what they do.
package runnertest

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Hostile are the texts by what they try.
var Hostile = map[string]string{
	"workflow command":       "x\n::set-output name=state::evil",
	"at the start":           "::set-output name=state::evil",
	"after blanks":           "a\n \t ::set-env name=PATH::evil",
	"after a no-break space": "a\n\u00a0\u3000::set-env name=PATH::evil",
	"carriage return":        "a\r::set-env name=PATH::evil",
	"weightless inside":      "a\n:\u200b:set-env name=PATH::evil",
	"soft hyphen inside":     "a\n\u00ad:\u00ad:set-env name=PATH::evil",
	"byte order mark":        "\ufeff::set-env name=PATH::evil",
	"NUL inside":             "a\n:\x00:set-env name=PATH::evil",
	"older command":          "text ##[set-env name=PATH]evil",
	"older, weightless":      "text #\u200b#\u200b[set-env name=PATH]evil",
	"older, many":            "####[[set-env]evil ##[##[save-state]",
	"Azure":                  "text ##vso[task.setvariable variable=PATH]evil\n##vso[build.addbuildtag]evil",
	"stop commands":          "::stop-commands::t0ken\n::t0ken::\n::add-path::/evil",
	"colons":                 ":::::set-env::evil\n: :set-env::evil",
	"property":               "x,file=evil::y\nline=1%0A::set-env name=PATH::evil",
	"delimiter":              "end_00000000000000000000000000000000\nstate=evil",
	"heredoc":                "x\nEOF\nstate<<EOF\nevil\nEOF",
	"dotenv":                 "x\nSTATE=evil\nPATH=/evil\r\nLD_PRELOAD=evil",
	"ANSI":                   "\x1b[2J\x1b[31m::set-env name=PATH::evil",
	"terminal title":         "\x1b]0;evil\x07\x9b2J\x1b]8;;http://evil.example\x1b\\evil",
	"direction":              "\u202egro.elpmaxe\u2066\u200b",
	"section":                "section_start:1:evil[collapsed=true]\r\x1b[0Kevil",
	"section twice":          "section_section_start:1:evil\r\x1b[0K section_end:2:evil\r\x1b[0K",
	"invalid UTF-8":          "\xff\xfe\n\xc0::set-env name=PATH::evil",
	"NUL":                    "a\x00b",
	"HTML":                   "</pre></code></details><script>evil()</script><img src=x onerror=evil()>",
	"Markdown":               "x\n\n# evil\n\n```\n[evil](javascript:evil) ![evil](http://evil.example) | a | b |\n@evil $\\evil$",
	"XML":                    "]]></failure></testcase><testcase name=\"evil\"/><!-- &evil; \x01\ufffe",
	"format":                 "%s%n%!d(string=evil) {{ evil }} ${{ evil }} $(evil) `evil`",
	"path":                   "../../../evil/\\..\\..",
	"long":                   strings.Repeat("::set-env name=PATH::evil\n##[set-env]evil ", 1<<20/42),
}

// Command is a command of GitHub's runner.
type Command struct{ Name, Line string }

// weightless are characters that a comparison by the rules of a language passes over.
func weightless(r rune) rune {
	if r >= 0x80 && !unicode.IsSpace(r) || unicode.IsControl(r) && !unicode.IsSpace(r) {
		return -1
	}
	return r
}

// GitHub returns the lines of a log that GitHub's runner would take for commands,
// with any name: actions/runner, ActionCommand.cs, TryParseV2 and TryParse. It is
// stricter than that, in that it passes over every character that is not ASCII, and
// takes the logging commands of Azure's agent for commands too.
func GitHub(log string) []Command {
	var commands []Command
	log = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(strings.ToValidUTF8(log, "\ufffd"))
	for line := range strings.SplitSeq(log, "\n") {
		trimmed := strings.Map(weightless, strings.TrimFunc(strings.Map(weightless, line), unicode.IsSpace))
		if rest, ok := strings.CutPrefix(trimmed, "::"); ok {
			if name, _, ok := strings.Cut(rest, "::"); ok {
				first, _, _ := strings.Cut(name, " ")
				commands = append(commands, Command{first, line})
				continue
			}
		}
		for _, start := range []string{"##[", "##vso["} {
			if _, rest, ok := strings.Cut(trimmed, start); ok && strings.Contains(rest, "]") {
				commands = append(commands, Command{start + rest, line})
			}
		}
	}
	return commands
}

// Outputs reads a command file of GitHub's runner (FileCommandManager.cs): lines
// "name=value", or "name<<delimiter" with lines up to the delimiter.
func Outputs(file string) (map[string]string, error) {
	out := map[string]string{}
	lines := strings.Split(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(file), "\n")
	for i := 0; i < len(lines); i++ {
		equals, heredoc := strings.Index(lines[i], "="), strings.Index(lines[i], "<<")
		switch {
		case lines[i] == "":
		case equals >= 0 && (heredoc < 0 || equals < heredoc):
			out[lines[i][:equals]] = lines[i][equals+1:]
		case heredoc >= 0:
			name, delimiter := lines[i][:heredoc], lines[i][heredoc+2:]
			var value []string
			for i++; ; i++ {
				if i >= len(lines) {
					return out, fmt.Errorf("no end of %s", name)
				}
				if lines[i] == delimiter {
					break
				}
				value = append(value, lines[i])
			}
			out[name] = strings.Join(value, "\n")
		default:
			return out, fmt.Errorf("line %q", lines[i])
		}
	}
	return out, nil
}

var section = regexp.MustCompile(`section_(?:start|end):([0-9]*):([^\r\[\n]*)`)

// GitLab returns the names of the sections that GitLab's log view would fold.
func GitLab(log string) []string {
	var names []string
	for _, m := range section.FindAllStringSubmatch(log, -1) {
		names = append(names, m[2])
	}
	return names
}

// Terminal returns the first place in a text at which a terminal would do something
// other than write, or the empty string: a control character besides tab and line
// feed, a character that changes the direction of writing, invalid UTF-8.
func Terminal(text string) string {
	for i, r := range text {
		bad := unicode.IsControl(r) && r != '\t' && r != '\n' || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
		if r == utf8.RuneError {
			_, size := utf8.DecodeRuneInString(text[i:])
			bad = size == 1
		}
		if bad {
			return fmt.Sprintf("%q", text[max(0, i-20):min(len(text), i+40)])
		}
	}
	return ""
}

// Report says what is wrong with a report file by the end of its name, .json, .sarif
// or .xml: it must be whole, and free of what [Terminal] finds.
func Report(name string, content []byte) error {
	if !utf8.Valid(content) {
		return errors.New("not valid UTF-8")
	}
	if strings.HasSuffix(name, ".json") || strings.HasSuffix(name, ".sarif") {
		if !json.Valid(content) {
			return errors.New("no JSON")
		}
		return nil
	}
	if !strings.HasSuffix(name, ".xml") {
		return nil
	}
	d := xml.NewDecoder(bytes.NewReader(content))
	cases := map[string]bool{}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if start, ok := token.(xml.StartElement); ok {
			cases[start.Name.Local] = true
			for _, attr := range start.Attr {
				if at := Terminal(attr.Value); at != "" {
					return fmt.Errorf("attribute %s: %s", attr.Name.Local, at)
				}
			}
		}
	}
	for name := range cases {
		if !strings.Contains(" testsuites testsuite testcase failure error skipped properties property system-out system-err ", " "+name+" ") {
			return fmt.Errorf("element %s", name)
		}
	}
	return nil
}

// markup is what a browser or GitHub would act on in a page where all outside text
// is escaped. Our own elements are those that a summary is made of.
var (
	element = regexp.MustCompile(`<(/?[A-Za-z!][A-Za-z0-9!-]*)`)
	block   = regexp.MustCompile(`(?s)<pre>.*?</pre>`)
	heading = regexp.MustCompile(`(?m)^ {0,3}#`)
	link    = regexp.MustCompile(`\]\(|!\[`)
	ours    = map[string]bool{
		"details": true, "/details": true, "summary": true, "/summary": true, "code": true, "/code": true, "pre": true, "/pre": true,
	}
)

// Page returns what is wrong with a summary in Markdown: an element that is none of
// ours, one that is closed more or less often than opened, a link, an image, a heading
// besides the first.
func Page(markdown string) error {
	depth := map[string]int{}
	for _, m := range element.FindAllStringSubmatch(markdown, -1) {
		name := strings.ToLower(m[1])
		if !ours[name] {
			return fmt.Errorf("element <%s", name)
		}
		if rest, closed := strings.CutPrefix(name, "/"); closed {
			depth[rest]--
		} else {
			depth[name]++
		}
	}
	for name, n := range depth {
		if n != 0 {
			return fmt.Errorf("<%s> is opened %d times more often than closed", name, n)
		}
	}
	// Between <pre> and </pre> is HTML and no Markdown (CommonMark 4.6).
	outside := block.ReplaceAllString(markdown, "")
	if at := link.FindStringIndex(outside); at != nil {
		return fmt.Errorf("a link: %.80q", outside[at[0]:])
	}
	if headings := len(heading.FindAllString(outside, -1)); headings > 1 {
		return fmt.Errorf("%d headings", headings)
	}
	if at := Terminal(markdown); at != "" {
		return fmt.Errorf("a control character: %s", at)
	}
	return nil
}
