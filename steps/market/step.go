package market

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Registry gives the index and the packages it names.
type Registry interface {
	// Name is the address of the index for messages, without secrets.
	Name() string
	// Index returns the index as it is kept.
	Index(ctx context.Context) ([]byte, error)
	// Fetch returns the package at location, a path relative to the index or a URL,
	// as [state.Pack] writes it, without anything called .git. Nothing is verified yet.
	Fetch(ctx context.Context, location string) ([]byte, error)
	// Keep puts the metadata of a package into the cache; without a cache it does nothing.
	Keep(id string, metadata []byte) error
}

// Store keeps installed packages by their sum.
type Store interface {
	// Load returns an installed package as [state.Pack] writes it, or false.
	Load(ctx context.Context, sum state.Digest) (tar []byte, ok bool, err error)
	// Install unpacks a verified package, in place of what is there under its sum,
	// so that it is there wholly or not at all.
	Install(ctx context.Context, sum state.Digest, tar []byte) error
}

// Lock reads and writes the lock file.
type Lock interface {
	// Read returns its bytes, nil if there is none.
	Read() ([]byte, error)
	// Write replaces it in one step.
	Write(data []byte) error
}

// DefaultWorkers is how many packages are fetched and installed at once (features.md M-26).
const DefaultWorkers = 4

// Step is the market phase. Registry, Store and Lock must be set.
type Step struct {
	Requests []Request
	Registry Registry
	Store    Store
	Lock     Lock

	// NoDeps leaves dependencies out. Force fetches and installs again what is installed.
	NoDeps, Force bool
	// Locked uses the lock file alone: no index is read, a difference between
	// lock and requests is an error, and nothing is written.
	Locked bool
	// AllowPrerelease lets ranges choose pre-releases.
	AllowPrerelease bool
	// Workers bounds parallel installs; 0 means [DefaultWorkers].
	Workers int

	Log *slog.Logger // nil discards
	// Progress is told what happens, from several goroutines; nil discards.
	Progress func(message string)
}

// Phase returns phase.Market.
func (s *Step) Phase() phase.Name { return phase.Market }

// Key returns what the result depends on: the resolved packages by sum. It is
// nil, so the step runs, if the lock file would change or Force is set.
func (s *Step) Key(ctx context.Context, _ state.State) (map[string]string, error) {
	plan, lock, changed, err := s.plan(ctx)
	if err != nil || changed || s.Force {
		return nil, err
	}
	lines := make([]string, 0, len(plan))
	for _, p := range plan {
		lines = append(lines, fmt.Sprintf("%s@%s %s", p.ID, p.Version, p.Sum))
	}
	return map[string]string{"packages": strings.Join(lines, "\n"), "lock": string(state.DigestOf(lock))}, nil
}

// Run resolves, verifies and installs the packages. The lock file is written
// last and only if all went well. A finding returns a failed entry with its error.
func (s *Step) Run(ctx context.Context, _ state.State, blobs state.Blobs) (state.Result, error) {
	plan, lock, changed, err := s.plan(ctx)
	if err != nil {
		return failed(err)
	}
	packages, err := s.installAll(ctx, plan, blobs)
	if err != nil {
		return failed(err)
	}
	if changed {
		if err := s.Lock.Write(lock); err != nil {
			return state.Result{}, fault.Wrap(err, fault.Unavailable, "", "write "+LockName)
		}
	}
	return result(plan, packages, lock), nil
}

// plan decides what to install, and what the lock file will hold.
func (s *Step) plan(ctx context.Context) (plan []locked, lock []byte, changed bool, err error) {
	before, err := s.Lock.Read()
	if err != nil {
		return nil, nil, false, fault.Wrap(err, fault.Unavailable, "", "read "+LockName)
	}
	var pinned []Locked
	if before != nil {
		if pinned, err = ParseLock(before); err != nil {
			return nil, nil, false, err
		}
	}
	if s.Locked {
		if before == nil {
			return nil, nil, false, fault.New(fault.Finding, "run once without --locked, and commit the file", "no %s to go by", LockName)
		}
		plan, err = fromLock(s.Requests, pinned, s.AllowPrerelease)
		return plan, before, false, err
	}
	index, err := s.index(ctx)
	if err != nil {
		return nil, nil, false, err
	}
	r := resolver{index: index, pinned: map[string]string{}, prerelease: s.AllowPrerelease, noDeps: s.NoDeps}
	for _, p := range pinned {
		r.pinned[p.ID] = p.Version
	}
	choices, err := r.resolve(s.Requests)
	if err != nil {
		return nil, nil, false, err
	}
	if plan, err = fromIndex(choices, pinned, s.NoDeps); err != nil {
		return nil, nil, false, err
	}
	entries := make([]Locked, 0, len(plan))
	for _, p := range plan {
		entries = append(entries, p.Locked)
	}
	lock = FormatLock(entries)
	return plan, lock, !bytes.Equal(before, lock), nil
}

// index reads the index; a step that asks for nothing needs none.
func (s *Step) index(ctx context.Context) (*Index, error) {
	if len(s.Requests) == 0 {
		return &Index{}, nil
	}
	data, err := s.Registry.Index(ctx)
	if err != nil {
		return nil, err
	}
	return DecodeIndex(s.Registry.Name(), data)
}

// delivered is a verified package.
type delivered struct {
	artifact state.Artifact
	// cached is set if the package was installed already.
	cached bool
}

