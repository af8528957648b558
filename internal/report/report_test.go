package report_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/ultrafast-ci/ultrafast/internal/report"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

var update = flag.Bool("update", false, "write the golden files")

const limit = 900 << 10

// failed is a run like that of a pull request with two faults.
func failed() report.Report {
	return report.Report{
		Tool: "ultrafast", Version: "v1.2.3", Verdict: "validate: the image must not be released",
		Error: "2 gates failed", Hint: "mend them and push again", Kind: fault.Finding,
		Started: time.Date(2026, 11, 2, 3, 4, 5, 6, time.UTC), Duration: 17500 * time.Millisecond,
		Phases: []report.Phase{
			{Name: phase.Market, Outcome: state.Passed, Cached: true, Duration: 290 * time.Millisecond, Summary: "acme-orders 2.4.1"},
			{Name: phase.Generate, Outcome: state.Passed, Duration: 400 * time.Millisecond, Summary: "214 files"},
			{Name: phase.Cleanroom, Outcome: state.Passed, Duration: 16700 * time.Millisecond, Summary: "2 of 2 tests passed, 1 skipped", Checks: []state.Check{
				{Name: "store/TestOpen", Outcome: state.Passed}, {Name: "store/TestSlow", Outcome: state.Skipped},
			}},
			{Name: phase.Validate, Outcome: state.Failed, Summary: "1 of 4 checks passed", Checks: []state.Check{
				{Name: "graceful-shutdown", Outcome: state.Failed}, {Name: "lockfile-consistent", Outcome: state.Failed},
				{Name: "nonroot", Outcome: state.Passed}, {Name: "vuln-known", Outcome: state.Waived},
			}},
		},
		Findings: []finding.Finding{
			{Rule: "license-policy", Severity: finding.Medium, What: "1 module without a licence"},
			{Rule: "lockfile-consistent", Severity: finding.High, What: "go.sum lacks golang.org/x/text v0.31.0", Where: finding.Place{File: "go.sum"}, Fix: "go mod tidy"},
			{
				Rule: "graceful-shutdown", Severity: finding.Critical, What: "9 of 1,500 requests failed during SIGTERM",
				Where: finding.Place{File: "cmd/api/main.go", Line: 58, Column: 3}, Why: "the listener closes first\nlog: broken pipe",
				Fix: "stop listening, then srv.Shutdown(ctx) with 10 s", Reproduce: "ultrafast validate run --check graceful-shutdown", Resume: "ultrafast run --from validate",
			},
		},
		Facts: [][2]string{{"isolation", "reduced for validate: no user namespaces"}},
		State: "layout:.ggen/state@sha256:81f7edb5ff30",
	}
}

