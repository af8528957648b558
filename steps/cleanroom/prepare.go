package cleanroom

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Prepare says how the dependencies that lock files name are fetched: in an environment
// of its own, whose one way out is a proxy with an allow-list. Builds and tests see them
// read-only and have no way out at all. The zero value fetches nothing.
type Prepare struct {
	// Depot keeps what was fetched, by lock file and toolchain; nil to fetch nothing.
	Depot Depot
	// Gateway serves a proxy on l for the hosts of allow, until the gate is closed.
	Gateway func(l net.Listener, allow []string) (Gate, error)
	// Allow are the hosts that may be reached: "host", "*.host", "host:port". Empty
	// means those of the registries.
	Allow []string
	// The registries; empty means the public one of the language.
	GoProxy, NPMRegistry, PyPIIndex, CargoIndex string
	// Certificates is a file of the host with the certificates of authorities, PEM;
	// empty where everything is fetched without TLS.
	Certificates string
}

// Depot keeps directories that are made once for each key, whole or not at all.
type Depot interface {
	Dir(ctx context.Context, key string, fill func(ctx context.Context, dir string) error) (dir string, warm bool, err error)
}

// Gate is a proxy that answers. Close ends it and returns what was asked for.
type Gate interface{ Close() []Request }

// Request is what was asked of a host through a [Gate].
type Request struct {
	Host    string
	Allowed bool
	// Why says why it was refused, or failed.
	Why            string
	Count          int
	Sent, Received int64
}

// Public registries.
const (
	publicGoProxy = "https://proxy.golang.org"
	publicNPM     = "https://registry.npmjs.org/"
	publicPyPI    = "https://pypi.org/simple"
	publicCargo   = "sparse+https://index.crates.io/"
)

// publicHosts are what each kind asks of its public registry.
var publicHosts = map[Kind][]string{
	Go:         {"proxy.golang.org", "storage.googleapis.com"},
	JavaScript: {"registry.npmjs.org"},
	TypeScript: {"registry.npmjs.org"},
	Python:     {"pypi.org", "files.pythonhosted.org"},
	Rust:       {"index.crates.io", "static.crates.io"},
}

func (p Prepare) withDefaults() Prepare {
	for _, field := range []struct {
		value    *string
		standard string
	}{{&p.GoProxy, publicGoProxy}, {&p.NPMRegistry, publicNPM}, {&p.PyPIIndex, publicPyPI}, {&p.CargoIndex, publicCargo}} {
		if *field.value == "" {
			*field.value = field.standard
		}
	}
	return p
}

// allowed returns the allow-list for the suite.
func (p Prepare) allowed(s *suite) []string {
	if len(p.Allow) > 0 {
		return p.Allow
	}
	return publicHosts[s.kind()]
}

// depsMount is where dependencies are, when they are fetched and when they are used.
const depsMount = "/deps"

// maxLock bounds a lock file in bytes.
const maxLock = 64 << 20

// prepare fetches the dependencies of every suite that locks some.
func (t *trial) prepare(ctx context.Context) error {
	if t.step.Prepare.Depot == nil {
		return nil
	}
	t.step.Prepare = t.step.Prepare.withDefaults()
	for _, s := range t.suites {
		r, err := s.runner.prepare(t, s)
		if err != nil {
			return err
		}
		if r == nil {
			continue
		}
		if err := t.prepareSuite(ctx, s, r); err != nil {
			return err
		}
	}
	return nil
}

func (t *trial) prepareSuite(ctx context.Context, s *suite, r *recipe) error {
	key, err := t.depsKey(s, r)
	if err != nil {
		return err
	}
	name := string(s.kind()) + "-" + key.Hex()[:32]
	dir, warm, err := t.step.Prepare.Depot.Dir(ctx, name, func(ctx context.Context, dir string) error {
		t.step.progress("dependencies of " + strings.Join(r.lock, ", ") + ", fetched once for each machine")
		return t.fetch(ctx, s, r, dir)
	})
	if err != nil {
		return err
	}
	s.deps = &dependencies{mount: sandbox.Mount{Kind: sandbox.ReadOnly, Source: dir, Target: depsMount}, key: key, warm: warm}
	return t.link(s, r)
}

