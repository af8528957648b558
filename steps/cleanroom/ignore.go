package cleanroom

import (
	"os"
	"path"
	"strings"
)

// ignores are the .gitignore files of a directory, read as they are met
// (https://git-scm.com/docs/gitignore). The user's own and the repository's exclude file
// do not count: they are not part of the source.
type ignores struct{ of map[string][]ignoreRule }

type ignoreRule struct {
	pattern string
	// negated takes a file back, dirOnly matches directories, anchored only what is in
	// the directory of the file.
	negated, dirOnly, anchored bool
}

const (
	maxIgnoreFile  = 1 << 20
	maxIgnoreRules = 10_000
)

// match reports whether the path is ignored. Its directory is not, or nobody would ask.
func (g *ignores) match(root *os.Root, name string, isDir bool) bool {
	ignored := false
	for dir := range ancestors(name) { // the deepest file, and in it the last rule, decides
		for _, r := range g.rules(root, dir) {
			below, _ := within(dir, name)
			if r.matches(below, isDir) {
				ignored = !r.negated
			}
		}
	}
	return ignored
}

// ancestors yields "." and every directory above name, from the root down.
func ancestors(name string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		if !yield(".") {
			return
		}
		for i, c := range name {
			if c == '/' && !yield(name[:i]) {
				return
			}
		}
	}
}

func (g *ignores) rules(root *os.Root, dir string) []ignoreRule {
	if rules, ok := g.of[dir]; ok {
		return rules
	}
	if g.of == nil {
		g.of = map[string][]ignoreRule{}
	}
	var rules []ignoreRule
	if b, err := readBounded(root, path.Join(dir, ".gitignore"), maxIgnoreFile); err == nil {
		for line := range strings.Lines(string(b)) {
			if r, ok := parseIgnore(line); ok && len(rules) < maxIgnoreRules {
				rules = append(rules, r)
			}
		}
	}
	g.of[dir] = rules
	return rules
}

func parseIgnore(line string) (r ignoreRule, ok bool) {
	line = strings.TrimRight(line, "\r\n")
	if trimmed := strings.TrimRight(line, " "); !strings.HasSuffix(trimmed, "\\") {
		line = trimmed
	}
	if strings.HasPrefix(line, "#") {
		return r, false
	}
	if line, r.negated = strings.CutPrefix(line, "!"); strings.HasPrefix(line, `\#`) || strings.HasPrefix(line, `\!`) {
		line = line[1:]
	}
	line, r.dirOnly = strings.CutSuffix(line, "/")
	r.anchored = strings.Contains(line, "/")
	r.pattern = strings.TrimPrefix(line, "/")
	_, err := path.Match(r.pattern, "")
	return r, r.pattern != "" && err == nil
}

func (r ignoreRule) matches(name string, isDir bool) bool {
	switch {
	case r.dirOnly && !isDir:
		return false
	case !r.anchored:
		ok, err := path.Match(r.pattern, path.Base(name))
		return err == nil && ok
	case strings.HasSuffix(r.pattern, "/**"): // what is below, not the directory itself
		return match(r.pattern, name) && !match(strings.TrimSuffix(r.pattern, "/**"), name)
	default:
		return match(r.pattern, name)
	}
}
