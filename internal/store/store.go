// Package store keeps chains and their artifacts between phases and jobs.
//
// A store is named by a URL. "layout:DIR" is an OCI image layout in a directory,
// "oci://host/repository" a repository of a registry. In both every entry is a
// manifest whose config is the claim and whose layers are the artifacts, and
// evidence is a manifest that has the entry's manifest as its subject; any OCI
// tool can read it. An entry has the same digest in every store. A store never
// changes a blob once written, and trusts none when reading.
package store

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/oci"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

const (
	layoutScheme   = "layout:"
	registryScheme = "oci://"

	maxChain    = 256             // entries in one chain
	maxManifest = oci.MaxManifest // bytes of one manifest or claim
)

// Store keeps chains. It is safe for use by several goroutines; the place behind
// it may be used by several processes at once.
type Store struct{ medium medium }

// medium is where a store keeps its bytes.
type medium interface {
	url() string
	open(ctx context.Context, a state.Artifact) (io.ReadCloser, error)
	create(ctx context.Context, mediaType string) (state.BlobWriter, error)
	// has reports whether an artifact is there. It does not read the bytes.
	has(ctx context.Context, a state.Artifact) (bool, error)
	// manifest returns a manifest, its digest verified.
	manifest(ctx context.Context, what string, d state.Digest) ([]byte, error)
	// publish keeps a manifest all of whose parts are there.
	publish(ctx context.Context, raw []byte, d descriptor) error
	// list returns what was published, as it is now.
	list(ctx context.Context) (list, error)
	close() error
}

// list finds manifests by what was said of them when they were published.
type list interface {
	// evidence returns the manifests of the evidence for an entry.
	evidence(ctx context.Context, subject state.Digest) ([]state.Digest, error)
	// named returns the manifest that last got the name.
	named(ctx context.Context, name string) (state.Digest, bool, error)
	// entries returns the manifests of all entries, oldest first, or an error of
	// kind fault.Usage if they cannot be listed.
	entries(ctx context.Context) ([]state.Digest, error)
}

// descriptor is an OCI descriptor of a manifest.
type descriptor struct {
	MediaType    string            `json:"mediaType"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Digest       state.Digest      `json:"digest"`
	Size         int64             `json:"size"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

const (
	annotationSubject = "dev.ultrafast.subject"
	annotationName    = "org.opencontainers.image.ref.name"
)

// nameOf returns the name of the manifest of an entry under its resume key. It is
// a valid tag.
func nameOf(key state.Digest) string { return "k-" + key.Hex() }

// Credentials returns the user and the password or token for a registry, and
// whether there are any.
type Credentials func(registry string) (user, password string, ok bool)

// Option changes how [Open] opens a store.
type Option func(*options)

type options struct {
	credentials Credentials
	existing    bool
}

// Existing refuses a directory that holds no store, instead of making one there: for
// whoever reads a state that another phase wrote.
func Existing() Option { return func(o *options) { o.existing = true } }

// WithCredentials hands in credentials for registries. Without it, and for
// registries that f has none for, those of Docker's configuration file are used.
func WithCredentials(f Credentials) Option { return func(o *options) { o.credentials = f } }

// Open returns the store named by url, making it if it does not exist and [Existing]
// does not forbid it. A relative
// directory is taken from base. The caller closes the store.
func Open(ctx context.Context, url, base string, opts ...Option) (*Store, error) {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	var m medium
	var err error
	if dir, ok := strings.CutPrefix(url, layoutScheme); ok && dir != "" {
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(base, dir)
		}
		m, err = openLayout(filepath.Clean(dir), o.existing)
	} else if repository, ok := strings.CutPrefix(url, registryScheme); ok && repository != "" {
		m, err = openRegistry(ctx, repository, oci.Credentials(o.credentials))
	} else {
		err = fault.New(fault.Usage, "write layout:DIR or oci://host/repository, for example layout:.ggen/state",
			"store %q has an unknown form", url)
	}
	if err != nil {
		return nil, err
	}
	return &Store{m}, nil
}

// Close frees what the store holds on this machine. What it keeps stays.
func (s *Store) Close() error { return s.medium.close() }

// URL returns the URL under which another process finds the store: on this machine
// for a directory, on every machine for a registry.
func (s *Store) URL() string { return s.medium.url() }

