package state

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/phase"
)

// Schema is the version of the claim encoding written by this package. A reader
// refuses a higher one.
const Schema = 1

// Media types of the artifacts that phases hand to each other.
const (
	// MediaTypeTree is a directory tree as written by [Pack]: an uncompressed tar.
	MediaTypeTree = "application/vnd.ultrafast.tree.v1.tar"
	// MediaTypePackage is a template package, a tree like [MediaTypeTree].
	MediaTypePackage = "application/vnd.ultrafast.package.v1.tar"
	// MediaTypeImageManifest is an OCI image manifest; its config and layers are
	// artifacts of the same entry.
	MediaTypeImageManifest = "application/vnd.oci.image.manifest.v1+json"
	// MediaTypeEnvelope is a DSSE envelope.
	MediaTypeEnvelope = "application/vnd.dsse.envelope.v1+json"
	// MediaTypeJUnit, MediaTypeJSON and MediaTypeLog are evidence.
	MediaTypeJUnit = "application/vnd.junit.v1+xml"
	MediaTypeJSON  = "application/json"
	MediaTypeLog   = "text/plain; charset=utf-8"
)

// Names of artifacts that more than one phase reads.
const (
	// ArtifactTree is the generated source tree.
	ArtifactTree = "tree"
	// ArtifactImage is the manifest of the packaged image. Its config is
	// "image/config" and its layers are "image/layer/0", "image/layer/1", …
	ArtifactImage = "image"
)

// Outcome is how a phase, a test or a check ended.
type Outcome string

// The outcomes. A phase passes or fails; a check may also be one of the others,
// none of which counts as passed.
const (
	Passed        Outcome = "passed"
	Failed        Outcome = "failed"
	Skipped       Outcome = "skipped"
	Unknown       Outcome = "unknown"
	Waived        Outcome = "waived"
	NotApplicable Outcome = "not-applicable"
)

// Entry is the claim of one phase. It holds nothing that differs between two
// runs with the same inputs: no time, duration, attempt, run id, path, host,
// log or back end.
type Entry struct {
	Schema int        `json:"schema"`
	Phase  phase.Name `json:"phase"`
	// Prev is the digest of the entry before this one; empty in the first.
	Prev Digest `json:"prev,omitempty"`
	// Tool made the entry.
	Tool Tool `json:"tool"`
	// Inputs are what the phase read besides the state, sorted by name.
	Inputs []Input `json:"inputs,omitempty"`
	// Outcome is Passed or Failed.
	Outcome Outcome `json:"outcome"`
	// Checks are the tests or checks that ran, sorted by name.
	Checks []Check `json:"checks,omitempty"`
	// Artifacts are what the phase made, sorted by name.
	Artifacts []Artifact `json:"artifacts,omitempty"`

	// One of these is set, that of the entry's own phase.
	Market    *Market    `json:"market,omitempty"`
	Generate  *Generate  `json:"generate,omitempty"`
	Cleanroom *Cleanroom `json:"cleanroom,omitempty"`
	Validate  *Validate  `json:"validate,omitempty"`
	Deploy    *Deploy    `json:"deploy,omitempty"`
}

// Tool is the program that made an entry: the phase and the module version, not
// the executable, so that a binary, an image and a library give equal entries.
type Tool struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Input is something a phase read, by the digest of its content.
type Input struct {
	Name   string `json:"name"`
	Digest Digest `json:"digest"`
}

// Check is one test or check by name.
type Check struct {
	Name    string  `json:"name"`
	Outcome Outcome `json:"outcome"`
}

// Artifact names bytes that a phase made.
type Artifact struct {
	// Name is unique within its entry.
	Name      string `json:"name"`
	MediaType string `json:"mediaType"`
	Digest    Digest `json:"digest"`
	// Size in bytes.
	Size int64 `json:"size"`
}

// Market is what the market phase claims.
type Market struct {
	// Packages are all that were resolved, sorted by id. Each is the artifact
	// "package/<id>" of the entry.
	Packages []Package `json:"packages"`
}

// Package is one resolved template package.
type Package struct {
	ID      string `json:"id"`
	Version string `json:"version"`
	// Sum is the digest of the package's file list, as the index and the lock have it.
	Sum Digest `json:"sum"`
	// Dependencies are "id@version", sorted.
	Dependencies []string `json:"dependencies,omitempty"`
}

// Generate is what the generate phase claims. The tree is the artifact [ArtifactTree].
type Generate struct {
	// Templates are the references that were rendered, in order.
	Templates []string `json:"templates"`
	Files     int      `json:"files"`
	// Seed fixes everything that would otherwise vary.
	Seed uint64 `json:"seed"`
}

// Cleanroom is what the cleanroom-test phase claims.
type Cleanroom struct {
	// Tree is the digest of the tree that was built and tested.
	Tree Digest `json:"tree"`
	// Image is the digest of the packaged image's manifest; empty if tests failed.
	Image Digest `json:"image,omitempty"`
	// Toolchain names what built the tree, for example "go1.26.0 linux/amd64".
	Toolchain string `json:"toolchain"`
	// Shard is set if a part of the tests ran. Such an entry has no image by itself:
	// the shards of a set are merged into the entry that a run of all tests makes.
	Shard *Shard `json:"shard,omitempty"`
	// Selected are the patterns of the tests that ran, sorted, if not all did. Such an
	// entry has no image.
	Selected []string `json:"selected,omitempty"`
}