func TestGolden(t *testing.T) {
	t.Parallel()
	files, err := report.Files(failed())
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, report.File{Name: "summary.md", Content: []byte(report.Summary(failed(), limit))})
	for _, f := range files {
		path := filepath.Join("testdata", f.Name)
		if *update {
			if err := os.WriteFile(path, f.Content, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(f.Content, want) {
			t.Errorf("%s differs (%v); -update writes it:\n%s", path, err, f.Content)
		}
	}
}

// hostile are texts that would do something in Markdown, HTML, mermaid, XML or JSON.
var hostile = []string{
	"</details></summary><script>alert(1)</script><img src=x onerror=alert(1)>",
	"a|b|c|\n|---|---|\n|x|y|",
	"``` \n```\n~~~\n```mermaid\ngantt\n click a href \"http://evil\"\n```",
	"[click](http://evil) ![i](http://evil/i.png) <http://evil> http://evil.example www.evil.example",
	"# heading\n## heading\n- item\n1. item\n> quote\n---\n===",
	"**bold** _it_ ~~no~~ `code` $x^2$ @everyone #1 :tada: a@evil.example",
	"</code></pre>\n\n</pre><h1>x</h1>\n&lt;b&gt; &#60;b&#62; &amp;",
	"crit, 0, 1 : x\nsection evil\n%%{init: {}}%%",
	"]]><evil/><!-- --> <?xml?> \" ' &",
	"::error::evil\n##[error]evil\n::set-output name=state::evil",
	"\x1b[31mred\x1b[0m \u202eabc\u2066 \u200b\x00\x07",
	"\xff\xfe invalid \xc3",
	strings.Repeat("A<b>", 1<<18),
	strings.Repeat("line\n", 1<<18),
	"", " ", "\n\n",
}

func hostileReport(text string) report.Report {
	r := failed()
	f := finding.Finding{Rule: text, Severity: finding.High, What: text, Where: finding.Place{File: text, Line: 1}, Why: text, Fix: text, Reproduce: text, Resume: text}
	r.Verdict, r.Error, r.Hint, r.State, r.Tool = text, text, text, text, "t"
	r.Findings = []finding.Finding{f, f}
	r.Phases = []report.Phase{{Name: phase.Market, Outcome: state.Failed, Summary: text, Checks: []state.Check{{Name: text, Outcome: state.Failed}}}}
	r.Facts = [][2]string{{text, text}}
	return r
}

var (
	ourTags = regexp.MustCompile(`</?(details|summary|code|pre)( open)?>`)
	entity  = regexp.MustCompile(`&(#[0-9]+|lt|gt|amp|quot);`)
)

// TestHostileSummary finds no structure in the page that is not its own.
func TestHostileSummary(t *testing.T) {
	t.Parallel()
	for _, text := range hostile {
		page := report.Summary(hostileReport(text), limit)
		if !utf8.ValidString(page) || len(page) > limit {
			t.Errorf("%.40q: %d bytes, valid %t", text, len(page), utf8.ValidString(page))
		}
		if strings.ContainsAny(page, "\x1b\x00\x07\r\u202e\u2066\u200b") {
			t.Errorf("%.40q: a control character came through", text)
		}
		for _, tag := range []string{"details", "summary", "code", "pre"} {
			if open, end := strings.Count(page, "<"+tag+">")+strings.Count(page, "<"+tag+" open>"), strings.Count(page, "</"+tag+">"); open != end {
				t.Errorf("%.40q: %d of <%s>, %d of </%s>", text, open, tag, end, tag)
			}
		}
		for _, line := range outside(page) {
			line = entity.ReplaceAllString(ourTags.ReplaceAllString(line, ""), "")
			line = strings.NewReplacer("**", "", "## ", "").Replace(line)
			if strings.HasPrefix(line, "|") {
				if n := strings.Count(line, "|"); n != 5 {
					t.Errorf("%.40q: a row with %d bars: %.200q", text, n, line)
				}
				continue
			}
			if i := strings.IndexAny(line, "<>[]`*_~|#@\\&$:"); i >= 0 {
				t.Errorf("%.40q: %q came through in %.200q", text, line[i], line)
			}
			if strings.Contains(line, "www.") {
				t.Errorf("%.40q: a link came through", text)
			}
		}
		if n := strings.Count(page, "```"); n != 2 {
			t.Errorf("%.40q: %d fences", text, n)
		}
	}
}

// outside returns the lines of a page that a Markdown reader takes for Markdown or
// for the start of HTML: those in our chart and within <pre> are neither.
func outside(page string) []string {
	var out []string
	inChart, inPre := false, false
	for line := range strings.Lines(page) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "```"):
			inChart = !inChart
			continue
		case inChart:
			continue
		}
		if before, after, ok := strings.Cut(line, "<pre>"); ok && !inPre {
			inPre = true
			line = before + after
		}
		if before, after, ok := strings.Cut(line, "</pre>"); ok && inPre {
			inPre = false
			if strings.ContainsAny(before, "<>") {
				out = append(out, before)
			}
			line = after
		} else if inPre {
			if strings.ContainsAny(line, "<>") {
				out = append(out, line)
			}
			continue
		}
		out = append(out, line)
	}
	return out
}

