package generate

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

const shapesText = `@prefix sh: <http://www.w3.org/ns/shacl#> . @prefix e: <http://e/> .
e:S a sh:NodeShape ; sh:targetSubjectsOf e:p ;
  sh:property [ sh:path e:p ; sh:maxInclusive 10 ] , [ sh:path e:q ; sh:minCount 1 ; sh:severity sh:Warning ] .
`

// shapedStep has a template that names its shapes, and a graph.
func shapedStep(front, data string, more map[string]string) Step {
	files := fstest.MapFS{
		"templates/t.tmpl": {Data: []byte("---\nto: x\n" + front + "\n---\nbody")},
		"templates/s.ttl":  {Data: []byte(shapesText)},
	}
	for name, text := range more {
		files[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return Step{
		Units:    []Unit{{Template: "p:t.tmpl", Graphs: []Graph{{Name: "m.ttl", Data: []byte("@prefix e: <http://e/> .\n" + data)}}}},
		Packages: map[string]fs.FS{"p": files},
	}
}

func TestShapeConforms(t *testing.T) {
	t.Parallel()
	s := shapedStep("shape: s.ttl", "e:a e:p 1 .", nil)
	result := run(t, &s, nil, newMemory())
	if len(result.Evidence.Findings) != 1 {
		t.Fatalf("findings %+v", result.Evidence.Findings)
	}
	f := result.Evidence.Findings[0]
	if f.Rule != "shape-min-count" || f.Severity != "medium" || f.Where.String() != "p:t.tmpl:3:8" || !strings.Contains(f.What, "<http://e/a> <http://e/q>") {
		t.Errorf("%+v", f)
	}
}

func TestShapeViolated(t *testing.T) {
	t.Parallel()
	s := shapedStep("shape: [s.ttl]", "e:a e:p 11 . e:b e:p 1 ; e:q 2 . e:c e:p 12, 13, 14, 15, 16, 17 .", nil)
	result, err := s.Run(t.Context(), nil, newMemory())
	if fault.KindOf(err) != fault.Finding {
		t.Fatalf("%v", err)
	}
	for _, want := range []string{"p:t.tmpl:3:9: shape s.ttl: the graph has 7 violations", `<http://e/a> <http://e/p> "11"`, "and 2 more"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v: has no %q", err, want)
		}
	}
	if result.Entry.Outcome != state.Failed || len(result.Entry.Artifacts) != 0 || len(result.Evidence.Findings) != 9 {
		t.Errorf("%+v %+v", result.Entry, result.Evidence.Findings)
	}
	entry := result.Entry
	entry.Phase = s.Phase()
	entry.Normalize()
	if err := entry.Check(); err != nil {
		t.Error(err)
	}
}

func TestShapeRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		front, want string
		more        map[string]string
	}{
		"not there":   {"shape: none.ttl", `p:t.tmpl:3:8: graph "none.ttl" does not exist`, nil},
		"outside":     {"shape: ../s.ttl", "is outside of the template's folder", nil},
		"remote":      {"shape: http://e/s.ttl", "is remote", nil},
		"no path":     {"shape: {a: b}", "a path, or a list of paths", nil},
		"syntax":      {"shape: bad.ttl", "bad.ttl:1:", map[string]string{"templates/bad.ttl": "x"}},
		"recursive":   {"shape: r.ttl", "p:t.tmpl:3:8: shape r.ttl: shape <http://e/S>: shapes refer to themselves", map[string]string{"templates/r.ttl": "@prefix sh: <http://www.w3.org/ns/shacl#> . <http://e/S> sh:targetNode <http://e/a> ; sh:node <http://e/S> ."}},
		"SPARQL":      {"shape: q.ttl", "sh:sparql is a SPARQL-based constraint", map[string]string{"templates/q.ttl": "@prefix sh: <http://www.w3.org/ns/shacl#> . <http://e/S> sh:targetNode <http://e/a> ; sh:sparql [] ."}},
		"broken rule": {"shape: d.ttl", "(SHACL, section 4.1.2)", map[string]string{"templates/d.ttl": "@prefix sh: <http://www.w3.org/ns/shacl#> . <http://e/S> sh:targetNode <http://e/a> ; sh:datatype 1 ."}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := shapedStep(c.front, "e:a e:p 1 .", c.more)
			result, err := s.Run(t.Context(), nil, newMemory())
			if fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; want %q", err, c.want)
			}
			var wanting *nonconformance
			if errors.As(err, &wanting) || result.Entry.Outcome != "" {
				t.Error("a shape that cannot be used is told of as a violation")
			}
		})
	}
}
