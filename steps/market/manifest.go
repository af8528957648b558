package market

import (
	"maps"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/document"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// manifestName is the manifest at the root of a package.
const manifestName = "gpack.toml"

// manifest is the part of gpack.toml that must agree with the index.
type manifest struct {
	Gpack struct {
		ID      string `doc:"id,required"`
		Version string `doc:"version,required"`
	} `doc:"gpack,required"`
	Dependencies map[string]string `doc:"dependencies"`
}

// checkManifest refuses a package whose own manifest says something else than
// the index, by which it was resolved. A package without a manifest is accepted.
// The bytes must have been verified.
func checkManifest(c *locked, tar []byte) error {
	text, found, err := fileOf(tar, manifestName, document.MaxSize)
	if err != nil || !found {
		return err
	}
	node, err := document.ParseTOML(manifestName, text)
	if err != nil {
		return fault.New(fault.Finding, fault.HintOf(err), "package %s %s: %w", c.ID, c.Version, err)
	}
	var m manifest
	// The manifest has more sections than are read here.
	if _, err := document.DecodeKnown(node, &m); err != nil {
		return fault.New(fault.Finding, fault.HintOf(err), "package %s %s: %w", c.ID, c.Version, err)
	}
	if m.Gpack.ID != c.ID || m.Gpack.Version != c.Version {
		return fault.New(fault.Finding, "report it to the publisher of the index", "package %s %s: its %s says %.80q %.80q", c.ID, c.Version, manifestName, m.Gpack.ID, m.Gpack.Version)
	}
	want, got := slices.Sorted(maps.Keys(c.ranges)), slices.Sorted(maps.Keys(m.Dependencies))
	if c.ranges != nil && !slices.Equal(want, got) {
		return fault.New(fault.Finding, "report it to the publisher of the index", "package %s %s: its %s depends on [%s], the index says [%s]",
			c.ID, c.Version, manifestName, strings.Join(got, ", "), strings.Join(want, ", "))
	}
	return nil
}
