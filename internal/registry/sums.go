package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// WriteSums fills in "sha256" of every release with a "path" in dir/index.json,
// with sum computed over the package's directory. Other fields and the order of
// keys stay as they are. The file is replaced in one step, and only if a digest
// changed; the result says whether one did.
func WriteSums(dir string, sum func(fs.FS) (state.Digest, error)) (changed bool, err error) {
	name := filepath.Join(dir, indexName)
	before, err := readFile(name, MaxIndex)
	if err != nil {
		return false, fault.Wrap(err, fault.Unavailable, "", "read index")
	}
	var index struct {
		Packages []struct {
			ID       string                     `json:"id"`
			Versions map[string]json.RawMessage `json:"versions"`
		} `json:"packages"`
	}
	if err := json.Unmarshal(before, &index); err != nil {
		return false, fault.New(fault.Finding, "", "index %s: %w", name, err)
	}
	after := before
	for _, p := range index.Packages {
		for _, version := range slices.Sorted(maps.Keys(p.Versions)) {
			old := p.Versions[version]
			release, err := withSum(dir, old, sum)
			if err != nil {
				return false, fmt.Errorf("package %s %s: %w", p.ID, version, err)
			}
			if bytes.Count(after, old) != 1 && !bytes.Equal(old, release) {
				return false, fault.New(fault.Finding, "give every release its own path", "package %s %s: its entry is in the index more than once", p.ID, version)
			}
			after = bytes.Replace(after, old, release, 1)
		}
	}
	if bytes.Equal(before, after) {
		return false, nil
	}
	return true, fault.Wrap(writeFile(name, after), fault.Unavailable, "", "write index")
}

// withSum returns the JSON text of a release with its digest in it.
func withSum(dir string, release json.RawMessage, sum func(fs.FS) (state.Digest, error)) (_ json.RawMessage, err error) {
	var fields struct {
		Path   string  `json:"path"`
		SHA256 *string `json:"sha256"`
	}
	if err := json.Unmarshal(release, &fields); err != nil || fields.Path == "" {
		return release, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	if err := noLinks(root, fields.Path); err != nil {
		return nil, err
	}
	sub, err := root.OpenRoot(fields.Path)
	if err != nil {
		return nil, fault.Wrap(err, fault.Finding, "", "package directory")
	}
	defer func() { err = errors.Join(err, sub.Close()) }()
	digest, err := sum(sub.FS())
	if err != nil {
		return nil, err
	}
	if fields.SHA256 != nil && *fields.SHA256 == digest.Hex() {
		return release, nil
	}
	if fields.SHA256 == nil {
		rest := bytes.TrimPrefix(release, []byte("{"))
		return fmt.Appendf(nil, "{\"sha256\": %q, %s", digest.Hex(), bytes.TrimLeft(rest, " \t\r\n")), nil
	}
	if len(sumField.FindAll(release, 2)) != 1 {
		return nil, fault.New(fault.Finding, `write "sha256": "…" once`, "its present sha256 %q cannot be replaced", *fields.SHA256)
	}
	return sumField.ReplaceAllLiteral(release, fmt.Appendf(nil, "\"sha256\": %q", digest.Hex())), nil
}

var sumField = regexp.MustCompile(`"sha256"\s*:\s*"[^"]*"`)
