package generate

import (
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

func TestEditApply(t *testing.T) {
	t.Parallel()
	const three = "one\ntwo\nthree\n"
	for name, c := range map[string]struct {
		edit   Edit
		before string
		want   string // "!" and a part of the error
	}{
		"prepend":            {Edit{Mode: Prepend, Text: "x\n"}, three, "x\none\ntwo\nthree\n"},
		"append":             {Edit{Mode: Append, Text: "x"}, three, "one\ntwo\nthree\nx\n"},
		"append to open end": {Edit{Mode: Append, Text: "x\n"}, "one", "one\nx\n"},
		"open end":           {Edit{Mode: Append, Text: "x\n", OpenEnd: true}, "one", "one\nx"},
		"open end inside":    {Edit{Mode: Prepend, Text: "x\n", OpenEnd: true}, "one\n", "x\none\n"},
		"before":             {Edit{Mode: Before, Anchor: "wo", Text: "x\ny\n"}, three, "one\nx\ny\ntwo\nthree\n"},
		"before the first":   {Edit{Mode: Before, Anchor: "e", Text: "x\n"}, three, "x\none\ntwo\nthree\n"},
		"after":              {Edit{Mode: After, Anchor: "one", Text: "x\n"}, three, "one\nx\ntwo\nthree\n"},
		"after the last":     {Edit{Mode: After, Anchor: "three", Text: "x\n"}, "three", "three\nx\n"},
		"at the first line":  {Edit{Mode: AtLine, Line: 1, Text: "x\n"}, three, "x\none\ntwo\nthree\n"},
		"at the end":         {Edit{Mode: AtLine, Line: 4, Text: "x\n"}, three, "one\ntwo\nthree\nx\n"},
		"behind the end":     {Edit{Mode: AtLine, Line: 5, Text: "x\n"}, three, "!no line 5: it has 3"},
		"no anchor":          {Edit{Mode: After, Anchor: "four", Text: "x\n"}, three, `!no line contains "four"`},
		"carriage returns":   {Edit{Mode: After, Anchor: "one", Text: "x\ny\n"}, "one\r\ntwo\r\n", "one\r\nx\r\ny\r\ntwo\r\n"},
		"theirs are dropped": {Edit{Mode: After, Anchor: "one", Text: "x\r\n"}, three, "one\nx\ntwo\nthree\n"},
		"skipped":            {Edit{Mode: Append, SkipIf: "t.o", Text: "x\n"}, three, three},
		"not skipped":        {Edit{Mode: Append, SkipIf: "t.x", Text: "x\n"}, three, three + "x\n"},
		"there already":      {Edit{Mode: Append, Idempotent: true, Text: "two\n"}, three, three},
		"twice":              {Edit{Mode: Append, Text: "two\n"}, three, three + "two\n"},
		"nothing":            {Edit{Mode: After, Anchor: "four", Text: " \n"}, three, three},
		"an empty file":      {Edit{Mode: Append, Text: "x\n"}, "", "x\n"},
	} {
		got, err := c.edit.apply([]byte(c.before), true, false)
		if part, wantsError := strings.CutPrefix(c.want, "!"); wantsError {
			if err == nil || !strings.Contains(err.Error(), part) || fault.KindOf(err) != fault.Finding {
				t.Errorf("%s: %q, %v; want an error with %q", name, got, err, part)
			}
			continue
		}
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
}

func FuzzEdit(f *testing.F) {
	f.Add("one\ntwo\n", "x\n", "two", 1, 2)
	f.Add("", "", "", 0, 0)
	f.Add("a\r\nb", "x", "b", 2, 9)
	modes := []Mode{Prepend, Append, Before, After, AtLine}
	f.Fuzz(func(t *testing.T, content, text, anchor string, line, mode int) {
		e := Edit{Mode: modes[uint(mode)%uint(len(modes))], Anchor: anchor, Line: line, Text: text}
		if e.check() != nil {
			return
		}
		got, err := e.apply([]byte(content), true, false)
		if err == nil && len(got) < len(content) {
			t.Errorf("%+v of %q lost something: %q", e, content, got)
		}
	})
}

// edited plans one template and writes it over what is in dir.
func edited(t *testing.T, dir, source string, set func(*Step)) (Changes, error) {
	t.Helper()
	_, plan, err := one(t, source, set)
	if err != nil {
		t.Fatal(err)
	}
	return Write(t.Context(), dir, plan, WriteOptions{})
}

func TestInject(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, dir, "main.go", "package main\n\n// routes\n")
	const source = "---\nto: main.go\ninject: true\nafter: '// {{ mark }}'\nbackup: true\n---\nroute(\"{{ name }}\")\n"
	set := flags("name", "a", "mark", "routes")
	if _, err := edited(t, dir, source, set); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"main.go": "package main\n\n// routes\nroute(\"a\")\n", "main.go.backup": "package main\n\n// routes\n"}
	wantContents(t, dir, want)

	changes, err := edited(t, dir, source, set) // the same edit again does nothing
	if err != nil || len(changes.Unchanged) != 1 {
		t.Fatalf("%+v, %v", changes, err)
	}
	wantContents(t, dir, want)

	if _, err := edited(t, dir, source, flags("name", "b", "mark", "routes")); err != nil {
		t.Fatal(err)
	}
	want = map[string]string{"main.go": "package main\n\n// routes\nroute(\"b\")\nroute(\"a\")\n", "main.go.backup": want["main.go"]}
	wantContents(t, dir, want)

	_, err = edited(t, dir, source, flags("name", "b", "mark", "gone"))
	if fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), `main.go: no line contains "// gone"`) || !strings.Contains(err.Error(), "t.txt.tmpl:2") {
		t.Fatalf("err = %v", err)
	}
	wantContents(t, dir, want)
}

