package policy

import (
	"bytes"
	"encoding/pem"
	"reflect"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

func pemBlock(kind, content string) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: []byte(content)}))
}

func keyTable(name, public string) string {
	return "[[key]]\nname = \"" + name + "\"\npublic = '''\n" + public + "'''\n"
}

func TestParseTrustRoot(t *testing.T) {
	t.Parallel()
	one, two := pemBlock(blockPublic, "one"), pemBlock(blockPublic, "two")
	text := "version = 1\n" + keyTable("a", one) + keyTable("b", "\n  "+two) + "[policy]\nrequired = [\"nonroot\", \"health-endpoint\"]\n"
	got, err := ParseTrustRoot("trust.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := TrustRoot{
		Keys:   []Key{{"a", []byte(one)}, {"b", []byte(two)}},
		Policy: Policy{Required: []string{"health-endpoint", "nonroot"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	again, err := ParseTrustRoot("again.toml", got.Encode())
	if err != nil || !reflect.DeepEqual(again, want) {
		t.Errorf("encoded %s\nreads back as %+v, %v", got.Encode(), again, err)
	}
}

func TestParseTrustRootRefuses(t *testing.T) {
	t.Parallel()
	good := keyTable("a", pemBlock(blockPublic, "one"))
	for name, c := range map[string]struct{ in, want, hint string }{
		"not TOML":          {"version", "trust.toml:1", ""},
		"no version":        {good, "version", ""},
		"later version":     {"version = 2\n" + good, "trust.toml:1:11: trust root has version 2", "version = 1"},
		"text as version":   {"version = \"1\"\n" + good, "trust root has version 1", "version = 1"},
		"no key":            {"version = 1\n", "has 0 keys", "[[key]]"},
		"unknown key":       {"version = 1\n[[key]]\nname = \"a\"\npubic = \"\"\n", `trust.toml:4:1: unknown key "pubic"`, `did you mean "public"?`},
		"unknown table":     {"version = 1\n" + good + "[polcy]\n", `unknown key "polcy"`, `did you mean "policy"?`},
		"unknown in policy": {"version = 1\n" + good + "[policy]\nrequird = []\n", `unknown key "requird"`, `did you mean "required"?`},
		"no name":           {"version = 1\n[[key]]\npublic = \"x\"\n", "name", ""},
		"empty name":        {"version = 1\n" + keyTable("", pemBlock(blockPublic, "x")), "empty name", ""},
		"name is a number":  {"version = 1\n[[key]]\nname = 1\npublic = \"x\"\n", "trust.toml:3:8", ""},
		"not PEM":           {"version = 1\n" + keyTable("a", "hello\n"), `trust.toml:4:10: key "a" is not in PEM`, "validate keygen"},
		"private key":       {"version = 1\n" + keyTable("a", pemBlock("PRIVATE KEY", "secret")), `is a PEM block "PRIVATE KEY"`, "validate keygen"},
		"two in one":        {"version = 1\n" + keyTable("a", pemBlock(blockPublic, "x")+pemBlock(blockPublic, "y")), "more than one", ""},
		"name twice":        {"version = 1\n" + good + keyTable("a", pemBlock(blockPublic, "x")), `key "a" occurs twice`, ""},
		"key twice":         {"version = 1\n" + good + keyTable("b", pemBlock(blockPublic, "one")), "are the same key", ""},
		"bad check id":      {"version = 1\n" + good + "[policy]\nrequired = [\"No Root\"]\n", `"No Root" is not the id of a check`, "validate checks"},
		"check twice":       {"version = 1\n" + good + "[policy]\nrequired = [\"a\", \"a\"]\n", "required twice", ""},
		"check is a number": {"version = 1\n" + good + "[policy]\nrequired = [1]\n", "id of a check", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root, err := ParseTrustRoot("trust.toml", []byte(c.in))
			if err == nil {
				t.Fatalf("accepted as %+v", root)
			}
			if fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), c.want) || !strings.Contains(fault.HintOf(err)+err.Error(), c.hint) {
				t.Errorf("error %q with hint %q of kind %s; want %q and %q", err, fault.HintOf(err), fault.KindOf(err), c.want, c.hint)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("error repeats a private key: %v", err)
			}
		})
	}
}

func TestPolicyDigest(t *testing.T) {
	t.Parallel()
	// Written down, since a change would make every signed verdict worthless.
	const empty = "sha256:67d6291b301412df4a6ca7808aeafac9d0587b06ece3c68e72bab0157cd9d52c"
	if got := (Policy{}).Digest(); got != empty {
		t.Errorf("empty policy has digest %s, want %s", got, empty)
	}
	a, b := Policy{Required: []string{"x", "y"}}, Policy{Required: []string{"y", "x", "x"}}
	if a.Digest() != b.Digest() {
		t.Error("order or repetition changes the digest")
	}
	if a.Digest() == (Policy{}).Digest() || a.Digest() == (Policy{Required: []string{"x"}}).Digest() {
		t.Error("other rules have the same digest")
	}
	if b.Required[0] != "y" {
		t.Error("Digest sorted the caller's slice")
	}
}

func TestPolicyRequires(t *testing.T) {
	t.Parallel()
	some := Policy{Required: []string{"nonroot"}}
	for _, c := range []struct {
		policy Policy
		id     string
		gates  bool
		want   bool
	}{
		{Policy{}, "nonroot", true, true}, {Policy{}, "image-size-delta", false, false},
		{some, "nonroot", false, true}, {some, "tests-passed", true, false},
	} {
		if got := c.policy.Requires(c.id, c.gates); got != c.want {
			t.Errorf("%v requires %s (gates %v): %v", c.policy, c.id, c.gates, got)
		}
	}
	known := []string{"nonroot", "tests-passed"}
	if err := some.CheckRequired(known); err != nil {
		t.Error(err)
	}
	err := Policy{Required: []string{"non-root"}}.CheckRequired(known)
	if fault.KindOf(err) != fault.Usage || fault.HintOf(err) != `did you mean "nonroot"?` {
		t.Errorf("got %v with hint %q", err, fault.HintOf(err))
	}
	err = Policy{Required: []string{"zzz"}}.CheckRequired(known)
	if !strings.Contains(fault.HintOf(err), "tests-passed") {
		t.Errorf("hint %q lists no checks", fault.HintOf(err))
	}
}

func FuzzParseTrustRoot(f *testing.F) {
	f.Add([]byte("version = 1\n" + keyTable("a", pemBlock(blockPublic, "one")) + "[policy]\nrequired = [\"nonroot\"]\n"))
	f.Add([]byte("version = 1\n[[key]]\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		root, err := ParseTrustRoot("f", b)
		if err != nil {
			return
		}
		again, err := ParseTrustRoot("f", root.Encode())
		if err != nil || again.Policy.Digest() != root.Policy.Digest() || !bytes.Equal(again.Encode(), root.Encode()) {
			t.Fatalf("%q encodes to %q, which reads back differently: %v", b, root.Encode(), err)
		}
	})
}
