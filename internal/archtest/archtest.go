// Package archtest holds the rules of the house as a check: which room may import
// which, which library has which importer, and which calls a phase may not make.
//
// It parses the files of the module in process. A test that executed `go list`
// would be cached by `go test` and pass over a forbidden import.
package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Module is the path of the module that is checked.
const Module = "github.com/ultrafast-ci/ultrafast"

// room is a kind of package.
type room string

const (
	word       room = "word"
	contract   room = "contract"
	step       room = "phase"
	engine     room = "engine"
	document   room = "document"
	clientWall room = "client wall"
	wall       room = "wall"
	frame      room = "frame" // config, lifecycle, pipeline, doorgen
	app        room = "app"
	door       room = "door"
	joined     room = "joined door" // actions/ultrafast, the root package
	outside    room = "outside"     // images, bench, examples, archtest, tools
)

// rooms names the room of every package below a path; the longest path wins.
var rooms = map[string]room{
	".":           joined,
	"steps/state": word, "steps/phase": word, "steps/fault": word, "steps/finding": word,
	"steps/sandbox": contract, "steps/target": contract,
	"steps/market": step, "steps/generate": step, "steps/cleanroom": step, "steps/validate": step, "steps/deploy": step,
	"internal/graph": engine, "internal/render": engine, "internal/policy": engine, "internal/evidence": engine,
	"internal/rollout": engine, "internal/attest": engine, "internal/report": engine, "internal/difference": engine,
	"internal/document": document,
	"internal/oci":      clientWall, "internal/engine": clientWall, "internal/kube": clientWall, "internal/lock": clientWall,
	"internal/registry": wall, "internal/store": wall, "internal/sandbox": wall, "internal/router": wall,
	"internal/target": wall, "internal/scan": wall, "internal/supervisor": wall, "internal/terminal": wall, "internal/platform": wall,
	"internal/config": frame, "internal/lifecycle": frame, "internal/pipeline": frame, "internal/doorgen": frame,
	"internal/app":      app,
	"actions/ultrafast": joined,
	"actions":           door,
	"images":            outside,
	"bench":             outside,
	"examples":          outside,
	"internal/archtest": outside,
	"internal/tools":    outside,
}

// allowed says which rooms a room may import, its own package tree apart.
var allowed = map[room][]room{
	word:       {word},
	contract:   {word},
	step:       {word, contract, engine, document},
	engine:     {word, contract, document},
	document:   {word},
	clientWall: {word},
	wall:       {word, contract, clientWall, document},
	frame:      {word, document},
	app:        {word, document},
	door:       {word, contract, step, engine, document, clientWall, wall, frame, app},
	joined:     {word, contract, step, engine, document, clientWall, wall, frame, app, door},
	outside:    {word, contract, step, engine, document, clientWall, wall, frame, app, door, joined, outside},
}

// exceptions are single edges that the rooms do not allow and the design does.
var exceptions = map[[2]string]bool{
	{"internal/policy", "internal/graph"}:     true,
	{"internal/rollout", "internal/evidence"}: true,
	{"internal/app", "internal/pipeline"}:     true,
	{"internal/app", "internal/config"}:       true,
	{"internal/app", "internal/platform"}:     true,
	{"internal/app", "internal/store"}:        true,
	{"internal/app", "internal/terminal"}:     true,
	{"internal/app", "internal/report"}:       true,
}

// importers names, for each library outside the standard library, the only trees
// that may import it. A library that is not named may be imported by nobody.
var importers = map[string][]string{
	"github.com/alecthomas/kong":                        {"internal/app"},
	"github.com/google/go-containerregistry":            {"internal/oci", "images"},
	"github.com/klauspost/compress":                     {"internal/oci"},
	"github.com/piprate/json-gold":                      {"internal/graph/jsonld"},
	"github.com/knakk/rdf":                              {"internal/graph"},
	"github.com/goccy/go-yaml":                          {"internal/document"},
	"github.com/pelletier/go-toml":                      {"internal/document"},
	"github.com/jackc/pgx":                              {"steps/cleanroom/service"},
	"github.com/Masterminds/semver":                     {"steps/market"},
	"github.com/Masterminds/sprig":                      {"internal/render/gotmpl"},
	"github.com/gofrs/flock":                            {"internal/lock"},
	"github.com/secure-systems-lab/go-securesystemslib": {"internal/attest"},
	"github.com/landlock-lsm/go-landlock":               {"internal/sandbox/embedded"},
	"github.com/moby/moby/client":                       {"internal/engine"},
	"github.com/moby/moby/api":                          {"internal/engine"},
	"github.com/containerd/errdefs":                     {"internal/engine"},
	"github.com/testcontainers/testcontainers-go":       {"internal/sandbox/testcontainers"},
	"golang.org/x/sys":                                  {"internal/sandbox", "internal/router", "internal/supervisor", "internal/target/local"},
	"golang.org/x/term":                                 {"internal/terminal"},
	"golang.org/x/text":                                 {"steps/generate"},
	"golang.org/x/crypto/x509roots":                     {"images"},
	"github.com/rogpeppe/go-internal":                   {"internal/app/apptest", "actions"},
	"github.com/santhosh-tekuri/jsonschema":             {"internal/config"}, // tests only
}

// forbidden are libraries that nobody may import.
var forbidden = []string{
	"github.com/google/go-containerregistry/pkg/v1/daemon", // links a Docker client
}

// pure are rooms without network, clock, randomness or environment.
var pure = []room{word, engine, document, step, contract}

// impureCalls are what a pure room may not call, by package path and name.
var impureCalls = map[string][]string{
	"os":  {"Getenv", "LookupEnv", "Environ", "Exit", "Setenv", "Getwd", "Hostname"},
	"fmt": {"Print", "Printf", "Println"},
	"log": {"Print", "Printf", "Println", "Fatal", "Fatalf", "Panic", "Panicf"},
}