// Open returns the bytes of a after it has verified all of them. They are
// verified once more while they are read, so a change in between is found too.
func (s *Store) Open(ctx context.Context, a state.Artifact) (io.ReadCloser, error) {
	if _, err := state.ParseDigest(string(a.Digest)); err != nil {
		return nil, fault.New(fault.Finding, "", "artifact %q: %w", a.Name, err)
	}
	return s.medium.open(ctx, a)
}

// Create returns a writer for a new blob.
func (s *Store) Create(ctx context.Context, mediaType string) (state.BlobWriter, error) {
	return s.medium.create(ctx, mediaType)
}

func (s *Store) put(ctx context.Context, mediaType string, b []byte) error {
	_, err := state.WriteBlob(ctx, s, "", mediaType, b)
	return err
}

// putConfig keeps the config of a manifest and, if the manifest has no artifacts,
// the empty layer that stands for them.
func (s *Store) putConfig(ctx context.Context, mediaType string, config []byte, artifacts []state.Artifact) error {
	if len(artifacts) == 0 {
		if err := s.put(ctx, state.MediaTypeJSON, state.EmptyBlob); err != nil {
			return err
		}
	}
	return s.put(ctx, mediaType, config)
}

func (s *Store) publish(ctx context.Context, raw []byte, artifactType string, annotations map[string]string) (state.Digest, error) {
	d := descriptor{
		MediaType: state.MediaTypeImageManifest, ArtifactType: artifactType,
		Digest: state.DigestOf(raw), Size: int64(len(raw)), Annotations: annotations,
	}
	return d.Digest, s.medium.publish(ctx, raw, d)
}

// Append adds the entry of r after the head of chain, with its evidence, and
// returns the new link. Every artifact must be in the store already.
func (s *Store) Append(ctx context.Context, chain state.State, r state.Result) (state.Link, error) {
	entry := r.Entry
	entry.Prev = chain.Head()
	entry.Normalize()
	claim, err := entry.Claim()
	if err != nil {
		return state.Link{}, err
	}
	manifest, err := entry.Manifest()
	if err != nil {
		return state.Link{}, err
	}
	for _, a := range slices.Concat(entry.Artifacts, r.Evidence.Artifacts) {
		ok, err := s.medium.has(ctx, a)
		if err == nil && !ok {
			err = fault.New(fault.Internal, "", "artifact %q (%s) was not written to the store", a.Name, a.Digest.Short())
		}
		if err != nil {
			return state.Link{}, err
		}
	}
	if err := s.putConfig(ctx, state.MediaTypeClaim, claim, entry.Artifacts); err != nil {
		return state.Link{}, err
	}
	digest, err := s.publish(ctx, manifest, state.MediaTypeClaim, nil)
	if err != nil {
		return state.Link{}, err
	}
	ev := r.Evidence
	ev.Subject = digest
	if ev, err = s.AddEvidence(ctx, ev); err != nil {
		return state.Link{}, err
	}
	return state.Link{Digest: digest, Entry: entry, Evidence: []state.Evidence{ev}}, nil
}

// AddEvidence keeps ev beside the entry that it names and returns it as stored.
func (s *Store) AddEvidence(ctx context.Context, ev state.Evidence) (state.Evidence, error) {
	subject, err := s.medium.manifest(ctx, "the entry that evidence is for, "+ev.Subject.Short()+",", ev.Subject)
	if err != nil {
		return ev, err
	}
	manifest, config, err := state.EvidenceManifest(ev, int64(len(subject)))
	if err != nil {
		return ev, err
	}
	if err := s.putConfig(ctx, state.MediaTypeEvidence, config, ev.Artifacts); err != nil {
		return ev, err
	}
	_, err = s.publish(ctx, manifest, state.MediaTypeEvidence, map[string]string{annotationSubject: string(ev.Subject)})
	return ev, err
}

// Load returns the chain that ends at head, every digest verified.
func (s *Store) Load(ctx context.Context, head state.Digest) (state.State, error) {
	listed, err := s.medium.list(ctx)
	if err != nil {
		return nil, err
	}
	var chain state.State
	for d := head; d != ""; {
		if len(chain) == maxChain {
			return nil, fault.New(fault.Finding, "", "chain of %s has more than %d entries", head.Short(), maxChain)
		}
		link, err := s.link(ctx, listed, d)
		if err != nil {
			return nil, err
		}
		chain = append(chain, link)
		d = link.Entry.Prev
	}
	slices.Reverse(chain)
	if err := chain.Verify(); err != nil {
		return nil, fault.New(fault.Finding, "", "state %s: %w", head.Short(), err)
	}
	return chain, nil
}

