package generate

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/difference"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

var update = flag.Bool("update", false, "write the golden files")

// memory is a store of blobs in memory.
type memory struct {
	mu    sync.Mutex
	blobs map[state.Digest][]byte
}

func newMemory() *memory { return &memory{blobs: map[state.Digest][]byte{}} }

func (m *memory) Open(_ context.Context, a state.Artifact) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.blobs[a.Digest]
	if !ok || state.DigestOf(b) != a.Digest || int64(len(b)) != a.Size {
		return nil, fault.New(fault.Finding, "", "artifact %q is damaged", a.Name)
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (m *memory) Create(_ context.Context, mediaType string) (state.BlobWriter, error) {
	return &memoryWriter{store: m, mediaType: mediaType}, nil
}

type memoryWriter struct {
	bytes.Buffer
	store     *memory
	mediaType string
}

func (w *memoryWriter) Close() error { return nil }

func (w *memoryWriter) Commit(name string) (state.Artifact, error) {
	b := slices.Clone(w.Bytes())
	a := state.Artifact{Name: name, MediaType: w.mediaType, Digest: state.DigestOf(b), Size: int64(len(b))}
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	w.store.blobs[a.Digest] = b
	return a, nil
}

// market returns a chain whose market entry holds the packages.
func market(t *testing.T, blobs state.Blobs, packages map[string]fs.FS, dependencies map[string][]string) state.State {
	t.Helper()
	entry := state.Entry{Phase: phase.Market, Outcome: state.Passed, Market: &state.Market{}}
	for id, fsys := range packages {
		var archive bytes.Buffer
		if err := state.Pack(t.Context(), &archive, fsys, nil); err != nil {
			t.Fatal(err)
		}
		a, err := state.WriteBlob(t.Context(), blobs, state.ArtifactPackage(id), state.MediaTypePackage, archive.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		entry.Artifacts = append(entry.Artifacts, a)
		entry.Market.Packages = append(entry.Market.Packages, state.Package{ID: id, Version: "1.0.0", Sum: a.Digest, Dependencies: dependencies[id]})
	}
	entry.Normalize()
	digest, err := entry.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return state.State{{Digest: digest, Entry: entry}}
}

func shopStep(t *testing.T) Step {
	t.Helper()
	model, err := os.ReadFile("testdata/model/shop.ttl")
	if err != nil {
		t.Fatal(err)
	}
	graphs := []Graph{{Name: "model/shop.ttl", Data: model}}
	return Step{
		Units: []Unit{{Template: "shop:*", Graphs: graphs, Vars: map[string]any{"with_docs": true}}},
		Options: Options{
			Vars:  map[string]any{"name": "corner shop", "port": int64(9000)},
			Flags: map[string]string{"title": "What there is"},
			Seed:  7,
		},
	}
}

func shopState(t *testing.T, blobs state.Blobs) state.State {
	t.Helper()
	return market(t, blobs,
		map[string]fs.FS{"shop": os.DirFS("testdata/shop"), "common": os.DirFS("testdata/common")},
		map[string][]string{"shop": {"common@1.2.0"}})
}

func run(t *testing.T, s *Step, in state.State, blobs state.Blobs) state.Result {
	t.Helper()
	result, err := s.Run(t.Context(), in, blobs)
	if err != nil {
		t.Fatalf("%v\nhint: %s", err, fault.HintOf(err))
	}
	return result
}

func TestGolden(t *testing.T) {
	t.Parallel()
	blobs := newMemory()
	s := shopStep(t)
	out := filepath.Join(t.TempDir(), "out")
	s.OutputDir = out
	in := shopState(t, blobs)
	result := run(t, &s, in, blobs)
	got := contents(t, out)
	if *update {
		if err := os.RemoveAll("testdata/golden"); err != nil {
			t.Fatal(err)
		}
		for name, content := range got {
			put(t, "testdata/golden", name+".golden", content)
		}
	}
	want := map[string]string{}
	for name, content := range contents(t, "testdata/golden") {
		want[strings.TrimSuffix(name, ".golden")] = content // so that gofmt leaves them alone
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			var diff bytes.Buffer
			if err := difference.Unified(&diff, name, name, []byte(want[name]), []byte(got[name])); err != nil {
				t.Fatal(err)
			}
			t.Errorf("%s", &diff)
		}
	}
	if len(got) != len(want) {
		t.Errorf("files %v; want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
	checkClaim(t, result, in, blobs, len(want))
}

func checkClaim(t *testing.T, result state.Result, in state.State, blobs state.Blobs, files int) {
	t.Helper()
	entry := result.Entry
	entry.Phase, entry.Prev = phase.Generate, in.Head()
	entry.Normalize()
	digest, err := entry.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if entry.Generate.Files != files || entry.Generate.Seed != 7 || result.Evidence.Summary != fmt.Sprintf("%d files", files) {
		t.Errorf("claim %+v, summary %q; want %d files and seed 7", entry.Generate, result.Evidence.Summary, files)
	}
	plan, err := PlanOf(t.Context(), &state.Link{Digest: digest, Entry: entry, Evidence: []state.Evidence{result.Evidence}}, blobs)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(plan.Files, func(f File) bool { return f.Path == "run.sh" })
	if i < 0 || !plan.Files[i].UnlessExists || plan.Files[i].Mode != 0o755 || plan.Files[i].Template != "shop:run.sh.tmpl" {
		t.Errorf("the plan read back has %+v at %d; want run.sh with its properties", plan.Files, i)
	}
}

// TestBaseIsTheArtifact checks that the archive of the artifact is the base of a later
// merge, of a run as of a tree from the chain, and that it is the one that would be made
// of the files.
func TestBaseIsTheArtifact(t *testing.T) {
	t.Parallel()
	blobs := newMemory()
	s := shopStep(t)
	s.OutputDir = t.TempDir()
	result := run(t, &s, shopState(t, blobs), blobs)
	want := result.Entry.Artifacts[0].Digest
	wantBase(t, s.OutputDir)

	plan, err := PlanOf(t.Context(), &state.Link{Entry: result.Entry, Evidence: []state.Evidence{result.Evidence}}, blobs)
	if err != nil {
		t.Fatal(err)
	}
	again, anew := t.TempDir(), t.TempDir()
	if _, err := Write(t.Context(), again, plan, WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(t.Context(), anew, &Plan{Files: plan.Files}, WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{s.OutputDir, again, anew} {
		base, err := os.ReadFile(filepath.Join(dir, baseFile))
		if got := state.DigestOf(base); err != nil || got != want {
			t.Errorf("the base is %s, %v; want that of the artifact, %s", got, err, want)
		}
	}
}

// TestSameBytesEverywhere runs twice: another directory, another time zone, the
// local packages instead of the chain's, another order of the same graphs' keys.
func TestSameBytesEverywhere(t *testing.T) {
	blobs := newMemory()
	first := shopStep(t)
	first.OutputDir = t.TempDir()
	in := shopState(t, blobs)
	a := run(t, &first, in, blobs)

	zone := time.Local
	time.Local = time.FixedZone("elsewhere", 5*3600+1800)
	defer func() { time.Local = zone }()
	t.Setenv("TZ", "Asia/Kolkata")
	second := shopStep(t)
	second.OutputDir = t.TempDir()
	b := run(t, &second, in, newMemoryWith(blobs))
	for _, e := range []*state.Entry{&a.Entry, &b.Entry} {
		e.Phase = phase.Generate
		e.Normalize()
	}
	digestA, errA := a.Entry.Digest()
	digestB, errB := b.Entry.Digest()
	if errA != nil || errB != nil || digestA != digestB {
		t.Errorf("claims are %s, %v and %s, %v", digestA, errA, digestB, errB)
	}
	if !maps.Equal(contents(t, first.OutputDir), contents(t, second.OutputDir)) {
		t.Error("the trees differ")
	}

	local := shopStep(t)
	local.Packages = map[string]fs.FS{"shop": os.DirFS("testdata/shop"), "common": os.DirFS("testdata/common")}
	c := run(t, &local, nil, newMemory())
	if c.Entry.Artifacts[0].Digest != a.Entry.Artifacts[0].Digest {
		t.Error("local packages give another tree than those of the chain")
	}
}

func newMemoryWith(m *memory) *memory { return &memory{blobs: maps.Clone(m.blobs)} }

func TestKeyFollowsInputs(t *testing.T) {
	t.Parallel()
	base := shopStep(t)
	key := func(s Step) string {
		k, err := s.Key(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(k)
	}
	want := key(base)
	if again := shopStep(t); key(again) != want {
		t.Error("the key of equal steps differs")
	}
	same := shopStep(t)
	same.OutputDir, same.Options.Force = "elsewhere", true
	if key(same) != want {
		t.Error("the key depends on where the tree is written")
	}
	for name, change := range map[string]func(*Step){
		"flag":    func(s *Step) { s.Options.Flags = map[string]string{"title": "other"} },
		"var":     func(s *Step) { s.Options.Vars = map[string]any{"name": "x"} },
		"unit":    func(s *Step) { s.Units[0].Output = "sub" },
		"graph":   func(s *Step) { s.Units[0].Graphs[0].Data = []byte("# other") },
		"seed":    func(s *Step) { s.Options.Seed++ },
		"time":    func(s *Step) { s.Options.Now = time.Unix(1, 0) },
		"package": func(s *Step) { s.Packages = map[string]fs.FS{"shop": fstest.MapFS{"x": {}}} },
	} {
		s := shopStep(t)
		change(&s)
		if key(s) == want {
			t.Errorf("the key does not depend on the %s", name)
		}
	}
}

// one renders a package of one template and returns its files.
func one(t *testing.T, source string, set func(*Step)) (map[string]string, *Plan, error) {
	t.Helper()
	s := Step{
		Units:    []Unit{{Template: "p:sub/t.txt.tmpl"}},
		Packages: map[string]fs.FS{"p": fstest.MapFS{"templates/sub/t.txt.tmpl": {Data: []byte(source)}, "templates/sub/g.ttl": {Data: []byte("<http://e/s> <http://e/p> 1 .")}, "templates/top.ttl": {Data: []byte("<http://e/s> <http://e/p> 1 .")}, "secret.tera": {Data: []byte("s")}, "templates/inc.tera": {Data: []byte("{{ nothing }}")}}},
	}
	if set != nil {
		set(&s)
	}
	plan, err := s.Plan(t.Context(), nil, newMemory())
	if err != nil {
		return nil, nil, err
	}
	files := map[string]string{}
	for _, f := range plan.Files {
		files[f.Path] = string(f.Content)
	}
	return files, plan, nil
}

func TestTemplates(t *testing.T) {
	t.Parallel()
	const ex = "prefixes: {e: 'http://e/'}\nrdf_inline: 'e:b e:n 2 . e:a e:n 1 ; e:ok true ; e:d 1.5 ; e:s \"x\"@en ; e:i e:b .'\n"
	for name, c := range map[string]struct {
		source string
		set    func(*Step)
		want   map[string]string
	}{
		"no front matter": {"body\n", nil, map[string]string{"t.txt.out": "body\n"}},
		"no `to`":         {"---\nvars: {a: 1}\n---\n{{ a }}", nil, map[string]string{"t.txt.out": "1"}},
		"empty front":     {"---\n---\nx", nil, map[string]string{"t.txt.out": "x"}},
		"windows lines":   {"---\r\nto: x\r\n---\r\nbody\r\n", nil, map[string]string{"x": "body\r\n"}},
		"vars list":       {"---\nto: x\nvars: [a, 2]\n---\n{{ var0 }}{{ var1 }}", nil, map[string]string{"x": "a2"}},
		"vars scalar":     {"---\nto: x\nvars: a\n---\n{{ var0 }}", nil, map[string]string{"x": "a"}},
		"vars null":       {"---\nto: x\nvars:\n---\ny", nil, map[string]string{"x": "y"}},
		"vars rendered":   {"---\nto: x\nvars: {b: '{{ a }}!'}\n---\n{{ b }}", flags("a", "1"), map[string]string{"x": "1!"}},
		"Name":            {"---\nto: '{{ Name }}'\n---\n{{ name }}", flags("name", "user-service"), map[string]string{"UserService": "user-service"}},
		"precedence": {"---\nto: x\nvars: {a: 0, b: 0, c: 0, d: 0, e: 0}\n---\n{{ a }}{{ b }}{{ c }}{{ d }}{{ e }}", func(s *Step) {
			s.Options.Vars = map[string]any{"b": 1, "c": 1, "d": 1, "e": 1}
			s.Units[0].Vars = map[string]any{"c": 2, "d": 2, "e": 2}
			s.Options.VarsFile = map[string]any{"d": 3, "e": 3}
			s.Options.Flags = map[string]string{"e": "4"}
		}, map[string]string{"x": "01234"}},
		"template wins": {"---\nto: x\nvars: {a: own}\n---\n{{ a }}", func(s *Step) {
			s.Options.Flags = map[string]string{"a": "flag"}
			s.Options.TemplateVarsWin = true
		}, map[string]string{"x": "own"}},
		"output":          {"---\nto: x\n---\ny", func(s *Step) { s.Units[0].Output = "a/b/" }, map[string]string{"a/b/x": "y"}},
		"rdf":             {"---\nto: x\nrdf: [g.ttl]\nsparql: 'SELECT ?o { ?s ?p ?o }'\n---\n{{ default[0].o + 1 }}", nil, map[string]string{"x": "2"}},
		"typed cells":     {"---\nto: x\n" + ex + "sparql: {q: 'SELECT ?n ?ok ?d ?s ?i { ?a e:ok ?ok ; e:n ?n ; e:d ?d ; e:s ?s ; e:i ?i }'}\n---\n{% set r = q | first %}{{ r.n + 1 }} {% if r.ok %}yes{% endif %} {{ r.d * 2 }} {{ r.s }} {{ r.i }} {{ r['?n'] }}", nil, map[string]string{"x": "2 yes 3 x http://e/b 1"}},
		"ask":             {"---\nto: x\n" + ex + "sparql: ['ASK { e:a e:ok true }', 'ASK { e:a e:ok false }']\n---\n{{ query_0 }} {{ sparql_results.query_1 }}", nil, map[string]string{"x": "true false"}},
		"query is quiet":  {"---\nto: x\n" + ex + "vars: {q: mine}\nsparql: {q: 'ASK {}'}\n---\n{{ q }} {{ sparql_results.q }}", nil, map[string]string{"x": "mine true"}},
		"rows sorted":     {"---\nto: '{{ n }}'\n" + ex + "sparql: {q: 'SELECT ?n { ?x e:n ?n }'}\nfor_each: q\n---\n{{ row.n }}{% for r in q %},{{ r.n }}{% endfor %}", nil, map[string]string{"1": "1,1,2", "2": "2,1,2"}},
		"inline rows":     {"---\nto: '{{ row.n }}'\n" + ex + "for_each: 'SELECT ?n { ?x e:n ?n } ORDER BY ?n'\n---\nx", nil, map[string]string{"1": "x", "2": "x"}},
		"no rows":         {"---\nto: '{{ row.n }}'\nsparql: {q: 'SELECT ?n { ?x <http://e/none> ?n }'}\nfor_each: q\n---\nx", nil, map[string]string{}},
		"when false":      {"---\nto: x\nwhen: false\n---\nx", nil, map[string]string{}},
		"when query":      {"---\nto: x\nsparql: {q: 'ASK { ?a ?b ?c }'}\nwhen: q\n---\nx", nil, map[string]string{}},
		"when ask":        {"---\nto: x\n" + ex + "when: 'ASK { ?a e:ok true }'\n---\nx", nil, map[string]string{"x": "x"}},
		"when row":        {"---\nto: '{{ n }}'\n" + ex + "sparql: {q: 'SELECT ?n { ?x e:n ?n }'}\nfor_each: q\nwhen: row.n > 1\n---\nx", nil, map[string]string{"2": "x"}},
		"when tags":       {"---\nto: x\nwhen: '{{ a }}'\n---\nx", flags("a", "false"), map[string]string{}},
		"skip empty":      {"---\nto: x\nskip_empty: true\n---\n  \n", nil, map[string]string{}},
		"sparql()":        {"---\nto: x\n" + ex + "---\n{% for r in sparql(query='SELECT ?n { ?x e:n ?n } ORDER BY ?n') %}{{ r.n }}{% endfor %}", nil, map[string]string{"x": "12"}},
		"sparql rendered": {"---\nto: x\n" + ex + "sparql: {q: 'SELECT ?n { e:{{ which }} e:n ?n }'}\n---\n{{ q[0].n }}", flags("which", "b"), map[string]string{"x": "2"}},
		"project graph":   {"---\nto: x\nrdf: g.ttl\nsparql: {q: 'SELECT (COUNT(*) AS ?n) { ?a ?b ?c }'}\n---\n{{ q[0].n }}", graphs("m.nt", "<http://e/x> <http://e/p> \"1\" .\n"), map[string]string{"x": "2"}},
		"include above":   {"---\nto: x\nvars: {nothing: n}\n---\n{% include '../inc.tera' %}{% include 'inc.tera' %}", nil, map[string]string{"x": "nn"}},
		"now is frozen":   {"---\nto: x\n---\n{{ now(timestamp=true) }}", nil, map[string]string{"x": "0"}},
		"ci allowed":      {"---\nto: .gitlab-ci.yml\n---\nx", func(s *Step) { s.Options.AllowCI = true }, map[string]string{".gitlab-ci.yml": "x"}},
		"shell allowed":   {"---\nto: x\n---\n{{ a }}", func(s *Step) { flags("a", "$(x)")(s); s.Options.AllowShellChars = true }, map[string]string{"x": "$(x)"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, _, err := one(t, c.source, c.set)
			if err != nil {
				t.Fatalf("%v\nhint: %s", err, fault.HintOf(err))
			}
			if !maps.Equal(got, c.want) {
				t.Errorf("got %q; want %q", got, c.want)
			}
		})
	}
}

func flags(pairs ...string) func(*Step) {
	return func(s *Step) {
		s.Options.Flags = map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			s.Options.Flags[pairs[i]] = pairs[i+1]
		}
	}
}

func graphs(name, text string) func(*Step) {
	return func(s *Step) { s.Units[0].Graphs = []Graph{{name, []byte(text)}} }
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	named := func(template string) func(*Step) { return func(s *Step) { s.Units[0].Template = template } }
	for name, c := range map[string]struct {
		source string
		set    func(*Step)
		kind   fault.Kind
		want   []string // all in the message
		hint   string
	}{
		"to leaves":          {"---\nvars: {}\nto: ../x\n---\n", nil, fault.Finding, []string{"p:sub/t.txt.tmpl:3", `".."`}, "below the output"},
		"to rendered":        {"---\nto: '{{ a }}'\n---\n", flags("a", "/etc/x"), fault.Finding, []string{"p:sub/t.txt.tmpl:2", "absolute"}, ""},
		"to git":             {"---\nto: .GIT/hooks/x\n---\n", nil, fault.Finding, []string{".git is never"}, ""},
		"to empty":           {"---\nto: '{% if false %}x{% endif %}'\n---\n", nil, fault.Finding, []string{"empty"}, ""},
		"to list":            {"---\nto: [a]\n---\n", nil, fault.Finding, []string{":2:", "expected a path"}, ""},
		"ci":                 {"---\nto: .github/workflows/x.yml\n---\n", nil, fault.Finding, []string{"CI pipeline"}, "--allow-ci"},
		"output leaves":      {"---\nto: x\n---\n", func(s *Step) { s.Units[0].Output = "../up" }, fault.Usage, []string{"../up"}, ""},
		"output git":         {"---\nto: x\n---\n", func(s *Step) { s.Units[0].Output = ".git" }, fault.Usage, []string{".git is never"}, ""},
		"undefined variable": {"---\nto: x\n---\n\nok\n{{ missing }}\n", nil, fault.Finding, []string{"p:sub/t.txt.tmpl:6:", "missing"}, ""},
		"undefined in to":    {"---\nto: 'a/{{ missing }}'\n---\n", nil, fault.Finding, []string{"p:sub/t.txt.tmpl:2:", "missing"}, ""},
		"undefined include":  {"---\nto: x\n---\n{% include 'inc.tera' %}\n", nil, fault.Finding, []string{"p:inc.tera:1:", "p:sub/t.txt.tmpl:4:"}, ""},
		"no include":         {"---\nto: x\n---\n{% include 'nope.tera' %}\n", nil, fault.Finding, []string{"p:sub/t.txt.tmpl:4:", "nope.tera"}, ""},
		"include leaves":     {"---\nto: x\n---\n{% include '../../secret.tera' %}\n", nil, fault.Finding, []string{"secret.tera"}, ""},
		"include undeclared": {"---\nto: x\n---\n{% include 'q:x.tera' %}\n", nil, fault.Finding, []string{"does not depend on"}, "[dependencies]"},
		"body syntax":        {"---\nto: x\n---\na\n{% if %}\n", nil, fault.Finding, []string{"p:sub/t.txt.tmpl:5:"}, ""},
		"front not closed":   {"---\nto: x\n", nil, fault.Finding, []string{"p:sub/t.txt.tmpl:1", "no closing"}, "three dashes"},
		"front not yaml":     {"---\nto: [x\n---\n", nil, fault.Finding, []string{"p:sub/t.txt.tmpl:", "yaml"}, ""},
		"front a list":       {"---\n- a\n---\n", nil, fault.Finding, []string{":2", "expected keys"}, ""},
		"key twice":          {"---\nto: a\nto: b\n---\n", nil, fault.Finding, []string{":3"}, ""},
		"strict":             {"---\nto: x\nspaqrl: {}\n---\n", func(s *Step) { s.Options.Strict = true }, fault.Finding, []string{":3", `"spaqrl" has no effect`}, `"sparql"`},
		"sparql syntax":      {"---\nto: x\nsparql:\n  q: |\n    SELECT ?a\n    WHERE { ?a }\n---\n", nil, fault.Finding, []string{`query "q"`, "p:sub/t.txt.tmpl:6:"}, ""},
		"sparql prefix":      {"---\nto: x\nprefixes: {e: 'http://e/'}\nsparql:\n  q: 'SELECT ?a { ?a f:x ?b }'\n---\n", nil, fault.Finding, []string{`query "q"`, "p:sub/t.txt.tmpl:5:", "f"}, ""},
		"sparql type":        {"---\nto: x\nsparql: {q: 3}\n---\n", nil, fault.Finding, []string{":3:", "SPARQL query"}, ""},
		"turtle syntax":      {"---\nto: x\nprefixes: {e: 'http://e/'}\nrdf_inline: |\n  e:a e:b 1 .\n  e:a e:b .\n---\n", nil, fault.Finding, []string{"p:sub/t.txt.tmpl:6:"}, ""},
		"project turtle":     {"---\nto: x\n---\n", graphs("model/m.ttl", "@prefix e: <http://e/> .\ne:a e:b f:c .\n"), fault.Finding, []string{"model/m.ttl:2:"}, ""},
		"graph notation":     {"---\nto: x\n---\n", graphs("m.xml", "<x/>"), fault.Finding, []string{"m.xml", ".ttl (Turtle)"}, "name it by its notation"},
		"rdf leaves":         {"---\nto: x\nrdf: ../top.ttl\n---\n", nil, fault.Finding, []string{":3:", "outside"}, ""},
		"rdf absolute":       {"---\nto: x\nrdf: /etc/x.ttl\n---\n", nil, fault.Finding, []string{":3:", "not a relative path"}, ""},
		"rdf remote":         {"---\nto: x\nrdf: [https://e/x.ttl]\n---\n", nil, fault.Finding, []string{":3:", "remote"}, ""},
		"rdf missing":        {"---\nto: x\nrdf: nope.ttl\n---\n", nil, fault.Finding, []string{":3:", "does not exist"}, ""},
		"for_each unknown":   {"---\nto: x\nsparql: {rows: 'SELECT * {}'}\nfor_each: row\n---\n", nil, fault.Finding, []string{":4:", `"row"`}, `"rows"`},
		"for_each ask":       {"---\nto: x\nsparql: {q: 'ASK {}'}\nfor_each: q\n---\n", nil, fault.Finding, []string{":4:", "needs rows"}, "SELECT"},
		"prefix":             {"---\nto: x\nprefixes: {e: 'http://e/> . <x'}\n---\n", nil, fault.Finding, []string{":3:", "not valid"}, ""},
		"flag key":           {"x", flags("größe", "1"), fault.Usage, []string{"Invalid variable key"}, ""},
		"flag key digit":     {"x", flags("1a", "1"), fault.Usage, []string{"Invalid variable key"}, ""},
		"flag key empty":     {"x", flags("", "1"), fault.Usage, []string{"Invalid variable key"}, ""},
		"var key":            {"x", func(s *Step) { s.Options.Vars = map[string]any{"a-b": 1} }, fault.Usage, []string{"Invalid variable key", "a-b"}, ""},
		"flag value":         {"x", flags("a", "x$(y)"), fault.Usage, []string{"Variable value contains suspicious content"}, "--allow-shell-chars"},
		"flag backtick":      {"x", flags("a", "`y`"), fault.Usage, []string{"Variable value contains suspicious content"}, ""},
		"no package":         {"x", named("q:t.tmpl"), fault.Finding, []string{`package "q"`}, ""},
		"package slip":       {"x", func(s *Step) { s.Packages["orders"] = s.Packages["p"]; s.Units[0].Template = "order:t.tmpl" }, fault.Finding, nil, `did you mean "orders"`},
		"no template":        {"x", named("p:sub/t.tmpl"), fault.Finding, []string{"p:sub/t.tmpl does not exist"}, "sub/t.txt.tmpl"},
		"no match":           {"x", named("p:*.go.tmpl"), fault.Finding, []string{"no template"}, "sub/t.txt.tmpl"},
		"two colons":         {"x", named("p:a:b"), fault.Usage, []string{"more than one colon"}, "<package>:<file>"},
		"no file":            {"x", named("p:"), fault.Usage, []string{"colon"}, ""},
		"no package name":    {"x", named(":a"), fault.Usage, []string{"colon"}, ""},
		"reference leaves":   {"x", named("p:../gpack.toml"), fault.Usage, []string{"clean path"}, ""},
		"reference absolute": {"x", named("p:/etc/passwd"), fault.Usage, []string{"clean path"}, ""},
		"reference empty":    {"x", named(""), fault.Usage, []string{"empty"}, ""},
		"path without files": {"x", named("templates/x.tmpl"), fault.Usage, []string{"names no package"}, ""},
		"same target":        {"---\nto: x\n---\n", func(s *Step) { s.Units = append(s.Units, s.Units[0]) }, fault.Finding, []string{"two templates write x", "p:sub/t.txt.tmpl:2"}, "`to`"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := one(t, c.source, c.set)
			if err == nil {
				t.Fatal("accepted")
			}
			if fault.KindOf(err) != c.kind {
				t.Errorf("%v: kind %s; want %s", err, fault.KindOf(err), c.kind)
			}
			for _, part := range c.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q does not say %q", err, part)
				}
			}
			if !strings.Contains(fault.HintOf(err), c.hint) {
				t.Errorf("%v: hint %q does not say %q", err, fault.HintOf(err), c.hint)
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	_, plan, err := one(t, "---\nto: x\nx-mine: 1\nautor: me\nunles_exists: true\n---\n", nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Findings) != 2 || plan.Findings[0].Where.String() != "p:sub/t.txt.tmpl:4:1" || !strings.Contains(plan.Findings[1].Fix, "unless_exists") {
		t.Errorf("findings %+v", plan.Findings)
	}
}

// TestForeignKeys tells of keys that speak to other tools, also where a run is strict:
// they are no mistake.
func TestForeignKeys(t *testing.T) {
	t.Parallel()
	_, plan, err := one(t, "---\nto: x\ncleanroom: {tests: 1}\nlifecycle: build\nunattended_write_eligible: true\nx-mine: 1\n---\n", func(s *Step) { s.Options.Strict = true })
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Findings) != 3 {
		t.Fatalf("findings %+v", plan.Findings)
	}
	for i, f := range plan.Findings {
		if f.Rule != "template-foreign-key" || f.Severity != finding.Info || f.Where.Line != i+3 {
			t.Errorf("finding %+v", f)
		}
	}
}

func TestCancelledPlan(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	s := shopStep(t)
	blobs := newMemory()
	in := shopState(t, blobs)
	s.Progress = func(string) { cancel() } // after the first template
	s.Units = append(s.Units, s.Units...)
	if _, err := s.Plan(ctx, in, blobs); fault.KindOf(err) != fault.Interrupted {
		t.Errorf("err = %v (%s); want interrupted", err, fault.KindOf(err))
	}
}

func TestNothingToGenerate(t *testing.T) {
	t.Parallel()
	if _, err := new(Step).Plan(t.Context(), nil, newMemory()); fault.KindOf(err) != fault.Usage {
		t.Errorf("err = %v; want usage", err)
	}
}

func TestSeedDecidesWhatIsDrawn(t *testing.T) {
	t.Parallel()
	const source = "---\nto: x\n%s---\n{{ get_random(start=0, end=1000000000) }}"
	draw := func(front string, seed uint64) string {
		files, _, err := one(t, fmt.Sprintf(source, front), func(s *Step) { s.Options.Seed = seed })
		if err != nil {
			t.Fatal(err)
		}
		return files["x"]
	}
	first, again := draw("", 1), draw("", 1)
	if first != again || first == draw("", 2) {
		t.Error("the run's seed does not decide")
	}
	if draw("determinism: 5\n", 1) != draw("determinism: {seed: 5, sort_order: x}\n", 2) {
		t.Error("the template's seed does not win")
	}
	if draw("determinism: true\n", 1) != draw("", 1) {
		t.Error("true is not the run's seed")
	}
}

func TestLocalTemplate(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{
		"templates/a/x.tmpl": {Data: []byte("---\nto: x\n---\n{% include 'inc.tera' %}")},
		"templates/inc.tera": {Data: []byte("included")},
		"top.tmpl":           {Data: []byte("---\nto: top\n---\n{% include 'beside.tera' %}")},
		"beside.tera":        {Data: []byte("beside")},
	}
	s := Step{Files: files, Units: []Unit{{Template: "templates/a/x.tmpl"}, {Template: "./top.tmpl"}}}
	plan, err := s.Plan(t.Context(), nil, newMemory())
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Files) != 2 || string(plan.Files[0].Content) != "beside" || string(plan.Files[1].Content) != "included" {
		t.Errorf("files %+v", plan.Files)
	}
	before, err := s.Key(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	files["templates/inc.tera"] = &fstest.MapFile{Data: []byte("changed")}
	if after, err := s.Key(t.Context(), nil); err != nil || maps.Equal(before, after) {
		t.Errorf("the key does not depend on an include: %v", err)
	}
}

func TestListAndShow(t *testing.T) {
	t.Parallel()
	blobs := newMemory()
	s := Step{}
	in := shopState(t, blobs)
	all, err := s.List(t.Context(), in, blobs)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 7 || all[0].Reference != "shop:_partial.tmpl" {
		t.Errorf("list has %d templates, first %+v", len(all), all[0])
	}
	needs := map[string]string{}
	for _, i := range all {
		needs[i.Reference] = fmt.Sprint(i.NeedsGraph, i.Needs)
	}
	for name, want := range map[string]string{
		"shop:main.go.tmpl": "false [name]", "shop:internal.md.tmpl": "true [with_docs]", "shop:never.tmpl": "false []", "shop:handlers/handler.go.tmpl": "false []",
	} {
		if needs[name] != want {
			t.Errorf("%s needs a graph, and variables: %s, want %s", name, needs[name], want)
		}
	}
	shown, err := s.Show(t.Context(), in, blobs, "shop:main.go.tmpl")
	if err != nil {
		t.Fatal(err)
	}
	got := shown[0]
	if got.To != "cmd/{{ name | kebab }}/main.go" || !slices.Equal(got.Queries, []string{"routes", "guarded"}) || !slices.Equal(got.Defaults, []string{"limits", "port"}) ||
		!slices.Equal(got.Graphs, []string{"graphs/routes.ttl"}) || got.Seed != "42" {
		t.Errorf("show says %+v", got)
	}
}

func TestDamagedPackageStops(t *testing.T) {
	t.Parallel()
	blobs := newMemory()
	in := shopState(t, blobs)
	a, _ := in[0].Entry.Artifact("package/shop")
	blobs.blobs[a.Digest][600] ^= 1
	s := shopStep(t)
	if _, err := s.Run(t.Context(), in, blobs); fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), "package/shop") {
		t.Errorf("err = %v; want a finding that names package/shop", err)
	}
}

func FuzzFrontMatter(f *testing.F) {
	for _, seed := range []string{
		"---\nto: x\n---\nbody", "---\n---\n", "---\nvars: [1, {a: b}]\nsparql: {q: x}\ndeterminism: {seed: 1}\n---\n", "---", "---\n", "\ufeff---\r\nto: a\r\n---\r\n\r\nx",
		"---\nrdf: [a, b]\nrdf_inline: x\nprefixes: {a: b}\nforce: 'true'\nfor_each: q\n---\nx", "no front matter", "---\nto: |\n  ---\n---\n",
		"---\nto: a\nafter: x\nat_line: 3\nskip_if: '['\nfrom: g.ttl\nbackup: true\n---\n", "---\nfreeze_policy: checksum\nsparql: {vars: [{name: x, query: q}], matrix: {query: q, bind: {a: b}}}\n---\n{% startfreeze id=\"x\" %}{% endfreeze %}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, source string) {
		_, _, _ = one(t, source, func(s *Step) { // both must return, whatever they say
			_, _ = s.Lint(t.Context(), nil, newMemory(), []string{s.Units[0].Template})
		})
	})
}

func TestBody(t *testing.T) {
	t.Parallel()
	b := Body{
		Name: "x.txt", Source: "---\n{% include 'a.tera' %}{% for k, v in m %}{{ k }}{{ v }}{% endfor %}", Vars: []byte(`{"m": {"z": 1, "a": 2}}`),
		Includes: fstest.MapFS{"a.tera": {Data: []byte("{% include 'b/c.tera' %}")}, "b/c.tera": {Data: []byte("{% include 'd.tera' %}")}, "b/d.tera": {Data: []byte("d")}},
	}
	var out bytes.Buffer
	for kept, want := range map[bool]string{false: "---\nda2z1", true: "---\ndz1a2"} {
		b.KeepMapOrder = kept
		out.Reset()
		if err := b.Render(t.Context(), &out); err != nil || out.String() != want {
			t.Errorf("got %q, %v", &out, err)
		}
	}
	out.Reset()
	b.Includes = nil
	if err := b.Render(t.Context(), &out); fault.KindOf(err) != fault.Finding || out.Len() > 0 {
		t.Errorf("got %q, %v", &out, err)
	}
	b.Vars = []byte("[]")
	if err := b.Render(t.Context(), &out); fault.KindOf(err) != fault.Usage {
		t.Errorf("err = %v", err)
	}
}

// TestEngines renders the same thing in both languages, in one run.
func TestEngines(t *testing.T) {
	t.Parallel()
	for _, source := range []string{
		"---\nto: '{{ name }}.txt'\nwhen: n > 1\nsparql: 'SELECT ?x WHERE { VALUES ?x { 2 1 } }'\n---\n{% for r in default %}{{ r.x }}{% endfor %}{{ name | upper }}",
		"---\nengine: gotmpl\nto: '{{ .name }}.txt'\nwhen: gt .n 1\nsparql: 'SELECT ?x WHERE { VALUES ?x { 2 1 } }'\n---\n{{ range .default }}{{ .x }}{{ end }}{{ .name | upper }}",
	} {
		files, _, err := one(t, source, func(s *Step) { s.Options.Vars = map[string]any{"name": "a", "n": 2} })
		if want := map[string]string{"a.txt": "12A"}; err != nil || !maps.Equal(files, want) {
			t.Errorf("%s: %v, %v", source, files, err)
		}
	}
	if _, _, err := one(t, "---\nengine: jinja\n---\n", nil); fault.KindOf(err) != fault.Finding {
		t.Errorf("err = %v", err)
	}
}
