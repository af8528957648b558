package state

import (
	"fmt"
	"strings"
)

// ImageConfig is the part of an OCI image configuration that phases use.
type ImageConfig struct {
	// User is "uid:gid" in numbers.
	User       string
	Env        []string
	Entrypoint []string
	Cmd        []string
	WorkingDir string
	// Ports are "8080/tcp", sorted.
	Ports  []string
	Labels map[string]string
	// OS and Architecture as in GOOS and GOARCH.
	OS, Architecture string
}

// BaseImage is an image on which another one is built.
type BaseImage struct {
	// Name is its reference in full, without a digest; empty for an image that only
	// this machine knows. Digest is that of its manifest.
	Name   string
	Digest Digest
	Config ImageConfig
	// RawConfig are the bytes of its configuration.
	RawConfig []byte
	// Layers begin with the lowest; layer i is called [ArtifactImageLayer](i).
	Layers []Artifact
}

// Media types of the parts of an image.
const (
	MediaTypeImageConfig    = "application/vnd.oci.image.config.v1+json"
	MediaTypeImageLayerGzip = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// ArtifactImageConfig is the name of the artifact that holds the image's configuration.
const ArtifactImageConfig = "image/config"

// ArtifactImageLayer returns the name of the artifact that holds layer i of the
// image, from 0, the lowest.
func ArtifactImageLayer(i int) string { return fmt.Sprintf("image/layer/%d", i) }

// A referrer of the image, such as its bill of materials, is two artifacts of its
// entry: a manifest whose subject is the image, and what it is about.
const referrerPrefix = "image/referrer/"

// ArtifactReferrer returns the name of the artifact that holds the manifest of the
// referrer called name, and that of the one with its content.
func ArtifactReferrer(name string) (manifest, content string) {
	return referrerPrefix + name, referrerPrefix + name + "/content"
}

// IsReferrer reports that an artifact is the manifest of a referrer of the image.
func (a Artifact) IsReferrer() bool {
	name, ok := strings.CutPrefix(a.Name, referrerPrefix)
	return ok && !strings.Contains(name, "/")
}

// Names of referrers, and their artifact types.
const (
	ReferrerSBOM       = "sbom"
	ReferrerProvenance = "provenance"
	MediaTypeSPDX      = "application/spdx+json"
	MediaTypeInToto    = "application/vnd.in-toto+json"
)

// ArtifactPackage returns the name of the artifact that holds the package id.
func ArtifactPackage(id string) string { return "package/" + id }
