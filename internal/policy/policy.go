package policy

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/document"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Version is the version of the trust root format that is read and written.
const Version = 1

const (
	maxKeys     = 100
	maxRequired = 200

	blockPublic = "PUBLIC KEY"
)

// Policy is the rules of a judgement. The zero value is a policy too: every
// check whose severity stops a release is required.
type Policy struct {
	// Required are the ids of the checks that must pass, sorted; empty means all
	// checks of severity critical or high.
	Required []string
}

// Digest names the rules. Policies that ask for the same have the same digest,
// whatever file they came from.
func (p Policy) Digest() state.Digest {
	required := slices.Clone(p.Required)
	slices.Sort(required)
	b, err := json.Marshal(struct {
		Schema   int      `json:"schema"`
		Required []string `json:"required,omitempty"`
	}{Version, slices.Compact(required)})
	if err != nil {
		panic("policy: strings have an encoding: " + err.Error())
	}
	return state.DigestOf(b)
}

// Requires reports whether the check called id, which stops a release by itself
// if gates is true, must pass.
func (p Policy) Requires(id string, gates bool) bool {
	if len(p.Required) == 0 {
		return gates
	}
	return slices.Contains(p.Required, id)
}

// Key is a public key whose signature counts.
type Key struct {
	Name string
	// PEM is the key as SubjectPublicKeyInfo.
	PEM []byte
}

// TrustRoot says whose verdict counts, under which rules.
type TrustRoot struct {
	// Keys are in the order of the file; there is at least one.
	Keys   []Key
	Policy Policy
}

type trustFile struct {
	Version *document.Node `doc:"version,required"`
	Keys    []keyEntry     `doc:"key"`
	Policy  policyTable    `doc:"policy"`
}

type keyEntry struct {
	Name   *document.Node `doc:"name,required"`
	Public *document.Node `doc:"public,required"`
}

type policyTable struct {
	Required []*document.Node `doc:"required"`
}

// ParseTrustRoot reads a trust root in TOML; file names it in errors. An unknown
// key, a missing or repeated key, something that is not a public key in PEM: each
// is an error of kind fault.Usage with its place. There must be one key at least,
// and at most 100.
func ParseTrustRoot(file string, b []byte) (TrustRoot, error) {
	node, err := document.ParseTOML(file, b)
	if err != nil {
		return TrustRoot{}, err
	}
	var raw trustFile
	if err := document.Decode(node, &raw); err != nil {
		return TrustRoot{}, err
	}
	if v := raw.Version; v.Kind != document.Int || v.Int != Version {
		return TrustRoot{}, document.Errorf(v, fmt.Sprintf("write version = %d", Version), "trust root has version %s; this program reads %d", v.Text, Version)
	}
	if n := len(raw.Keys); n == 0 || n > maxKeys {
		return TrustRoot{}, document.Errorf(node, "add a [[key]] with name and public", "trust root has %d keys; it needs 1 to %d", n, maxKeys)
	}
	var root TrustRoot
	for _, entry := range raw.Keys {
		if err := root.add(entry); err != nil {
			return TrustRoot{}, err
		}
	}
	root.Policy.Required, err = required(raw.Policy.Required)
	return root, err
}

func (r *TrustRoot) add(entry keyEntry) error {
	for _, n := range []*document.Node{entry.Name, entry.Public} {
		if n.Kind != document.String {
			return document.Expected(n, "a string")
		}
	}
	name, text := entry.Name.Text, strings.TrimSpace(entry.Public.Text)+"\n"
	if name == "" {
		return document.Errorf(entry.Name, "", "key has an empty name")
	}
	block, rest := pem.Decode([]byte(text))
	const hint = "paste the public key that `validate keygen` printed, its BEGIN and END lines included"
	switch {
	case block == nil:
		return document.Errorf(entry.Public, hint, "key %q is not in PEM", name)
	case block.Type != blockPublic:
		// A private key here would be a leak: it is named, never repeated.
		return document.Errorf(entry.Public, hint, "key %q is a PEM block %q, not %q", name, block.Type, blockPublic)
	case len(rest) > 0:
		return document.Errorf(entry.Public, "write one [[key]] for each", "key %q holds more than one PEM block", name)
	}
	canonical := pem.EncodeToMemory(&pem.Block{Type: blockPublic, Bytes: block.Bytes})
	for _, k := range r.Keys {
		if k.Name == name {
			return document.Errorf(entry.Name, "", "key %q occurs twice", name)
		}
		if string(k.PEM) == string(canonical) {
			return document.Errorf(entry.Public, "", "keys %q and %q are the same key", k.Name, name)
		}
	}
	r.Keys = append(r.Keys, Key{Name: name, PEM: canonical})
	return nil
}

var checkID = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

func required(nodes []*document.Node) ([]string, error) {
	if len(nodes) > maxRequired {
		return nil, document.Errorf(nodes[maxRequired], "", "policy requires %d checks; at most %d are read", len(nodes), maxRequired)
	}
	var ids []string
	for _, n := range nodes {
		switch {
		case n.Kind != document.String:
			return nil, document.Expected(n, "the id of a check")
		case !checkID.MatchString(n.Text):
			return nil, document.Errorf(n, "`validate checks` lists the ids", "%q is not the id of a check", n.Text)
		case slices.Contains(ids, n.Text):
			return nil, document.Errorf(n, "", "check %q is required twice", n.Text)
		}
		ids = append(ids, n.Text)
	}
	slices.Sort(ids)
	return ids, nil
}

// CheckRequired reports, as a fault.Usage, the first required check that is not
// among known: a policy that asks for what nobody can check is never met.
func (p Policy) CheckRequired(known []string) error {
	for _, id := range p.Required {
		if !slices.Contains(known, id) {
			hint := fault.DidYouMean(id, known)
			if hint == "" {
				hint = "the checks are " + strings.Join(known, ", ")
			}
			return fault.New(fault.Usage, hint, "policy requires unknown check %q", id)
		}
	}
	return nil
}

// Encode writes the trust root as [ParseTrustRoot] reads it.
func (r TrustRoot) Encode() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "version = %d\n", Version)
	for _, k := range r.Keys {
		fmt.Fprintf(&b, "\n[[key]]\nname = %s\npublic = '''\n%s'''\n", document.QuoteTOML(k.Name), k.PEM)
	}
	if len(r.Policy.Required) > 0 {
		quoted := make([]string, len(r.Policy.Required))
		for i, id := range r.Policy.Required {
			quoted[i] = document.QuoteTOML(id)
		}
		fmt.Fprintf(&b, "\n[policy]\nrequired = [%s]\n", strings.Join(quoted, ", "))
	}
	return []byte(b.String())
}
