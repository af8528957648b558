package generate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/ultrafast-ci/ultrafast/internal/document"
	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/internal/graph/sparql"
	"github.com/ultrafast-ci/ultrafast/internal/render"
	"github.com/ultrafast-ci/ultrafast/internal/render/tera"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// maxRows bounds the outputs of one template.
const maxRows = 20_000

// Plan renders every unit and returns what a run would write. Nothing is written.
func (s *Step) Plan(ctx context.Context, in state.State, blobs state.Blobs) (*Plan, error) {
	if err := checkFlags(s.Options.Flags, s.Options.AllowShellChars); err != nil {
		return nil, err
	}
	if len(s.Units) == 0 {
		return nil, fault.New(fault.Usage, "name a template, or add [[generate]] to the project file", "nothing to generate")
	}
	jobs, err := s.jobs(ctx, in, blobs)
	if err != nil {
		return nil, err
	}
	unread, err := s.unread(jobs)
	if err != nil {
		return nil, err
	}
	outputs := make([]output, len(jobs))
	crew, meter := newCrew(s.Options.Workers), newMeter(s.Advance, len(jobs))
	var mu sync.Mutex // of Progress and done
	done := 0
	err = inParallel(ctx, s.Options.Workers, len(jobs), func(ctx context.Context, i int) error {
		jobs[i].crew, jobs[i].meter = crew, meter
		leave, err := crew.join(ctx)
		if err != nil {
			return err
		}
		defer leave()
		if outputs[i], err = jobs[i].run(ctx); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		if done++; meter != nil {
			return nil
		}
		if len(jobs) <= maxProgress || done*maxProgress/len(jobs) != (done-1)*maxProgress/len(jobs) {
			s.progress("%s %d/%d %s: %s", bar(done, len(jobs)), done, len(jobs), jobs[i].template.name, files(len(outputs[i].files)+len(outputs[i].edits)))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	plan := &Plan{Seed: s.Options.Seed, Findings: unread}
	for i, j := range jobs {
		plan.Templates = append(plan.Templates, j.template.name)
		plan.Files = append(plan.Files, outputs[i].files...)
		plan.Edits = append(plan.Edits, outputs[i].edits...)
		plan.Findings = append(plan.Findings, j.findings...)
	}
	if err := plan.noteHooks(outputs); err != nil {
		return nil, err
	}
	return plan, plan.finish()
}

// maxProgress is the most progress messages of a run.
const maxProgress = 20

// bar draws how much of n is done.
func bar(done, n int) string {
	const width = 10
	full := done * width / n
	return "[" + strings.Repeat("#", full) + strings.Repeat("-", width-full) + "]"
}

// output is what one template, or one row of it, gives: files, or edits.
type output struct {
	files []File
	edits []Edit
	// around are the commands of each of them, nil if the template has none.
	around []around
}

// job is one template of one unit.
type job struct {
	options  *Options
	unit     *Unit
	template *template
	dialect  Dialect
	lib      *library
	graphs   *graphCache
	// caller are the variables of the caller; vars all of them, with query results.
	caller, vars *render.Map
	set          settings
	body         body
	data         *dataset
	findings     []finding.Finding
	// allowHooks has the commands of the template run.
	allowHooks bool
	crew       crew
	meter      *meter
}

// jobs loads every template that the units name, in order.
func (s *Step) jobs(ctx context.Context, in state.State, blobs state.Blobs) ([]*job, error) {
	lib, err := s.library(ctx, in, blobs)
	if err != nil {
		return nil, err
	}
	graphs := newGraphCache(s.GraphCache, s.Options.Limits)
	var jobs []*job
	for i := range s.Units {
		unit := &s.Units[i]
		caller, err := s.Options.callerVars(unit)
		if err != nil {
			return nil, err
		}
		references, home, err := lib.expand(s, unit)
		if err != nil {
			return nil, err
		}
		for _, ref := range references {
			t, err := home.load(ref.file)
			if err != nil {
				return nil, err
			}
			if err := s.judge(t); err != nil {
				return nil, err
			}
			dialect, err := s.Options.Dialect.of(&t.header)
			if err != nil {
				return nil, err
			}
			j := &job{
				options: &s.Options, unit: unit, template: t, dialect: dialect, lib: lib, graphs: graphs, caller: caller,
				findings: t.warnings, allowHooks: s.Hooks != nil,
			}
			if !j.allowHooks {
				j.findings = slices.Concat(t.warnings, t.header.hooksOff())
			}
			jobs = append(jobs, j)
		}
	}
	return jobs, nil
}

// judge refuses a template with warnings if the run is strict.
func (s *Step) judge(t *template) error {
	if !s.Options.Strict || len(t.warnings) == 0 {
		return nil
	}
	var errs []error
	for _, w := range t.warnings {
		if w.Severity == finding.Info {
			continue
		}
		errs = append(errs, fault.New(fault.Finding, w.Fix, "%s: %s", w.Where, w.What))
	}
	return errors.Join(errs...)
}

// run renders the template: once, or once for every row of its for_each query.
func (j *job) run(ctx context.Context) (output, error) {
	if err := j.prepare(ctx); err != nil {
		return output{}, err
	}
	if err := j.query(ctx); err != nil {
		return output{}, err
	}
	if j.set.forEach == "" {
		return j.outputs(ctx, []any{nil})
	}
	rows, err := j.rows(ctx)
	if err != nil {
		return output{}, err
	}
	if len(rows) == 0 {
		j.findings = append(j.findings, finding.Finding{
			Rule: "template-no-rows", Severity: finding.Info, Where: j.rowsPlace(),
			What: fmt.Sprintf("query %q gave no row, so no file was made", clip(j.set.forEach)),
		})
	}
	return j.outputs(ctx, rows)
}

// prepare merges the variables and renders the front matter with them. Defaults
// of the template are rendered with the caller's variables alone.
func (j *job) prepare(ctx context.Context) error {
	pack := j.template.pack
	var err error
	if j.caller, err = pack.typed(j.caller); err != nil {
		return err
	}
	caller, err := j.bless(ctx, overlay(pack.defaults(), j.caller))
	if err != nil {
		return err
	}
	own, err := defaults(j.template.header.vars, j.expander(ctx, caller))
	if err != nil {
		return err
	}
	merged := overlay(own, j.caller)
	if j.options.TemplateVarsWin {
		merged = overlay(j.caller, own)
	}
	if merged, err = pack.typed(overlay(pack.defaults(), merged)); err != nil {
		return fmt.Errorf("template %s: %w", j.template.name, err)
	}
	if err := j.requireAll(merged); err != nil {
		return err
	}
	if j.vars, err = j.bless(ctx, merged); err != nil {
		return err
	}
	if j.set, err = j.template.header.settings(j.expander(ctx, j.vars)); err != nil {
		return err
	}
	j.body, err = j.source()
	return err
}

// body is the text that is rendered: that below the front matter, or a file of its own.
type body struct {
	name, text string
	shift      int // lines of the file before it
}

func (j *job) source() (body, error) {
	t := j.template
	if j.set.from == "" {
		return body{t.name, markRegions(t.body), t.bodyLine - 1}, nil
	}
	at := t.header.from.Place
	if strings.TrimSpace(t.body) != "" {
		return body{}, fault.New(fault.Finding, "remove one of them", "%s: the template has a body, and from names another", at)
	}
	name, text, err := j.lib.include(t.pack, j.set.from, t.name)
	if errors.Is(err, fs.ErrNotExist) {
		return body{}, fault.New(fault.Finding, "paths are relative to the template", "%s: from names %q, which does not exist", at, clip(j.set.from))
	}
	if err != nil {
		return body{}, fmt.Errorf("%s: %w", at, err)
	}
	return body{name, markRegions(text), 0}, nil
}

// rowsPlace is where the template asks for rows.
func (j *job) rowsPlace() finding.Place {
	h := &j.template.header
	switch {
	case h.forEach != nil:
		return h.forEach.Place
	case h.matrix != nil:
		return h.matrix.Place
	default:
		return h.sparql.Place
	}
}

// bless adds what every template may rely on: Name, the name in pascal case, and
// an empty map called locals.
func (j *job) bless(ctx context.Context, vars *render.Map) (*render.Map, error) {
	out := vars.Clone()
	setUnset(out, "locals", render.NewMap())
	if _, isSet := out.Get("Name"); isSet {
		return out, nil
	}
	if name, _ := vars.Get("name"); name != nil {
		if _, ok := name.(string); !ok {
			return out, nil
		}
		pascal, err := j.text(ctx, tera.New(tera.Options{}), j.template.name, "{{ name | pascal }}", out)
		if err != nil {
			return nil, err
		}
		out.Set("Name", pascal)
	}
	return out, nil
}

// expander renders strings of front matter. It answers no queries: there is no
// graph yet.
func (j *job) expander(ctx context.Context, vars *render.Map) expander {
	engine := j.engine(nil)
	return func(n *document.Node) (string, error) { return j.expand(ctx, engine, n, n.Text, vars) }
}

// expand renders text, which stands at the place of n.
func (j *job) expand(ctx context.Context, engine render.Engine, n *document.Node, text string, vars *render.Map) (string, error) {
	if !strings.Contains(text, "{{") && !strings.Contains(text, "{%") && !strings.Contains(text, "{#") {
		return text, nil
	}
	out, err := j.text(ctx, engine, j.template.name, text, vars)
	return out, j.template.relocate(err, n, 0)
}

func (j *job) text(ctx context.Context, engine render.Engine, name, source string, vars *render.Map) (string, error) {
	var buf bytes.Buffer
	err := engine.Render(ctx, &buf, name, source, vars)
	return buf.String(), err
}

// engine returns the engine of the template, with the seed of its front matter.
func (j *job) engine(data *dataset) render.Engine {
	o := surroundings{loader: loader{j.lib, j.template.pack}, now: j.options.now(), seed: j.seedOf(-1)}
	if data != nil { // a nil *dataset would be an answer that is not nil
		o.query = data
	}
	return j.dialect.engine(o)
}

// seedOf is the seed of output number row, from 0; -1 is the front matter. Every
// output draws its own random numbers, the same in every run.
func (j *job) seedOf(row int) uint64 { return derive(j.seed(), j.template.name, row) }

// seed is that of the template, or else of the run.
func (j *job) seed() uint64 {
	if j.set.seeded {
		return j.set.seed
	}
	return j.options.Seed
}

// derive makes the seed of one output: the first 64 bits of SHA-256 over the
// run's seed, the template and the number of the output.
func derive(seed uint64, name string, row int) uint64 {
	b := binary.BigEndian.AppendUint64(nil, seed)
	b = binary.BigEndian.AppendUint64(b, uint64(int64(row)))
	sum := sha256.Sum256(append(b, name...))
	return binary.BigEndian.Uint64(sum[:])
}

// query loads the graph, holds it against the shapes, and adds the results of the queries to the variables: as
// sparql_results.<name>, and as <name> where no variable has that name.
func (j *job) query(ctx context.Context) error {
	sources, err := graphSources(j.unit, j.template, &j.set)
	if err != nil {
		return err
	}
	g, err := j.graphs.get(ctx, sources)
	if err != nil {
		return j.inlineError(err, sources)
	}
	if g, err = j.enrich(ctx, g); err != nil {
		return err
	}
	if err := j.enforce(ctx, g); err != nil {
		return err
	}
	j.data = &dataset{graph: g, options: j.queryOptions(), limits: j.options.Limits}
	results := render.NewMap()
	for _, q := range j.set.queries {
		value, err := j.data.Query(ctx, q.text)
		if err != nil {
			return fault.Wrap(j.template.relocate(err, q.node, 0), fault.KindOf(err), "", fmt.Sprintf("query %q", q.name))
		}
		if q.cell {
			value = q.firstCell(value)
		}
		results.Set(q.name, value)
	}
	for i := range results.Len() {
		name, value := results.At(i)
		setUnset(j.vars, name, value)
	}
	j.vars.Set("sparql_results", results)
	return nil
}

// enrich adds what the construct queries make to the graph, each seeing what those
// before it made.
func (j *job) enrich(ctx context.Context, g *graph.Graph) (*graph.Graph, error) {
	limits := j.options.Limits.withDefaults()
	for _, q := range j.set.construct {
		fail := func(err error) error {
			return fault.Wrap(j.template.relocate(err, q.node, 0), fault.KindOf(err), "", fmt.Sprintf("construct %q", q.name))
		}
		parsed, err := sparql.Parse(q.text, j.queryOptions())
		if err != nil {
			return nil, fail(err)
		}
		result, err := j.ran(ctx, parsed, g, limits)
		if err != nil {
			return nil, fail(err)
		}
		if result.Kind == sparql.Select || result.Kind == sparql.Ask {
			return nil, fault.New(fault.Finding, "use CONSTRUCT", "%s: construct %q makes no triples", q.node.Place, q.name)
		}
		builder := limits.builder()
		for t := range g.Triples() {
			if err := builder.Add(t); err != nil {
				return nil, fail(err)
			}
		}
		for _, t := range result.Triples {
			if err := builder.Add(t); err != nil {
				return nil, fail(err)
			}
		}
		g = builder.Build()
	}
	return g, nil
}

func (j *job) ran(ctx context.Context, q *sparql.Query, g *graph.Graph, limits Limits) (*sparql.Result, error) {
	ctx, cancel := limits.within(ctx, "the query")
	defer cancel()
	return q.Run(ctx, g, limits.engine())
}

func (j *job) queryOptions() sparql.Options {
	o := sparql.Options{
		File: j.template.name, Base: j.set.base, Prefixes: make(map[string]string, len(j.set.prefixes)),
		Now: j.options.now(), Seed: derive(j.seed(), j.template.name, -2), MaxDepth: j.options.Limits.withDefaults().Depth,
	}
	for _, p := range j.set.prefixes {
		o.Prefixes[p.name] = p.iri
	}
	return o
}

// inlineError gives an error in inline Turtle its line in the template.
func (j *job) inlineError(err error, sources []source) error {
	name := errorFile(err)
	for _, s := range sources {
		if s.inline != nil && s.name == name {
			return j.template.relocate(err, s.inline.node, strings.Count(turtleProlog(&j.set), "\n"))
		}
	}
	return err
}

// rows returns the rows that for_each asks for, by the name of a query or as one.
func (j *job) rows(ctx context.Context) ([]any, error) {
	where := j.rowsPlace()
	results, _ := j.vars.Get("sparql_results")
	value, ok := results.(*render.Map).Get(j.set.forEach)
	if !ok {
		if !strings.ContainsAny(j.set.forEach, "{ \n") {
			names := results.(*render.Map).Keys(render.InsertionOrder)
			hint := fault.DidYouMean(j.set.forEach, names)
			if hint == "" {
				hint = "name one of the queries under sparql"
			}
			return nil, fault.New(fault.Finding, hint, "%s: for_each names query %q, which the template does not have", where, clip(j.set.forEach))
		}
		var err error
		if value, err = j.data.Query(ctx, j.set.forEach); err != nil {
			return nil, j.template.relocate(err, j.template.header.forEach, 0)
		}
	}
	rows, ok := value.([]any)
	if !ok {
		return nil, fault.New(fault.Finding, "use a SELECT query", "%s: for_each needs rows; its query gives %s", where, render.KindOf(value))
	}
	if len(rows) > maxRows {
		return nil, fault.New(fault.Finding, "narrow the query", "%s: for_each has %d rows; at most %d are rendered", where, len(rows), maxRows)
	}
	return rows, nil
}

// outputs renders one file for each row; a nil row stands for the only output of
// a template without for_each.
func (j *job) outputs(ctx context.Context, rows []any) (output, error) {
	engine := j.engine(j.data)
	parts := make([]output, len(rows))
	workers, dismiss := j.crew.hire(len(rows))
	defer dismiss()
	j.meter.expect(len(rows) - 1) // one was foreseen for each template
	err := inParallel(ctx, workers, len(rows), func(ctx context.Context, i int) error {
		vars, err := j.varsOf(rows[i])
		if err != nil {
			return err
		}
		err = j.output(ctx, seeded(engine, j.seedOf(i)), vars, &parts[i])
		for k := range parts[i].files {
			if rows[i] != nil {
				parts[i].files[k].row = i + 1
			}
		}
		j.meter.did(j.template.name)
		return err
	})
	if err != nil {
		return output{}, err
	}
	var out output
	for i := range parts {
		out.files = append(out.files, parts[i].files...)
		out.edits = append(out.edits, parts[i].edits...)
		out.around = append(out.around, parts[i].around...)
	}
	return out, nil
}

// varsOf adds a row and its columns to the variables.
func (j *job) varsOf(row any) (*render.Map, error) {
	if row == nil {
		return j.vars, nil
	}
	vars := j.vars.Clone()
	vars.Set("row", row)
	columns, ok := row.(*render.Map)
	if !ok {
		return vars, nil
	}
	for c := range columns.Len() {
		name, value := columns.At(c)
		setUnset(vars, name, value)
	}
	return vars, j.bound(vars, columns)
}

// output renders one file, or one edit of a file, into out, unless `when` or
// `skip_empty` leave it out.
func (j *job) output(ctx context.Context, engine render.Engine, vars *render.Map, out *output) error {
	wanted, err := j.wanted(ctx, engine, vars)
	if err != nil || !wanted {
		return err
	}
	target, where, err := j.target(ctx, engine, vars)
	if err != nil {
		return err
	}
	text, err := j.text(ctx, engine, j.body.name, j.body.text, vars)
	if err != nil {
		return fault.Wrap(j.template.shift(err, j.body.shift, 0), fault.KindOf(err), "", "render "+target)
	}
	if j.set.skipEmpty && strings.TrimSpace(text) == "" {
		return nil
	}
	if j.template.header.shBefore != nil || j.template.header.shAfter != nil {
		commands, err := j.hooks(ctx, engine, vars, target)
		if err != nil {
			return err
		}
		out.around = append(out.around, commands)
	}
	if j.set.edits {
		e, err := j.edit(ctx, engine, vars, target, text, where)
		out.edits = append(out.edits, e)
		return err
	}
	text, regions, err := j.regions(text, path.Join(j.folder(), j.set.slots))
	if err != nil {
		return err
	}
	content := []byte(text)
	out.files = append(out.files, File{
		Path: target, Mode: modeOf(content), Content: content, Template: j.template.name, Where: where,
		Force: j.set.force, UnlessExists: j.set.unlessExists, Backup: j.set.backup, Freeze: j.set.freeze, Regions: regions,
	})
	return nil
}

// folder is the folder of the unit, below the root of the tree.
func (j *job) folder() string {
	if j.unit.Output == "." {
		return ""
	}
	return strings.TrimSuffix(j.unit.Output, "/")
}

// target renders `to` and puts it below the unit's folder. Without `to` it is the
// template's name with .out for its last extension.
func (j *job) target(ctx context.Context, engine render.Engine, vars *render.Map) (string, finding.Place, error) {
	t := j.template
	to, where := strings.TrimSuffix(path.Base(t.file), path.Ext(t.file))+".out", t.place(1)
	if n := t.header.to; n != nil {
		where = n.Place
		if n.Kind != document.String {
			return "", where, wrong(n, "a path")
		}
		var err error
		if to, err = j.expand(ctx, engine, n, n.Text, vars); err != nil {
			return "", where, err
		}
	}
	clean, err := cleanPath(to, j.options.AllowCI)
	if err != nil {
		return "", where, refused(where, t.name, to, err)
	}
	if folder := j.folder(); folder != "" {
		clean, err = cleanPath(folder+"/"+clean, j.options.AllowCI)
		if err != nil {
			return "", where, fault.New(fault.Usage, pathHint(err, "name a folder below the root of the tree"), "output %.200q of template %s: %w", folder, t.name, err)
		}
	}
	return clean, where, nil
}

var askQuery = regexp.MustCompile(`(?is)^\s*((PREFIX|BASE)\s.*)?ASK\b.*\{.*\}\s*$`)

// wanted decides `when`: true or false, the name of a query, an ASK query, a text
// with tags that renders to false or nothing, or an expression.
func (j *job) wanted(ctx context.Context, engine render.Engine, vars *render.Map) (bool, error) {
	n := j.template.header.when
	switch {
	case n == nil:
		return true, nil
	case n.Kind == document.Bool:
		return n.Bool, nil
	case n.Kind != document.String:
		return false, wrong(n, "a condition")
	}
	results, _ := vars.Get("sparql_results")
	if value, ok := results.(*render.Map).Get(n.Text); ok {
		return truthy(value), nil
	}
	if askQuery.MatchString(n.Text) {
		text, err := j.expand(ctx, engine, n, n.Text, vars)
		if err != nil {
			return false, err
		}
		value, err := j.data.Query(ctx, text)
		return truthy(value), j.template.relocate(err, n, 0)
	}
	if value, ok := vars.Get(strings.TrimPrefix(strings.TrimSpace(n.Text), ".")); ok {
		if text, isText := value.(string); isText { // of --vars, as `{{ name }}` would be read
			return yes(text), nil
		}
	}
	condition, before := n.Text, 0
	if !tagged(n) {
		condition, before = j.dialect.condition(condition)
	}
	text, err := j.text(ctx, engine, j.template.name, condition, vars)
	return yes(text), j.template.relocate(j.template.shift(err, 0, -before), n, 0)
}

// yes reads a text as a condition.
func yes(text string) bool {
	text = strings.TrimSpace(text)
	return text != "" && text != "false"
}

func truthy(value any) bool {
	switch v := value.(type) {
	case bool:
		return v
	case []any:
		return len(v) > 0
	default:
		return value != nil
	}
}

// clip shortens what a message quotes.
func clip(s string) string {
	if len(s) > 60 {
		return strings.ToValidUTF8(s[:60], "") + "…"
	}
	return s
}
