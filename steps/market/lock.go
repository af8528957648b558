package market

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/document"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// LockName is the name of the lock file, beside the project file.
const LockName = "ggen.lock"

// lockVersion is the version of the form that is written; no other is read.
const lockVersion = 1

// Locked is one package as the lock file pins it.
type Locked struct {
	ID      string
	Version string
	// Sum is the digest of the package's file list, see [Sum].
	Sum state.Digest
	// Source is where the index keeps the release: a path relative to it, or a URL.
	Source string
	// Dependencies are "id@version", sorted.
	Dependencies []string
}

// lockFile is the layout of ggen.lock.
type lockFile struct {
	Version  int         `doc:"version,required"`
	Packages []lockEntry `doc:"package"`
}

type lockEntry struct {
	ID           string   `doc:"id,required"`
	Version      string   `doc:"version,required"`
	SHA256       string   `doc:"sha256,required"`
	Source       string   `doc:"source"`
	Dependencies []string `doc:"dependencies"`
}

// ParseLock reads a lock file. Its errors are of kind fault.Usage with a place.
func ParseLock(data []byte) ([]Locked, error) {
	node, err := document.ParseTOML(LockName, data)
	if err != nil {
		return nil, err
	}
	const hint = "restore the file from version control, or remove it and run again"
	var file lockFile
	if err := document.Decode(node, &file); err != nil {
		return nil, err
	}
	if file.Version != lockVersion {
		return nil, fault.New(fault.Usage, "use the version of this program that wrote it", "%s has version %d; this program reads %d", LockName, file.Version, lockVersion)
	}
	out := make([]Locked, 0, len(file.Packages))
	for i, e := range file.Packages {
		l, err := e.locked()
		if err != nil {
			return nil, fault.New(fault.Usage, hint, "%s: %w", node.Get("package").Items[i].Place, err)
		}
		if slices.ContainsFunc(out, func(other Locked) bool { return other.ID == l.ID }) {
			return nil, fault.New(fault.Usage, hint, "%s: package %s occurs twice", node.Get("package").Items[i].Place, l.ID)
		}
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b Locked) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

func (e lockEntry) locked() (Locked, error) {
	if err := CheckID(e.ID); err != nil {
		return Locked{}, err
	}
	if _, err := parseVersion(e.Version); err != nil {
		return Locked{}, fmt.Errorf("version %.80q: %w", e.Version, err)
	}
	sum, err := state.ParseDigest("sha256:" + e.SHA256)
	if err != nil {
		return Locked{}, fmt.Errorf("sha256: %w", err)
	}
	for _, dependency := range e.Dependencies {
		id, text, _ := strings.Cut(dependency, "@")
		if err := CheckID(id); err != nil {
			return Locked{}, err
		}
		if _, err := parseVersion(text); err != nil {
			return Locked{}, fmt.Errorf("dependency %.80q: %w", dependency, err)
		}
	}
	return Locked{ID: e.ID, Version: e.Version, Sum: sum, Source: e.Source, Dependencies: e.Dependencies}, nil
}

// FormatLock writes a lock file. Equal packages give equal bytes.
func FormatLock(packages []Locked) []byte {
	var b strings.Builder
	b.WriteString("# Written by market; do not edit. Keep it in version control.\n")
	fmt.Fprintf(&b, "version = %d\n", lockVersion)
	sorted := slices.Clone(packages)
	slices.SortFunc(sorted, func(a, c Locked) int { return strings.Compare(a.ID, c.ID) })
	for _, p := range sorted {
		fmt.Fprintf(&b, "\n[[package]]\nid = %s\nversion = %s\nsha256 = %s\nsource = %s\n", document.QuoteTOML(p.ID),
			document.QuoteTOML(p.Version), document.QuoteTOML(p.Sum.Hex()), document.QuoteTOML(p.Source))
		dependencies := slices.Sorted(slices.Values(p.Dependencies))
		quoted := make([]string, 0, len(dependencies))
		for _, d := range dependencies {
			quoted = append(quoted, document.QuoteTOML(d))
		}
		fmt.Fprintf(&b, "dependencies = [%s]\n", strings.Join(quoted, ", "))
	}
	return []byte(b.String())
}
