package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	service = "twirp/github.actions.results.api.v1.ArtifactService/"
	// maxAnswer bounds what is read of an answer, maxArtifact an artifact, in bytes.
	maxAnswer   = 1 << 20
	maxArtifact = 1 << 30
	// block is how much of an artifact one request carries.
	block = 4 << 20
)

// client is the artifact service as one job sees it.
type client struct {
	base, token string
	// run and job are the ids by which the service knows the job.
	run, job string
	http     *http.Client
}

// newClient returns a client. The ids are in the token: a JWT whose claim "scp" has an
// entry "Actions.Results:<run>:<job>". Its signature is the service's business.
func newClient(base, token string, h *http.Client) (*client, error) {
	if base == "" || token == "" {
		return nil, errors.New("ACTIONS_RESULTS_URL or ACTIONS_RUNTIME_TOKEN is not set: the runner has no artifact server, or keeps it from this step")
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, errors.New("the runtime token is no JWT")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, fmt.Errorf("the runtime token: %w", err)
	}
	var claims struct{ Scp string }
	if err := json.Unmarshal(payload, &claims); err != nil {
		return nil, fmt.Errorf("the runtime token: %w", err)
	}
	for scope := range strings.FieldsSeq(claims.Scp) {
		if ids := strings.Split(scope, ":"); len(ids) == 3 && ids[0] == "Actions.Results" {
			return &client{base: strings.TrimSuffix(base, "/") + "/", token: token, run: ids[1], job: ids[2], http: h}, nil
		}
	}
	return nil, errors.New("the runtime token has no scope Actions.Results")
}

// call calls a method of the service. Unknown fields are refused there, so a request
// has only those that are needed.
func (c *client) call(ctx context.Context, method string, request map[string]any, answer any) error {
	request["workflow_run_backend_id"], request["workflow_job_run_backend_id"] = c.run, c.job
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+service+method, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+c.token)
	text, err := c.do(req)
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	return nil
}

func (c *client) do(req *http.Request) ([]byte, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		return nil, fmt.Errorf("%s: %.200s", resp.Status, text)
	}
	return text, nil
}

// upload stores the files below dir as the artifact name.
func (c *client) upload(ctx context.Context, name, dir string) (err error) {
	archive, err := os.CreateTemp("", "artifact-*.zip")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, archive.Close(), os.Remove(archive.Name())) }()
	hash := sha256.New()
	size, err := pack(io.MultiWriter(archive, hash), os.DirFS(dir))
	if err != nil {
		return err
	}
	if _, err := archive.Seek(0, io.SeekStart); err != nil {
		return err
	}
	var created struct {
		OK              bool
		SignedUploadURL string `json:"signedUploadUrl"`
	}
	if err := c.call(ctx, "CreateArtifact", map[string]any{"name": name, "version": 4}, &created); err != nil {
		return err
	}
	if !created.OK || created.SignedUploadURL == "" {
		return errors.New("CreateArtifact: refused, as for a name that is taken")
	}
	if err := c.blocks(ctx, created.SignedUploadURL, archive); err != nil {
		return err
	}
	var finalized struct{ OK bool }
	err = c.call(ctx, "FinalizeArtifact", map[string]any{
		"name": name, "size": strconv.FormatInt(size, 10), "hash": "sha256:" + hex.EncodeToString(hash.Sum(nil)),
	}, &finalized)
	if err == nil && !finalized.OK {
		err = errors.New("FinalizeArtifact: refused")
	}
	return err
}

// blocks puts an archive in blocks, in their order: act's server appends them as they
// come. The list at the end is what makes them one blob elsewhere.
func (c *client) blocks(ctx context.Context, target string, archive io.Reader) error {
	var list strings.Builder
	list.WriteString("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>")
	buffer := make([]byte, block)
	for n := 0; ; n++ {
		length, err := io.ReadFull(archive, buffer)
		if length > 0 {
			id := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%08d", n))
			if err := c.put(ctx, target+"&comp=block&blockid="+url.QueryEscape(id), buffer[:length]); err != nil {
				return err
			}
			list.WriteString("<Latest>" + id + "</Latest>")
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	list.WriteString("</BlockList>")
	return c.put(ctx, target+"&comp=blocklist", []byte(list.String()))
}

func (c *client) put(ctx context.Context, target string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, target, bytes.NewReader(body))
	if err != nil {
		return err
	}
	_, err = c.do(req)
	return err
}

// download extracts the artifact name into dir.
func (c *client) download(ctx context.Context, name, dir string) (err error) {
	var listed struct{ Artifacts []struct{ Name string } }
	if err := c.call(ctx, "ListArtifacts", map[string]any{"name_filter": name}, &listed); err != nil {
		return err
	}
	if len(listed.Artifacts) == 0 {
		return errors.New("there is none of that name in this run")
	}
	var signed struct {
		SignedURL string `json:"signedUrl"`
	}
	if err := c.call(ctx, "GetSignedArtifactURL", map[string]any{"name": name}, &signed); err != nil {
		return err
	}
	archive, err := os.CreateTemp("", "artifact-*.zip")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, archive.Close(), os.Remove(archive.Name())) }()
	size, err := c.fetch(ctx, signed.SignedURL, archive)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Clean(dir), 0o755); err != nil {
		return err
	}
	target, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	return extract(archive, size, target)
}

func (c *client) fetch(ctx context.Context, from string, to io.Writer) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return 0, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("fetch it: %s", resp.Status)
	}
	size, err := io.Copy(to, io.LimitReader(resp.Body, maxArtifact+1))
	if err == nil && size > maxArtifact {
		err = fmt.Errorf("it has more than %d bytes", maxArtifact)
	}
	return size, err
}
