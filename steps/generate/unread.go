package generate

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/render"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
)

// unread tells of variables that were given for this run and that none of its
// templates reads: most are misspelt. A strict run refuses them. Those of the project
// are for all templates that it ever renders, and are not looked at.
func (s *Step) unread(jobs []*job) ([]finding.Finding, error) {
	readers := readers{}
	var found []finding.Finding
	look := func(source string, names iter.Seq[string], jobs []*job) {
		for _, name := range slices.Sorted(names) {
			if !readers.any(jobs, name) {
				found = append(found, unreadVariable(source, name, jobs))
			}
		}
	}
	look("given with --vars", maps.Keys(s.Options.Flags), jobs)
	look("of the vars file", maps.Keys(s.Options.VarsFile), jobs)
	for i := range s.Units {
		unit := &s.Units[i]
		own := slices.DeleteFunc(slices.Clone(jobs), func(j *job) bool { return j.unit != unit })
		look(fmt.Sprintf("of [[generate]] for %q", clip(unit.Template)), maps.Keys(unit.Vars), own)
	}
	if !s.Options.Strict {
		return found, nil
	}
	var err error
	for _, f := range found {
		err = errors.Join(err, fault.New(fault.Usage, f.Fix, "%s", f.What))
	}
	return nil, err
}

func unreadVariable(source, name string, jobs []*job) finding.Finding {
	known := declaredNames(jobs)
	fix := fault.DidYouMean(name, known)
	if fix == "" && len(known) > 0 {
		fix = "the variables are " + strings.Join(known, ", ")
	}
	return finding.Finding{
		Rule: "variable-unread", Severity: finding.Low, Fix: fix,
		What: fmt.Sprintf("variable %q %s is read by no template", name, source),
	}
}

// declaredNames are the variables that the packages of the templates declare and the
// templates themselves set, sorted.
func declaredNames(jobs []*job) []string {
	var names []string
	for _, j := range jobs {
		for _, v := range j.template.pack.variables {
			names = append(names, v.Name)
		}
		if n := j.template.header.vars; n != nil {
			names = append(names, n.Keys()...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// readers are the words of the packages that were looked at.
type readers map[*pack]map[string]int

// any reports whether one of the templates reads a variable, or may: a word in a file
// that it can include counts, and so does a folder that cannot be read as a whole.
func (r readers) any(jobs []*job, name string) bool {
	if slices.Contains(given, name) || slices.Contains(declaredNames(jobs), name) {
		return true
	}
	for _, j := range jobs {
		own := wordsOf(j.template)
		if slices.Contains(own, name) {
			return true
		}
		packs := append(j.lib.dependencies(j.template.pack), j.template.pack)
		if j.template.pack.flat { // what lies beside it is not only templates
			if packs = nil; slices.ContainsFunc(own, func(word string) bool { return slices.Contains(including, word) }) {
				return true
			}
		}
		for _, p := range packs {
			words, known := r[p]
			if !known {
				var err error
				if words, err = p.words(); err != nil {
					return true
				}
				r[p] = words
			}
			if words[name] > 0 {
				return true
			}
		}
	}
	return false
}

// including are the words by which a template takes in others.
var including = []string{"include", "import", "extends", "from", "template"}

func wordsOf(t *template) []string {
	return identifier.FindAllString(t.body+"\n"+strings.Join(t.lines, "\n"), -1)
}

// dependencies are the packages whose files the templates of p may include.
func (lib *library) dependencies(p *pack) []*pack {
	var out []*pack
	for id := range p.dependencies {
		if d := lib.packs[id]; d != nil {
			out = append(out, d)
		}
	}
	return out
}

// misspelt finds the variable of the caller that is meant for one that is missing.
func misspelt(missing string, caller *render.Map, declared []Variable) string {
	var others []string
	for _, name := range caller.Keys(render.SortedOrder) {
		if !slices.ContainsFunc(declared, func(v Variable) bool { return v.Name == name }) {
			others = append(others, name)
		}
	}
	name, _ := fault.Nearest(missing, others)
	return name
}
