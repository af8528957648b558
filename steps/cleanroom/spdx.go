package cleanroom

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// What is written of SPDX 2.3 (https://spdx.github.io/spdx-spec/v2.3/), in JSON.
type (
	spdxDocument struct {
		Version       string             `json:"spdxVersion"`
		DataLicense   string             `json:"dataLicense"`
		ID            string             `json:"SPDXID"`
		Name          string             `json:"name"`
		Namespace     string             `json:"documentNamespace"`
		Creation      spdxCreation       `json:"creationInfo"`
		Comment       string             `json:"comment,omitempty"`
		Packages      []spdxPackage      `json:"packages"`
		Files         []spdxFile         `json:"files,omitempty"`
		Relationships []spdxRelationship `json:"relationships"`
	}
	spdxCreation struct {
		Created  string   `json:"created"`
		Creators []string `json:"creators"`
	}
	spdxPackage struct {
		ID            string         `json:"SPDXID"`
		Name          string         `json:"name"`
		Version       string         `json:"versionInfo,omitempty"`
		Location      string         `json:"downloadLocation"`
		FilesAnalyzed bool           `json:"filesAnalyzed"`
		Verification  *spdxCode      `json:"packageVerificationCode,omitempty"`
		Checksums     []spdxChecksum `json:"checksums,omitempty"`
		Source        string         `json:"sourceInfo,omitempty"`
		Concluded     string         `json:"licenseConcluded"`
		Declared      string         `json:"licenseDeclared"`
		Copyright     string         `json:"copyrightText"`
		Purpose       string         `json:"primaryPackagePurpose,omitempty"`
		References    []spdxRef      `json:"externalRefs,omitempty"`
	}
	spdxCode struct {
		Value string `json:"packageVerificationCodeValue"`
	}
	spdxChecksum struct {
		Algorithm string `json:"algorithm"`
		Value     string `json:"checksumValue"`
	}
	spdxRef struct {
		Category string `json:"referenceCategory"`
		Type     string `json:"referenceType"`
		Locator  string `json:"referenceLocator"`
	}
	spdxFile struct {
		ID        string         `json:"SPDXID"`
		Name      string         `json:"fileName"`
		Checksums []spdxChecksum `json:"checksums"`
		Concluded string         `json:"licenseConcluded"`
		Copyright string         `json:"copyrightText"`
	}
	spdxRelationship struct {
		From string `json:"spdxElementId"`
		Type string `json:"relationshipType"`
		To   string `json:"relatedSpdxElement"`
	}
)

const (
	spdxRoot    = "SPDXRef-DOCUMENT"
	spdxImage   = "SPDXRef-image"
	spdxContent = "SPDXRef-content"
	spdxBase    = "SPDXRef-base"
	noAssertion = "NOASSERTION"
	// projectURL begins the names that this package gives to things.
	projectURL = "https://github.com/ultrafast-ci/ultrafast"
)

// bill describes an image as an SPDX document: the image, what was put into it with
// each file, the packages in that, and the base. Equal images give equal bytes: the
// time is the Unix epoch, the name space the digest of all else.
func bill(name string, image state.Digest, base state.BaseImage, in *inventory) ([]byte, error) {
	d := spdxDocument{
		Version: "SPDX-2.3", DataLicense: "CC0-1.0", ID: spdxRoot, Name: name,
		Creation: spdxCreation{Created: "1970-01-01T00:00:00Z", Creators: []string{"Tool: ultrafast-cleanroom-test"}},
	}
	whole := spdxOf(spdxImage, component{name: name, version: string(image), purl: purl("oci", strings.ToLower(name), string(image)), algorithm: "SHA256", sum: image.Hex()})
	whole.Purpose = "CONTAINER"
	d.Packages = append(d.Packages, whole)
	d.relate(spdxRoot, "DESCRIBES", spdxImage)
	d.addContent(name, in)
	if base.Digest != "" {
		baseName := base.Name
		if baseName == "" {
			baseName = "base"
		}
		repository := baseName[strings.LastIndex(baseName, "/")+1:]
		repository, _, _ = strings.Cut(repository, ":")
		of := spdxOf(spdxBase, component{name: baseName, version: string(base.Digest), purl: purl("oci", repository, string(base.Digest)), algorithm: "SHA256", sum: base.Digest.Hex()})
		of.Purpose = "CONTAINER"
		d.Packages = append(d.Packages, of)
		d.relate(spdxImage, "DESCENDANT_OF", spdxBase)
	}
	for _, c := range in.components() {
		id := spdxID("package", c.purl)
		d.Packages = append(d.Packages, spdxOf(id, c))
		d.relate(spdxContent, "DEPENDS_ON", id)
	}
	unnamed, err := encode(d)
	if err != nil {
		return nil, err
	}
	d.Namespace = projectURL + "/spdx/" + image.Hex() + "/" + state.DigestOf(unnamed).Hex()
	return encode(d)
}

// addContent adds the files.
func (d *spdxDocument) addContent(name string, in *inventory) {
	c := spdxOf(spdxContent, component{name: name, source: "what was put into the image"})
	d.relate(spdxImage, "CONTAINS", spdxContent)
	switch {
	case len(in.unread) > 0:
		d.Comment = "Layers that were not read: " + strings.Join(in.unread, ", ")
	case len(in.files) > maxListed:
		d.Comment = fmt.Sprintf("The %d files are not listed: there are more than %d.", len(in.files), maxListed)
	case len(in.files) > 0:
		var sums []string
		for _, file := range slices.Sorted(maps.Keys(in.files)) {
			f := in.files[file]
			sums = append(sums, f.sha1)
			id := spdxID("file", file)
			d.Files = append(d.Files, spdxFile{
				ID: id, Name: "./" + file, Checksums: []spdxChecksum{{"SHA1", f.sha1}, {"SHA256", f.sha256}}, Concluded: noAssertion, Copyright: noAssertion,
			})
			d.relate(spdxContent, "CONTAINS", id)
		}
		slices.Sort(sums) // section 7.9: of the sorted sums, written one after the other
		code := sha1.Sum([]byte(strings.Join(sums, "")))
		c.FilesAnalyzed, c.Verification = true, &spdxCode{hex.EncodeToString(code[:])}
	}
	d.Packages = append(d.Packages, c)
}

func (d *spdxDocument) relate(from, kind, to string) {
	d.Relationships = append(d.Relationships, spdxRelationship{from, kind, to})
}

func spdxOf(id string, c component) spdxPackage {
	p := spdxPackage{
		ID: id, Name: c.name, Version: c.version, Location: c.location, Source: c.source,
		Concluded: noAssertion, Declared: noAssertion, Copyright: noAssertion,
	}
	if p.Location == "" {
		p.Location = noAssertion
	}
	if c.sum != "" {
		p.Checksums = []spdxChecksum{{c.algorithm, c.sum}}
	}
	if c.purl != "" {
		p.References = []spdxRef{{"PACKAGE-MANAGER", "purl", c.purl}}
	}
	return p
}

// spdxID returns an identifier for a text that may have any letters.
func spdxID(kind, text string) string {
	return "SPDXRef-" + kind + "-" + state.DigestOf([]byte(text)).Hex()[:24]
}

// encode writes JSON without white space or HTML escapes.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}
