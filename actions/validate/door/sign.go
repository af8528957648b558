package door

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/attest"
	"github.com/ultrafast-ci/ultrafast/internal/document"
	"github.com/ultrafast-ci/ultrafast/internal/policy"
	"github.com/ultrafast-ci/ultrafast/internal/store"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
	"github.com/ultrafast-ci/ultrafast/steps/validate"
)

// verifier names this program in verdicts (SLSA VSA v1, "verifier.id").
const verifier = "https://github.com/ultrafast-ci/ultrafast/steps/validate"

// Sign signs the verdict.
type Sign struct {
	Key string `type:"path" placeholder:"FILE" help:"Private key, as keygen writes it. Only a run that gets no secrets, such as that of a pull request from a fork, may go without: the verdict stays unsigned."`
}

// Help shows how it is called.
func (*Sign) Help() string {
	return "Example:\n  ultrafast-validate sign --state \"$STATE\" --key ~/keys/signing.pem"
}

// Run signs. The state reference does not change: a signature is evidence.
func (s *Sign) Run(ctx context.Context, a *app.App) error {
	chain, err := openChain(ctx, a)
	if err != nil {
		return err
	}
	if s.Key == "" && !a.WithoutSecret("signing", "key") {
		return fault.New(fault.Usage, "make one with `ultrafast-validate keygen`", "no key: --key is empty")
	}
	signer, err := NewSigner(a, s.Key)
	if err != nil {
		return err
	}
	if chain.State, err = signer.Sign(ctx, chain.State, chain.Store); err != nil {
		return err
	}
	return a.HandOn(chain)
}

// Signer signs verdicts with one key, or with none.
type Signer struct {
	app *app.App
	key *attest.PrivateKey
}

// NewSigner reads the key at path; an empty path is a signer that signs nothing.
func NewSigner(a *app.App, path string) (*Signer, error) {
	if path == "" {
		return &Signer{app: a}, nil
	}
	project, err := a.LoadProject()
	if err != nil {
		return nil, err
	}
	if err := a.CheckOutside(project, "signing key", path); err != nil {
		return nil, err
	}
	b, err := a.ReadFile("signing key", path)
	if err != nil {
		return nil, err
	}
	key, err := attest.ParsePrivate(b)
	if err != nil {
		return nil, fault.Wrap(err, fault.Usage, "make one with `ultrafast-validate keygen`", "signing key "+path)
	}
	return &Signer{app: a, key: &key}, nil
}

// Sign returns the chain with the signature among the evidence of its verdict.
func (s *Signer) Sign(ctx context.Context, chain state.State, to *store.Store) (state.State, error) {
	if s.key == nil || s.signed(ctx, chain, to) {
		return chain, nil
	}
	ev, err := validate.Sign(ctx, chain, to, *s.key, s.app.Now().UTC(), verifier)
	if err != nil {
		return chain, err
	}
	if ev, err = to.AddEvidence(ctx, ev); err != nil {
		return chain, err
	}
	link, ok := chain.Last(phase.Validate)
	if !ok {
		return chain, fault.New(fault.Internal, "", "a signature for no verdict")
	}
	link.Evidence = append(link.Evidence[:len(link.Evidence):len(link.Evidence)], ev)
	s.app.Terminal.Event(string(phase.Validate), "..", "signed by "+s.key.Public().ID())
	return chain, nil
}

// signed reports whether the verdict has a good signature of this key already, as
// one that came from the chain may.
func (s *Signer) signed(ctx context.Context, chain state.State, blobs state.Blobs) bool {
	link, ok := chain.Last(phase.Validate)
	if !ok {
		return false
	}
	_, _, err := attest.VerifyVerdict(ctx, chain, blobs, []attest.PublicKey{s.key.Public()}, link.Entry.Validate.Policy)
	return err == nil
}

func openChain(ctx context.Context, a *app.App) (*app.Chain, error) {
	project, err := a.LoadProject()
	if err != nil {
		return nil, err
	}
	chain, err := a.OpenChain(ctx, project.Dir)
	if err == nil && len(chain.State) == 0 {
		err = fault.New(fault.Usage, "give --state <store>@sha256:<digest>, as every phase prints it", "no state was given")
	}
	return chain, err
}

