package validate

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// maxRequires bounds the modules of one go.mod.
const maxRequires = 10_000

// requirement is a module at a version.
type requirement struct {
	path, version string
	indirect      bool
	line          int
}

func (r requirement) String() string { return r.path + " " + r.version }

// modFile is what a go.mod says about other modules (Go modules reference,
// "go.mod files").
type modFile struct {
	requires []requirement
	// replaced maps "path" or "path version" to what is used instead; a local
	// directory has no version.
	replaced map[string]requirement
}

// parseMod reads the require and replace directives of a go.mod. The others are
// for the go command to check.
func parseMod(text string) (modFile, error) {
	m := modFile{replaced: map[string]requirement{}}
	block := ""
	n := 0
	for line := range strings.Lines(text) {
		n++
		code, comment, _ := strings.Cut(line, "//")
		fields, err := tokens(code)
		if err != nil {
			return m, &lineError{n, err.Error()}
		}
		switch {
		case len(fields) == 0:
			continue
		case block != "" && fields[0] == ")":
			block = ""
			continue
		case block != "":
			fields = append([]string{block}, fields...)
		case len(fields) == 2 && fields[1] == "(":
			block = fields[0]
			continue
		}
		if err := m.directive(fields, strings.TrimSpace(comment) == "indirect", n); err != nil {
			return m, &lineError{n, err.Error()}
		}
	}
	if block != "" {
		return m, &lineError{n, "the block " + block + " has no end"}
	}
	return m, nil
}

func tokens(code string) ([]string, error) {
	fields := strings.Fields(code)
	for i, f := range fields {
		if f[0] != '"' && f[0] != '`' {
			continue
		}
		plain, err := strconv.Unquote(f)
		if err != nil {
			return nil, fmt.Errorf("%.80s is not quoted well", f)
		}
		fields[i] = plain
	}
	return fields, nil
}

func (m *modFile) directive(fields []string, indirect bool, line int) error {
	switch fields[0] {
	case "require":
		if len(fields) != 3 {
			return fmt.Errorf("require wants a path and a version, not %d words", len(fields)-1)
		}
		if len(m.requires) == maxRequires {
			return fmt.Errorf("more than %d modules are required", maxRequires)
		}
		m.requires = append(m.requires, requirement{path: fields[1], version: fields[2], indirect: indirect, line: line})
	case "replace":
		return m.replace(fields[1:])
	}
	return nil
}

// replace takes "path [version] => target [version]".
func (m *modFile) replace(fields []string) error {
	arrow := -1
	for i, f := range fields {
		if f == "=>" {
			arrow = i
		}
	}
	left, right := fields[:max(arrow, 0)], fields[arrow+1:]
	if arrow < 1 || len(left) > 2 || len(right) < 1 || len(right) > 2 {
		return fmt.Errorf("replace wants `old [version] => new [version]`")
	}
	target := requirement{path: right[0]}
	if len(right) == 2 {
		target.version = right[1]
	}
	m.replaced[strings.Join(left, " ")] = target
	return nil
}

// missing returns the required modules that sums does not have. The go command
// needs the checksum of the go.mod of every required module to know the module
// graph, and the checksum of the content of those that give packages to the
// build: the direct ones always; an indirect one may be there for its version
// only (Go modules reference, "go.sum files" and "Module graph pruning").
func (m modFile) missing(sums map[string]string) []requirement {
	var out []requirement
	for _, r := range m.requires {
		used := r
		if to, ok := m.replaced[r.path+" "+r.version]; ok {
			used = to
		} else if to, ok := m.replaced[r.path]; ok {
			used = to
		}
		if used.version == "" {
			continue // a directory of the tree, which is judged itself
		}
		_, graph := sums[used.path+" "+used.version+"/go.mod"]
		_, content := sums[used.path+" "+used.version]
		if !graph || !content && !r.indirect {
			out = append(out, r)
		}
	}
	return out
}

// parseSums reads a go.sum: "path version hash" in each line.
func parseSums(text string) (map[string]string, error) {
	sums := map[string]string{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if len(fields) != 3 {
			return nil, &lineError{n, fmt.Sprintf("%d words, not path, version and checksum", len(fields))}
		}
		kind, encoded, ok := strings.Cut(fields[2], ":")
		hash, err := base64.StdEncoding.DecodeString(encoded)
		if !ok || kind == "h1" && (err != nil || len(hash) != 32) {
			return nil, &lineError{n, fmt.Sprintf("%.80q is not a checksum", fields[2])}
		}
		key := fields[0] + " " + fields[1]
		if other, ok := sums[key]; ok && other != fields[2] {
			return nil, &lineError{n, key + " has two different checksums"}
		}
		sums[key] = fields[2]
	}
	return sums, nil
}
