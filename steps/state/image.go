package state

import "fmt"

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

// ArtifactPackage returns the name of the artifact that holds the package id.
func ArtifactPackage(id string) string { return "package/" + id }