var chartLine = regexp.MustCompile(`^(gantt|  dateFormat x|  axisFormat %S s|  todayMarker off|  section [ A-Za-z0-9._%-]*|  [ A-Za-z0-9._%-]+ :(crit, |done, )?[0-9]+, [0-9]+)$`)

func TestHostileChart(t *testing.T) {
	t.Parallel()
	for _, text := range hostile {
		r := hostileReport(text)
		r.Phases[0].Name = phase.Name(text)
		page := report.Summary(r, limit)
		_, chart, _ := strings.Cut(page, "```mermaid\n")
		chart, _, _ = strings.Cut(chart, "```")
		for _, line := range strings.Split(strings.TrimRight(chart, "\n"), "\n") {
			if !chartLine.MatchString(line) {
				t.Errorf("%.40q: %.100q", text, line)
			}
		}
	}
}

// TestManyFindings keeps the page below the limit and says what it leaves out.
func TestManyFindings(t *testing.T) {
	t.Parallel()
	r := failed()
	r.Findings = nil
	for i := range 20000 {
		r.Findings = append(r.Findings, finding.Finding{Rule: fmt.Sprintf("rule-%d", i), Severity: finding.Low, What: strings.Repeat("what ", 20), Why: strings.Repeat("why ", 400)})
	}
	r.Findings = append(r.Findings, finding.Finding{Rule: "the-gravest", Severity: finding.Critical, What: "it"})
	for _, limit := range []int{64 << 10, 200 << 10, 900 << 10} {
		page := report.Summary(r, limit)
		if len(page) > limit || len(page) < limit/2 {
			t.Errorf("limit %d: %d bytes", limit, len(page))
		}
		if n := strings.Count(page, "<details"); n > 51 {
			t.Errorf("%d findings in full", n)
		}
		if !regexp.MustCompile(`[0-9]+ findings are left out`).MatchString(page) || !strings.Contains(page, "the-gravest") || !strings.Contains(page, "**state**") {
			t.Errorf("limit %d: the gravest, the count or the state is missing", limit)
		}
	}
	if got := report.Summary(r, 63<<10); got != "" {
		t.Errorf("without room: %d bytes", len(got))
	}
}

func TestHostileFiles(t *testing.T) {
	t.Parallel()
	for _, text := range hostile {
		r := hostileReport(text)
		files, err := report.Files(r)
		if err != nil {
			t.Fatalf("%.40q: %v", text, err)
		}
		for _, f := range files {
			if !utf8.Valid(f.Content) || bytes.ContainsAny(f.Content, "\x1b\x00\x07\u202e") {
				t.Errorf("%.40q: %s has what nobody may show", text, f.Name)
			}
			if f.Name != report.JUnitName {
				if !json.Valid(f.Content) {
					t.Errorf("%.40q: %s is no JSON", text, f.Name)
				}
				continue
			}
			elements := map[string]int{}
			for d := xml.NewDecoder(bytes.NewReader(f.Content)); ; {
				token, err := d.Token()
				if err != nil {
					if err.Error() != "EOF" {
						t.Errorf("%.40q: %v", text, err)
					}
					break
				}
				if start, ok := token.(xml.StartElement); ok {
					elements[start.Name.Local]++
				}
			}
			if want := map[string]int{"testsuites": 1, "testsuite": 1, "testcase": 1, "failure": 1}; fmt.Sprint(elements) != fmt.Sprint(want) {
				t.Errorf("%.40q: elements %v", text, elements)
			}
		}
	}
}

// sarif is what a reader of SARIF looks for.
type sarif struct {
	Version string
	Runs    []struct {
		Tool struct {
			Driver struct{ Rules []struct{ ID string } }
		}
		Results []struct {
			RuleID    string
			RuleIndex int
			Locations []struct {
				PhysicalLocation struct{ ArtifactLocation struct{ URI string } }
			}
			PartialFingerprints map[string]string
		}
		Invocations []struct {
			ToolExecutionNotifications []struct{ Message struct{ Text string } }
		}
	}
}