// config reads a manifest and its config, which must be of the given media type.
func (s *Store) config(ctx context.Context, what string, d state.Digest, mediaType string) (manifest, config []byte, err error) {
	if manifest, err = s.medium.manifest(ctx, what, d); err != nil {
		return nil, nil, err
	}
	var m struct {
		Config descriptor `json:"config"`
	}
	if err := json.Unmarshal(manifest, &m); err != nil || m.Config.MediaType != mediaType {
		return nil, nil, fault.New(fault.Finding, "pass on the output `state` of a phase",
			"%s in %s is not a manifest of type %s", d, s.URL(), mediaType)
	}
	if m.Config.Size > maxManifest {
		return nil, nil, fault.New(fault.Finding, "", "config of %s has %d bytes; at most %d are read", what, m.Config.Size, maxManifest)
	}
	config, err = state.ReadBlob(ctx, s, state.Artifact{Name: "config of " + what, Digest: m.Config.Digest, Size: m.Config.Size})
	return manifest, config, err
}

func (s *Store) link(ctx context.Context, listed list, d state.Digest) (state.Link, error) {
	manifest, claim, err := s.config(ctx, "entry "+d.Short(), d, state.MediaTypeClaim)
	if err != nil {
		return state.Link{}, err
	}
	entry, err := state.DecodeClaim(claim)
	if err != nil {
		return state.Link{}, fault.New(fault.Finding, "", "entry %s: %w", d.Short(), err)
	}
	again, err := entry.Manifest()
	if err != nil {
		return state.Link{}, err
	}
	if !bytes.Equal(again, manifest) {
		return state.Link{}, fault.New(fault.Finding, "", "entry %s: manifest does not say what its claim says", d.Short())
	}
	evidence, err := s.evidence(ctx, listed, d)
	return state.Link{Digest: d, Entry: entry, Evidence: evidence}, err
}

// evidence returns the evidence for an entry, runs before their signatures and
// older before newer: a registry lists it in an order of its own.
func (s *Store) evidence(ctx context.Context, listed list, subject state.Digest) ([]state.Evidence, error) {
	manifests, err := listed.evidence(ctx, subject)
	if err != nil {
		return nil, err
	}
	var out []state.Evidence
	for _, d := range manifests {
		_, config, err := s.config(ctx, "evidence for "+subject.Short(), d, state.MediaTypeEvidence)
		if err != nil {
			return nil, err
		}
		var ev state.Evidence
		if err := json.Unmarshal(config, &ev); err != nil || ev.Subject != subject {
			return nil, fault.New(fault.Finding, "", "evidence %s is not for entry %s", d.Short(), subject.Short())
		}
		out = append(out, ev)
	}
	slices.SortStableFunc(out, func(a, b state.Evidence) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), a.Started.Compare(b.Started))
	})
	return out, nil
}

// Verify reads every artifact of an entry; a difference names the artifact.
func (s *Store) Verify(ctx context.Context, e *state.Entry) error {
	for _, a := range e.Artifacts {
		r, err := s.Open(ctx, a) // reads and compares all of it
		if err != nil {
			return err
		}
		if err := r.Close(); err != nil {
			return fault.Wrap(err, fault.Unavailable, "", fmt.Sprintf("read artifact %q", a.Name))
		}
	}
	return nil
}

// Lookup returns the entry remembered under a resume key, if it and all its
// artifacts are still there.
func (s *Store) Lookup(ctx context.Context, key state.Digest) (state.Link, bool, error) {
	listed, err := s.medium.list(ctx)
	if err != nil {
		return state.Link{}, false, err
	}
	d, ok, err := listed.named(ctx, nameOf(key))
	if err != nil || !ok {
		return state.Link{}, false, err
	}
	link, err := s.link(ctx, listed, d)
	if err != nil {
		return state.Link{}, false, err
	}
	for _, a := range link.Entry.Artifacts {
		if ok, err := s.medium.has(ctx, a); err != nil || !ok {
			return state.Link{}, false, err
		}
	}
	return link, true, nil
}

// Remember keeps the entry under a resume key, in place of the one before.
func (s *Store) Remember(ctx context.Context, key, entry state.Digest) error {
	raw, err := s.medium.manifest(ctx, "the entry to remember, "+entry.Short()+",", entry)
	if err != nil {
		return err
	}
	_, err = s.publish(ctx, raw, state.MediaTypeClaim, map[string]string{annotationName: nameOf(key)})
	return err
}
