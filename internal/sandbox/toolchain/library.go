package toolchain

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/lock"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// What services and their tests import. What is missing here is compiled in the
// clean room each time: slower, never wrong.
var (
	programPackages = []string{
		"bufio", "bytes", "cmp", "compress/gzip", "container/heap", "container/list", "context",
		"crypto/ed25519", "crypto/hmac", "crypto/rand", "crypto/sha256", "crypto/sha512", "crypto/subtle", "crypto/tls", "crypto/x509",
		"database/sql", "embed", "encoding/base64", "encoding/binary", "encoding/csv", "encoding/hex", "encoding/json",
		"encoding/pem", "encoding/xml", "errors", "expvar", "flag", "fmt", "hash/crc32", "hash/fnv", "html", "html/template",
		"io", "io/fs", "iter", "log", "log/slog", "maps", "math", "math/big", "math/bits", "math/rand", "math/rand/v2",
		"mime", "mime/multipart", "net", "net/http", "net/http/httputil", "net/netip", "net/textproto", "net/url",
		"os", "os/exec", "os/signal", "path", "path/filepath", "reflect", "regexp", "runtime", "runtime/debug", "runtime/metrics",
		"slices", "sort", "strconv", "strings", "sync", "sync/atomic", "syscall", "text/tabwriter", "text/template", "time",
		"unicode", "unicode/utf16", "unicode/utf8", "unique", "weak",
	}
	testPackages = []string{
		"net/http/cookiejar", "net/http/httptest", "net/http/httptrace", "testing/fstest", "testing/iotest",
		"testing/quick", "testing/slogtest", "testing/synctest",
	}
)

// untouchable is the modification time of every file of a library. The go command
// renews times older than an hour and removes what was not used for five days
// (cmd/go/internal/cache): seen through a clean room's overlay, the first would
// copy each file that is read and the second would empty the cache. A time in the
// future stops both. 2037 is the last whole year that every file system can hold.
var untouchable = time.Date(2037, 1, 1, 0, 0, 0, 0, time.UTC)

// Library returns a directory for use as GOCACHE in which the standard library is
// compiled for builds with the given flags in the given environment, as `go build`,
// `go vet` and `go test` need it. There is one below cache for each toolchain, env
// and flags; warm reports that it was there already. It is made whole or not at
// all, once, however many ask at the same time; a cold one takes about 20 s and 120 MB.
//
// Use it through an overlay or a copy: whoever can write to it decides what later
// builds contain. Its directories are open to every user, for a clean room whose
// processes have another one, below a directory that is open to the caller alone.
func (t Toolchain) Library(ctx context.Context, cache string, env, flags []string) (dir string, warm bool, err error) {
	home := filepath.Join(cache, t.name(env, flags))
	dir = filepath.Join(home, "library")
	if isDir(dir) {
		return dir, true, nil
	}
	if err := os.MkdirAll(home, 0o700); err != nil {
		return "", false, fault.New(fault.Unavailable, "name a cache directory that can be written", "make the cache of the standard library: %w", err)
	}
	held, err := lock.Acquire(ctx, filepath.Join(home, "lock"))
	if err != nil {
		return "", false, fault.Wrap(err, fault.Unavailable, "", "wait for the cache of the standard library")
	}
	defer func() { err = errors.Join(err, held.Release()) }()
	if isDir(dir) { // made by another process while this one waited
		return dir, true, nil
	}
	if err := t.compile(ctx, home, dir, env, flags); err != nil {
		return "", false, fault.Wrap(err, fault.Unavailable, "", "compile the standard library of "+t.Version)
	}
	return dir, false, nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// name names a library: 32 hex digits of the digest of all that it depends on.
func (t Toolchain) name(env, flags []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "library 1\n%s\n%s\n", t.Digest, t.Platform())
	for _, list := range [][]string{env, flags, programPackages, testPackages} {
		fmt.Fprintf(&b, "%q\n", list)
	}
	return state.DigestOf([]byte(b.String())).Hex()[:32]
}

// compile makes the library in a directory beside dir and renames it. The caller
// holds the lock, so what an earlier, killed run left can be removed.
func (t Toolchain) compile(ctx context.Context, home, dir string, env, flags []string) (err error) {
	work := filepath.Join(home, "work")
	if err := os.RemoveAll(work); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	library, module := filepath.Join(work, "library"), filepath.Join(work, "module")
	if err := t.writeModule(module); err != nil {
		return err
	}
	env = append(slices.Clone(env), "GOCACHE="+library, "GOPATH="+filepath.Join(work, "gopath"), "GOTMPDIR="+work)
	for _, verb := range []string{"build", "vet", "test"} {
		argv := append([]string{t.Go(t.Root), verb}, flags...)
		switch verb {
		case "build":
			argv = append(argv, "-o", filepath.Join(work, "program"+exe()))
		case "test":
			argv = append(argv, "-vet=off", "-run=^$")
		}
		if _, err := run(ctx, module, env, append(argv, ".")...); err != nil {
			return err
		}
	}
	if err := seal(library); err != nil {
		return err
	}
	return os.Rename(library, dir)
}

// language finds the language version in a toolchain's name, "go1.26.8" or
// "devel go1.27-0123abc".
var language = regexp.MustCompile(`\bgo(\d+\.\d+)`)

// writeModule writes a program and a test that import the packages.
func (t Toolchain) writeModule(dir string) error {
	module := "module library\n"
	if m := language.FindStringSubmatch(t.Version); m != nil {
		module += "\ngo " + m[1] + "\n"
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for name, content := range map[string]string{
		"go.mod":       module,
		"main.go":      source(programPackages, "func main() {}\n"),
		"main_test.go": source(append([]string{"testing"}, testPackages...), "func TestNothing(*testing.T) {}\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func source(packages []string, body string) string {
	var b strings.Builder
	b.WriteString("package main\n\nimport (\n")
	for _, p := range packages {
		if p == "testing" {
			fmt.Fprintf(&b, "\t%q\n", p)
			continue
		}
		fmt.Fprintf(&b, "\t_ %q\n", p)
	}
	b.WriteString(")\n\n" + body)
	return b.String()
}

// seal prepares a finished library for its readers; see [Toolchain.Library] for
// the modes and [untouchable] for the times.
func seal(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o666)
		if d.IsDir() {
			mode = 0o777
		}
		if err := os.Chmod(path, mode); err != nil {
			return err
		}
		if d.IsDir() {
			return nil
		}
		return os.Chtimes(path, untouchable, untouchable)
	})
}