// Shard says which part of the tests ran.
type Shard struct {
	// Index is 1 to Count.
	Index int `json:"index"`
	Count int `json:"count"`
	// Image is the digest of the image that this shard made, whose artifacts have
	// [ShardPrefix] before their names; empty if tests failed.
	Image Digest `json:"image,omitempty"`
	// Plan is the digest of the units and durations by which the tests were cut into
	// shards; empty if only their order counted. Shards of one set have one plan.
	Plan Digest `json:"plan,omitempty"`
}

// ShardPrefix stands before the names of artifacts that a single shard made, where
// nobody takes them for those of a whole run.
const ShardPrefix = "shard/"

// MaxShards is the most shards of a set.
const MaxShards = 256

// Check reports an index or a count out of range.
func (s *Shard) Check() error {
	if s.Count < 1 || s.Count > MaxShards || s.Index < 1 || s.Index > s.Count {
		return fmt.Errorf("shard %d of %d: there may be 1 to %d, counted from 1", s.Index, s.Count, MaxShards)
	}
	return nil
}

// Validate is what the validate phase claims.
type Validate struct {
	// Tree and Image are what was judged.
	Tree  Digest `json:"tree"`
	Image Digest `json:"image"`
	// Policy is the digest of the rules that were applied.
	Policy Digest `json:"policy"`
}

// Deploy is what the deploy phase claims.
type Deploy struct {
	Environment string `json:"environment"`
	Strategy    string `json:"strategy"`
	Image       Digest `json:"image"`
	// Plan is the digest of the plan that was carried out.
	Plan Digest `json:"plan"`
}

// Normalize sorts what must be sorted and sets the schema. A phase need not call
// it: whoever appends the entry does.
func (e *Entry) Normalize() {
	e.Schema = Schema
	slices.SortFunc(e.Inputs, func(a, b Input) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(e.Checks, func(a, b Check) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(e.Artifacts, func(a, b Artifact) int { return strings.Compare(a.Name, b.Name) })
	if e.Market != nil {
		slices.SortFunc(e.Market.Packages, func(a, b Package) int { return strings.Compare(a.ID, b.ID) })
		for i := range e.Market.Packages {
			slices.Sort(e.Market.Packages[i].Dependencies)
		}
	}
}

// Artifact returns the artifact called name.
func (e *Entry) Artifact(name string) (Artifact, bool) {
	i := slices.IndexFunc(e.Artifacts, func(a Artifact) bool { return a.Name == name })
	if i < 0 {
		return Artifact{}, false
	}
	return e.Artifacts[i], true
}

// Check reports what is wrong with the entry, if anything: an unknown phase or
// schema, a field of another phase, a name that occurs twice, a bad digest.
func (e *Entry) Check() error {
	if e.Schema < 1 || e.Schema > Schema {
		return fmt.Errorf("entry has schema %d; this program reads 1 to %d", e.Schema, Schema)
	}
	if !e.Phase.Valid() {
		return fmt.Errorf("entry has unknown phase %q", e.Phase)
	}
	if e.Outcome != Passed && e.Outcome != Failed {
		return fmt.Errorf("%s entry has outcome %q, not %q or %q", e.Phase, e.Outcome, Passed, Failed)
	}
	set := map[phase.Name]bool{
		phase.Market: e.Market != nil, phase.Generate: e.Generate != nil, phase.Cleanroom: e.Cleanroom != nil,
		phase.Validate: e.Validate != nil, phase.Deploy: e.Deploy != nil,
	}
	for _, name := range phase.All() {
		if set[name] != (name == e.Phase) {
			return fmt.Errorf("%s entry: field of phase %s is %s", e.Phase, name, map[bool]string{true: "set", false: "missing"}[set[name]])
		}
	}
	if e.Cleanroom != nil && e.Cleanroom.Shard != nil {
		if err := e.Cleanroom.Shard.Check(); err != nil {
			return fmt.Errorf("%s entry: %w", e.Phase, err)
		}
	}
	if e.Prev != "" {
		if _, err := ParseDigest(string(e.Prev)); err != nil {
			return fmt.Errorf("%s entry: previous entry: %w", e.Phase, err)
		}
	}
	return e.checkLists()
}

func (e *Entry) checkLists() error {
	var last string
	for _, in := range e.Inputs {
		if _, err := ParseDigest(string(in.Digest)); err != nil {
			return fmt.Errorf("%s entry: input %q: %w", e.Phase, in.Name, err)
		}
		if in.Name <= last {
			return fmt.Errorf("%s entry: input %q is out of order or occurs twice", e.Phase, in.Name)
		}
		last = in.Name
	}
	last = ""
	for _, a := range e.Artifacts {
		if _, err := ParseDigest(string(a.Digest)); err != nil {
			return fmt.Errorf("%s entry: artifact %q: %w", e.Phase, a.Name, err)
		}
		if a.Name <= last {
			return fmt.Errorf("%s entry: artifact %q is out of order or occurs twice", e.Phase, a.Name)
		}
		if a.Size < 0 || a.MediaType == "" {
			return fmt.Errorf("%s entry: artifact %q has no media type or a negative size", e.Phase, a.Name)
		}
		last = a.Name
	}
	last = ""
	for _, c := range e.Checks {
		if c.Name <= last {
			return fmt.Errorf("%s entry: check %q is out of order or occurs twice", e.Phase, c.Name)
		}
		last = c.Name
	}
	return nil
}