// depsKey names what a recipe gives: by its files, the toolchain and the platform.
func (t *trial) depsKey(s *suite, r *recipe) (state.Digest, error) {
	h := state.NewHasher()
	fmt.Fprintf(h, "dependencies 1\n%s\n%s\n%s\n", s.kind(), s.tool, s.tool.Digest)
	for _, name := range r.lock {
		b, err := readBounded(t.work.tree, name, maxLock)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %s\n", name, state.DigestOf(b))
	}
	return h.Digest(), nil
}

func readBounded(root *os.Root, name string, most int64) ([]byte, error) {
	info, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > most {
		return nil, fault.New(fault.Finding, "", "%s is no regular file of at most %d bytes", name, most)
	}
	return root.ReadFile(name)
}

// link puts a link to the dependencies into the tree where the language looks for them
// there. It goes before the tree is packaged.
func (t *trial) link(s *suite, r *recipe) error {
	if r.link == "" {
		return nil
	}
	at := path.Join(s.dir(), r.link)
	if _, err := t.work.tree.Lstat(at); err == nil {
		return fault.New(fault.Finding, "leave it out of the tree: the lock file says what belongs in it", "the tree has %s beside %s", at, strings.Join(r.lock, ", "))
	}
	s.deps.link, s.deps.target = at, r.link
	return nil
}

// makeLinks makes the links, with the paths that the room's containers see.
func (t *trial) makeLinks() error {
	for _, s := range t.suites {
		if s.deps == nil || s.deps.link == "" {
			continue
		}
		to := path.Join(t.room.at(s.container("test"), s.deps.mount), s.deps.target)
		if err := t.work.tree.Symlink(to, s.deps.link); err != nil {
			return fault.Wrap(err, fault.Unavailable, "", "link the dependencies into the tree")
		}
	}
	return nil
}

// removeLinks makes the tree what it was.
func (t *trial) removeLinks() error {
	var errs []error
	for _, s := range t.suites {
		if s.deps != nil && s.deps.link != "" {
			if err := t.work.tree.Remove(s.deps.link); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// fetch runs a recipe in an environment of its own.
func (t *trial) fetch(ctx context.Context, s *suite, r *recipe, dir string) (err error) {
	env, err := t.step.Backend.Create(ctx, sandbox.EnvironmentSpec{
		Name: t.work.name + "-" + s.name, MinIsolation: t.step.MinIsolation, Limits: t.step.limits(), Network: sandbox.NetworkInternal,
	})
	if err != nil {
		return err
	}
	outside := t.newRoom(env)
	defer func() { err = errors.Join(err, outside.leave(ctx)) }()
	if _, err := t.step.verify(env); err != nil {
		return err
	}
	l, err := env.Listen(ctx)
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "vendor the dependencies, or use another back end", "open the way to the registry")
	}
	proxy := "http://" + l.Addr().String()
	gate, err := t.step.Prepare.Gateway(l, t.step.Prepare.allowed(s))
	if err != nil {
		return errors.Join(err, l.Close())
	}
	failed, err := t.runRecipe(ctx, s, r, outside, dir, proxy)
	asked := gate.Close()
	t.noteRequests(s, asked)
	if err == nil && failed != nil {
		err = t.notFetched(s, r, failed, asked)
	}
	return err
}

// runRecipe runs the commands of a recipe, and returns the one that failed.
func (t *trial) runRecipe(ctx context.Context, s *suite, r *recipe, outside *room, dir, proxy string) (failed *stage, err error) {
	if err := t.copyLock(s, r, dir); err != nil {
		return nil, err
	}
	outside.open()
	deps := sandbox.Mount{Kind: sandbox.ReadWrite, Source: dir, Target: depsMount}
	for i, command := range r.commands {
		c := command(outside, fmt.Sprintf("prepare-%d", i+1), deps)
		c.env = append(c.env, proxyEnv(proxy)...)
		t.trust(outside, &c)
		var st stage
		if err := t.stageIn(ctx, outside, &st, c); err != nil {
			return nil, err
		}
		if !st.ok {
			return &st, nil
		}
	}
	return nil, nil
}

// proxyEnv makes programs use the proxy (the names are those of curl; some programs
// know the upper case, some the lower).
func proxyEnv(url string) []string {
	var env []string
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY"} {
		env = append(env, name+"="+url, strings.ToLower(name)+"="+url)
	}
	return append(env, "NO_PROXY=", "no_proxy=")
}

