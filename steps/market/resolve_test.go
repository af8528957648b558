package market

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

func TestCheckID(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"a", "9", "go-http-service", "io.ggen.rust", "a--b", "console", "com10", "lpt0x", strings.Repeat("a", 100)} {
		if err := CheckID(id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	for id, want := range map[string]string{
		"": "Invalid package ID format", "-x": "Invalid", "x-": "Invalid", ".x": "Invalid", "x.": "Invalid", "A": "Invalid", "a_b": "Invalid", "a/b": "Invalid", "a b": "Invalid",
		"ä": "Invalid", "a\x00b": "Invalid", "a..b": "Package ID cannot contain '..'", "../a": "Package ID cannot contain '..'",
		"con": "device name", "nul.txt": "device name", "com1": "device name", "lpt9.x": "device name", strings.Repeat("a", 101): "101 bytes", "--upload-pack=x": "Invalid",
	} {
		err := CheckID(id)
		if err == nil || !strings.Contains(err.Error(), want) || fault.KindOf(err) != fault.Usage {
			t.Errorf("%q: %v, want %q", id, err, want)
		}
	}
}

func TestParseRequest(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string]Request{"a": {"a", ""}, "a@^1.2": {"a", "^1.2"}, "a@>=1, <2": {"a", ">=1, <2"}, "a@latest": {"a", "latest"}} {
		if got, err := ParseRequest(spec); err != nil || got != want {
			t.Errorf("%q: %v, %v", spec, got, err)
		}
	}
	for _, spec := range []string{"", "@1", "a@", "A@1", "a@b@1", "a@nonsense range", "a@" + strings.Repeat("1||", 5000)} {
		if _, err := ParseRequest(spec); fault.KindOf(err) != fault.Usage || err == nil {
			t.Errorf("%q: %v", spec, err)
		}
	}
}

// index builds an index from lines "id version dependency@range …".
func index(t testing.TB, lines ...string) *Index {
	t.Helper()
	type release struct {
		Path   string            `json:"path"`
		SHA256 string            `json:"sha256"`
		Deps   map[string]string `json:"dependencies"`
	}
	type pkg struct {
		ID       string             `json:"id"`
		Versions map[string]release `json:"versions"`
	}
	var packages []pkg
	for _, line := range lines {
		f := strings.Fields(line)
		if len(packages) == 0 || packages[len(packages)-1].ID != f[0] {
			packages = append(packages, pkg{f[0], map[string]release{}})
		}
		r := release{Path: "p/" + f[0] + "/" + f[1], SHA256: strings.Repeat("0", 64), Deps: map[string]string{}}
		for _, d := range f[2:] {
			id, text, _ := strings.Cut(d, "@")
			r.Deps[id] = text
		}
		packages[len(packages)-1].Versions[f[1]] = r
	}
	data, err := json.Marshal(map[string]any{"version": "1.0", "packages": packages})
	if err != nil {
		t.Fatal(err)
	}
	x, err := DecodeIndex("test", data)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func requests(t testing.TB, specs string) []Request {
	t.Helper()
	var out []Request
	for _, spec := range strings.Fields(specs) {
		q, err := ParseRequest(spec)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, q)
	}
	return out
}

