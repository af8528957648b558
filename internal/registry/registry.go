package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Bounds on what is read.
const (
	MaxIndex   = 128 << 20 // bytes of an index
	MaxArchive = 64 << 20  // bytes of an archive as it comes, and of a package unpacked
)

// Timeout bounds one request, from connecting to the last byte.
const Timeout = 30 * time.Second

// indexName is the index in a directory.
const indexName = "index.json"

// Options say how a registry is reached.
type Options struct {
	// CacheDir keeps the index of a web registry and metadata of packages; empty for no cache.
	CacheDir string
	// TTL is how long a fetched index is used without asking whether it changed.
	TTL time.Duration
	// Offline uses the cache alone.
	Offline bool
	// Client makes the requests; nil means one with [Timeout].
	Client *http.Client
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Notice is told in one line when an old index is used; nil discards.
	Notice func(message string)
	Log    *slog.Logger // nil discards
}

// Registry is one index and the packages beside it. It may be used by several
// goroutines; the index is read once.
type Registry struct {
	options Options
	// One of the two is set: the index as a file, or as a URL.
	file string
	url  *url.URL

	once  sync.Mutex
	index []byte
}

// Open returns the registry at location: a path, a file: URL or an http(s): URL,
// of an index or of the directory that holds index.json. Nothing is read yet.
func Open(location string, options Options) (*Registry, error) {
	if options.Client == nil {
		options.Client = &http.Client{Timeout: Timeout}
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	if options.Notice == nil {
		options.Notice = func(string) {}
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	r := &Registry{options: options}
	u, err := url.Parse(location)
	switch {
	case location == "":
		return nil, fault.New(fault.Usage, "give a URL or a path", "registry: no address")
	case err != nil || len(u.Scheme) < 2: // one letter is a drive
		r.file = location
	case u.Scheme == "file":
		if r.file, err = filePath(u); err != nil {
			return nil, err
		}
	case u.Scheme == "http" || u.Scheme == "https":
		if u.Host == "" {
			return nil, fault.New(fault.Usage, "", "registry %q has no host", u.Redacted())
		}
		r.url = u
		// Without an extension it is a directory, with or without its last slash.
		if path.Ext(u.Path) == "" {
			r.url = u.JoinPath(indexName)
		}
		return r, nil
	default:
		return nil, fault.New(fault.Usage, "use a path, file:, http: or https:", "registry %q: scheme %q is not supported", u.Redacted(), u.Scheme)
	}
	if info, err := os.Stat(r.file); err == nil && info.IsDir() {
		r.file = filepath.Join(r.file, indexName)
	}
	return r, nil
}

// filePath returns the path of a file: URL; "file:rel", "file:///abs" and
// "file:///C:/abs" are accepted.
func filePath(u *url.URL) (string, error) {
	if u.Host != "" && u.Host != "localhost" {
		return "", fault.New(fault.Usage, "write file:///path", "registry %q names the host %q", u, u.Host)
	}
	name := u.Path
	if u.Opaque != "" {
		var err error
		if name, err = url.PathUnescape(u.Opaque); err != nil {
			return "", fault.New(fault.Usage, "", "registry %q: %w", u, err)
		}
	}
	if runtime.GOOS == "windows" && len(name) > 2 && name[0] == '/' && name[2] == ':' {
		name = name[1:]
	}
	if name == "" {
		return "", fault.New(fault.Usage, "write file:///path", "registry %q has no path", u)
	}
	return filepath.FromSlash(name), nil
}

// Name returns the address of the index without a password.
func (r *Registry) Name() string {
	if r.url != nil {
		return r.url.Redacted()
	}
	return r.file
}

// Index returns the bytes of the index, at most [MaxIndex]. It is read once.
func (r *Registry) Index(ctx context.Context) ([]byte, error) {
	r.once.Lock()
	defer r.once.Unlock()
	if r.index != nil {
		return r.index, nil
	}
	var data []byte
	var err error
	if r.url != nil {
		data, err = r.cachedIndex(ctx)
	} else {
		data, err = readFile(r.file, MaxIndex)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fault.New(fault.Usage, "check the address of the index", "registry %s: there is no such file", r.file)
		}
		err = fault.Wrap(err, fault.Unavailable, "", "read index")
	}
	if err != nil {
		return nil, err
	}
	r.index = data
	return data, nil
}

// Fetch returns the package at location, which is relative to the index or, for
// archives, a URL: a directory beside a file index, a tar or a gzip-compressed
// tar. The result is a tar as [state.Pack] writes it, the same for the same
// files however they came, and is not verified.
func (r *Registry) Fetch(ctx context.Context, location string) ([]byte, error) {
	u, err := url.Parse(location)
	if err != nil || location == "" || strings.ContainsAny(location, "\\\x00") {
		return nil, fault.New(fault.Finding, "report it to the publisher of the index", "package location %.200q is not a path or URL", location)
	}
	switch {
	case u.Scheme == "http" || u.Scheme == "https":
	case u.Scheme != "" || u.Host != "":
		return nil, fault.New(fault.Finding, "report it to the publisher of the index", "package location %.200q: only paths, http: and https: are supported", location)
	case r.url == nil:
		return r.fetchFile(ctx, location)
	default:
		u = r.url.ResolveReference(u)
	}
	if r.options.Offline {
		return nil, fault.New(fault.Unavailable, "run once without --offline", "package at %s is not installed, and the registry is offline", u.Redacted())
	}
	response, err := r.get(ctx, u, nil)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, statusError(response, u)
	}
	data, err := readAll(response.Body, MaxArchive)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "run it again", "GET "+u.Redacted())
	}
	return repack(ctx, data)
}