// trust shows a command the certificates of authorities.
func (t *trial) trust(r *room, c *command) {
	file := t.step.Prepare.Certificates
	if file == "" || c.image != "" { // an image has its own
		return
	}
	m := sandbox.Mount{Kind: sandbox.ReadOnly, Source: file, Target: "/certificates/ca.pem"}
	c.mounts = append(c.mounts, m)
	for _, name := range []string{"SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CARGO_HTTP_CAINFO"} {
		c.env = append(c.env, name+"="+r.at(c.name, m))
	}
}

// copyLock copies the lock files beside what is fetched, for tools that want both in one
// directory.
func (t *trial) copyLock(s *suite, r *recipe, dir string) (err error) {
	if !r.beside {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	for _, name := range r.lock {
		b, err := readBounded(t.work.tree, name, maxLock)
		if err != nil {
			return err
		}
		below, _ := within(s.dir(), name)
		if parent := path.Dir(below); parent != "." {
			if err := root.MkdirAll(parent, 0o777); err != nil {
				return err
			}
		}
		if err := root.WriteFile(below, b, 0o666); err != nil {
			return err
		}
		// The tool runs as another user, and may write its lock file anew.
		if err := os.Chmod(filepath.Join(dir, filepath.FromSlash(below)), 0o666); err != nil {
			return err
		}
	}
	return nil
}

// notFetched says why dependencies could not be fetched, and whose turn it is.
func (t *trial) notFetched(s *suite, r *recipe, st *stage, asked []Request) error {
	kind, hint := fault.Finding, "correct "+strings.Join(r.lock, " and ")
	var trouble []string
	for _, q := range asked {
		switch {
		case !q.Allowed:
			kind, hint = fault.Finding, "if it may be reached, add it, and its address where that is not public, to allow in [cleanroom.prepare] of ggen.toml"
			trouble = append(trouble, q.Host+" was refused: "+q.Why)
		case q.Why != "":
			kind, hint = fault.Unavailable, "run it again when the registry can be reached"
			trouble = append(trouble, q.Host+": "+q.Why)
		}
	}
	if f, ok := limitFinding(st.command, st.status); ok {
		hint = f.Fix
	}
	text := st.text.String()
	if len(trouble) > 0 {
		text = strings.Join(trouble, "\n") + "\n" + text
	}
	return fault.New(kind, hint, "fetch the dependencies of %s: %s: %s\n%s", strings.Join(r.lock, ", "), st.command, st.status, indent(text))
}

// noteRequests keeps what was asked for, for the evidence.
func (t *trial) noteRequests(s *suite, asked []Request) {
	for _, q := range asked {
		word := "allowed"
		if !q.Allowed {
			word = "refused"
		}
		if q.Why != "" {
			word += ", " + q.Why
		}
		t.requests = append(t.requests, fmt.Sprintf("%s: %s (%s, %d times, %d bytes sent, %d received)", s.name, q.Host, word, q.Count, q.Sent, q.Received))
		t.log.add("# " + t.requests[len(t.requests)-1] + "\n")
	}
}

// refusalFindings names the hosts that were asked for in vain. Who fetched well without
// them need not mind.
func (t *trial) refusalFindings() []finding.Finding {
	var found []finding.Finding
	for _, text := range t.requests {
		if strings.Contains(text, "(refused") && len(found) < maxFindings {
			found = append(found, finding.Finding{
				Rule: RuleEgress, Severity: finding.Low, What: "a host that is not in the allow-list was asked for: " + text,
				Fix: "find what asks for it; if it may, add it to allow in [cleanroom.prepare] of ggen.toml",
			})
		}
	}
	return found
}

// locked returns those of the names that are regular files in the directory of the
// suite, as paths of the tree.
func (t *trial) locked(s *suite, names ...string) []string {
	var found []string
	for _, name := range names {
		at := path.Join(s.dir(), name)
		if info, err := t.work.tree.Lstat(at); err == nil && info.Mode().IsRegular() {
			found = append(found, at)
		}
	}
	return found
}

// has reports that the suite's directory holds all of these.
func (t *trial) has(s *suite, names ...string) bool { return len(t.locked(s, names...)) == len(names) }

// plainHTTP returns the host of an index without TLS, which some tools must be told to
// trust.
func plainHTTP(index string) (host string, ok bool) {
	rest, ok := strings.CutPrefix(index, "http://")
	host, _, _ = strings.Cut(rest, "/")
	return host, ok
}