// engineCalls are forbidden to engines and document besides.
var engineCalls = map[string][]string{
	"time": {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"},
}

// engineImports are forbidden to engines and document.
var engineImports = []string{"net", "net/http", "os/exec", "math/rand", "math/rand/v2", "crypto/rand"}

// Check returns every broken rule in the module below fsys, sorted.
func Check(fsys fs.FS) ([]string, error) {
	var broken []string
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && skipDir(fsys, name):
			return fs.SkipDir
		case d.IsDir() || path.Ext(name) != ".go":
			return nil
		}
		src, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, src, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		broken = append(broken, checkFile(name, file)...)
		return nil
	})
	slices.Sort(broken)
	return slices.Compact(broken), err
}

// skipDir leaves out what is not part of the module's own code.
func skipDir(fsys fs.FS, name string) bool {
	if name == "." {
		return false
	}
	base := path.Base(name)
	if base == "testdata" || base == "build" || strings.HasPrefix(base, ".") {
		return true
	}
	_, err := fs.Stat(fsys, path.Join(name, "go.mod"))
	return err == nil // a module of its own
}

func checkFile(name string, file *ast.File) []string {
	dir := path.Dir(name)
	isTest := strings.HasSuffix(name, "_test.go")
	from, known := roomOf(dir)
	if !known {
		return []string{fmt.Sprintf("%s: package %s is in no room; a new package needs a decision record", name, dir)}
	}
	var broken []string
	imported := map[string]string{} // local name → path
	for _, spec := range file.Imports {
		target, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		local := path.Base(target)
		if spec.Name != nil {
			local = spec.Name.Name
		}
		if local == "." {
			broken = append(broken, fmt.Sprintf("%s: imports %s into its own names, where no rule sees its calls", name, target))
		}
		imported[local] = target
		if why := checkImport(dir, from, target, isTest); why != "" {
			broken = append(broken, fmt.Sprintf("%s: imports %s: %s", name, target, why))
		}
	}
	if !isTest {
		broken = append(broken, checkCalls(name, from, imported, file)...)
	}
	return broken
}

func roomOf(dir string) (room, bool) {
	// A door's main is in the folder of its action; the door itself is below it.
	for d := dir; ; d = path.Dir(d) {
		if r, ok := rooms[d]; ok && (d != "." || dir == ".") {
			return r, true
		}
		if d == "." {
			return "", false
		}
	}
}

func checkImport(dir string, from room, target string, isTest bool) string {
	inner, ours := strings.CutPrefix(target, Module)
	switch {
	case ours:
		return checkOurs(dir, from, strings.TrimPrefix(inner, "/"), isTest)
	case !strings.Contains(strings.SplitN(target, "/", 2)[0], "."):
		return checkStandard(from, target, isTest)
	}
	if slices.ContainsFunc(forbidden, func(f string) bool { return below(target, f) }) {
		return "this package is forbidden everywhere"
	}
	for library, trees := range importers {
		if below(target, library) {
			if slices.ContainsFunc(trees, func(tree string) bool { return below(dir, tree) }) || from == outside {
				return ""
			}
			return fmt.Sprintf("only %s may import it", strings.Join(trees, ", "))
		}
	}
	return "the library is not in the list of importers"
}

func checkOurs(dir string, from room, target string, isTest bool) string {
	if target == "" {
		target = "."
	}
	to, known := roomOf(target)
	if !known {
		return "it is in no room"
	}
	tree := treeOf(dir)
	switch {
	case tree == treeOf(target):
		return ""
	case isTest:
		return "" // a test joins what it needs
	case to == outside && from != outside:
		return "nothing may import it"
	case exceptions[[2]string{tree, treeOf(target)}]:
		return ""
	case from == door && to == door:
		return "a door may not import another"
	case from == door && to == step && treeOf(target) != "steps/"+phaseOf(tree):
		return "a door may import the phase behind it alone"
	case slices.Contains(allowed[from], to):
		return ""
	}
	return fmt.Sprintf("a %s may not import a %s", from, to)
}

// phaseOf returns the package name of the phase behind a door.
func phaseOf(tree string) string {
	if name := path.Base(tree); name != "cleanroom-test" {
		return name
	}
	return "cleanroom"
}

// treeOf returns the path of the room's own package tree: a package and its
// subpackages are one.
func treeOf(dir string) string {
	parts := strings.Split(dir, "/")
	if len(parts) >= 2 {
		return parts[0] + "/" + parts[1]
	}
	return dir
}

func checkStandard(from room, target string, isTest bool) string {
	if isTest || from != engine && from != document {
		return ""
	}
	if slices.Contains(engineImports, target) {
		return fmt.Sprintf("an %s has no network, no processes and no randomness", from)
	}
	return ""
}

func checkCalls(name string, from room, imported map[string]string, file *ast.File) []string {
	if !slices.Contains(pure, from) {
		return nil
	}
	var broken []string
	ast.Inspect(file, func(n ast.Node) bool {
		selector, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		pkg, ok := selector.X.(*ast.Ident)
		if !ok {
			return true
		}
		target := imported[pkg.Name]
		bad := slices.Contains(impureCalls[target], selector.Sel.Name)
		if from == engine || from == document {
			bad = bad || slices.Contains(engineCalls[target], selector.Sel.Name)
		}
		if bad {
			broken = append(broken, fmt.Sprintf("%s: a %s may not use %s.%s", name, from, target, selector.Sel.Name))
		}
		return true
	})
	return broken
}

func below(target, tree string) bool {
	return target == tree || strings.HasPrefix(target, tree+"/")
}