// fetchFile reads a package below the directory of a file index, through a handle
// on that directory: neither ".." nor a link leads out of it.
func (r *Registry) fetchFile(ctx context.Context, location string) (_ []byte, err error) {
	name := path.Clean(location)
	if !fs.ValidPath(name) || name == "." {
		return nil, fault.New(fault.Finding, "report it to the publisher of the index", "package location %.200q is not below the index", location)
	}
	dir := filepath.Dir(r.file)
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", "open registry "+dir)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	if err := noLinks(root, name); err != nil {
		return nil, err
	}
	info, err := root.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fault.New(fault.Finding, "", "the index names %s, which is not there", filepath.Join(dir, filepath.FromSlash(name)))
	case err != nil:
		return nil, fault.Wrap(err, fault.Unavailable, "", "read package")
	case info.IsDir():
		return packDir(ctx, root, name)
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", "read package")
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	data, err := readAll(f, MaxArchive)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", "read package "+name)
	}
	return repack(ctx, data)
}

// noLinks refuses a path with a symbolic link in it. A component that is not
// there is left to whoever opens it.
func noLinks(root *os.Root, name string) error {
	parts := strings.Split(name, "/")
	for i := range parts {
		at := strings.Join(parts[:i+1], "/")
		info, err := root.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fault.Wrap(err, fault.Unavailable, "", "read package")
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			return fault.New(fault.Finding, "replace it by a directory", "package location %s: %s is a symbolic link", name, at)
		}
	}
	return nil
}

func packDir(ctx context.Context, root *os.Root, name string) (_ []byte, err error) {
	sub, err := root.OpenRoot(name)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", "open package "+name)
	}
	defer func() { err = errors.Join(err, sub.Close()) }()
	w := &boundedBuffer{left: MaxArchive}
	if err := state.Pack(ctx, w, sub.FS(), skipGit); err != nil {
		return nil, err
	}
	return w.Bytes(), nil
}

func skipGit(_ string, d fs.DirEntry) bool { return d.Name() == ".git" }

// get makes a request. An error is fault.Unavailable and names the URL.
func (r *Registry) get(ctx context.Context, u *url.URL, header http.Header) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fault.New(fault.Usage, "", "GET %s: %w", u.Redacted(), err)
	}
	for name, values := range header {
		request.Header[name] = values
	}
	response, err := r.options.Client.Do(request)
	if err != nil {
		var inner *url.Error
		if errors.As(err, &inner) {
			err = inner.Err // the outer one repeats the URL with its password
		}
		return nil, fault.Wrap(err, fault.Unavailable, "check the network, or name an index on disk with --index, or in ggen.toml as [market] index", "GET "+u.Redacted())
	}
	return response, nil
}

func statusError(response *http.Response, u *url.URL) error {
	kind, hint := fault.Finding, "check the address"
	if temporary(response.StatusCode) {
		kind, hint = fault.Unavailable, "run it again later"
	}
	return fault.New(kind, hint, "GET %s: status %s", u.Redacted(), response.Status)
}

// temporary reports whether a later request may succeed.
func temporary(status int) bool {
	return status >= 500 || status == http.StatusRequestTimeout || status == http.StatusTooManyRequests
}

// readFile returns the bytes of a regular file. Anything else is refused: a pipe or
// a device may keep its reader for ever. The file is opened without waiting, so a
// pipe without a writer cannot keep the open either.
func readFile(name string, limit int64) (_ []byte, err error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fault.New(fault.Usage, "name a regular file", "%s is not a regular file (%s)", name, info.Mode())
	}
	return readAll(f, limit)
}

// readAll reads at most limit bytes; more is a finding.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fault.New(fault.Finding, "", "more than %d bytes", limit)
	}
	return data, nil
}

// boundedBuffer refuses to grow over its bound.
type boundedBuffer struct {
	bytes.Buffer
	left int
}

func (b *boundedBuffer) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, fault.New(fault.Finding, "", "package has more than %d bytes", MaxArchive)
	}
	return b.Buffer.Write(p)
}
