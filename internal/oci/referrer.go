package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// emptyType is that of [state.EmptyBlob], the configuration of what has none.
const emptyType types.MediaType = "application/vnd.oci.empty.v1+json"

// referrerManifest is an OCI image manifest with the fields of version 1.1.
type referrerManifest struct {
	SchemaVersion int64           `json:"schemaVersion"`
	MediaType     types.MediaType `json:"mediaType"`
	ArtifactType  string          `json:"artifactType"`
	Config        v1.Descriptor   `json:"config"`
	Layers        []v1.Descriptor `json:"layers"`
	Subject       *v1.Descriptor  `json:"subject,omitempty"`
}

// Attach keeps content as a referrer of the image, such as [state.ReferrerSBOM], and
// returns its artifacts. [Client.Push] takes referrers along.
func (Client) Attach(ctx context.Context, blobs state.Blobs, image state.Artifact, name, artifactType string, content []byte) ([]state.Artifact, error) {
	manifestName, contentName := state.ArtifactReferrer(name)
	held, err := state.WriteBlob(ctx, blobs, contentName, artifactType, content)
	if err != nil {
		return nil, err
	}
	subject := descriptor(image)
	raw, err := json.Marshal(referrerManifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, ArtifactType: artifactType,
		Config: v1.Descriptor{MediaType: emptyType, Digest: hash(state.DigestOf(state.EmptyBlob)), Size: int64(len(state.EmptyBlob))},
		Layers: []v1.Descriptor{descriptor(held)}, Subject: &subject,
	})
	if err != nil {
		return nil, err
	}
	manifest, err := state.WriteBlob(ctx, blobs, manifestName, state.MediaTypeImageManifest, raw)
	return []state.Artifact{manifest, held}, err
}

// attached is a referrer of an image in the chain.
type attached struct {
	artifact state.Artifact
	raw      []byte
	manifest referrerManifest
}

// referrers returns those of the entry, each with parts that the entry has.
func (i *image) referrers(entry *state.Entry) ([]attached, error) {
	var all []attached
	for _, a := range entry.Artifacts {
		if !a.IsReferrer() {
			continue
		}
		raw, err := state.ReadBlob(i.ctx, i.blobs, a)
		if err != nil {
			return nil, err
		}
		r := attached{artifact: a, raw: raw}
		if err := json.Unmarshal(raw, &r.manifest); err != nil {
			return nil, fault.New(fault.Finding, "", "%s: %w", a.Name, err)
		}
		if s := r.manifest.Subject; s == nil || s.Digest != hash(i.digest) || r.manifest.Config.MediaType != emptyType {
			return nil, fault.New(fault.Finding, "", "%s is no referrer of image %s", a.Name, i.digest.Short())
		}
		for _, d := range r.manifest.Layers {
			if _, ok := i.parts[d.Digest]; !ok {
				return nil, fault.New(fault.Finding, "", "%s: %s is not an artifact of the %s entry", a.Name, d.Digest, entry.Phase)
			}
		}
		all = append(all, r)
	}
	return all, nil
}

// writeReferrer writes a referrer into a layout and returns its place in the index.
func (i *image) writeReferrer(dir string, r attached) (v1.Descriptor, error) {
	d := descriptor(r.artifact)
	d.ArtifactType = r.manifest.ArtifactType
	for _, part := range r.manifest.Layers {
		content, err := i.blobs.Open(i.ctx, i.parts[part.Digest])
		if err != nil {
			return d, err
		}
		if err := layout.Path(dir).WriteBlob(part.Digest, content); err != nil { // closes content
			return d, err
		}
	}
	for _, b := range [][]byte{state.EmptyBlob, r.raw} {
		if err := layout.Path(dir).WriteBlob(hash(state.DigestOf(b)), io.NopCloser(bytes.NewReader(b))); err != nil {
			return d, err
		}
	}
	return d, nil
}

const registryScheme = "oci://"

// pushRemote sends the image and its referrers to a repository, "host/path" or
// "host/path:tag", and returns the reference by digest. The image is there when its
// referrers are.
func pushRemote(ctx context.Context, img *image, referrers []attached, destination string) (string, error) {
	name, tag := destination, ""
	if i := strings.LastIndex(destination, ":"); i > strings.LastIndex(destination, "/") {
		name, tag = destination[:i], destination[i+1:]
	}
	repo, err := OpenRepository(ctx, name, nil)
	if err != nil {
		return "", err
	}
	manifests := append([]v1.Descriptor{}, img.manifest.Layers...)
	for _, d := range append(manifests, img.manifest.Config) {
		if err := img.send(repo, d.Digest); err != nil {
			return "", err
		}
	}
	for _, reference := range []string{string(img.digest), tag} {
		if reference == "" {
			continue
		}
		if err := repo.PutManifest(ctx, reference, img.raw); err != nil {
			return "", err
		}
	}
	for _, r := range referrers {
		for _, d := range r.manifest.Layers {
			if err := img.send(repo, d.Digest); err != nil {
				return "", err
			}
		}
		empty := state.Artifact{Name: "config", MediaType: string(emptyType), Digest: state.DigestOf(state.EmptyBlob), Size: int64(len(state.EmptyBlob))}
		if err := repo.PutBlob(ctx, empty, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(state.EmptyBlob)), nil }); err != nil {
			return "", err
		}
		if err := repo.PutManifest(ctx, string(r.artifact.Digest), r.raw); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%s@%s", repo.Name(), img.digest), nil
}

// send sends a part of the image.
func (i *image) send(repo *Repository, digest v1.Hash) error {
	a, ok := i.parts[digest]
	if !ok {
		return errors.New("image " + i.digest.Short() + " has no part " + digest.String())
	}
	return repo.PutBlob(i.ctx, a, func() (io.ReadCloser, error) { return i.blobs.Open(i.ctx, a) })
}

// pushLayout writes the image and its referrers into a directory.
func pushLayout(img *image, referrers []attached, dir string) (string, error) {
	if err := pushTo(dir, img, referrers); err != nil {
		return "", fault.Wrap(err, fault.Unavailable, "check that the directory is writable and the disk not full", "push image to "+dir)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s%s@%s", layoutScheme, abs, img.digest), nil
}
