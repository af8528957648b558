package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Credentials returns the user and the password or token for a registry, named as
// in a reference ("ghcr.io", "127.0.0.1:5000"), and whether there are any.
type Credentials func(registry string) (user, password string, ok bool)

// ErrAbsent reports that a registry does not hold what was asked for.
var ErrAbsent = errors.New("the registry does not have it")

// MaxManifest is the most bytes that one manifest or one page of referrers may have.
const MaxManifest = 4 << 20

const (
	maxReferrerPages = 100 // pages of referrers of one manifest
	maxReferrers     = 10_000
	publishAttempts  = 3 // times that a referrer lost to another writer is published again
)

// Repository is one repository of a registry that speaks the OCI distribution
// specification 1.1. It is safe for use by several goroutines.
//
// Registries without the referrers API are served by the specification's tag
// schema ("sha256-<hex>"). That tag has no compare-and-swap, so two machines that add
// referrers to one manifest in the same moment may overwrite each other. PutManifest
// looks whether its referrer is listed and publishes it again if not, which makes a
// loss unlikely, not impossible.
type Repository struct {
	name   name.Repository
	read   *http.Client
	pusher *remote.Pusher
	// publish lets one referrer at a time be published by this process.
	publish sync.Mutex
}

// OpenRepository returns the repository called reference, "host[:port]/path", after
// asking the registry for access to read it. It speaks TLS with every registry but
// one on a loopback address. Without credentials for the registry it takes those of
// Docker's configuration file, and without those none.
func OpenRepository(ctx context.Context, reference string, credentials Credentials) (*Repository, error) {
	repo, err := name.NewRepository(reference, name.StrictValidation)
	if err != nil {
		return nil, fault.New(fault.Usage, "write host/path in lower case, for example ghcr.io/owner/project", "repository %q: %w", reference, err)
	}
	auth, err := authenticator(ctx, repo, credentials)
	if err != nil {
		return nil, fault.Wrap(err, fault.Usage, "repair Docker's config.json or its credential helper", "find credentials for "+repo.RegistryStr())
	}
	secure := Transport()
	backoff := transport.Backoff{Duration: time.Second, Factor: 3, Jitter: 0.1, Steps: 3}
	retrying := transport.NewRetry(secure, transport.WithRetryBackoff(backoff), transport.WithRetryPredicate(temporary),
		transport.WithRetryStatusCodes(http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
			http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout))
	r := &Repository{name: repo}
	authorized, err := transport.NewWithContext(ctx, repo.Registry, auth, retrying, []string{repo.Scope(transport.PullScope)})
	if err != nil {
		err = r.classify(ctx, err, "open")
		return nil, fault.Wrap(err, fault.Usage, "check the name of the registry", "no registry answers")
	}
	r.read = &http.Client{Transport: authorized}
	if r.pusher, err = remote.NewPusher(remote.WithAuth(auth), remote.WithTransport(secure)); err != nil {
		return nil, err
	}
	return r, nil
}

func authenticator(ctx context.Context, repo name.Repository, credentials Credentials) (authn.Authenticator, error) {
	if credentials != nil {
		if user, password, ok := credentials(repo.RegistryStr()); ok {
			return authn.FromConfig(authn.AuthConfig{Username: user, Password: password}), nil
		}
	}
	return authn.Resolve(ctx, authn.DefaultKeychain, repo)
}

// temporary reports whether a request that ended with err is worth repeating at once.
func temporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary() ||
		slices.ContainsFunc([]error{io.EOF, io.ErrUnexpectedEOF, syscall.EPIPE, syscall.ECONNRESET, net.ErrClosed},
			func(target error) bool { return errors.Is(err, target) })
}

// tlsUnlessLoopback refuses requests in clear text to other machines: they would
// show the state, and the token, to the network. go-containerregistry would send
// them to private addresses.
type tlsUnlessLoopback struct{ inner http.RoundTripper }

func (t tlsUnlessLoopback) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !loopback(r.URL.Hostname()) {
		return nil, fault.New(fault.Usage, "give the registry a certificate; plain HTTP is for loopback addresses alone", "%s does not speak TLS", r.URL.Host)
	}
	return t.inner.RoundTrip(r)
}

func loopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// Name returns the repository as it is written in a reference.
func (r *Repository) Name() string { return r.name.Name() }

// Manifest returns the manifest under a digest or a tag. One that is not there is
// [ErrAbsent]; one that does not have the digest is a fault.Finding.
func (r *Repository) Manifest(ctx context.Context, reference string) ([]byte, error) {
	resp, err := r.get(ctx, http.MethodGet, r.url("manifests", reference), types.OCIManifestSchema1, types.OCIImageIndex,
		types.DockerManifestSchema2, types.DockerManifestList)
	if err != nil {
		return nil, r.classify(ctx, err, "read manifest "+reference)
	}
	defer resp.Body.Close()
	b, err := readManifest(resp.Body)
	if err != nil {
		return nil, r.classify(ctx, err, "read manifest "+reference)
	}
	if d, err := state.ParseDigest(reference); err == nil && state.DigestOf(b) != d {
		return nil, fault.New(fault.Finding, "the registry was changed or is damaged: run the phase that made it again, with --no-cache",
			"manifest %s in %s has digest %s", d, r.Name(), state.DigestOf(b))
	}
	return b, nil
}

