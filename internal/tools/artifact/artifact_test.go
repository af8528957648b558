package main

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// token is a runtime token with these scopes.
func token(scopes string) string {
	payload, _ := json.Marshal(map[string]string{"scp": scopes})
	return "e30." + base64.RawURLEncoding.EncodeToString(payload) + ".sig"
}

// server does what act's server does with requests, one artifact at a time: it
// appends blocks as they come and refuses fields that it does not know. The real one
// is used by the tests in actions/ultrafast/platforms.
type server struct {
	stored []byte
	blocks int
	listed bool
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var request map[string]any
	if r.Method == http.MethodPost {
		if json.Unmarshal(body, &request) != nil || request["workflow_run_backend_id"] != "7" || request["workflow_job_run_backend_id"] != "8" ||
			r.Header.Get("Authorization") == "" {
			http.Error(w, "bad request", http.StatusBadRequest)
			return
		}
	}
	answer := map[string]any{"ok": true}
	switch method := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]; {
	case method == "CreateArtifact":
		answer["signedUploadUrl"] = "http://" + r.Host + "/blob?sig=a"
	case method == "ListArtifacts" && s.listed:
		answer["artifacts"] = []any{map[string]any{"name": request["name_filter"]}}
	case method == "GetSignedArtifactURL":
		answer["signedUrl"] = "http://" + r.Host + "/blob?sig=a"
	case method == "blob" && r.URL.Query().Get("comp") == "block":
		s.stored, s.blocks = append(s.stored, body...), s.blocks+1
	case method == "blob" && r.URL.Query().Get("comp") == "blocklist":
		s.listed = strings.Count(string(body), "<Latest>") == s.blocks
	case method == "blob" && r.Method == http.MethodGet:
		_, _ = w.Write(s.stored)
		return
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func newTest(t *testing.T) (*client, *server) {
	t.Helper()
	s := &server{}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	c, err := newClient(h.URL, token("Actions.Other:1 Actions.Results:7:8"), h.Client())
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	c, s := newTest(t)
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "new")
	// Bytes that do not compress, and so more than one block of them.
	large := make([]byte, block+1000)
	for i, x := 0, uint32(1); i < len(large); i++ {
		x = x*1664525 + 1013904223
		large[i] = byte(x >> 24)
	}
	for name, content := range map[string][]byte{".hidden/a": []byte("x"), "large": large} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(from, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(from, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.download(t.Context(), "a", to); err == nil {
		t.Error("an artifact that is not there was downloaded")
	}
	if err := c.upload(t.Context(), "a", from); err != nil {
		t.Fatal(err)
	}
	if s.blocks != 2 || !s.listed {
		t.Errorf("%d blocks, listed %t", s.blocks, s.listed)
	}
	if err := c.download(t.Context(), "a", to); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(to, "large"))
	if err != nil || !slices.Equal(got, large) {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
	if _, err := os.Stat(filepath.Join(to, ".hidden", "a")); err != nil {
		t.Error(err)
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "x", "a.b.c", "a.e30.c", token("Actions.Results:7"), "a.!.c"} {
		if _, err := newClient("http://127.0.0.1:1", bad, nil); err == nil {
			t.Errorf("token %q was taken", bad)
		}
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	if _, err := pack(io.Discard, fstest.MapFS{}); err == nil {
		t.Error("an artifact of no files")
	}
	for _, name := range []string{"../out", "/out", "a/../../out"} {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		if _, err := z.Create(name); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		target, err := os.OpenRoot(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer target.Close()
		if err := extract(bytes.NewReader(b.Bytes()), int64(b.Len()), target); err == nil {
			t.Errorf("%s was extracted", name)
		}
	}
	c, s := newTest(t)
	s.stored, s.listed = []byte("no zip"), true
	if err := c.download(t.Context(), "a", t.TempDir()); err == nil {
		t.Error("what is no zip was extracted")
	}
	c.job = "9"
	if err := c.upload(t.Context(), "a", "."); err == nil {
		t.Error("a refusal was overlooked")
	}
}
