package cleanroom_test

import (
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/oci"
	"github.com/ultrafast-ci/ultrafast/internal/oci/ocitest"
	"github.com/ultrafast-ci/ultrafast/steps/cleanroom"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// referrer returns the content of a referrer of the image of an entry, whose manifest
// names the image.
func (l *lab) referrer(t *testing.T, e *state.Entry, name string) []byte {
	t.Helper()
	manifest, content := state.ArtifactReferrer(name)
	a, ok := e.Artifact(manifest)
	if !ok {
		t.Fatalf("no %s among %v", manifest, e.Artifacts)
	}
	raw, err := state.ReadBlob(t.Context(), l.blobs, a)
	if err != nil {
		t.Fatal(err)
	}
	var m struct{ Subject struct{ Digest state.Digest } }
	if err := json.Unmarshal(raw, &m); err != nil || m.Subject.Digest != e.Cleanroom.Image {
		t.Errorf("%s refers to %s, not to image %s", name, m.Subject.Digest, e.Cleanroom.Image)
	}
	if a, ok = e.Artifact(content); !ok {
		t.Fatalf("no %s", content)
	}
	b, err := state.ReadBlob(t.Context(), l.blobs, a)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// spdx is what is read of a document, every field that SPDX 2.3 asks for.
type spdx struct {
	SPDXVersion, DataLicense, SPDXID, Name, DocumentNamespace, Comment string
	CreationInfo                                                       struct {
		Created  string
		Creators []string
	}
	Packages []struct {
		SPDXID, Name, VersionInfo, DownloadLocation, LicenseConcluded, LicenseDeclared, CopyrightText, SourceInfo, PrimaryPackagePurpose string
		FilesAnalyzed                                                                                                                    *bool
		PackageVerificationCode                                                                                                          *struct{ PackageVerificationCodeValue string }
		Checksums                                                                                                                        []spdxSum
		ExternalRefs                                                                                                                     []struct{ ReferenceCategory, ReferenceType, ReferenceLocator string }
	}
	Files []struct {
		SPDXID, FileName, LicenseConcluded, CopyrightText string
		Checksums                                         []spdxSum
	}
	Relationships []struct{ SpdxElementID, RelationshipType, RelatedSpdxElement string }
}

type spdxSum struct{ Algorithm, ChecksumValue string }

var (
	spdxIDForm = regexp.MustCompile(`^SPDXRef-[A-Za-z0-9.-]+$`)
	purlForm   = regexp.MustCompile(`^pkg:[a-z]+/[A-Za-z0-9.%_~/-]+(@[A-Za-z0-9.%_~-]+)?$`)
	sumLength  = map[string]int{"SHA1": 40, "SHA256": 64, "SHA512": 128}
)

// readSPDX decodes a document and checks what the specification and its JSON schema ask.
func readSPDX(t *testing.T, b []byte) spdx {
	t.Helper()
	var d spdx
	dec := json.NewDecoder(strings.NewReader(string(b)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	if d.SPDXVersion != "SPDX-2.3" || d.DataLicense != "CC0-1.0" || d.SPDXID != "SPDXRef-DOCUMENT" || d.Name == "" ||
		d.CreationInfo.Created != "1970-01-01T00:00:00Z" || !slices.Equal(d.CreationInfo.Creators, []string{"Tool: ultrafast-cleanroom-test"}) {
		t.Errorf("head of the document: %+v", d)
	}
	if u, err := url.Parse(d.DocumentNamespace); err != nil || !u.IsAbs() || u.Fragment != "" || strings.Contains(d.DocumentNamespace, "#") {
		t.Errorf("name space %q", d.DocumentNamespace)
	}
	ids := map[string]bool{"SPDXRef-DOCUMENT": true}
	know := func(id string) {
		if !spdxIDForm.MatchString(id) || ids[id] {
			t.Errorf("identifier %q is malformed, or occurs twice", id)
		}
		ids[id] = true
	}
	sums := func(of string, all []spdxSum) {
		for _, s := range all {
			if b, err := hex.DecodeString(s.ChecksumValue); err != nil || 2*len(b) != sumLength[s.Algorithm] {
				t.Errorf("%s has the checksum %+v", of, s)
			}
		}
	}
	for _, f := range d.Files {
		know(f.SPDXID)
		if !strings.HasPrefix(f.FileName, "./") || len(f.Checksums) != 2 || f.Checksums[0].Algorithm != "SHA1" || f.Checksums[1].Algorithm != "SHA256" || f.LicenseConcluded == "" {
			t.Errorf("file %+v", f)
		}
		sums(f.FileName, f.Checksums)
	}
	for _, p := range d.Packages {
		know(p.SPDXID)
		if p.Name == "" || p.DownloadLocation == "" || p.FilesAnalyzed == nil || (p.PackageVerificationCode != nil) != *p.FilesAnalyzed {
			t.Errorf("package %+v", p)
		}
		sums(p.Name, p.Checksums)
		for _, r := range p.ExternalRefs {
			if r.ReferenceCategory != "PACKAGE-MANAGER" || r.ReferenceType != "purl" || !purlForm.MatchString(r.ReferenceLocator) {
				t.Errorf("reference %+v of %s", r, p.Name)
			}
		}
		if *p.FilesAnalyzed {
			var weak []string
			for _, f := range d.Files {
				weak = append(weak, f.Checksums[0].ChecksumValue)
			}
			slices.Sort(weak)
			code := sha1.Sum([]byte(strings.Join(weak, "")))
			if p.PackageVerificationCode.PackageVerificationCodeValue != hex.EncodeToString(code[:]) {
				t.Errorf("verification code of %s", p.Name)
			}
		}
	}
	contained, described := map[string]bool{}, 0
	for _, r := range d.Relationships {
		if !ids[r.SpdxElementID] || !ids[r.RelatedSpdxElement] || !slices.Contains([]string{"DESCRIBES", "CONTAINS", "DEPENDS_ON", "DESCENDANT_OF"}, r.RelationshipType) {
			t.Errorf("relationship %+v", r)
		}
		if r.RelationshipType == "DESCRIBES" {
			described++
		}
		contained[r.RelatedSpdxElement] = true
	}
	for id := range ids {
		if id != "SPDXRef-DOCUMENT" && !contained[id] {
			t.Errorf("nothing leads to %s", id)
		}
	}
	if described != 1 {
		t.Errorf("%d elements are described", described)
	}
	return d
}

// purls returns the package URLs of all but the image and what was put into it.
func (d spdx) purls() (all []string) {
	for _, p := range d.Packages {
		for _, r := range p.ExternalRefs {
			if !strings.HasPrefix(r.ReferenceLocator, "pkg:oci/") {
				all = append(all, r.ReferenceLocator)
			}
		}
	}
	slices.Sort(all)
	return all
}

// The program is listed by its digests, with the standard library that is linked in, and
// the base; the provenance names what went in and no host. Both are found by a registry
// that the image was pushed to.
func TestReferrers(t *testing.T) {
	t.Parallel()
	r := ocitest.New(t)
	digest := pushBase(t, r, "team/base", "1", map[string]any{"User": "1000"})
	var boms, made []string
	for range 2 {
		l := newLab(t)
		l.withBase(t, r.Host+"/team/base:1")
		res, err := l.run(t, shop)
		if err != nil {
			t.Fatal(err)
		}
		e := &res.Entry
		e.Normalize()
		if err := e.Check(); err != nil {
			t.Fatal(err)
		}
		bom, provenance := l.referrer(t, e, state.ReferrerSBOM), l.referrer(t, e, state.ReferrerProvenance)
		boms, made = append(boms, string(bom)), append(made, string(provenance))
		d := readSPDX(t, bom)
		program := imageFiles(t, l, e, 1)["shop"]
		if len(d.Files) != 1 || d.Files[0].FileName != "./shop" || d.Files[0].Checksums[1].ChecksumValue != state.DigestOf([]byte(program)).Hex() {
			t.Errorf("files %+v", d.Files)
		}
		tool, err := hostToolchain()
		if err != nil {
			t.Fatal(err)
		}
		if got := d.purls(); len(got) != 1 || got[0] != "pkg:golang/stdlib@"+strings.TrimPrefix(tool.Version, "go") {
			t.Errorf("packages %v", got)
		}
		if !strings.Contains(string(bom), `{"spdxElementId":"SPDXRef-image","relationshipType":"DESCENDANT_OF","relatedSpdxElement":"SPDXRef-base"}`) || !strings.Contains(string(bom), digest.Hex()) {
			t.Errorf("no base in %s", bom)
		}
		checkProvenance(t, provenance, e, digest, tool.Version)
		if strings.Contains(string(provenance)+string(bom), l.temp) {
			t.Error("a directory of this machine is named")
		}
		if _, err := (oci.Client{}).Push(t.Context(), l.blobs, e, "oci://"+r.Host+"/team/shop"); err != nil {
			t.Fatal(err)
		}
		repo, err := oci.OpenRepository(t.Context(), r.Host+"/team/shop", nil)
		if err != nil {
			t.Fatal(err)
		}
		if found, err := repo.Referrers(t.Context(), e.Cleanroom.Image); err != nil || len(found) != 2 {
			t.Errorf("referrers %v (%v)", found, err)
		}
	}
	if boms[0] != boms[1] || made[0] != made[1] {
		t.Errorf("two runs differ:\n%s\n%s\n%s\n%s", boms[0], boms[1], made[0], made[1])
	}
}

func checkProvenance(t *testing.T, b []byte, e *state.Entry, base state.Digest, toolchain string) {
	t.Helper()
	type resource struct {
		Name, URI string
		Digest    map[string]string
	}
	var s struct {
		Type          string `json:"_type"`
		Subject       []resource
		PredicateType string
		Predicate     struct {
			BuildDefinition struct {
				BuildType            string
				ExternalParameters   map[string]any
				ResolvedDependencies []resource
			}
			RunDetails struct{ Builder struct{ ID string } }
		}
	}
	dec := json.NewDecoder(strings.NewReader(string(b)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	p := s.Predicate
	if s.Type != "https://in-toto.io/Statement/v1" || s.PredicateType != "https://slsa.dev/provenance/v1" || len(s.Subject) != 1 || s.Subject[0].Digest["sha256"] != e.Cleanroom.Image.Hex() {
		t.Errorf("statement %s", b)
	}
	for _, uri := range []string{p.BuildDefinition.BuildType, p.RunDetails.Builder.ID} {
		if u, err := url.Parse(uri); err != nil || !u.IsAbs() {
			t.Errorf("type %q", uri)
		}
	}
	if len(p.BuildDefinition.ExternalParameters) == 0 {
		t.Error("no parameters")
	}
	found := map[string]resource{}
	for _, r := range p.BuildDefinition.ResolvedDependencies {
		found[r.Name] = r
	}
	if len(found) != 3 || found["tree"].Digest["sha256"] != e.Cleanroom.Tree.Hex() || found["base"].Digest["sha256"] != base.Hex() || found["toolchain"].URI != "pkg:generic/go@"+toolchain {
		t.Errorf("dependencies %+v", found)
	}
}

// The packages of each language are those that are in the image, with their checksums
// where a lock file has them.
func TestBillOfPackages(t *testing.T) {
	t.Parallel()
	r := ocitest.New(t)
	pushBase(t, r, "team/base", "1", nil)
	for kind, c := range map[cleanroom.Kind]struct{ purl, sum string }{
		cleanroom.Go:         {"pkg:golang/example.org/greet@v1.0.0", ""},
		cleanroom.JavaScript: {"pkg:npm/greet@1.0.0", "SHA512"},
		cleanroom.Python:     {"pkg:pypi/greet@1.0.0", ""},
		cleanroom.Rust:       {"pkg:cargo/greet@1.0.0", "SHA256"},
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			if kind == cleanroom.Go && testing.Short() {
				t.Skip("compiles the standard library")
			}
			from := indexes[kind].serve(t)
			l := newPreparedLab(t, kind, from)
			l.withBase(t, r.Host+"/team/base:1")
			res, err := l.run(t, from.files)
			if err != nil {
				t.Fatalf("%v\n%v", err, res.Evidence.Findings)
			}
			d := readSPDX(t, l.referrer(t, &res.Entry, state.ReferrerSBOM))
			if !slices.Contains(d.purls(), c.purl) {
				t.Fatalf("packages %v, want %s", d.purls(), c.purl)
			}
			for _, p := range d.Packages {
				if len(p.ExternalRefs) != 1 || p.ExternalRefs[0].ReferenceLocator != c.purl {
					continue
				}
				if c.sum != "" && (len(p.Checksums) != 1 || p.Checksums[0].Algorithm != c.sum) {
					t.Errorf("checksums %v, want %s", p.Checksums, c.sum)
				}
				if kind == cleanroom.Go && !strings.HasPrefix(p.SourceInfo, "go.sum h1:") {
					t.Errorf("source %q", p.SourceInfo)
				}
			}
		})
	}
}