// installAll verifies all packages before it installs the first: a run that ends
// with a bad package installs nothing. Between the two the bytes wait as
// artifacts, so memory holds no more packages than there are workers.
func (s *Step) installAll(ctx context.Context, plan []locked, blobs state.Blobs) ([]delivered, error) {
	out := make([]delivered, len(plan))
	err := s.each(ctx, plan, func(i int, p *locked) (err error) {
		out[i], err = s.deliver(ctx, p, blobs)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, s.each(ctx, plan, func(i int, p *locked) error {
		s.keep(p)
		if out[i].cached {
			return nil
		}
		tar, err := state.ReadBlob(ctx, blobs, out[i].artifact)
		if err == nil {
			err = s.Store.Install(ctx, p.Sum, tar)
		}
		if err != nil {
			return fault.Wrap(err, fault.Unavailable, "", "install package "+p.ID+" "+p.Version)
		}
		s.progress("installed " + p.ID + " " + p.Version)
		return nil
	})
}

// each works on a bounded number of packages at once. All errors are joined in
// the order of the packages; the first cancels nothing, so that every bad package
// is named in one run.
func (s *Step) each(ctx context.Context, plan []locked, do func(i int, p *locked) error) error {
	workers := s.Workers
	if workers <= 0 {
		workers = DefaultWorkers
	}
	errs := make([]error, len(plan))
	slots := make(chan struct{}, workers)
	var group sync.WaitGroup
	for i := range plan {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			if errs[i] = context.Cause(ctx); errs[i] == nil {
				errs[i] = do(i, &plan[i])
			}
		})
	}
	group.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

// deliver fetches and verifies a package and makes it an artifact.
func (s *Step) deliver(ctx context.Context, p *locked, blobs state.Blobs) (delivered, error) {
	what := "package " + p.ID + " " + p.Version
	tar, cached, err := s.load(ctx, p)
	if err != nil {
		return delivered{}, fault.Wrap(err, fault.KindOf(err), "", what)
	}
	if err := checkManifest(p, tar); err != nil {
		return delivered{}, err
	}
	artifact, err := state.WriteBlob(ctx, blobs, state.ArtifactPackage(p.ID), state.MediaTypePackage, tar)
	return delivered{artifact, cached}, fault.Wrap(err, fault.Unavailable, "", what)
}

// load returns the verified bytes of a package, from the store if they are there
// and right. What the store holds is verified like what comes from outside.
func (s *Step) load(ctx context.Context, p *locked) (tar []byte, cached bool, err error) {
	if !s.Force {
		tar, ok, err := s.Store.Load(ctx, p.Sum)
		if err == nil && ok {
			err = verify(p, tar, "installed files")
		}
		if err == nil && ok {
			return tar, true, nil
		}
		if err != nil {
			// Installed files that were changed are replaced by what the registry has.
			s.log().Warn("installed package is not usable, fetching it again", "package", p.ID, "version", p.Version, "error", err)
		}
	}
	s.progress("fetching " + p.ID + " " + p.Version)
	if tar, err = s.Registry.Fetch(ctx, p.Source); err != nil {
		return nil, false, err
	}
	return tar, false, verify(p, tar, "files")
}

// verify compares a package with its digest, without unpacking it.
func verify(p *locked, tar []byte, what string) error {
	sum, err := sumTar(tar)
	if err != nil {
		return err
	}
	if sum != p.Sum {
		return fault.New(fault.Finding, "the package was changed after its digest was published; do not use it before its publisher explains",
			"%s have digest %s, not %s", what, sum, p.Sum)
	}
	return nil
}

// keep caches the metadata of a package, which helps searching and nothing else.
func (s *Step) keep(p *locked) {
	if p.pkg == nil {
		return
	}
	data, err := json.MarshalIndent(p.pkg, "", "  ")
	if err == nil {
		err = s.Registry.Keep(p.ID, append(data, '\n'))
	}
	if err != nil {
		s.log().Warn("package metadata is not cached", "package", p.ID, "error", err)
	}
}

func (s *Step) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}

func (s *Step) progress(message string) {
	if s.Progress != nil {
		s.Progress(message)
	}
}

func result(plan []locked, done []delivered, lock []byte) state.Result {
	entry := state.Entry{
		Phase: phase.Market, Outcome: state.Passed, Market: &state.Market{Packages: []state.Package{}},
		Inputs: []state.Input{{Name: LockName, Digest: state.DigestOf(lock)}},
	}
	facts := map[string]string{}
	cached := 0
	for i, p := range plan {
		entry.Market.Packages = append(entry.Market.Packages, state.Package{ID: p.ID, Version: p.Version, Sum: p.Sum, Dependencies: slices.Clone(p.Dependencies)})
		entry.Artifacts = append(entry.Artifacts, done[i].artifact)
		facts["package."+p.ID+".source"] = p.Source
		if done[i].cached {
			cached++
		}
	}
	summary := fmt.Sprintf("%d packages", len(plan))
	if len(plan) == 1 {
		summary = "1 package"
	}
	if cached > 0 {
		summary += fmt.Sprintf(", %d installed before", cached)
	}
	return state.Result{Entry: entry, Evidence: state.Evidence{Kind: state.KindRun, Facts: facts, Summary: summary}}
}

// failed returns the entry of a run that ended with a finding, and nothing but
// the error for any other failure: what was not judged leaves no claim.
func failed(err error) (state.Result, error) {
	if fault.KindOf(err) != fault.Finding {
		return state.Result{}, err
	}
	return state.Result{
		Entry: state.Entry{Phase: phase.Market, Outcome: state.Failed, Market: &state.Market{Packages: []state.Package{}}},
		Evidence: state.Evidence{
			Kind:     state.KindRun,
			Findings: []finding.Finding{{Rule: "market", Severity: finding.Critical, What: err.Error(), Fix: fault.HintOf(err)}},
			Summary:  "no packages",
		},
	}, err
}
