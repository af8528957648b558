package cleanroom

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/textproto"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/document"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

const (
	// maxListed bounds the files that an inventory lists one by one.
	maxListed = 50_000
	// maxMetadata bounds a file that names packages, maxProgram a program that is
	// looked into, in bytes; larger ones are listed alone.
	maxMetadata = 32 << 20
	maxProgram  = 512 << 20
)

// inventory is what own layers of an image hold, read from their bytes.
type inventory struct {
	files map[string]content
	// dirs are the directories that files are in.
	dirs map[string]bool
	// named are packages by the file that names them.
	named map[string][]component
	// resolved are where and what the packages of npm are, by directory.
	resolved map[string]component
	// unread says which layers could not be read, if any.
	unread []string
}

// content is a file by its digests in hex.
type content struct{ sha1, sha256 string }

// component is a package that is in an image.
type component struct {
	name, version, purl string
	// location is where it was fetched; empty if that is not known.
	location string
	// algorithm and sum are its checksum as SPDX names it, in hex; empty for none.
	algorithm, sum string
	// source says more, for people.
	source string
}

// takeInventory reads the layers, the lowest first. Each byte of them was verified.
func takeInventory(ctx context.Context, blobs state.Blobs, layers []state.Artifact) (*inventory, error) {
	in := &inventory{files: map[string]content{}, dirs: map[string]bool{}, named: map[string][]component{}, resolved: map[string]component{}}
	for _, layer := range layers {
		if err := in.read(ctx, blobs, layer); err != nil {
			return nil, fault.Wrap(err, fault.Finding, "", "read layer "+layer.Digest.Short())
		}
	}
	return in, nil
}

func (in *inventory) read(ctx context.Context, blobs state.Blobs, layer state.Artifact) (err error) {
	if strings.HasSuffix(layer.MediaType, "zstd") {
		in.unread = append(in.unread, string(layer.Digest))
		return nil
	}
	r, err := blobs.Open(ctx, layer)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	var plain io.Reader = r
	if strings.HasSuffix(layer.MediaType, "gzip") {
		if plain, err = gzip.NewReader(r); err != nil {
			return err
		}
	}
	for tr := tar.NewReader(plain); ; {
		header, err := tr.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		if err := in.add(header, tr); err != nil {
			return err
		}
	}
}

// add takes an entry of a layer, which replaces or removes those of lower ones.
func (in *inventory) add(header *tar.Header, r io.Reader) error {
	name := strings.TrimPrefix(path.Clean("/"+header.Name), "/")
	dir, base := path.Split(name)
	if gone, ok := strings.CutPrefix(base, ".wh."); ok {
		if gone == ".wh..opq" {
			in.removeBelow(strings.TrimSuffix(dir, "/"))
		} else {
			in.remove(dir + gone)
		}
		return nil
	}
	if header.Typeflag == tar.TypeDir { // it joins a directory, and replaces a file
		delete(in.files, name)
		delete(in.named, name)
		return nil
	}
	in.remove(name)
	if header.Typeflag != tar.TypeReg {
		return nil // a link has no content of its own
	}
	weak, strong := sha1.New(), sha256.New()
	w := io.MultiWriter(weak, strong)
	var kept *bytes.Buffer
	if header.Size <= in.wanted(name, header) {
		kept = &bytes.Buffer{}
		w = io.MultiWriter(weak, strong, kept)
	}
	if _, err := io.Copy(w, r); err != nil {
		return err
	}
	for at := path.Dir(name); at != "." && !in.dirs[at]; at = path.Dir(at) {
		in.dirs[at] = true
	}
	in.files[name] = content{hex.EncodeToString(weak.Sum(nil)), hex.EncodeToString(strong.Sum(nil))}
	if kept != nil {
		in.look(name, kept.Bytes())
	}
	return nil
}

// removeBelow forgets what is below a directory.
func (in *inventory) removeBelow(dir string) {
	under := func(name string) bool { return dir == "" || strings.HasPrefix(name, dir+"/") }
	maps.DeleteFunc(in.files, func(name string, _ content) bool { return under(name) })
	maps.DeleteFunc(in.named, func(name string, _ []component) bool { return under(name) })
	maps.DeleteFunc(in.dirs, func(name string, _ bool) bool { return under(name) })
}

// remove forgets a file, or a directory with all that is in it.
func (in *inventory) remove(name string) {
	delete(in.files, name)
	delete(in.named, name)
	if in.dirs[name] {
		in.removeBelow(name)
		delete(in.dirs, name)
	}
}

// wanted returns up to how many bytes a file is looked into.
func (in *inventory) wanted(name string, header *tar.Header) int64 {
	switch base := path.Base(name); {
	case base == "package-lock.json", base == "METADATA" && strings.HasSuffix(path.Dir(name), ".dist-info"), npmPackage.MatchString(name):
		return maxMetadata
	case header.Mode&0o111 != 0:
		return maxProgram
	}
	return -1
}

// npmPackage matches the manifest of an installed package.
var npmPackage = regexp.MustCompile(`(^|/)node_modules/(@[^/]+/)?[^/@.][^/]*/package\.json$`)

// look finds the packages that a file names. A file that cannot be read names none.
func (in *inventory) look(name string, b []byte) {
	var found []component
	switch base := path.Base(name); {
	case base == "package-lock.json":
		in.lockOfNPM(path.Dir(name), b)
	case base == "METADATA":
		found = pythonPackage(b)
	case npmPackage.MatchString(name):
		found = nodePackage(b)
	default:
		found = goModules(b)
	}
	if found != nil {
		in.named[name] = found
	}
}