// TestInjectStaysOutOfTheManifest sees that a file that was edited is not removed
// as one that is no longer generated.
func TestInjectStaysOutOfTheManifest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := edited(t, dir, "---\nto: a/new.txt\nappend: true\n---\nx\n", nil); err != nil {
		t.Fatal(err)
	}
	wantContents(t, dir, map[string]string{"a/new.txt": "x\n"})
	write(t, dir, map[string]string{"other.txt": "o"})
	wantContents(t, dir, map[string]string{"a/new.txt": "x\n", "other.txt": "o"})
}

// TestInjectIntoThePlan edits a file that another template of the run makes.
func TestInjectIntoThePlan(t *testing.T) {
	t.Parallel()
	plan := Plan{
		Files: []File{{Path: "a.txt", Mode: 0o644, Content: []byte("one\ntwo\n"), Template: "p:a"}},
		Edits: []Edit{{Path: "b.txt", Mode: Append, Text: "b"}, {Path: "a.txt", Mode: Before, Anchor: "two", Text: "x"}, {Path: "a.txt", Mode: Before, Anchor: "two", Text: "y"}},
	}
	if err := plan.finish(); err != nil {
		t.Fatal(err)
	}
	if got := string(plan.Files[0].Content); got != "one\nx\ny\ntwo\n" || len(plan.Edits) != 1 {
		t.Errorf("%q, %+v", got, plan.Edits)
	}
}

