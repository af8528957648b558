package market

import (
	"maps"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// locked is a package to install: as it will stand in the lock, and what the
// index says of it beyond that.
type locked struct {
	Locked
	// ranges are the dependencies of the index; nil if no index was read.
	ranges map[string]string
	// pkg is the index's package, for its metadata; nil if no index was read.
	pkg *Package
}

// fromIndex turns resolved releases into what is to be installed. A release
// without digest or location cannot be verified or fetched; one whose digest
// differs from the one pinned before was changed under its version.
func fromIndex(choices []choice, pinned []Locked, noDeps bool) ([]locked, error) {
	versions := map[string]string{}
	for _, c := range choices {
		versions[c.pkg.ID] = c.release.Version
	}
	out := make([]locked, 0, len(choices))
	for _, c := range choices {
		id, r := c.pkg.ID, c.release
		switch {
		case r.Location == "" && r.GitURL != "":
			return nil, fault.New(fault.Finding, "ask its publisher for an archive in the index", "package %s %s is kept in git at %.200q, from where packages are not fetched", id, r.Version, r.GitURL)
		case r.Location == "":
			return nil, fault.New(fault.Finding, "add path or url to the index", "index has no location for package %s %s", id, r.Version)
		case r.Sum == "":
			return nil, fault.New(fault.Finding, "add sha256 to the index", "index has no digest for package %s %s, which so cannot be verified", id, r.Version)
		}
		for _, p := range pinned {
			if p.ID == id && p.Version == r.Version && p.Sum != r.Sum {
				return nil, fault.New(fault.Finding, "do not use it before its publisher explains; to accept the new content remove the package from "+LockName,
					"package %s %s was changed under its version: the index says %s, %s has %s", id, r.Version, r.Sum, LockName, p.Sum)
			}
		}
		l := locked{Locked: Locked{ID: id, Version: r.Version, Sum: r.Sum, Source: r.Location, Dependencies: []string{}}, pkg: c.pkg, ranges: r.Dependencies}
		if l.ranges == nil {
			l.ranges = map[string]string{}
		}
		if !noDeps {
			for _, dependency := range slices.Sorted(maps.Keys(r.Dependencies)) {
				l.Dependencies = append(l.Dependencies, dependency+"@"+versions[dependency])
			}
		}
		out = append(out, l)
	}
	return out, nil
}

// fromLock returns what the lock pins, if that is what the project asks for, no
// more and no less.
func fromLock(requests []Request, pinned []Locked, prerelease bool) ([]locked, error) {
	const hint = "run without --locked to bring the lock up to date, and commit it"
	byID := map[string]Locked{}
	for _, p := range pinned {
		byID[p.ID] = p
	}
	reached := map[string]bool{}
	var queue []string
	for _, q := range requests {
		p, ok := byID[q.ID]
		if !ok {
			return nil, fault.New(fault.Finding, hint, "%s has no package %s, which the project asks for", LockName, q.ID)
		}
		wants, err := parseRange(q.Range, prerelease)
		if err != nil {
			return nil, fault.New(fault.Usage, `write for example "^1.2"`, "%s asks for %s in the version range %.80q: %w", project, q.ID, q.Range, err)
		}
		v, err := parseVersion(p.Version)
		if err != nil || !wants.any && !wants.contains(v, prerelease) {
			return nil, fault.New(fault.Finding, hint, "%s pins %s %s, but the project asks for %s", LockName, p.ID, p.Version, wants.text)
		}
		queue = append(queue, q.ID)
	}
	for n := 0; n < len(queue); n++ {
		id := queue[n]
		if reached[id] {
			continue
		}
		reached[id] = true
		for _, dependency := range byID[id].Dependencies {
			name, version, _ := strings.Cut(dependency, "@")
			if byID[name].Version != version {
				return nil, fault.New(fault.Finding, hint, "%s: %s depends on %s, which is not pinned", LockName, id, dependency)
			}
			queue = append(queue, name)
		}
	}
	out := make([]locked, 0, len(pinned))
	for _, p := range pinned {
		if !reached[p.ID] {
			return nil, fault.New(fault.Finding, hint, "%s pins %s, which nothing asks for", LockName, p.ID)
		}
		out = append(out, locked{Locked: p})
	}
	return out, nil
}