func TestResolve(t *testing.T) {
	t.Parallel()
	base := []string{"a 1.0.0", "a 1.1.0", "a 1.2.0", "a 2.0.0", "a 3.0.0-rc.1"}
	tests := []struct {
		name   string
		index  []string
		ask    string
		pinned map[string]string
		pre    bool
		noDeps bool
		want   string
	}{
		{name: "lowest in range", index: base, ask: "a@^1.1", want: "a@1.1.0"},
		{name: "exact", index: base, ask: "a@1.2.0", want: "a@1.2.0"},
		{name: "any is the newest release", index: base, ask: "a", want: "a@2.0.0"},
		{name: "star is any", index: base, ask: "a@*", want: "a@2.0.0"},
		{name: "any with pre-releases", index: base, ask: "a", pre: true, want: "a@3.0.0-rc.1"},
		{name: "a range may name a pre-release", index: base, ask: "a@3.0.0-rc.1", want: "a@3.0.0-rc.1"},
		{name: "the lock is kept", index: base, ask: "a@^1.0", pinned: map[string]string{"a": "1.2.0"}, want: "a@1.2.0"},
		{name: "the lock is kept without a range", index: base, ask: "a", pinned: map[string]string{"a": "1.0.0"}, want: "a@1.0.0"},
		{name: "the lock outside the range is not", index: base, ask: "a@^2.0", pinned: map[string]string{"a": "1.2.0"}, want: "a@2.0.0"},
		{name: "the lock of a version that is gone is not", index: base, ask: "a@^1.0", pinned: map[string]string{"a": "1.0.9"}, want: "a@1.0.0"},
		{name: "transitive", index: append(base, "b 1.0.0 a@^1.0", "c 1.0.0 b@1.0.0"), ask: "c", want: "a@1.0.0 b@1.0.0 c@1.0.0"},
		{name: "diamond takes the higher minimum", index: append(base, "b 1.0.0 a@^1.0", "c 1.0.0 a@>=1.1"), ask: "b c", want: "a@1.1.0 b@1.0.0 c@1.0.0"},
		{name: "a range lowers any", index: append(base, "b 1.0.0 a@^1.0"), ask: "a b", want: "a@1.0.0 b@1.0.0"},
		{name: "order does not matter", index: append(base, "b 1.0.0 a@^1.0", "c 1.0.0 a@>=1.1"), ask: "c b a", want: "a@1.1.0 b@1.0.0 c@1.0.0"},
		{name: "a dependency of a replaced version is dropped", index: []string{"a 1.0.0 x@1.0.0", "a 2.0.0", "b 1.0.0 a@^2.0", "x 1.0.0"}, ask: "a@>=1 b", want: "a@2.0.0 b@1.0.0"},
		{name: "without dependencies", index: append(base, "b 1.0.0 a@^9.0"), ask: "b", noDeps: true, want: "b@1.0.0"},
		{name: "nothing", index: base, ask: "", want: ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := resolver{index: index(t, tt.index...), pinned: tt.pinned, prerelease: tt.pre, noDeps: tt.noDeps}
			choices, err := r.resolve(requests(t, tt.ask))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, c := range choices {
				got = append(got, c.pkg.ID+"@"+c.release.Version)
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestResolveRefuses(t *testing.T) {
	t.Parallel()
	base := []string{"go-http-service 1.0.0", "a 1.0.0", "a 2.0.0", "pre 1.0.0-rc.1"}
	tests := []struct {
		name, ask, want, hint string
		more                  []string
	}{
		{"unknown", "go-http-servce", "Package 'go-http-servce' not found in registry", `did you mean "go-http-service"?`, nil},
		{"unknown and unlike", "zzzz", "Package 'zzzz' not found in registry", "run `market search`", nil},
		{"unknown dependency", "b", "Package 'none' not found in registry, needed by b 1.0.0", "", []string{"b 1.0.0 none@^1"}},
		{"no version", "a@^3.0", `no version of a satisfies "^3.0", which the project asks for`, "it has 1.0.0, 2.0.0", nil},
		{"only a pre-release", "pre", `no version of pre satisfies "*"`, "pre-releases count only", nil},
		{"conflict", "b c", "no version of a satisfies everyone: b 1.0.0 asks for ^1.0, c 1.0.0 asks for ^2.0", "it has", []string{"b 1.0.0 a@^1.0", "c 1.0.0 a@^2.0"}},
		{"conflict with the project", "a@^2.0 b", "the project asks for ^2.0, b 1.0.0 asks for ^1.0", "", []string{"b 1.0.0 a@^1.0"}},
		{"cycle", "b", "in a cycle: b -> c -> d -> b", "", []string{"b 1.0.0 c@^1", "c 1.0.0 d@^1", "d 1.0.0 b@^1"}},
		{"cycle of one", "b", "in a cycle: b -> b", "", []string{"b 1.0.0 b@^1"}},
		{"bad range of a dependency", "b", `b 1.0.0 asks for a in the version range "???"`, "", []string{"b 1.0.0 a@???"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := resolver{index: index(t, append(tt.more, base...)...)}
			_, err := r.resolve(requests(t, tt.ask))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			if fault.KindOf(err) != fault.Finding || !strings.Contains(fault.HintOf(err), tt.hint) {
				t.Errorf("kind %s, hint %q, want %q", fault.KindOf(err), fault.HintOf(err), tt.hint)
			}
		})
	}
}

// TestResolveHostile gives the resolver graphs that are exponential or endless for careless ones.
func TestResolveHostile(t *testing.T) {
	t.Parallel()
	var layers, versions, chain []string
	for i := range 30 {
		for j := range 10 {
			line := fmt.Sprintf("l%d-%d 1.0.0", i, j)
			for k := 0; k < 10 && i < 29; k++ {
				line += fmt.Sprintf(" l%d-%d@^1", i+1, k)
			}
			layers = append(layers, line)
		}
	}
	for i := range 500 {
		versions = append(versions, fmt.Sprintf("a 1.%d.0 b@>=1.%d.0", i, i))
	}
	for i := range 500 {
		versions = append(versions, fmt.Sprintf("b 1.%d.0 a@>=1.%d.0", i, min(i+1, 499)))
	}
	for i := range 1500 {
		chain = append(chain, fmt.Sprintf("c%d 1.0.0 c%d@^1", i, i+1))
	}
	for name, tt := range map[string]struct {
		lines []string
		ask   string
		want  string
	}{
		"layers": {layers, "l0-0", ""}, "two that push each other": {versions, "a@^1", "in a cycle"}, "chain to nowhere": {chain, "c0", "Package 'c1500' not found"},
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			r := resolver{index: index(t, tt.lines...)}
			_, err := r.resolve(requests(t, tt.ask))
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			t.Log(time.Since(began))
		})
	}
}

func TestDecodeIndex(t *testing.T) {
	t.Parallel()
	reference := `{"version":"1.0","future":1,"packages":[{"id":"rust-web","name":"Rust Web","version":"1.2.0","description":"d","tags":["web"],"quality_score":90,
		"templates":[{"name":"m","path":"templates/m.tmpl","description":"x"}],"dependencies":["base"],"unknown":{}},
		{"id":"base","version":"0.1.0","category":"core","license":"MIT","dependencies":[],
		"versions":{"0.1.0":{"path":"packages/base/0.1.0","sha256":"` + strings.Repeat("ab", 32) + `"},"0.0.9":{"url":"x.tar.gz","dependencies":{"rust-web":"^1.0"}}}}]}`
	x, err := DecodeIndex("r", []byte(reference))
	if err != nil {
		t.Fatal(err)
	}
	web, _ := x.Package("rust-web")
	if web.QualityScore != 90 || web.Latest != "1.2.0" || len(web.Releases) != 1 || web.Releases[0].Dependencies["base"] != "*" || web.Templates[0].Path != "templates/m.tmpl" {
		t.Errorf("rust-web %+v", web)
	}
	base, _ := x.Package("base")
	if got := base.Versions(); !reflect.DeepEqual(got, []string{"0.0.9", "0.1.0"}) || base.Releases[0].Location != "x.tar.gz" || base.Releases[1].Sum == "" || base.Name != "base" {
		t.Errorf("base %+v", base)
	}
	older := `{"updated":"2025-10-01T00:00:00Z","packs":{"b.two":{"id":"b.two","name":"Two","description":"","tags":[],"latest_version":"1.1.0",
		"versions":{"1.0.0":{"version":"1.0.0","git_url":"https://example.com/x.git","git_rev":"main","sha256":""},"1.1.0":{"version":"1.1.0","git_url":"u","git_rev":"r","sha256":""}}},
		"a.one":{"name":"One","latest_version":"1.0.0","versions":{"1.0.0":{"version":"1.0.0","git_url":"u","git_rev":"r","sha256":""}}}}}`
	x, err = DecodeIndex("o", []byte(older))
	if err != nil {
		t.Fatal(err)
	}
	if got := x.IDs(); !reflect.DeepEqual(got, []string{"a.one", "b.two"}) {
		t.Errorf("ids %v", got)
	}
	two, _ := x.Package("b.two")
	if two.Latest != "1.1.0" || two.Releases[0].GitURL != "https://example.com/x.git" {
		t.Errorf("two %+v", two)
	}
}

func TestDecodeIndexRefuses(t *testing.T) {
	t.Parallel()
	one := func(fields string) string { return `{"version":"1.0","packages":[{"id":"a",` + fields + `}]}` }
	tests := map[string]struct{ text, want string }{
		"empty":                 {"", "index i"},
		"html":                  {"<html>\n</html>", "index i:1:1: invalid character '<'"},
		"cut":                   {"{\n\"version\": \"1.0\",\n \"packages\": [", "index i:3:"},
		"list":                  {"[]", "index i"},
		"null":                  {"null", "neither packages nor packs"},
		"neither":               {`{"version":"1.0"}`, "neither packages nor packs"},
		"major":                 {`{"version":"2.0","packages":[]}`, "index i has version \"2.0\"; this program reads version 1"},
		"major number":          {`{"version":2,"packages":[]}`, `has version "2";`},
		"version object":        {`{"version":{},"packages":[]}`, "this program reads version 1"},
		"deep":                  {strings.Repeat("[", 100_000), "index i"},
		"deep in unknown field": {`{"x":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`, "index i"},
		"wrong type":            {`{"packages":[{"id":7}]}`, "index i:1:"},
		"id with dots":          {`{"packages":[{"id":"../../etc","version":"1.0.0"}]}`, "Package ID cannot contain '..'"},
		"id as option":          {`{"packages":[{"id":"--help","version":"1.0.0"}]}`, "Invalid package ID format"},
		"id upper case":         {`{"packages":[{"id":"Con","version":"1.0.0"}]}`, "Invalid package ID format"},
		"no id":                 {`{"packages":[{"version":"1.0.0"}]}`, "Invalid package ID format"},
		"id twice":              {`{"packages":[{"id":"a","version":"1.0.0"},{"id":"a","version":"1.0.0"}]}`, `package "a" occurs twice`},
		"pack and package":      {`{"packages":[{"id":"a","version":"1.0.0"}],"packs":{"a":{"latest_version":"1.0.0"}}}`, `package "a" occurs twice`},
		"pack called otherwise": {`{"packs":{"a":{"id":"b"}}}`, `pack "a" calls itself "b"`},
		"no version":            {one(`"name":"x"`), `version ""`},
		"no semantic version":   {one(`"version":"1"`), `version "1"`},
		"huge version":          {one(`"version":"` + strings.Repeat("1", 5000) + `.0.0"`), "version"},
		"latest is not there":   {one(`"version":"2.0.0","versions":{"1.0.0":{}}`), `current version "2.0.0" is not among`},
		"release otherwise":     {one(`"versions":{"1.0.0":{"version":"1.0.1"}}`), `calls itself "1.0.1"`},
		"bad digest":            {one(`"versions":{"1.0.0":{"sha256":"abc"}}`), "3 hex digits"},
		"digest upper case":     {one(`"versions":{"1.0.0":{"sha256":"` + strings.Repeat("AB", 32) + `"}}`), "not a lower-case hex digit"},
		"path and url":          {one(`"versions":{"1.0.0":{"path":"a","url":"b"}}`), "exclude each other"},
		"quality":               {one(`"version":"1.0.0","quality_score":101`), "quality_score 101 is outside"},
		"quality not whole":     {one(`"version":"1.0.0","quality_score":1.5`), "index i:1:"},
		"dependency id":         {one(`"version":"1.0.0","dependencies":["../x"]`), "dependency: Package ID cannot contain"},
		"dependency twice":      {one(`"version":"1.0.0","dependencies":["x","x"]`), `dependency "x" occurs twice`},
		"dependency number":     {one(`"version":"1.0.0","dependencies":5`), "index i"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := DecodeIndex("i", []byte(tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			if fault.KindOf(err) != fault.Finding || len(err.Error()) > 1000 {
				t.Errorf("kind %s, %d bytes", fault.KindOf(err), len(err.Error()))
			}
		})
	}
}

func FuzzDecodeIndex(f *testing.F) {
	for _, s := range []string{`{"version":"1.0","packages":[{"id":"a","version":"1.0.0","dependencies":["b"]},{"id":"b","versions":{"1.0.0":{"path":"p","sha256":""}}}]}`,
		`{"packs":{"a":{"latest_version":"1.0.0","versions":{"1.0.0":{"version":"1.0.0"}}}}}`, `{"packages":[{"id":"a","version":"1.0.0-rc.1+b","dependencies":{"a":"^1 || >2"}}]}`, `{`, `null`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := DecodeIndex("i", data)
		if err != nil {
			if fault.KindOf(err) != fault.Finding {
				t.Fatalf("kind %s: %v", fault.KindOf(err), err)
			}
			return
		}
		for _, id := range x.IDs() {
			p, ok := x.Package(id)
			if !ok || len(p.Releases) == 0 {
				t.Fatalf("package %q has no release", id)
			}
			r := resolver{index: x}
			if _, err := r.resolve([]Request{{ID: id}}); err != nil && fault.KindOf(err) == fault.Internal {
				t.Fatal(err)
			}
		}
		if _, err := Search(x, Query{Text: "a", Fuzzy: true, Prerelease: true}); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzParseLock(f *testing.F) {
	f.Add([]byte("version = 1\n[[package]]\nid = 'a'\nversion = '1.0.0'\nsha256 = '" + strings.Repeat("0", 64) + "'\nsource = 'x'\ndependencies = ['b@1.0.0']\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		pinned, err := ParseLock(data)
		if err != nil {
			if fault.KindOf(err) != fault.Usage {
				t.Fatalf("kind %s: %v", fault.KindOf(err), err)
			}
			return
		}
		text := FormatLock(pinned)
		again, err := ParseLock(text)
		if err != nil || string(FormatLock(again)) != string(text) {
			t.Fatalf("%v\n%s", err, text)
		}
	})
}