// TestEditsThroughTheChain writes edits that come from a stored entry.
func TestEditsThroughTheChain(t *testing.T) {
	t.Parallel()
	s, blobs := Step{}, newMemory()
	source := "---\nto: main.go\nafter: '// routes'\n---\nroute()\n"
	_, _, err := one(t, source, func(step *Step) { s = *step })
	if err != nil {
		t.Fatal(err)
	}
	result := run(t, &s, nil, blobs)
	dir := t.TempDir()
	put(t, dir, "main.go", "// routes\n")
	plan, err := PlanOf(t.Context(), linkOf(t, result), blobs)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Write(t.Context(), dir, plan, WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	wantContents(t, dir, map[string]string{"main.go": "// routes\nroute()\n"})
}

func TestFreezeFile(t *testing.T) {
	t.Parallel()
	for policy, want := range map[string]string{"always": "v1", "checksum": "v2", "never": "v2"} {
		dir := t.TempDir()
		source := func(text string) string { return "---\nto: a.txt\nfreeze_policy: " + policy + "\n---\n" + text }
		if _, err := edited(t, dir, source("v1"), nil); err != nil {
			t.Fatal(err)
		}
		if _, err := edited(t, dir, source("v2"), nil); err != nil {
			t.Fatal(err)
		}
		wantContents(t, dir, map[string]string{"a.txt": want})
		put(t, dir, "a.txt", "mine")
		_, err := edited(t, dir, source("v3"), nil)
		if policy == "never" {
			if fault.KindOf(err) != fault.Finding {
				t.Errorf("never: %v", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		wantContents(t, dir, map[string]string{"a.txt": "mine"})
		if _, err := edited(t, dir, source("v4"), nil); err != nil { // and it stays frozen
			t.Fatal(err)
		}
		wantContents(t, dir, map[string]string{"a.txt": "mine"})
	}
}

func TestFreezeRegions(t *testing.T) {
	t.Parallel()
	source := func(policy, text string) string {
		return "---\nto: a.txt\nfreeze_policy: " + policy + "\nfreeze_slots_dir: slots\n---\nhead " + text +
			"\n{% startfreeze id=\"of-{{ name }}\" %}\nregion " + text + "\n{% endfreeze %}\ntail\n"
	}
	set := flags("name", "n")
	for policy, want := range map[string]string{"always": "v1", "checksum": "v2"} {
		dir := t.TempDir()
		for _, version := range []string{"v1", "v2"} {
			if _, err := edited(t, dir, source(policy, version), set); err != nil {
				t.Fatal(err)
			}
		}
		wantContents(t, dir, map[string]string{"a.txt": "head v2\n\nregion " + want + "\n\ntail\n", "slots/of-n": "\nregion " + want + "\n"})
		put(t, dir, "slots/of-n", "mine")
		for _, version := range []string{"v3", "v4"} {
			if _, err := edited(t, dir, source(policy, version), set); err != nil {
				t.Fatal(err)
			}
		}
		wantContents(t, dir, map[string]string{"a.txt": "head v4\nmine\ntail\n", "slots/of-n": "mine"})
	}
	dir := t.TempDir()
	if _, err := edited(t, dir, source("never", "v1"), set); err != nil {
		t.Fatal(err)
	}
	wantContents(t, dir, map[string]string{"a.txt": "head v1\n\nregion v1\n\ntail\n"})
}

func TestFreezeChecksum(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	source := func(sum string) string {
		return "---\nto: a.txt\n---\n{% startfreeze id=\"x\" checksum=\"" + sum + "\" %}a{% endfreeze %}\n"
	}
	const sumA = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb" // of "a"
	for range 2 {
		if _, err := edited(t, dir, source(sumA), nil); err != nil {
			t.Fatal(err)
		}
	}
	put(t, dir, "frozen/x", "b")
	if _, err := edited(t, dir, source(sumA), nil); fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("err = %v", err)
	}
}

func TestFrontMatterOfTheSecondGeneration(t *testing.T) {
	t.Parallel()
	const values = "SELECT ?n ?m WHERE { VALUES (?n ?m) { (1 \"a\") (2 \"b\") } }"
	for name, c := range map[string]struct{ source, want string }{
		"vars of sparql":    {"---\nto: x\nsparql:\n  vars:\n    - {name: first, query: '" + values + "'}\n    - {name: none, query: 'SELECT ?x { ?x ?y ?z }', default: d}\n---\n{{ first }}{{ none }}", "x:1d"},
		"matrix":            {"---\nto: '{{ file }}{{ n }}'\nmatrix: {query: '" + values + "', bind: {file: '?m'}}\n---\n{{ row.n }}", "a1:1 b2:2"},
		"matrix in sparql":  {"---\nto: '{{ file }}'\nsparql: {matrix: {query: '" + values + "', bind: {file: m}}}\n---\n{{ n }}", "a:1 b:2"},
		"a query of a name": {"---\nto: x\nsparql: {matrix: '" + values + "'}\n---\n{{ matrix | length }}", "x:2"},
		"construct":         {"---\nto: x\nrdf: g.ttl\nconstruct: {c: 'CONSTRUCT { ?s <http://e/q> 7 } WHERE { ?s ?p ?o }'}\nsparql: 'SELECT ?o { ?s <http://e/q> ?o }'\n---\n{{ default.0.o }}", "x:7"},
		"from":              {"---\nto: x\nfrom: g.ttl\n---\n", "x:<http://e/s> <http://e/p> 1 ."},
	} {
		files, plan, err := one(t, c.source, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []string
		for _, f := range plan.Files {
			got = append(got, f.Path+":"+files[f.Path])
		}
		if strings.Join(got, " ") != c.want || len(plan.Findings) > 0 {
			t.Errorf("%s: %q, %v; want %q", name, got, plan.Findings, c.want)
		}
	}
	for name, c := range map[string]struct{ source, want string }{
		"two loops":        {"---\nmatrix: {query: 'SELECT'}\nfor_each: q\n---\n", "for_each or matrix"},
		"no column":        {"---\nto: x\nmatrix: {query: '" + values + "', bind: {a: '?mm'}}\n---\n", "without the column ?mm"},
		"a matrix without": {"---\nmatrix: {bind: {a: b}}\n---\n", "a query"},
		"from and a body":  {"---\nfrom: g.ttl\n---\nx", "has a body"},
		"from nothing":     {"---\nfrom: h.ttl\n---\n", "does not exist"},
		"from outside":     {"---\nfrom: ../../secret.tera\n---\n", "does not exist"},
		"bad policy":       {"---\nfreeze_policy: sometimes\n---\n", "always, checksum, never"},
		"bad slots":        {"---\nfreeze_slots_dir: ../x\n---\n", "freeze_slots_dir"},
		"bad id":           {"---\n---\n{% startfreeze id=\"../../x\" %}{% endfreeze %}", "names no file"},
		"not closed":       {"---\n---\n{% startfreeze id=\"x\" %}", "not closed"},
		"not opened":       {"---\n---\n{% endfreeze %}", "in turn"},
		"one id twice":     {"---\n---\n{% startfreeze id=\"x\" %}{% endfreeze %}{% startfreeze id=\"x\" %}{% endfreeze %}", "frozen/x"},
		"bad skip_if":      {"---\nappend: true\nskip_if: '('\n---\nx", "skip_if"},
		"line zero":        {"---\nat_line: 0\n---\nx", "from 1"},
		"empty anchor":     {"---\nafter: ''\n---\nx", "part of a line"},
		"edit outside":     {"---\nto: ../x\nappend: true\n---\nx", "may not write"},
		"construct a row":  {"---\nconstruct: 'SELECT ?s {}'\n---\n", "makes no triples"},
		"two shapes":       {"---\nsparql: {vars: [], q: x}\n---\n", "beside vars or matrix"},
	} {
		if _, _, err := one(t, c.source, nil); err == nil || !strings.Contains(err.Error(), c.want) || fault.KindOf(err) != fault.Finding {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
}

// linkOf returns the link of a result at the beginning of a chain.
func linkOf(t *testing.T, result state.Result) *state.Link {
	t.Helper()
	entry := result.Entry
	entry.Phase = phase.Generate
	entry.Normalize()
	digest, err := entry.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return &state.Link{Digest: digest, Entry: entry, Evidence: []state.Evidence{result.Evidence}}
}