func readManifest(body io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(body, MaxManifest+1))
	if err == nil && len(b) > MaxManifest {
		err = fault.New(fault.Finding, "", "it has more than %d bytes", MaxManifest)
	}
	return b, err
}

// Blob returns the bytes of a blob, not verified.
func (r *Repository) Blob(ctx context.Context, digest state.Digest) (io.ReadCloser, error) {
	resp, err := r.get(ctx, http.MethodGet, r.url("blobs", string(digest)))
	if err != nil {
		return nil, r.classify(ctx, err, "read blob "+digest.Short())
	}
	return resp.Body, nil
}

// HasBlob reports whether the repository holds a blob.
func (r *Repository) HasBlob(ctx context.Context, digest state.Digest) (bool, error) {
	resp, err := r.get(ctx, http.MethodHead, r.url("blobs", string(digest)))
	if err != nil {
		err = r.classify(ctx, err, "look for blob "+digest.Short())
		if errors.Is(err, ErrAbsent) {
			return false, nil
		}
		return false, err
	}
	return true, resp.Body.Close()
}

// PutBlob sends a blob, unless the repository holds it already. open may be called
// more than once.
func (r *Repository) PutBlob(ctx context.Context, a state.Artifact, open func() (io.ReadCloser, error)) error {
	if err := r.pusher.Upload(ctx, r.name, upload{a, open}); err != nil {
		return r.classify(ctx, err, fmt.Sprintf("send %s", a.Digest.Short()))
	}
	return nil
}

// upload is a blob on its way, as go-containerregistry wants to see it.
type upload struct {
	artifact state.Artifact
	open     func() (io.ReadCloser, error)
}

func (u upload) Digest() (v1.Hash, error)             { return hash(u.artifact.Digest), nil }
func (u upload) DiffID() (v1.Hash, error)             { return hash(u.artifact.Digest), nil }
func (u upload) Size() (int64, error)                 { return u.artifact.Size, nil }
func (u upload) Compressed() (io.ReadCloser, error)   { return u.open() }
func (u upload) Uncompressed() (io.ReadCloser, error) { return u.open() }
func (u upload) MediaType() (types.MediaType, error) {
	return types.MediaType(u.artifact.MediaType), nil
}

