package market

import (
	"maps"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Request asks for a package in a version range. The ranges "", "*" and "latest"
// stand for any version, preferably the newest.
type Request struct{ ID, Range string }

// ParseRequest splits "id" or "id@range" at its last "@".
func ParseRequest(spec string) (Request, error) {
	id, text := spec, ""
	if i := strings.LastIndexByte(spec, '@'); i >= 0 {
		id, text = spec[:i], spec[i+1:]
		if text == "" {
			return Request{}, fault.New(fault.Usage, "leave out the @ for any version", "package %.120q: no version after the @", spec)
		}
	}
	if err := CheckID(id); err != nil {
		return Request{}, err
	}
	if _, err := parseRange(text, false); err != nil {
		return Request{}, fault.New(fault.Usage, `write for example "^1.2"`, "package %s: version range %.80q: %w", id, text, err)
	}
	return Request{id, text}, nil
}

// Bounds on resolution. Versions only rise, so it ends by itself; the bounds keep
// a hostile index from making it long.
const (
	maxResolved = 2_000     // packages
	maxChecks   = 5_000_000 // comparisons of a release with a range
)

// choice is one resolved package.
type choice struct {
	pkg     *Package
	release *Release
	// free is set while nobody named a version: a range may still lower it.
	free bool
}

// demand is a range that someone asks of a package.
type demand struct {
	// by is "the project" or "id version".
	by    string
	wants versionRange
}

// resolver chooses one version per package by minimal version selection over
// ranges: the lowest that satisfies every demand. A version that a range
// has set never goes down again, so resolution ends.
type resolver struct {
	index      *Index
	pinned     map[string]string // id to version of the lock, kept where it satisfies
	prerelease bool
	noDeps     bool
	chosen     map[string]choice
	ranges     map[string]versionRange // parsed, by text
	checks     int
}

// resolve returns the chosen packages, sorted by id.
func (r *resolver) resolve(requests []Request) ([]choice, error) {
	r.chosen, r.ranges = map[string]choice{}, map[string]versionRange{}
	for {
		demands, err := r.demands(requests)
		if err != nil {
			return nil, err
		}
		changed := false // in version or freedom: both only ever go one way
		var first error
		for _, id := range slices.Sorted(maps.Keys(demands)) {
			c, err := r.choose(id, demands[id])
			if err != nil {
				if first == nil {
					first = err
				}
				continue
			}
			changed = changed || r.chosen[id] != c
			r.chosen[id] = c
		}
		switch {
		case r.checks > maxChecks:
			return nil, fault.New(fault.Finding, "narrow the version ranges", "versions are not settled after %d comparisons", maxChecks)
		case changed: // whoever asked for what cannot be had may be replaced
		case first != nil:
			return nil, first
		default:
			return r.result(demands)
		}
	}
}

// demands collects what is asked of every package that can be reached with the
// versions chosen so far. A package met for the first time is chosen by what is
// known then, so that one call goes through the whole graph.
func (r *resolver) demands(requests []Request) (map[string][]demand, error) {
	demands := map[string][]demand{}
	var queue []string
	add := func(by, id, text string, kind fault.Kind) error {
		wants, ok := r.ranges[text]
		var err error
		if !ok {
			wants, err = parseRange(text, r.prerelease)
		}
		if err != nil {
			return fault.New(kind, `write for example "^1.2"`, "%s asks for %s in the version range %.80q: %w", by, id, text, err)
		}
		r.ranges[text] = wants
		if _, seen := demands[id]; !seen {
			queue = append(queue, id)
		}
		demands[id] = append(demands[id], demand{by, wants})
		return nil
	}
	for _, q := range requests {
		if err := CheckID(q.ID); err != nil {
			return nil, err
		}
		if err := add(project, q.ID, q.Range, fault.Usage); err != nil {
			return nil, err
		}
	}
	for n := 0; n < len(queue) && !r.noDeps; n++ {
		if n == maxResolved {
			return nil, fault.New(fault.Finding, "", "more than %d packages are needed", maxResolved)
		}
		c, ok := r.chosen[queue[n]]
		if !ok {
			var err error
			if c, err = r.choose(queue[n], demands[queue[n]]); err != nil {
				continue // reported by resolve, if it lasts
			}
			r.chosen[queue[n]] = c
		}
		for _, id := range slices.Sorted(maps.Keys(c.release.Dependencies)) {
			if err := add(c.pkg.ID+" "+c.release.Version, id, c.release.Dependencies[id], fault.Finding); err != nil {
				return nil, err
			}
		}
	}
	return demands, nil
}

// choose returns the release of id that satisfies all demands: what was chosen
// before or is pinned if that does, else the lowest above it; the newest where
// nobody names a version.
func (r *resolver) choose(id string, demands []demand) (choice, error) {
	pkg, ok := r.index.Package(id)
	if !ok {
		return choice{}, r.unknown(id, demands)
	}
	var fits []*Release
	anyVersion := true
	for _, d := range demands {
		anyVersion = anyVersion && d.wants.any
	}
	before := r.chosen[id].release
	if r.chosen[id].free && !anyVersion {
		before = nil
	}
	for i := range pkg.Releases {
		release := &pkg.Releases[i]
		if before != nil && compareVersions(release.version, before.version) < 0 {
			continue
		}
		r.checks += len(demands)
		if r.checks > maxChecks {
			break
		}
		if slices.ContainsFunc(demands, func(d demand) bool { return !d.wants.contains(release.version, r.prerelease) }) {
			continue
		}
		if release == before {
			return r.chosen[id], nil
		}
		if before == nil && release.Version == r.pinned[id] {
			return choice{pkg, release, anyVersion}, nil
		}
		fits = append(fits, release)
	}
	switch {
	case len(fits) == 0:
		return choice{}, r.unsatisfied(pkg, demands)
	case anyVersion:
		return choice{pkg, fits[len(fits)-1], true}, nil
	default:
		return choice{pkg, fits[0], false}, nil
	}
}

// result returns what is chosen and still demanded, if it has no cycle.
func (r *resolver) result(demands map[string][]demand) ([]choice, error) {
	out := make([]choice, 0, len(demands))
	edges := map[string][]string{}
	for _, id := range slices.Sorted(maps.Keys(demands)) {
		c := r.chosen[id]
		out = append(out, c)
		if !r.noDeps {
			edges[id] = slices.Sorted(maps.Keys(c.release.Dependencies))
		}
	}
	if path := cycle(edges); path != nil {
		return nil, fault.New(fault.Finding, "one of these packages must drop its dependency", "packages depend on each other in a cycle: %s", strings.Join(path, " -> "))
	}
	return out, nil
}

// cycle returns a path that ends where it begins, or nil. Depth is bounded by
// the number of packages, which is bounded.
func cycle(edges map[string][]string) []string {
	done := map[string]bool{}
	var path []string
	var visit func(id string) []string
	visit = func(id string) []string {
		if i := slices.Index(path, id); i >= 0 {
			return append(slices.Clone(path[i:]), id)
		}
		if done[id] {
			return nil
		}
		path = append(path, id)
		for _, next := range edges[id] {
			if found := visit(next); found != nil {
				return found
			}
		}
		path = path[:len(path)-1]
		done[id] = true
		return nil
	}
	for _, id := range slices.Sorted(maps.Keys(edges)) {
		if found := visit(id); found != nil {
			return found
		}
	}
	return nil
}

func (r *resolver) unknown(id string, demands []demand) error {
	hint := fault.DidYouMean(id, r.index.IDs())
	if hint == "" {
		hint = "run `market search` to see what there is"
	}
	needed := ""
	if by := demands[0].by; by != project {
		needed = ", needed by " + by
	}
	return fault.New(fault.Finding, hint, "Package '%s' not found in registry%s", id, needed)
}

const project = "the project"

// unsatisfied explains why no release fits: one demand alone that nothing
// satisfies, or two that exclude each other.
func (r *resolver) unsatisfied(pkg *Package, demands []demand) error {
	exists := "it has " + abridged(pkg.Versions())
	for _, d := range demands {
		fits := slices.ContainsFunc(pkg.Releases, func(rel Release) bool { return d.wants.contains(rel.version, r.prerelease) })
		if !fits {
			hint := exists
			if !r.prerelease && slices.ContainsFunc(pkg.Releases, func(rel Release) bool { return rel.version.Prerelease() != "" }) {
				hint += "; pre-releases count only where a range names one or allow_prerelease is set"
			}
			return fault.New(fault.Finding, hint, "no version of %s satisfies %q, which %s asks for", pkg.ID, d.wants.text, d.by)
		}
	}
	texts := make([]string, 0, len(demands))
	for _, d := range conflicting(pkg, demands, r.prerelease) {
		texts = append(texts, d.by+" asks for "+d.wants.text)
	}
	return fault.New(fault.Finding, exists, "no version of %s satisfies everyone: %s", pkg.ID, strings.Join(texts, ", "))
}

// conflicting returns the first two demands that no release satisfies together,
// or all if only more of them conflict.
func conflicting(pkg *Package, demands []demand, prerelease bool) []demand {
	demands = demands[:min(len(demands), 50)]
	for i, a := range demands {
		for _, b := range demands[i+1:] {
			both := func(r Release) bool {
				return a.wants.contains(r.version, prerelease) && b.wants.contains(r.version, prerelease)
			}
			if !slices.ContainsFunc(pkg.Releases, both) {
				return []demand{a, b}
			}
		}
	}
	return demands[:min(len(demands), 10)]
}

// abridged lists at most ten versions, the newest.
func abridged(versions []string) string {
	const most = 10
	if n := len(versions) - most; n > 0 {
		return "… " + strings.Join(versions[n:], ", ")
	}
	return strings.Join(versions, ", ")
}
