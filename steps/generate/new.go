package generate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// starters are the templates that [NewTemplate] makes, by kind.
var starters = map[string]string{
	"file": `---
to: NAME.txt
vars:
  title: NAME
---
{{ title }}
`,
	"graph": `---
# One file for every row of the query.
to: "NAME/{{ name | kebab }}.txt"
rdf: graphs/NAME.ttl
prefixes:
  ex: "http://example.com/ns#"
sparql:
  things: SELECT ?name WHERE { ?thing a ex:Thing ; ex:name ?name } ORDER BY ?name
for_each: things
---
{{ name }}
`,
	"inject": `---
# Puts the body into NAME.txt, which is there, behind the line that has "# NAME".
to: NAME.txt
after: "# NAME"
vars:
  line: a line of NAME
---
{{ line }}
`,
}

// starterGraphs are the graphs that go with a kind, below graphs.
var starterGraphs = map[string]string{
	"graph": `@prefix ex: <http://example.com/ns#> .

ex:first a ex:Thing ; ex:name "First" .
`,
}

// Starter says what [NewTemplate] makes.
type Starter struct {
	// Name is that of the template: letters, digits, - and _, at most 100.
	Name string
	// Kind is one of [Starters].
	Kind string
	// To is the path that the template writes, which may have tags; empty for one
	// after the name.
	To string
	// Package is the id of the package that the folder is. If it has no manifest yet,
	// one is made, so that the template can be named. Empty for a project.
	Package string
}

// Reference is by what the template is named on a command line and in a project file.
func (s Starter) Reference() string {
	if s.Package == "" {
		return path.Join(templatesDir, s.Name+templateEnd)
	}
	return s.Package + ":" + s.Name + templateEnd
}

// CheckName refuses a name that no template may have.
func (s Starter) CheckName() error {
	if templateName.MatchString(s.Name) {
		return nil
	}
	if s.Name == "" {
		return fault.New(fault.Usage, "give it one, of letters, digits, - and _, or --interactive", "the template has no name")
	}
	return fault.New(fault.Usage, "use letters, digits, - and _, at most 100", "template name %.120q is not accepted", s.Name)
}

// CheckTo refuses a path to which no template may write. What tags make of it is
// checked when it is rendered.
func (s Starter) CheckTo() error {
	if s.To == "" || strings.Contains(s.To, "{{") || strings.Contains(s.To, "{%") {
		return nil
	}
	if _, err := cleanPath(s.To, true); err != nil {
		return fault.New(fault.Usage, "name a file below the output directory", "path %.120q: %w", s.To, err)
	}
	return nil
}

// DefaultTo is the path that the template writes if To is empty.
func (s Starter) DefaultTo() string {
	to := targetLine.FindStringSubmatch(strings.ReplaceAll(starters[s.Kind], "NAME", s.Name))
	if to == nil {
		return ""
	}
	return strings.Trim(to[1], `"`)
}

var targetLine = regexp.MustCompile(`(?m)^to: (.*)$`)

// text returns the template.
func (s Starter) text() string {
	text := strings.ReplaceAll(starters[s.Kind], "NAME", s.Name)
	if s.To == "" {
		return text
	}
	// A string of JSON is one of YAML.
	quoted, _ := json.Marshal(s.To)
	return targetLine.ReplaceAllLiteralString(text, "to: "+string(quoted))
}

// Starters are the kinds of templates that [NewTemplate] makes, sorted.
func Starters() []string {
	var kinds []string
	for kind := range starters {
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	return kinds
}

var templateName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,100}$`)

// NewTemplate writes a template to start from into the folder templates below dir,
// and what it needs beside it. It returns the paths below dir, and overwrites nothing.
func NewTemplate(dir string, s Starter) (_ []string, err error) {
	if err := errors.Join(s.CheckName(), s.CheckTo()); err != nil {
		return nil, err
	}
	if starters[s.Kind] == "" {
		return nil, fault.New(fault.Usage, "the kinds are "+strings.Join(Starters(), ", "), "there is no kind of template %q", clip(s.Kind))
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, unwritable(dir, err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	texts := map[string]string{path.Join(templatesDir, s.Name+templateEnd): s.text()}
	if g := starterGraphs[s.Kind]; g != "" {
		texts[path.Join(templatesDir, "graphs", s.Name+".ttl")] = g
	}
	if s.Package != "" {
		if err := s.manifest(root, texts); err != nil {
			return nil, err
		}
	}
	var paths []string
	for at := range texts {
		paths = append(paths, at)
		if _, err := root.Lstat(at); err == nil {
			return nil, fault.New(fault.Finding, "choose another name, or remove the file", "%s is there already", at)
		}
	}
	slices.Sort(paths)
	for _, at := range paths {
		if err := root.MkdirAll(path.Dir(at), 0o755); err != nil {
			return nil, unwritable(dir, err)
		}
		if err := create(root, at, texts[at]); err != nil {
			return nil, unwritable(dir, err)
		}
	}
	return paths, nil
}

var packageID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// manifest adds one to texts if the package has none.
func (s Starter) manifest(root *os.Root, texts map[string]string) error {
	if _, err := root.Lstat(packManifest); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !packageID.MatchString(s.Package) {
		return fault.New(fault.Usage, "name the folder in letters, digits, ., - and _, or write its "+packManifest, "%.120q cannot be the id of a package", s.Package)
	}
	texts[packManifest] = fmt.Sprintf("[gpack]\nid = %q\nversion = \"0.1.0\"\n\n[variables]\n# port = { type = \"integer\", default = 8080, description = \"port that it listens on\" }\n", s.Package)
	return nil
}

// create writes a file that was not there.
func create(root *os.Root, name, content string) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already", name)
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	return errors.Join(err, f.Close())
}
