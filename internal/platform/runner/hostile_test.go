package runner_test

import "strings"

// hostile are texts that a runner, a browser or a terminal would act on.
var hostile = map[string]string{
	"workflow command":       "x\n::set-output name=state::evil",
	"at the start":           "::set-output name=state::evil",
	"after blanks":           "a\n \t ::error::evil",
	"after a no-break space": "a\n\u00a0\u3000::error::evil",
	"carriage return":        "a\r::error::evil",
	"weightless inside":      "a\n:\u200b:error::evil",
	"soft hyphen inside":     "a\n\u00ad:\u00ad:error::evil",
	"byte order mark":        "\ufeff::error::evil",
	"NUL inside":             "a\n:\x00:error::evil",
	"older command":          "text ##[error]evil",
	"older, weightless":      "text #\u200b#\u200b[error]evil",
	"older, many":            "####[[error]evil ##[##[group]",
	"stop commands":          "::stop-commands::t0ken\n::t0ken::\n::add-path::/evil",
	"colons":                 ":::::error::evil\n: :error::evil",
	"delimiter":              "end_00000000000000000000000000000000\nstate=evil",
	"heredoc":                "x\nEOF\nstate<<EOF\nevil\nEOF",
	"ANSI":                   "\x1b[2J\x1b[31m::error::evil",
	"direction":              "\u202egro.elpmaxe\u2066",
	"section":                "section_start:1:a[collapsed=true]\r\x1b[0Kevil",
	"section twice":          "section_section_start:1:a\r\x1b[0K section_end:2:a\r\x1b[0K",
	"invalid UTF-8":          "\xff\xfe\n\xc0::error::evil",
	"long":                   strings.Repeat("::error::evil\n##[error]evil ", 1<<20/28),
}
