// Package store keeps chains and their artifacts between phases and jobs.
//
// A store is named by a URL. "layout:DIR" is an OCI image layout in a directory:
// every entry is a manifest whose config is the claim and whose layers are the
// artifacts, evidence is a manifest that refers to it. Any OCI tool can read it.
// A store never changes a blob once written, and trusts none when reading.
package store

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

const layoutScheme = "layout:"

// Open returns the store named by url, making it if it does not exist. A relative
// directory is taken from base.
func Open(ctx context.Context, url, base string) (*Layout, error) {
	dir, ok := strings.CutPrefix(url, layoutScheme)
	if !ok || dir == "" {
		return nil, fault.New(fault.Usage, "write layout:DIR, for example layout:.ggen/state",
			"store %q has an unknown form", url)
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(base, dir)
	}
	return openLayout(ctx, filepath.Clean(dir))
}
