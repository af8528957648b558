package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Files below the cache directory (features.md M-23). index.state.json is ours:
// what is needed to revalidate index.json, and to tell whose it is.
const (
	cacheIndex    = "index.json"
	cacheUpdated  = "last_update.txt"
	cacheState    = "index.state.json"
	cachePackages = "packages"
	cacheMetadata = "metadata.json"
)

// cacheRecord describes index.json. It is written after it, and names its digest:
// a run that is killed between the two leaves a cache that counts as empty.
type cacheRecord struct {
	URL          string       `json:"url"`
	Digest       state.Digest `json:"digest"`
	ETag         string       `json:"etag,omitempty"`
	LastModified string       `json:"last_modified,omitempty"`
	Checked      time.Time    `json:"checked"`
}

// cachedIndex returns the index of a web registry: from the cache while that is
// fresh, else after asking whether it changed; from the cache in any case if the
// registry is out of order, with a notice (features.md N-06).
func (r *Registry) cachedIndex(ctx context.Context) ([]byte, error) {
	record, data, ok := r.readCache()
	now := r.options.Now()
	age := now.Sub(record.Checked)
	switch {
	case ok && r.options.Offline:
		r.options.Notice(fmt.Sprintf("offline: using the index of %s", record.Checked.UTC().Format(time.RFC3339)))
		return data, nil
	case r.options.Offline:
		return nil, fault.New(fault.Unavailable, "run once without --offline", "registry %s is offline and its index is not in the cache", r.Name())
	case ok && age >= 0 && age < r.options.TTL:
		return data, nil
	}
	fresh, err := r.fetchIndex(ctx, record, ok)
	if err == nil && fresh.data == nil {
		fresh.data = data // not modified
	}
	if err != nil {
		if ok && fault.KindOf(err) == fault.Unavailable && ctx.Err() == nil {
			r.options.Notice(fmt.Sprintf("using the index of %s, since %s", record.Checked.UTC().Format(time.RFC3339), err))
			return data, nil
		}
		return nil, err
	}
	fresh.record.Checked = now
	if err := r.writeCache(fresh.record, fresh.data); err != nil {
		r.options.Log.Warn("index is not cached", "error", err)
	}
	return fresh.data, nil
}

// fetched is an answer of the registry; data is nil if what is cached still holds.
type fetched struct {
	record cacheRecord
	data   []byte
}

func (r *Registry) fetchIndex(ctx context.Context, record cacheRecord, cached bool) (fetched, error) {
	header := http.Header{"Accept": {"application/json"}}
	if cached && record.ETag != "" {
		header.Set("If-None-Match", record.ETag)
	} else if cached && record.LastModified != "" {
		header.Set("If-Modified-Since", record.LastModified)
	}
	response, err := r.get(ctx, r.url, header)
	if err != nil {
		return fetched{}, err
	}
	defer response.Body.Close()
	switch {
	case response.StatusCode == http.StatusNotModified && cached:
		return fetched{record: record}, nil
	case response.StatusCode != http.StatusOK:
		return fetched{}, statusError(response, r.url)
	}
	data, err := readAll(response.Body, MaxIndex)
	if err != nil {
		return fetched{}, fault.Wrap(err, fault.Unavailable, "run it again", "GET "+r.Name())
	}
	return fetched{data: data, record: cacheRecord{
		URL: r.Name(), Digest: state.DigestOf(data), ETag: response.Header.Get("ETag"), LastModified: response.Header.Get("Last-Modified"),
	}}, nil
}

// readCache returns what is cached for this registry. A cache that is damaged,
// of another registry or unreadable is no cache.
func (r *Registry) readCache() (cacheRecord, []byte, bool) {
	if r.options.CacheDir == "" {
		return cacheRecord{}, nil, false
	}
	text, err := readFile(filepath.Join(r.options.CacheDir, cacheState), 1<<16)
	if err != nil {
		r.logUnlessMissing(err)
		return cacheRecord{}, nil, false
	}
	var record cacheRecord
	if err := json.Unmarshal(text, &record); err != nil || record.URL != r.Name() {
		return cacheRecord{}, nil, false
	}
	data, err := readFile(filepath.Join(r.options.CacheDir, cacheIndex), MaxIndex)
	if err != nil {
		r.logUnlessMissing(err)
		return cacheRecord{}, nil, false
	}
	if state.DigestOf(data) != record.Digest {
		r.options.Log.Warn("cached index does not match its digest, fetching it again")
		return cacheRecord{}, nil, false
	}
	return record, data, true
}

func (r *Registry) logUnlessMissing(err error) {
	if !errors.Is(err, fs.ErrNotExist) {
		r.options.Log.Warn("cached index is not readable", "error", err)
	}
}

func (r *Registry) writeCache(record cacheRecord, data []byte) error {
	if r.options.CacheDir == "" {
		return nil
	}
	text, err := json.MarshalIndent(record, "", "  ")
	if err != nil {
		return err
	}
	dir := r.options.CacheDir
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return errors.Join(
		writeFile(filepath.Join(dir, cacheIndex), data),
		writeFile(filepath.Join(dir, cacheState), append(text, '\n')),
		writeFile(filepath.Join(dir, cacheUpdated), []byte(record.Checked.UTC().Format(time.RFC3339)+"\n")))
}

// Keep stores the metadata of a package in the cache. Only a web registry has one.
func (r *Registry) Keep(id string, metadata []byte) error {
	if r.options.CacheDir == "" || r.url == nil {
		return nil
	}
	if id == "" || strings.ContainsAny(id, `/\:`) || !filepath.IsLocal(id) {
		return fmt.Errorf("package id %q is not a file name", id)
	}
	dir := filepath.Join(r.options.CacheDir, cachePackages, id)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, cacheMetadata), metadata)
}