// PutManifest publishes a manifest under a tag, or under its digest. All that it
// names must be there. A manifest with a subject becomes one of its referrers.
func (r *Repository) PutManifest(ctx context.Context, reference string, raw []byte) error {
	var m struct {
		Subject *struct {
			Digest state.Digest `json:"digest"`
		} `json:"subject"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return fmt.Errorf("manifest %s: %w", reference, err)
	}
	if m.Subject == nil {
		return r.put(ctx, reference, raw)
	}
	r.publish.Lock()
	defer r.publish.Unlock()
	digest := state.DigestOf(raw)
	for range publishAttempts {
		if err := r.put(ctx, reference, raw); err != nil {
			return err
		}
		known, err := r.Referrers(ctx, m.Subject.Digest)
		if err != nil || slices.ContainsFunc(known, func(known Referrer) bool { return known.Digest == digest }) {
			return err
		}
	}
	return fault.New(fault.Unavailable, "run again; a registry with the referrers API has no such races",
		"%s lost referrer %s of %s to other writers", r.Name(), digest.Short(), m.Subject.Digest.Short())
}

func (r *Repository) put(ctx context.Context, reference string, raw []byte) error {
	if err := r.pusher.Put(ctx, r.reference(reference), rawManifest(raw)); err != nil {
		return r.classify(ctx, err, "publish "+reference)
	}
	return nil
}

func (r *Repository) reference(s string) name.Reference {
	if _, err := state.ParseDigest(s); err == nil {
		return r.name.Digest(s)
	}
	return r.name.Tag(s)
}

type rawManifest []byte

func (m rawManifest) RawManifest() ([]byte, error)      { return m, nil }
func (rawManifest) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// Referrer is a manifest that names another as its subject.
type Referrer struct {
	Digest state.Digest `json:"digest"`
	// ArtifactType is the manifest's artifactType or, without one, the media type of
	// its config, as the specification asks.
	ArtifactType string `json:"artifactType"`
}

// Referrers returns the manifests that name digest as their subject, sorted by
// digest: what the registry says, not verified.
func (r *Repository) Referrers(ctx context.Context, digest state.Digest) ([]Referrer, error) {
	doing := "list the referrers of " + digest.Short()
	var all []Referrer
	next := r.url("referrers", string(digest))
	for page := 0; next != nil; page++ {
		if page == maxReferrerPages || len(all) > maxReferrers {
			return nil, fault.New(fault.Finding, "", "%s in %s: there are more than %d", doing, r.Name(), maxReferrers)
		}
		found, following, err := r.referrersPage(ctx, next)
		switch {
		case page == 0 && noReferrersAPI(err):
			if found, err = r.referrersByTag(ctx, digest); err != nil {
				return nil, err
			}
		case err != nil:
			return nil, r.classify(ctx, err, doing)
		}
		all, next = append(all, found...), following
	}
	slices.SortFunc(all, func(a, b Referrer) int { return strings.Compare(string(a.Digest), string(b.Digest)) })
	return slices.CompactFunc(all, func(a, b Referrer) bool { return a.Digest == b.Digest }), nil
}

func (r *Repository) referrersPage(ctx context.Context, from *url.URL) ([]Referrer, *url.URL, error) {
	resp, err := r.get(ctx, http.MethodGet, from, types.OCIImageIndex)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	if resp.Header.Get("Content-Type") != string(types.OCIImageIndex) {
		return nil, nil, errNoReferrersAPI
	}
	b, err := readManifest(resp.Body)
	if err != nil {
		return nil, nil, err
	}
	found, err := decodeReferrers(b)
	if err != nil {
		return nil, nil, err
	}
	next, err := nextPage(resp.Header.Get("Link"), from)
	return found, next, err
}

// errNoReferrersAPI reports a registry that answers the question with another thing.
var errNoReferrersAPI = errors.New("the registry has no referrers API")

func noReferrersAPI(err error) bool {
	var refusal *transport.Error
	return errors.Is(err, errNoReferrersAPI) || errors.As(err, &refusal) &&
		slices.Contains([]int{http.StatusNotFound, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable}, refusal.StatusCode)
}

// referrersByTag reads the list under the tag that the specification has for
// registries without the API.
func (r *Repository) referrersByTag(ctx context.Context, digest state.Digest) ([]Referrer, error) {
	b, err := r.Manifest(ctx, strings.Replace(string(digest), ":", "-", 1))
	if errors.Is(err, ErrAbsent) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return decodeReferrers(b)
}

func decodeReferrers(b []byte) ([]Referrer, error) {
	var index struct {
		Manifests []Referrer `json:"manifests"`
	}
	if err := json.NewDecoder(bytes.NewReader(b)).Decode(&index); err != nil {
		return nil, fault.New(fault.Finding, "", "list of referrers: %w", err)
	}
	return index.Manifests, nil
}

// nextPage returns the address in a Link header (RFC 8288) with rel="next", or nil.
// It must lie on the same host: the request carries the token.
func nextPage(link string, from *url.URL) (*url.URL, error) {
	target, params, ok := strings.Cut(link, ">")
	if !ok || !strings.Contains(params, `rel="next"`) {
		return nil, nil
	}
	next, err := from.Parse(strings.TrimPrefix(strings.TrimSpace(target), "<"))
	if err == nil && next.Host != from.Host {
		err = fmt.Errorf("it leads to another host, %s", next.Host)
	}
	if err != nil {
		return nil, fault.New(fault.Finding, "", "next page of referrers: %w", err)
	}
	return next, nil
}

func (r *Repository) url(kind, reference string) *url.URL {
	return &url.URL{
		Scheme: r.name.Scheme(), Host: r.name.RegistryStr(),
		Path: "/v2/" + r.name.RepositoryStr() + "/" + kind + "/" + reference,
	}
}

func (r *Repository) get(ctx context.Context, method string, from *url.URL, accept ...types.MediaType) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, from.String(), nil)
	if err != nil {
		return nil, err
	}
	for _, mediaType := range accept {
		req.Header.Add("Accept", string(mediaType))
	}
	resp, err := r.read.Do(req)
	if err != nil {
		return nil, err
	}
	if err := transport.CheckError(resp, http.StatusOK); err != nil {
		return nil, errors.Join(err, resp.Body.Close())
	}
	return resp, nil
}

// classify gives an error of the registry its kind.
func (r *Repository) classify(ctx context.Context, err error, doing string) error {
	doing = fmt.Sprintf("%s in registry repository %s", doing, r.Name())
	var refusal *transport.Error
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", doing, context.Cause(ctx))
	case !errors.As(err, &refusal):
		return fault.Wrap(err, fault.Unavailable, "check that the registry runs and can be reached from here", doing)
	case refusal.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%s: %w", doing, ErrAbsent)
	case refusal.StatusCode == http.StatusUnauthorized || refusal.StatusCode == http.StatusForbidden:
		return fault.Wrap(err, fault.Usage, "log in with `docker login "+r.name.RegistryStr()+"`, or give the job a token that may read and write the repository", doing)
	}
	return fault.Wrap(err, fault.Unavailable, "run again; if it stays so, ask who runs the registry", doing)
}
