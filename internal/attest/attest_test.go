package attest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// testKey returns the key grown from n, the same in every run.
func testKey(t testing.TB, n byte) PrivateKey {
	t.Helper()
	key, err := GenerateKey(bytes.NewReader(bytes.Repeat([]byte{n}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func testVerdict() Verdict {
	return Verdict{
		Entry: state.DigestOf([]byte("entry")), Image: state.DigestOf([]byte("image")),
		Tree: state.DigestOf([]byte("tree")), Policy: state.DigestOf([]byte("policy")),
		Passed: true, Verifier: "https://example.com/verifier", Time: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC),
	}
}

// wantFault fails unless err has the kind and its message holds text.
func wantFault(t *testing.T, err error, kind fault.Kind, text string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", text)
	}
	if fault.KindOf(err) != kind || !strings.Contains(err.Error(), text) {
		t.Fatalf("error %q of kind %s; want kind %s and %q", err, fault.KindOf(err), kind, text)
	}
}

func TestKeyRoundTrip(t *testing.T) {
	t.Parallel()
	key, err := GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := ParsePrivate(key.PEM())
	if err != nil {
		t.Fatal(err)
	}
	public, err := ParsePublic(key.Public().PEM())
	if err != nil {
		t.Fatal(err)
	}
	if private.Public().ID() != public.ID() || !strings.HasPrefix(public.ID(), "sha256:") {
		t.Errorf("IDs differ: %q and %q", private.Public().ID(), public.ID())
	}
}

func TestGenerateKeyWithoutRandomness(t *testing.T) {
	t.Parallel()
	_, err := GenerateKey(strings.NewReader("short"))
	wantFault(t, err, fault.Unavailable, "random bytes")
}

func TestParseKeyRefuses(t *testing.T) {
	t.Parallel()
	key := testKey(t, 1)
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecPrivate, err := x509.MarshalPKCS8PrivateKey(other)
	if err != nil {
		t.Fatal(err)
	}
	ecPublic, err := x509.MarshalPKIXPublicKey(&other.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	private := func(b []byte) error { _, err := ParsePrivate(b); return err }
	public := func(b []byte) error { _, err := ParsePublic(b); return err }
	for name, c := range map[string]struct {
		parse func([]byte) error
		in    []byte
		want  string
	}{
		"empty":             {private, nil, "not in PEM"},
		"public as private": {private, key.Public().PEM(), `expected a PEM block "PRIVATE KEY", found "PUBLIC KEY"`},
		"private as public": {public, key.PEM(), `expected a PEM block "PUBLIC KEY", found "PRIVATE KEY"`},
		"two keys":          {public, append(key.Public().PEM(), key.Public().PEM()...), "there is more"},
		"elliptic private":  {private, block(blockPrivate, ecPrivate), "not an Ed25519 key"},
		"elliptic public":   {public, block(blockPublic, ecPublic), "not an Ed25519 key"},
		"damaged private":   {private, block(blockPrivate, []byte("x")), "not PKCS #8"},
		"damaged public":    {public, block(blockPublic, []byte("x")), "public key"},
		"huge":              {public, make([]byte, maxPEM+1), "at most"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantFault(t, c.parse(c.in), fault.Usage, c.want)
		})
	}
}

func TestPrivateKeyNeverPrints(t *testing.T) {
	t.Parallel()
	key := testKey(t, 7)
	secret := fmt.Sprint(key.key[0]) // the seed is seven, thirty-two times
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("key", "key", key)
	asJSON, err := json.Marshal(map[string]any{"key": key})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		fmt.Sprint(key), fmt.Sprintf("%v %+v %#v %s %x %d", key, key, key, key, key, key),
		fmt.Sprintf("%+v", struct{ Key PrivateKey }{key}), string(asJSON), log.String(),
	} {
		if !strings.Contains(text, redacted) || strings.Contains(text, secret+" "+secret) || strings.Contains(text, "0707") {
			t.Errorf("key shows in %q", text)
		}
	}
}

func TestStatement(t *testing.T) {
	t.Parallel()
	v := testVerdict()
	b, err := v.Statement()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"image","digest":{"sha256":"` + v.Image.Hex() + `"}}],` +
		`"predicateType":"https://slsa.dev/verification_summary/v1","predicate":{"verifier":{"id":"https://example.com/verifier"},` +
		`"timeVerified":"2026-03-04T05:06:07Z","resourceUri":"urn:ultrafast:image:` + string(v.Image) + `",` +
		`"policy":{"uri":"urn:ultrafast:policy","digest":{"sha256":"` + v.Policy.Hex() + `"}},` +
		`"inputAttestations":[{"uri":"urn:ultrafast:entry","digest":{"sha256":"` + v.Entry.Hex() + `"}}],` +
		`"verificationResult":"PASSED","verifiedLevels":["ULTRAFAST_RELEASE_CHECKS"],"slsaVersion":"1.1",` +
		`"ultrafast_tree":{"sha256":"` + v.Tree.Hex() + `"}}}`
	if string(b) != want {
		t.Errorf("statement\n%s\nwant\n%s", b, want)
	}
	again, err := ParseVerdict(b)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(again, v) {
		t.Errorf("read back %+v, want %+v", again, v)
	}
}

func TestStatementRefusesIncompleteVerdict(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*Verdict){
		"no image":      func(v *Verdict) { v.Image = "" },
		"no tree":       func(v *Verdict) { v.Tree = "" },
		"no entry":      func(v *Verdict) { v.Entry = "sha256:00" },
		"no policy":     func(v *Verdict) { v.Policy = "" },
		"no verifier":   func(v *Verdict) { v.Verifier = "" },
		"no time":       func(v *Verdict) { v.Time = time.Time{} },
		"year too high": func(v *Verdict) { v.Time = time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC) },
	} {
		v := testVerdict()
		spoil(&v)
		if b, err := v.Statement(); err == nil {
			t.Errorf("%s: statement %s", name, b)
		}
	}
}

func TestParseVerdictRefuses(t *testing.T) {
	t.Parallel()
	v := testVerdict()
	good, err := v.Statement()
	if err != nil {
		t.Fatal(err)
	}
	other := state.DigestOf([]byte("other"))
	for name, c := range map[string]struct{ old, new, want string }{
		"not JSON":           {"{", "[", "not JSON"},
		"another statement":  {StatementType, "https://in-toto.io/Statement/v0.1", "statement has type"},
		"another predicate":  {PredicateType, "https://slsa.dev/provenance/v1", "predicate type"},
		"another subject":    {`"name":"image"`, `"name":"tree"`, "exactly one subject"},
		"another result":     {`"PASSED"`, `"passed"`, "verification result"},
		"no result":          {`"verificationResult":"PASSED",`, ``, "verification result"},
		"bad time":           {"2026-03-04T05:06:07Z", "yesterday", "time of verification"},
		"bad digest":         {v.Policy.Hex(), "beef", "policy"},
		"no entry":           {`[{"uri":"urn:ultrafast:entry","digest":{"sha256":"` + v.Entry.Hex() + `"}}]`, "[]", "0 entries"},
		"resource elsewhere": {"urn:ultrafast:image:" + string(v.Image), "urn:ultrafast:image:" + string(other), "resource is"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changed := strings.Replace(string(good), c.old, c.new, 1)
			if changed == string(good) {
				t.Fatalf("%q is not in the statement", c.old)
			}
			_, err := ParseVerdict([]byte(changed))
			wantFault(t, err, fault.Finding, c.want)
		})
	}
	_, err = ParseVerdict(append(good, " {}"...))
	wantFault(t, err, fault.Finding, "more after")
}

func TestSignAndVerify(t *testing.T) {
	t.Parallel()
	key, other := testKey(t, 1), testKey(t, 2)
	envelope, err := Sign([]byte(`{"a":1}`), key)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Sign([]byte(`{"a":1}`), key)
	if err != nil || !bytes.Equal(envelope, again) {
		t.Errorf("signing twice gives different bytes (%v)", err)
	}
	payload, id, err := Verify(envelope, []PublicKey{other.Public(), {}, key.Public(), key.Public()})
	if err != nil {
		t.Fatal(err)
	}
	if string(payload) != `{"a":1}` || id != key.Public().ID() {
		t.Errorf("got payload %s of key %s", payload, id)
	}
	_, err = Sign(nil, PrivateKey{})
	wantFault(t, err, fault.Usage, "no key")
}

type wireEnvelope struct {
	PayloadType string          `json:"payloadType"`
	Payload     string          `json:"payload"`
	Signatures  []wireSignature `json:"signatures"`
}

type wireSignature struct {
	KeyID string `json:"keyid"`
	Sig   string `json:"sig"`
}

func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	key, other := testKey(t, 1), testKey(t, 2)
	signed := func(key PrivateKey) wireEnvelope {
		b, err := Sign([]byte(`{"image":"good"}`), key)
		if err != nil {
			t.Fatal(err)
		}
		var e wireEnvelope
		if err := json.Unmarshal(b, &e); err != nil {
			t.Fatal(err)
		}
		return e
	}
	for name, c := range map[string]struct {
		spoil func(*wireEnvelope)
		want  string
	}{
		"payload changed": {func(e *wireEnvelope) {
			e.Payload = base64.StdEncoding.EncodeToString([]byte(`{"image":"evil"}`))
		}, "changed after signing"},
		"payload not base64":   {func(e *wireEnvelope) { e.Payload = "%%" }, "does not fit"},
		"signature changed":    {func(e *wireEnvelope) { e.Signatures[0].Sig = "AAAA" }, "changed after signing"},
		"signature not base64": {func(e *wireEnvelope) { e.Signatures[0].Sig = "%%" }, "does not fit"},
		"other payload type":   {func(e *wireEnvelope) { e.PayloadType = "text/plain" }, "payload type"},
		"no signature":         {func(e *wireEnvelope) { e.Signatures = nil }, "has no signature"},
		"signature twice":      {func(e *wireEnvelope) { e.Signatures = append(e.Signatures, e.Signatures[0]) }, "two signatures"},
		"signature under two names": {func(e *wireEnvelope) {
			e.Signatures = append(e.Signatures, wireSignature{KeyID: "", Sig: e.Signatures[0].Sig})
		}, "two signatures"},
		"untrusted key":              {func(e *wireEnvelope) { *e = signed(other) }, "is not trusted"},
		"untrusted key, stolen name": {func(e *wireEnvelope) { *e = signed(other); e.Signatures[0].KeyID = key.Public().ID() }, "changed after signing"},
		"untrusted key, no name":     {func(e *wireEnvelope) { *e = signed(other); e.Signatures[0].KeyID = "" }, "an unnamed key"},
		"many signatures": {func(e *wireEnvelope) {
			for i := range 20 {
				e.Signatures = append(e.Signatures, wireSignature{KeyID: fmt.Sprint(i), Sig: fmt.Sprint(i)})
			}
		}, "at most"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := signed(key)
			c.spoil(&e)
			b, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			payload, id, err := Verify(b, []PublicKey{key.Public()})
			wantFault(t, err, fault.Finding, c.want)
			if payload != nil || id != "" {
				t.Errorf("refused envelope still gave %q of %q", payload, id)
			}
		})
	}
}

func TestVerifyRefusesBytes(t *testing.T) {
	t.Parallel()
	key := testKey(t, 1)
	good, err := Sign([]byte(`{}`), key)
	if err != nil {
		t.Fatal(err)
	}
	trusted := []PublicKey{key.Public()}
	for name, c := range map[string]struct {
		in      []byte
		trusted []PublicKey
		want    string
	}{
		"empty":           {nil, trusted, "not JSON"},
		"more":            {append(bytes.Clone(good), "{}"...), trusted, "more after"},
		"huge":            {make([]byte, MaxEnvelope+1), trusted, "at most"},
		"nobody trusted":  {good, nil, "no trusted key"},
		"zero key":        {good, []PublicKey{{}}, "no trusted key"},
		"another trusted": {good, []PublicKey{testKey(t, 2).Public()}, "not trusted"},
	} {
		_, _, err := Verify(c.in, c.trusted)
		t.Run(name, func(t *testing.T) { wantFault(t, err, fault.Finding, c.want) })
	}
}

func FuzzVerify(f *testing.F) {
	key := testKey(f, 1)
	statement, err := testVerdict().Statement()
	if err != nil {
		f.Fatal(err)
	}
	good, err := Sign(statement, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte(`{"payloadType":"application/vnd.in-toto+json","payload":"","signatures":[{}]}`))
	trusted := []PublicKey{key.Public()}
	f.Fuzz(func(t *testing.T, b []byte) {
		payload, _, err := Verify(b, trusted)
		if err == nil && !bytes.Equal(payload, statement) {
			t.Fatalf("accepted a payload that was never signed: %q", payload)
		}
	})
}

func FuzzParseVerdict(f *testing.F) {
	good, err := testVerdict().Statement()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := ParseVerdict(b)
		if err != nil {
			return
		}
		again, err := v.Statement()
		if err != nil {
			t.Fatalf("accepted a verdict that has no statement: %v", err)
		}
		if w, err := ParseVerdict(again); err != nil || !reflect.DeepEqual(w, v) {
			t.Fatalf("verdict %+v reads back as %+v, %v", v, w, err)
		}
	})
}
