package oci_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/oci"
	"github.com/ultrafast-ci/ultrafast/internal/oci/ocitest"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// TestClearTextOnlyOnLoopback asks the transport, which would dial first if it did
// not refuse. The second address is private, where go-containerregistry by itself
// would go on without TLS.
func TestClearTextOnlyOnLoopback(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"registry.example.com", "10.1.2.3:5000", "169.254.169.254", "127.0.0.1.example.com"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+host+"/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := oci.Transport().RoundTrip(req)
		if resp != nil {
			resp.Body.Close()
		}
		if fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "TLS") {
			t.Errorf("%s: %v", host, err)
		}
	}
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := oci.Transport().RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

// answering returns a repository whose registry answers every question about
// referrers by f.
func answering(t *testing.T, f func(w http.ResponseWriter, r *http.Request)) *oci.Repository {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/referrers/") {
			f(w, r)
		} else if r.URL.Path != "/v2/" {
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	r, err := oci.OpenRepository(t.Context(), server.Listener.Addr().String()+"/team/state", nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func page(w http.ResponseWriter, link string, digests ...state.Digest) {
	index := map[string]any{"schemaVersion": 2}
	var manifests []oci.Referrer
	for _, d := range digests {
		manifests = append(manifests, oci.Referrer{Digest: d, ArtifactType: state.MediaTypeEvidence})
	}
	index["manifests"] = manifests
	w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
	if link != "" {
		w.Header().Set("Link", link)
	}
	_ = json.NewEncoder(w).Encode(index)
}

func TestReferrersInPages(t *testing.T) {
	t.Parallel()
	a, b := state.DigestOf([]byte("a")), state.DigestOf([]byte("b"))
	r := answering(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Query().Get("last") == "" {
			page(w, fmt.Sprintf(`<%s?last=1>; rel="next"`, req.URL.Path), a, b)
		} else {
			page(w, "", b)
		}
	})
	got, err := r.Referrers(t.Context(), state.DigestOf(nil))
	if err != nil || len(got) != 2 {
		t.Errorf("%+v %v", got, err)
	}
}

func TestReferrersRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request)
		want   fault.Kind
	}{
		"next page elsewhere": {func(w http.ResponseWriter, _ *http.Request) {
			page(w, `<http://127.0.0.2:9/v2/x>; rel="next"`)
		}, fault.Finding},
		"pages without end": {func(w http.ResponseWriter, r *http.Request) {
			page(w, `<`+r.URL.Path+`?again>; rel="next"`)
		}, fault.Finding},
		"a page without end": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
			for range oci.MaxManifest/1024 + 1 {
				_, _ = w.Write(make([]byte, 1024))
			}
		}, fault.Finding},
		"no JSON": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
			fmt.Fprint(w, "{")
		}, fault.Finding},
		"forbidden": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
		}, fault.Usage},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := answering(t, c.answer).Referrers(t.Context(), state.DigestOf(nil)); fault.KindOf(err) != c.want {
				t.Errorf("kind %v, want %v: %v", fault.KindOf(err), c.want, err)
			}
		})
	}
}

// TestNotARegistry opens a web server that knows nothing of the protocol.
func TestNotARegistry(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	_, err := oci.OpenRepository(t.Context(), server.Listener.Addr().String()+"/x", nil)
	if fault.KindOf(err) != fault.Usage {
		t.Errorf("%v", err)
	}
}

// TestDockerConfig takes the credentials from Docker's configuration file.
func TestDockerConfig(t *testing.T) {
	registry := ocitest.New(t, ocitest.WithPassword("mona", "secret"))
	if _, err := oci.OpenRepository(t.Context(), registry.Host+"/x", nil); err != nil {
		t.Fatal(err) // opening asks for nothing that needs a password
	}
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	writeFile(t, dir+"/config.json", fmt.Sprintf(`{"auths":{%q:{"username":"mona","password":"secret"}}}`, registry.Host))
	r, err := oci.OpenRepository(t.Context(), registry.Host+"/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := r.HasBlob(t.Context(), state.DigestOf(nil)); ok || err != nil {
		t.Errorf("%v %v", ok, err)
	}
	writeFile(t, dir+"/config.json", "{")
	if _, err := oci.OpenRepository(t.Context(), registry.Host+"/x", nil); fault.KindOf(err) != fault.Usage {
		t.Errorf("a damaged configuration: %v", err)
	}
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
