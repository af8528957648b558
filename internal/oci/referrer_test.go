package oci_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/oci"
	"github.com/ultrafast-ci/ultrafast/internal/oci/ocitest"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// attach returns an entry with an image and two referrers.
func attach(t *testing.T, blobs state.Blobs) *state.Entry {
	t.Helper()
	e := build(t, blobs, files())
	image, _ := e.Artifact(state.ArtifactImage)
	for name, artifactType := range map[string]string{state.ReferrerSBOM: state.MediaTypeSPDX, state.ReferrerProvenance: state.MediaTypeInToto} {
		artifacts, err := oci.Client{}.Attach(t.Context(), blobs, image, name, artifactType, []byte(`{"of":"`+name+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		e.Artifacts = append(e.Artifacts, artifacts...)
	}
	e.Normalize()
	return e
}

// A registry is sent the image with its referrers, and lists them, with the referrers
// API and without. A second push changes nothing.
func TestPushReferrers(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]ocitest.Option{"api": {ocitest.WithReferrers()}, "tag": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := ocitest.New(t, opts...)
			s := newStore(t)
			e := attach(t, s)
			image, _ := e.Artifact(state.ArtifactImage)
			for range 2 {
				ref, err := oci.Client{}.Push(t.Context(), s, e, "oci://"+r.Host+"/team/orders:v1")
				if err != nil || ref != r.Host+"/team/orders@"+string(image.Digest) {
					t.Fatalf("%s %v", ref, err)
				}
			}
			repo, err := oci.OpenRepository(t.Context(), r.Host+"/team/orders", nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, reference := range []string{"v1", string(image.Digest)} {
				if raw, err := repo.Manifest(t.Context(), reference); err != nil || state.DigestOf(raw) != image.Digest {
					t.Errorf("%s: %s %v", reference, raw, err)
				}
			}
			found, err := repo.Referrers(t.Context(), image.Digest)
			if err != nil {
				t.Fatal(err)
			}
			var kinds []string
			for _, f := range found {
				raw, err := repo.Manifest(t.Context(), string(f.Digest))
				if err != nil {
					t.Fatal(err)
				}
				var m struct {
					ArtifactType string
					Layers       []struct{ Digest state.Digest }
				}
				if err := json.Unmarshal(raw, &m); err != nil || len(m.Layers) != 1 {
					t.Fatalf("%s: %v", raw, err)
				}
				kinds = append(kinds, m.ArtifactType) // the registry in process lists the type of the configuration
				if ok, err := repo.HasBlob(t.Context(), m.Layers[0].Digest); !ok || err != nil {
					t.Errorf("the content of %s is not there (%v)", f.ArtifactType, err)
				}
			}
			slices.Sort(kinds)
			if !slices.Equal(kinds, []string{state.MediaTypeSPDX, state.MediaTypeInToto}) {
				t.Errorf("referrers %v", kinds)
			}
		})
	}
}

// A layout names the referrers beside the image, which is still the only image.
func TestPushReferrersLayout(t *testing.T) {
	t.Parallel()
	s, dir := newStore(t), t.TempDir()
	e := attach(t, s)
	image, _ := e.Artifact(state.ArtifactImage)
	for range 2 {
		if _, err := (oci.Client{}).Push(t.Context(), s, e, "layout:"+dir); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index struct {
		Manifests []struct {
			Digest       state.Digest
			ArtifactType string
		}
	}
	if err := json.Unmarshal(b, &index); err != nil || len(index.Manifests) != 3 {
		t.Fatalf("%s %v", b, err)
	}
	l, err := oci.OpenLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := l.Manifest(t.Context(), "")
	if err != nil || state.DigestOf(raw) != image.Digest {
		t.Errorf("the image of the layout: %s %v", raw, err)
	}
	for _, m := range index.Manifests {
		raw, err := l.Manifest(t.Context(), string(m.Digest))
		if err != nil {
			t.Fatal(err)
		}
		if m.Digest != image.Digest && (m.ArtifactType == "" || !strings.Contains(string(raw), `"subject":{"mediaType":"application/vnd.oci.image.manifest.v1+json"`)) {
			t.Errorf("referrer %+v: %s", m, raw)
		}
	}
}

// What is no referrer of the image is not pushed as one.
func TestPushForeignReferrer(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	e := attach(t, s)
	name, _ := state.ArtifactReferrer(state.ReferrerSBOM)
	other, err := state.WriteBlob(t.Context(), s, name, state.MediaTypeImageManifest, []byte(`{"subject":{"digest":"sha256:`+strings.Repeat("0", 64)+`"}}`))
	if err != nil {
		t.Fatal(err)
	}
	for i := range e.Artifacts {
		if e.Artifacts[i].Name == name {
			e.Artifacts[i] = other
		}
	}
	if _, err := (oci.Client{}).Push(t.Context(), s, e, "layout:"+t.TempDir()); fault.KindOf(err) != fault.Finding {
		t.Errorf("%v", err)
	}
	if _, err := (oci.Client{}).Push(t.Context(), s, e, "ftp://x"); fault.KindOf(err) != fault.Usage {
		t.Errorf("%v", err)
	}
}
