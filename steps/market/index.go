package market

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Index is a registry index in one model, whichever form it was written in.
type Index struct {
	// Packages are in the order of the index, those of the older form sorted by id.
	Packages []Package
	byID     map[string]int
}

// Package is one template package with its releases.
type Package struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Latest is the version that the index calls current.
	Latest       string     `json:"version"`
	Description  string     `json:"description"`
	Category     string     `json:"category,omitempty"`
	Author       string     `json:"author,omitempty"`
	License      string     `json:"license,omitempty"`
	Homepage     string     `json:"homepage,omitempty"`
	Repository   string     `json:"repository,omitempty"`
	Updated      string     `json:"updated,omitempty"`
	Tags         []string   `json:"tags"`
	Keywords     []string   `json:"keywords,omitempty"`
	Features     []string   `json:"features,omitempty"`
	QualityScore int        `json:"quality_score"` // 0 to 100
	Stars        int64      `json:"stars,omitempty"`
	Downloads    int64      `json:"downloads,omitempty"`
	Templates    []Template `json:"templates,omitempty"`
	// Releases are sorted by version, lowest first; there is at least one.
	Releases []Release `json:"releases"`
}

// Template is one template of a package, for display.
type Template struct {
	Name        string `json:"name"`
	Path        string `json:"path"`
	Description string `json:"description"`
}

// Release is one version of a package.
type Release struct {
	Version string `json:"version"`
	// Location is a path relative to the index, or a URL; empty if the index has none.
	Location string `json:"location,omitempty"`
	// GitURL and GitRev are where the older form keeps a release.
	GitURL string `json:"git_url,omitempty"`
	GitRev string `json:"git_rev,omitempty"`
	// Sum is the digest of the release's file list, see [Sum]; empty if the index has none.
	Sum state.Digest `json:"sum,omitempty"`
	// Dependencies are version ranges by package id.
	Dependencies map[string]string `json:"dependencies,omitempty"`

	version *version
}

// Bounds on an index besides its size.
const (
	maxReleases     = 10_000 // of one package
	maxDependencies = 1_000  // of one release
)

// Package returns the package called id.
func (x *Index) Package(id string) (*Package, bool) {
	i, ok := x.byID[id]
	if !ok {
		return nil, false
	}
	return &x.Packages[i], true
}

// IDs returns the ids of all packages in the order of the index.
func (x *Index) IDs() []string {
	ids := make([]string, 0, len(x.Packages))
	for i := range x.Packages {
		ids = append(ids, x.Packages[i].ID)
	}
	return ids
}

// Release returns the release of exactly this version.
func (p *Package) Release(version string) (*Release, bool) {
	i := slices.IndexFunc(p.Releases, func(r Release) bool { return r.Version == version })
	if i < 0 {
		return nil, false
	}
	return &p.Releases[i], true
}

// Versions returns all versions, lowest first.
func (p *Package) Versions() []string {
	out := make([]string, 0, len(p.Releases))
	for i := range p.Releases {
		out = append(out, p.Releases[i].Version)
	}
	return out
}

// Both JSON forms at once (behaviour.md A1): packages is the reference's form,
// with versions as our superset; packs is the older form.
type indexFile struct {
	Version  json.RawMessage            `json:"version"`
	Packages []packageFile              `json:"packages"`
	Packs    map[string]json.RawMessage `json:"packs"`
}

type packageFile struct {
	ID            string                 `json:"id"`
	Name          string                 `json:"name"`
	Version       string                 `json:"version"`
	LatestVersion string                 `json:"latest_version"`
	Description   string                 `json:"description"`
	Category      string                 `json:"category"`
	Author        string                 `json:"author"`
	License       string                 `json:"license"`
	Homepage      string                 `json:"homepage"`
	Repository    string                 `json:"repository"`
	Updated       string                 `json:"updated"`
	Tags          []string               `json:"tags"`
	Keywords      []string               `json:"keywords"`
	Features      []string               `json:"features"`
	QualityScore  int                    `json:"quality_score"`
	Stars         int64                  `json:"stars"`
	Downloads     int64                  `json:"downloads"`
	Templates     []Template             `json:"templates"`
	Dependencies  dependencies           `json:"dependencies"`
	Versions      map[string]releaseFile `json:"versions"`
}