// Verify checks a signature.
type Verify struct {
	TrustRoot string `required:"" type:"path" placeholder:"FILE" help:"Keys and policy that are trusted."`
}

// Help shows how it is called.
func (*Verify) Help() string {
	return "Example:\n  ultrafast-validate verify --state \"$STATE\" --trust-root ~/keys/trust.toml"
}

// Run prints who signed what.
func (v *Verify) Run(ctx context.Context, a *app.App) error {
	chain, err := openChain(ctx, a)
	if err != nil {
		return err
	}
	project, err := a.LoadProject()
	if err != nil {
		return err
	}
	root, err := readTrustRoot(a, project, v.TrustRoot)
	if err != nil {
		return err
	}
	var keys []attest.PublicKey
	for _, k := range root.Keys {
		key, err := attest.ParsePublic(k.PEM)
		if err != nil {
			return fault.Wrap(err, fault.Usage, "", fmt.Sprintf("trust root %s: key %q", v.TrustRoot, k.Name))
		}
		keys = append(keys, key)
	}
	verdict, keyID, err := attest.VerifyVerdict(ctx, chain.State, chain.Store, keys, root.Policy.Digest())
	if err != nil {
		return err
	}
	if a.Output == "json" {
		return a.PrintJSON(map[string]any{"image": verdict.Image, "tree": verdict.Tree, "policy": verdict.Policy, "key": keyID, "time": verdict.Time})
	}
	_, err = fmt.Fprintf(a.Stdout, "image %s passed, signed by %s\n", verdict.Image, keyID)
	return err
}

// Keygen makes a key.
type Keygen struct {
	OutputDir string `required:"" type:"path" placeholder:"DIR" help:"Where signing.pem, signing.pub and trust.toml are written. Keep it outside the workspace."`
	Name      string `default:"release" placeholder:"NAME" help:"Name of the key in the trust root."`
}

// Help shows how it is called.
func (*Keygen) Help() string {
	return "Example:\n  ultrafast-validate keygen --output-dir ~/keys\n\nsigning.pem signs; trust.toml is what deploy trusts."
}

// Run writes the three files. It replaces none that exists.
func (k *Keygen) Run(_ context.Context, a *app.App) error {
	project, err := a.LoadProject()
	if err != nil {
		return err
	}
	if err := a.CheckOutside(project, "directory for keys", k.OutputDir); err != nil {
		return err
	}
	key, err := attest.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	public := key.Public()
	var trust bytes.Buffer
	fmt.Fprintf(&trust, "# What deploy trusts. Keep this file where the workspace cannot change it.\nversion = %d\n\n[[key]]\nname = %s\npublic = \"\"\"\n%s\"\"\"\n",
		policy.Version, document.QuoteTOML(k.Name), public.PEM())
	dir := a.Abs(k.OutputDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fault.Wrap(err, fault.Unavailable, "name a directory that can be written", "write key")
	}
	err = writeAll(dir, []newFile{{"signing.pem", key.PEM(), 0o600}, {"signing.pub", public.PEM(), 0o644}, {"trust.toml", trust.Bytes(), 0o644}})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.Stdout, "%s\n", public.ID())
	return err
}

type newFile struct {
	name    string
	content []byte
	mode    fs.FileMode
}

// writeAll writes files into dir, all or none, and replaces none.
func writeAll(dir string, files []newFile) error {
	for _, f := range files {
		path := filepath.Join(dir, f.name)
		if _, err := os.Lstat(path); err == nil {
			return exists(path)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return fault.Wrap(err, fault.Unavailable, "name a directory that can be written", "write key")
		}
	}
	for i, f := range files {
		err := writeNew(filepath.Join(dir, f.name), f.content, f.mode)
		if err == nil {
			continue
		}
		for _, done := range files[:i] {
			err = errors.Join(err, os.Remove(filepath.Join(dir, done.name)))
		}
		return err
	}
	return nil
}

func exists(path string) error {
	return fault.New(fault.Usage, "choose another directory, or remove the old key yourself", "%s exists", path)
}

// writeNew writes a file that does not exist, or nothing.
func writeNew(path string, content []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return exists(path)
	}
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "name a directory that can be written", "write key")
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(fault.Wrap(err, fault.Unavailable, "name a directory that can be written", "write key"), os.Remove(path))
	}
	return nil
}
