package validate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// subject is what the checks look at. Its parts are opened when they are first
// asked for and freed by close.
type subject struct {
	step  Step
	blobs state.Blobs
	// built is the latest cleanroom-test entry; generated is the latest generate
	// entry before it, or nil.
	built, generated *state.Link

	dir   string // temporary, empty until needed
	tree  *os.Root
	image *openImage
	env   sandbox.Environment
}

// openImage is an image on disk.
type openImage struct {
	config state.ImageConfig
	root   string
	// enclosed says that no link leads out of root.
	enclosed bool
}

const closeTimeout = 30 * time.Second

func newSubject(s Step, in state.State, blobs state.Blobs) (*subject, error) {
	if err := in.Verify(); err != nil {
		return nil, fault.New(fault.Finding, "start again from a state that you trust", "check the chain: %w", err)
	}
	built, ok := in.Last(phase.Cleanroom)
	if !ok {
		return nil, fault.New(fault.Usage, "run `cleanroom-test run` first and hand on its state", "the state has no cleanroom-test entry, so nothing to judge")
	}
	if shard := built.Entry.Cleanroom.Shard; shard != nil {
		return nil, fault.New(fault.Finding, "run `cleanroom-test merge` with the states of all shards and hand on its state",
			"the cleanroom-test entry is shard %d of %d, which proves nothing alone", shard.Index, shard.Count)
	}
	if built.Entry.Cleanroom.Selected != nil {
		return nil, fault.New(fault.Finding, "run `cleanroom-test run` without --file and --files", "the cleanroom-test entry is of some tests only, which prove nothing for the rest")
	}
	sub := &subject{step: s, blobs: blobs, built: built}
	for i := range in {
		if link := &in[i]; link == built {
			break
		} else if link.Entry.Phase == phase.Generate {
			sub.generated = link
		}
	}
	if _, ok := built.Entry.Artifact(state.ArtifactTree); ok && sub.generated == nil {
		sub.generated = built // a chain that began with a directory
	}
	return sub, nil
}

func (s *subject) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	var errs []error
	if s.env != nil {
		errs = append(errs, s.env.Close(ctx))
	}
	if s.tree != nil {
		errs = append(errs, s.tree.Close())
	}
	if s.dir != "" {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	return errors.Join(errs...)
}

// make creates an empty directory for the use of one run. What runs in the
// sandbox has another user and must be able to read it.
func (s *subject) make(name string) (string, error) {
	if s.dir == "" {
		dir, err := os.MkdirTemp(s.step.TempDir, "validate-")
		if err != nil {
			return "", fault.New(fault.Unavailable, "", "make a working directory: %w", err)
		}
		s.dir = dir
	}
	dir := filepath.Join(s.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755) // whatever the umask is
}

// sourceTree returns the generated tree, or nil if there is none in the state.
func (s *subject) sourceTree(ctx context.Context) (_ *os.Root, err error) {
	if s.tree != nil || s.generated == nil {
		return s.tree, nil
	}
	artifact, ok := s.generated.Entry.Artifact(state.ArtifactTree)
	if !ok || artifact.MediaType != state.MediaTypeTree {
		return nil, nil
	}
	dir, err := s.make("src")
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, root.Close())
		}
	}()
	r, err := s.blobs.Open(ctx, artifact)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := state.Extract(ctx, r, root, state.Limits{}); err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", "unpack the tree "+artifact.Digest.Short())
	}
	s.tree = root
	return root, nil
}

// openedImage returns the image on disk, or nil if the cleanroom-test entry has none.
func (s *subject) openedImage(ctx context.Context) (*openImage, error) {
	if s.image != nil || s.built.Entry.Cleanroom.Image == "" {
		return s.image, nil
	}
	manifest, ok := s.built.Entry.Artifact(state.ArtifactImage)
	if !ok || manifest.Digest != s.built.Entry.Cleanroom.Image {
		return nil, fault.New(fault.Finding, "run `cleanroom-test run` again", "the cleanroom-test entry claims image %s, but its artifact %q is another", s.built.Entry.Cleanroom.Image.Short(), state.ArtifactImage)
	}
	dir, err := s.make("image")
	if err != nil {
		return nil, err
	}
	config, err := s.step.Images.Unpack(ctx, s.blobs, &s.built.Entry, dir)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", "open image "+manifest.Digest.Short())
	}
	s.image = &openImage{config: config, root: dir}
	return s.image, nil
}

const noSandbox = "run it on Linux, as root or where user namespaces are allowed (in a container: --security-opt seccomp=unconfined), " +
	"or accept less with --min-isolation; validate starts no service through Docker or Podman"

// environment returns the sandbox in which services are started, one for all checks.
func (s *subject) environment(ctx context.Context) (sandbox.Environment, error) {
	if s.env != nil {
		return s.env, nil
	}
	if s.dir == "" {
		return nil, fault.New(fault.Internal, "", "a sandbox was asked for before the image")
	}
	env, err := s.step.Backend.Create(ctx, sandbox.EnvironmentSpec{
		Name: filepath.Base(s.dir), MinIsolation: s.step.MinIsolation, Limits: s.step.Limits,
	})
	if err != nil && fault.KindOf(err) == fault.Unavailable {
		// A back end may advise to use another, which cannot stand in here.
		return nil, fault.New(fault.Unavailable, noSandbox, "make a sandbox for the service: %w", err)
	}
	if err != nil {
		return nil, err
	}
	s.env = env
	if got := env.Effective().Level; got < s.step.MinIsolation {
		return nil, fault.New(fault.Internal, "", "back end %s gave isolation %s where %s was asked for", s.step.Backend.Name(), got, s.step.MinIsolation)
	}
	return env, nil
}

// facts returns what was in force where services ran, if any ran.
func (s *subject) facts() map[string]string {
	facts := map[string]string{}
	if s.env == nil {
		return facts
	}
	effective := s.env.Effective()
	facts["isolation.level"] = effective.Level.String()
	if len(effective.Why) > 0 {
		facts["isolation.why"] = strings.Join(effective.Why, "; ")
	}
	for _, e := range effective.Enforced {
		facts["enforced."+e.Name] = fmt.Sprintf("%s (%s)", e.Value, e.By)
	}
	return facts
}