type releaseFile struct {
	Version      string        `json:"version"`
	Path         string        `json:"path"`
	URL          string        `json:"url"`
	SHA256       string        `json:"sha256"`
	GitURL       string        `json:"git_url"`
	GitRev       string        `json:"git_rev"`
	Dependencies *dependencies `json:"dependencies"`
}

// dependencies are a list of bare ids, or a map of id to range.
type dependencies map[string]string

// UnmarshalJSON accepts both shapes.
func (d *dependencies) UnmarshalJSON(b []byte) error {
	*d = dependencies{}
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("[")) {
		var ids []string
		if err := json.Unmarshal(b, &ids); err != nil {
			return err
		}
		for _, id := range ids {
			if _, ok := (*d)[id]; ok {
				return fmt.Errorf("dependency %q occurs twice", id)
			}
			(*d)[id] = "*"
		}
		return nil
	}
	return json.Unmarshal(b, (*map[string]string)(d))
}

// DecodeIndex reads an index of either form. Unknown fields are accepted, an
// unknown major version is not. Errors are of kind fault.Finding and name the
// index as name.
func DecodeIndex(name string, data []byte) (*Index, error) {
	var file indexFile
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, jsonError(name, data, err)
	}
	if err := checkSchema(name, file.Version); err != nil {
		return nil, err
	}
	if file.Packages == nil && file.Packs == nil {
		return nil, fault.New(fault.Finding, "check the address of the index", "index %s: neither packages nor packs in it", name)
	}
	packages := file.Packages
	for id, raw := range file.Packs {
		var p packageFile
		if err := json.Unmarshal(raw, &p); err != nil {
			return nil, fault.New(fault.Finding, "", "index %s: pack %.80q: %w", name, id, err)
		}
		if p.ID == "" {
			p.ID = id
		}
		if p.ID != id {
			return nil, fault.New(fault.Finding, "", "index %s: pack %.80q calls itself %.80q", name, id, p.ID)
		}
		packages = append(packages, p)
	}
	// The packs come from a map; the order of the list form is kept.
	slices.SortFunc(packages[len(file.Packages):], func(a, b packageFile) int { return strings.Compare(a.ID, b.ID) })
	index := &Index{Packages: make([]Package, 0, len(packages)), byID: make(map[string]int, len(packages))}
	for i := range packages {
		p, err := packages[i].model()
		if err != nil {
			return nil, fault.New(fault.Finding, fault.HintOf(err), "index %s: package %d (%.80q): %w", name, i+1, packages[i].ID, err)
		}
		if _, ok := index.byID[p.ID]; ok {
			return nil, fault.New(fault.Finding, "", "index %s: package %q occurs twice", name, p.ID)
		}
		index.byID[p.ID] = len(index.Packages)
		index.Packages = append(index.Packages, p)
	}
	return index, nil
}

// jsonError adds line and column to an error of the decoder that has an offset.
func jsonError(name string, data []byte, err error) error {
	offset := int64(-1)
	var syntax *json.SyntaxError
	var mismatch *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &mismatch):
		offset = mismatch.Offset
	case errors.Is(err, io.ErrUnexpectedEOF):
		offset = int64(len(data))
	}
	if offset < 0 || offset > int64(len(data)) {
		return fault.New(fault.Finding, "", "index %s: %w", name, err)
	}
	before := data[:offset]
	line := bytes.Count(before, []byte("\n")) + 1
	column := max(1, int(offset)-bytes.LastIndexByte(before, '\n')-1)
	return fault.New(fault.Finding, "check that the address leads to an index and not to a page", "index %s:%d:%d: %w", name, line, column, err)
}

