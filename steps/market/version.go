package market

import (
	"strings"

	"github.com/Masterminds/semver/v3"
)

// version is a parsed semantic version.
type version = semver.Version

// parseVersion accepts a full semantic version 2.0.0 and nothing shorter.
func parseVersion(s string) (*version, error) { return semver.StrictNewVersion(s) }

// compareVersions orders by precedence, and by the text where that is equal
// (build metadata), so that every order is total.
func compareVersions(a, b *version) int {
	if c := a.Compare(b); c != 0 {
		return c
	}
	return strings.Compare(a.Original(), b.Original())
}

// versionRange is a set of versions.
type versionRange struct {
	text string
	// any is set for "", "*" and "latest": whichever version, preferably the newest.
	any         bool
	constraints *semver.Constraints
}

// parseRange accepts the ranges of Masterminds/semver: "^1.2", "~1.2.3",
// ">=1.0, <2.0", "1.x", "1.2.3", alternatives with "||".
func parseRange(s string, prerelease bool) (versionRange, error) {
	text := strings.TrimSpace(s)
	if text == "" || text == "*" || text == "latest" {
		return versionRange{text: "*", any: true}, nil
	}
	c, err := semver.NewConstraint(text)
	if err != nil {
		return versionRange{}, err
	}
	c.IncludePrerelease = prerelease
	return versionRange{text: text, constraints: c}, nil
}

func (r versionRange) contains(v *version, prerelease bool) bool {
	if r.any {
		return prerelease || v.Prerelease() == ""
	}
	return r.constraints.Check(v)
}
