package generate

import (
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/document"
	"github.com/ultrafast-ci/ultrafast/internal/render"
	"github.com/ultrafast-ci/ultrafast/internal/render/gotmpl"
	"github.com/ultrafast-ci/ultrafast/internal/render/tera"
)

// The template languages.
const (
	Tera   = "tera"
	GoTmpl = "gotmpl"
)

// Dialect says how templates are read (rows K-08 to K-10). The zero value is Tera
// as the Rust engine has it.
type Dialect struct {
	// Engine is [Tera], the default, or [GoTmpl].
	Engine string
	// Lenient prints nothing for an undefined variable. TrimBlocks and LstripBlocks
	// drop white space around tags, which Tera itself never does; they do nothing
	// to Go's templates, whose tags say so themselves.
	Lenient, TrimBlocks, LstripBlocks bool
	// KeepMapOrder visits maps in the order in which their keys were written. By
	// default keys are sorted; Go's templates always sort them.
	KeepMapOrder bool
	// PlainFilters leaves the filters title, pluralize, upper and lower as the language
	// Tera has them. By default they change words as those of packages do.
	PlainFilters bool
}

// surroundings are what a render is given besides its source and variables.
type surroundings struct {
	loader render.Loader
	query  render.Querier
	seed   uint64
	now    time.Time
}

func (d Dialect) engine(o surroundings) render.Engine {
	if d.Engine == GoTmpl {
		return gotmpl.New(gotmpl.Options{Loader: o.loader, Query: o.query, Now: o.now, Lenient: d.Lenient})
	}
	order := render.SortedOrder
	if d.KeepMapOrder {
		order = render.InsertionOrder
	}
	return tera.New(tera.Options{
		Loader: o.loader, Query: o.query, Now: o.now, Seed: o.seed, MapOrder: order,
		Lenient: d.Lenient, TrimBlocks: d.TrimBlocks, LstripBlocks: d.LstripBlocks, PlainFilters: d.PlainFilters,
	})
}

// seeded returns the engine with another seed. Go's templates draw no numbers.
func seeded(e render.Engine, seed uint64) render.Engine {
	if e, ok := e.(*tera.Engine); ok {
		return e.Seeded(seed)
	}
	return e
}

// of returns the dialect of a template, which may name its engine itself.
func (d Dialect) of(h *header) (Dialect, error) {
	n := h.engine
	switch {
	case n == nil:
		return d, nil
	case n.Kind != document.String || n.Text != Tera && n.Text != GoTmpl:
		return d, wrong(n, `"tera" or "gotmpl"`)
	}
	d.Engine = n.Text
	return d, nil
}

// condition makes a template of an expression, that gives true or nothing, and returns
// how many bytes of it come before the expression.
func (d Dialect) condition(expression string) (source string, before int) {
	begin, end := "{% if ", " %}true{% endif %}"
	if d.Engine == GoTmpl {
		begin, end = "{{ if ", " }}true{{ end }}"
	}
	return begin + expression + end, len(begin)
}