// goModules returns what the go command has written into a program.
func goModules(program []byte) []component {
	if !bytes.HasPrefix(program, []byte("\x7fELF")) {
		return nil
	}
	info, err := buildinfo.Read(bytes.NewReader(program))
	if err != nil {
		return nil // no program of Go
	}
	version := strings.TrimPrefix(info.GoVersion, "go")
	found := []component{{name: "stdlib", version: info.GoVersion, purl: purl("golang", "stdlib", version), source: "standard library of Go"}}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		c := component{name: m.Path, version: m.Version, purl: purl("golang", strings.ToLower(m.Path), m.Version)}
		if m.Sum != "" {
			c.source = "go.sum " + m.Sum
		}
		found = append(found, c)
	}
	return found
}

// pythonPackage reads the metadata of an installed package
// (https://packaging.python.org/en/latest/specifications/core-metadata/).
func pythonPackage(b []byte) []component {
	head, _, _ := bytes.Cut(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")), []byte("\n\n"))
	var name, version string
	for line := range strings.Lines(string(head)) {
		key, value, _ := strings.Cut(strings.TrimRight(line, "\n"), ": ")
		switch textproto.CanonicalMIMEHeaderKey(key) {
		case "Name":
			name = strings.TrimSpace(value)
		case "Version":
			version = strings.TrimSpace(value)
		}
	}
	if name == "" || version == "" {
		return nil
	}
	// https://packaging.python.org/en/latest/specifications/name-normalization/
	normal := strings.ToLower(pythonSeparators.ReplaceAllString(name, "-"))
	return []component{{name: name, version: version, purl: purl("pypi", normal, version)}}
}

var pythonSeparators = regexp.MustCompile(`[-_.]+`)

func nodePackage(b []byte) []component {
	var manifest struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	}
	if json.Unmarshal(b, &manifest) != nil || manifest.Name == "" || manifest.Version == "" {
		return nil
	}
	return []component{{name: manifest.Name, version: manifest.Version, purl: purl("npm", manifest.Name, manifest.Version)}}
}

// lockOfNPM notes where packages came from
// (https://docs.npmjs.com/cli/configuring-npm/package-lock-json).
func (in *inventory) lockOfNPM(dir string, b []byte) {
	var lock struct {
		Packages map[string]struct {
			Resolved  string `json:"resolved"`
			Integrity string `json:"integrity"`
		} `json:"packages"`
	}
	if json.Unmarshal(b, &lock) != nil {
		return
	}
	for at, p := range lock.Packages {
		var c component
		if strings.HasPrefix(p.Resolved, "https://") || strings.HasPrefix(p.Resolved, "http://") {
			c.location = p.Resolved
		}
		if sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(p.Integrity, "sha512-")); err == nil && len(sum) == 64 {
			c.algorithm, c.sum = "SHA512", hex.EncodeToString(sum)
		}
		in.resolved[path.Join(dir, at)] = c
	}
}

// cargoPackages reads a Cargo.lock: the packages of registries and repositories.
func cargoPackages(b []byte) []component {
	root, err := document.ParseTOML("Cargo.lock", b)
	if err != nil {
		return nil
	}
	var lock struct {
		Package []struct {
			Name     string `doc:"name"`
			Version  string `doc:"version"`
			Source   string `doc:"source"`
			Checksum string `doc:"checksum"`
		} `doc:"package"`
	}
	if _, err := document.DecodeKnown(root, &lock); err != nil {
		return nil
	}
	var found []component
	for _, p := range lock.Package {
		if p.Source == "" {
			continue // a part of the tree
		}
		c := component{name: p.Name, version: p.Version, purl: purl("cargo", p.Name, p.Version), source: "named by Cargo.lock; whether it is linked is not known"}
		if len(p.Checksum) == 64 {
			c.algorithm, c.sum = "SHA256", p.Checksum
		}
		found = append(found, c)
	}
	return found
}

// components returns the packages, sorted, each once.
func (in *inventory) components() []component {
	by := map[string]component{}
	for _, file := range slices.Sorted(maps.Keys(in.named)) {
		for _, c := range in.named[file] {
			if from, ok := in.resolved[path.Dir(file)]; ok && npmPackage.MatchString(file) {
				c.location, c.algorithm, c.sum = from.location, from.algorithm, from.sum
			}
			if _, known := by[c.purl]; !known {
				by[c.purl] = c
			}
		}
	}
	all := slices.Collect(maps.Values(by))
	slices.SortFunc(all, func(a, b component) int { return strings.Compare(a.purl, b.purl) })
	return all
}

// purl returns a package URL
// (https://github.com/package-url/purl-spec/blob/main/PURL-SPECIFICATION.rst).
func purl(kind, name, version string) string {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		parts[i] = purlEscape(part)
	}
	url := "pkg:" + kind + "/" + strings.Join(parts, "/")
	if version == "" {
		return url
	}
	return url + "@" + purlEscape(version)
}

// purlEscape escapes all but letters, digits, and . - _ ~.
func purlEscape(s string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(".-_~", c) >= 0:
			b.WriteByte(c)
		default:
			b.WriteString("%" + string(digits[c>>4]) + string(digits[c&15]))
		}
	}
	return b.String()
}