// checkSchema accepts major version 1, written as text or number, and none at all.
func checkSchema(name string, raw json.RawMessage) error {
	text := strings.Trim(string(raw), `" `)
	major, _, _ := strings.Cut(text, ".")
	if text == "" || text == "null" || major == "1" {
		return nil
	}
	return fault.New(fault.Finding, "use a newer version of this program", "index %s has version %.40q; this program reads version 1", name, text)
}

func (f *packageFile) model() (Package, error) {
	if err := CheckID(f.ID); err != nil {
		return Package{}, err
	}
	if f.QualityScore < 0 || f.QualityScore > 100 {
		return Package{}, fmt.Errorf("quality_score %d is outside 0 to 100", f.QualityScore)
	}
	p := Package{
		ID: f.ID, Name: f.Name, Latest: f.Version, Description: f.Description, Category: f.Category, Author: f.Author,
		License: f.License, Homepage: f.Homepage, Repository: f.Repository, Updated: f.Updated, Tags: f.Tags,
		Keywords: f.Keywords, Features: f.Features, QualityScore: f.QualityScore, Stars: f.Stars, Downloads: f.Downloads, Templates: f.Templates,
	}
	if p.Latest == "" {
		p.Latest = f.LatestVersion
	}
	if p.Name == "" {
		p.Name = p.ID
	}
	versions := f.Versions
	if len(versions) == 0 {
		versions = map[string]releaseFile{p.Latest: {}}
	}
	if len(versions) > maxReleases {
		return Package{}, fmt.Errorf("%d versions; at most %d are read", len(versions), maxReleases)
	}
	for number, file := range versions {
		r, err := file.model(number, f.Dependencies)
		if err != nil {
			return Package{}, fmt.Errorf("version %.80q: %w", number, err)
		}
		p.Releases = append(p.Releases, r)
	}
	slices.SortFunc(p.Releases, func(a, b Release) int { return compareVersions(a.version, b.version) })
	return p, p.checkLatest()
}

// checkLatest fills in a missing current version and refuses one that does not exist.
func (p *Package) checkLatest() error {
	if p.Latest == "" {
		p.Latest = p.Releases[len(p.Releases)-1].Version
		for _, r := range slices.Backward(p.Releases) {
			if r.version.Prerelease() == "" {
				p.Latest = r.Version
				break
			}
		}
	}
	if _, ok := p.Release(p.Latest); !ok {
		return fmt.Errorf("current version %.80q is not among its versions", p.Latest)
	}
	return nil
}

func (f *releaseFile) model(number string, inherited dependencies) (Release, error) {
	v, err := parseVersion(number)
	if err != nil {
		return Release{}, err
	}
	if f.Version != "" && f.Version != number {
		return Release{}, fmt.Errorf("calls itself %.80q", f.Version)
	}
	r := Release{Version: number, Location: f.Path, GitURL: f.GitURL, GitRev: f.GitRev, Dependencies: inherited, version: v}
	if f.URL != "" {
		if r.Location != "" {
			return Release{}, errors.New("path and url exclude each other")
		}
		r.Location = f.URL
	}
	if f.Dependencies != nil {
		r.Dependencies = *f.Dependencies
	}
	if f.SHA256 != "" {
		if r.Sum, err = state.ParseDigest("sha256:" + f.SHA256); err != nil {
			return Release{}, fmt.Errorf("sha256: %w", err)
		}
	}
	if len(r.Dependencies) > maxDependencies {
		return Release{}, fmt.Errorf("%d dependencies; at most %d are read", len(r.Dependencies), maxDependencies)
	}
	for id := range r.Dependencies {
		if err := CheckID(id); err != nil {
			return Release{}, fmt.Errorf("dependency: %w", err)
		}
	}
	return r, nil
}
