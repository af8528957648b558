package cleanroom

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// event is one line of `go test -json` (go doc test2json; `go help buildjson`
// for the build actions).
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Output      string
	Elapsed     float64
	FailedBuild string
}

// goEvents reads a stream of events into results.
type goEvents struct {
	*results
	// within is the path of the tree inside, with a slash; it is cut from output,
	// so that what is reported is relative to the tree.
	within string
	// keep takes the log of a package that has ended, and returns its name; may be nil.
	keep func(pkg, text string) string

	lines lines
	// logs are of packages that have not ended.
	logs map[string]*logBuffer
}

// Write takes a part of the stream.
func (g *goEvents) Write(p []byte) (int, error) { return g.lines.write(p, g.line) }

// end takes what follows the last line feed.
func (g *goEvents) end(exitStatus) { g.lines.flush(g.line) }

func (g *goEvents) line(line []byte, tooLong bool) {
	var e event
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case tooLong:
		g.dropped++
	case len(bytes.TrimSpace(line)) == 0:
	case line[0] != '{' || json.Unmarshal(line, &e) != nil || e.Action == "":
		g.strange++
		g.say(string(line) + "\n")
	default:
		g.take(e)
	}
}

func (g *goEvents) take(e event) {
	if g.within != "" {
		e.Output = strings.ReplaceAll(e.Output, g.within, "")
	}
	if e.Action == "output" || e.Action == "build-output" {
		g.say(e.Output)
	}
	g.logOf(e)
	switch {
	case len(e.Package) > maxName || len(e.Test) > maxName || len(e.ImportPath) > maxName:
		g.dropped++
	case strings.HasPrefix(e.Action, "build-"):
		g.build(e)
	case e.Package == "":
		g.strange++
	case e.Test == "":
		g.takePackage(e)
	default:
		g.takeTest(e)
	}
}

// logOf adds what an event prints to the log of its package.
func (g *goEvents) logOf(e event) {
	if g.keep == nil || e.Package == "" || e.Output == "" || len(e.Package) > maxName {
		return
	}
	log := g.logs[e.Package]
	if log == nil {
		if len(g.logs) >= maxUnits {
			return
		}
		if g.logs == nil {
			g.logs = map[string]*logBuffer{}
		}
		log = &logBuffer{most: maxUnitLog}
		g.logs[e.Package] = log
	}
	log.add(e.Output)
}

func (g *goEvents) build(e event) {
	b, ok := g.builds[e.ImportPath]
	if !ok {
		if len(g.builds) >= maxUnits {
			g.dropped++
			return
		}
		b = &tail{}
		g.builds[e.ImportPath] = b
	}
	b.add(e.Output)
}

func (g *goEvents) takePackage(e event) {
	p := g.unit(e.Package)
	if p == nil {
		return
	}
	p.output.add(e.Output)
	p.whole = p.whole || e.Output == "FAIL\n" || e.Output == "PASS\n" // what testing.M prints last
	if o, ended := outcomes[e.Action]; ended {
		p.outcome, p.seconds, p.failedBuild = worse(p.outcome, o), e.Elapsed, e.FailedBuild
		if log := g.logs[e.Package]; log != nil {
			p.log = g.keep(e.Package, string(log.bytes()))
			delete(g.logs, e.Package)
		}
	}
}

func (g *goEvents) takeTest(e event) {
	t := g.test(testID{e.Package, e.Test})
	if t == nil {
		return
	}
	t.output.add(e.Output)
	if o, ended := outcomes[e.Action]; ended {
		t.outcome, t.seconds = worse(t.outcome, o), e.Elapsed
		if o == state.Passed {
			t.output = tail{} // nobody asks a passed test what it printed
		}
	}
}