func decodeSARIF(t *testing.T, r report.Report) sarif {
	t.Helper()
	b, err := report.SARIF(r)
	if err != nil {
		t.Fatal(err)
	}
	var s sarif
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestFingerprints(t *testing.T) {
	t.Parallel()
	prints := func(r report.Report) []string {
		var out []string
		for _, result := range decodeSARIF(t, r).Runs[0].Results {
			for _, p := range result.PartialFingerprints {
				out = append(out, p)
			}
		}
		return out
	}
	r := failed()
	first := prints(r)
	for i := range r.Findings { // moved, and measured anew
		r.Findings[i].Where.Line += 7
		r.Findings[i].What = strings.ReplaceAll(r.Findings[i].What, "9 of 1,500", "11 of 1,617")
	}
	if again := prints(r); len(first) != 2 || !slices.Equal(first, again) {
		t.Errorf("%q and %q", first, again)
	}
	r.Findings = append(r.Findings, r.Findings...)
	all := prints(r)
	slices.Sort(all)
	if len(all) != 4 || len(slices.Compact(all)) != 4 {
		t.Errorf("equal findings share a fingerprint: %q", all)
	}
}

func TestSARIFPlaces(t *testing.T) {
	t.Parallel()
	cases := map[string]string{
		"a/b.go": "a/b.go", "a b#?.go": "a%20b%23%3F.go", `a\b.go`: "a/b.go", "./a/../b.go": "b.go", "a:b.go": "./a:b.go",
		"": "", "/etc/passwd": "", "../up": "", "a/../../up": "", "file:///etc/passwd": "", ".": "",
	}
	for file, want := range cases {
		r := failed()
		r.Findings = []finding.Finding{{Rule: "x", Severity: finding.Low, What: "w", Where: finding.Place{File: file}}}
		run := decodeSARIF(t, r).Runs[0]
		switch {
		case want == "" && (len(run.Results) != 0 || len(run.Invocations[0].ToolExecutionNotifications) != 1):
			t.Errorf("%q: %+v", file, run)
		case want != "" && (len(run.Results) != 1 || run.Results[0].Locations[0].PhysicalLocation.ArtifactLocation.URI != want):
			t.Errorf("%q: %+v, want %s", file, run.Results, want)
		}
	}
}

func TestBelow(t *testing.T) {
	t.Parallel()
	in := []finding.Finding{{Where: finding.Place{File: "a.go"}}, {}, {Where: finding.Place{File: "/abs"}}}
	got := report.Below("svc/x", in)
	if got[0].Where.File != "svc/x/a.go" || got[1].Where.File != "" || got[2].Where.File != "/abs" || in[0].Where.File != "a.go" {
		t.Errorf("%+v", got)
	}
	if got := report.Below(".", in); got[0].Where.File != "a.go" {
		t.Errorf("%+v", got)
	}
}

func TestMap(t *testing.T) {
	t.Parallel()
	r := hostileReport("a secret b")
	mapped := r.Map(strings.NewReplacer("secret", "***").Replace)
	files, err := report.Files(mapped)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range append(files, report.File{Name: "summary", Content: []byte(report.Summary(mapped, limit))}) {
		if bytes.Contains(f.Content, []byte("secret")) {
			t.Errorf("%s has the secret", f.Name)
		}
	}
	if r.Findings[0].What != "a secret b" || r.Phases[0].Checks[0].Name != "a secret b" {
		t.Error("the report itself was changed")
	}
}

func FuzzSummary(f *testing.F) {
	for _, text := range hostile {
		f.Add(text[:min(len(text), 300)])
	}
	f.Fuzz(func(t *testing.T, text string) {
		page := report.Summary(hostileReport(text), limit)
		if strings.Count(page, "```") != 2 || strings.Count(page, "<details") != strings.Count(page, "</details>") || strings.Count(page, "<details") > 2 || strings.ContainsAny(page, "\x1b\r") {
			t.Errorf("%q:\n%s", text, page)
		}
	})
}
