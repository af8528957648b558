package cleanroom_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// indexHost is the name under which the proxy of the tests knows this machine's
// loopback: some tools never ask a proxy for a loopback address.
const indexHost = "index.test"

// index is a registry of one package, greet 1.0.0, for one language.
type index struct {
	// url is that of the registry; at its host and port.
	url, at string
	// files are a tree that depends on the package, with the lock file.
	files map[string]string
}

// serveIndex serves documents by path; those of contents know the URL of the server.
func serveIndex(t *testing.T, documents func(url string) map[string][]byte) (url, at string) {
	t.Helper()
	var served map[string][]byte
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, ok := served[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		if strings.HasSuffix(r.URL.Path, "/") {
			w.Header().Set("Content-Type", "text/html")
		}
		_, _ = w.Write(b)
	}))
	t.Cleanup(s.Close)
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	at = indexHost + ":" + port
	served = documents("http://" + at)
	return "http://" + at, at
}

func zipOf(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f, err := w.Create(name)
		if err == nil {
			_, err = f.Write([]byte(files[name]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func tgzOf(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var buf bytes.Buffer
	gz := gzip.NewWriter(&buf)
	w := tar.NewWriter(gz)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name])), Typeflag: tar.TypeReg})
		if err == nil {
			_, err = w.Write([]byte(files[name]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := gz.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// goSum is the hash of go.sum (golang.org/x/mod/sumdb/dirhash, Hash1).
func goSum(files map[string]string) string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(h, "%x  %s\n", sha256.Sum256([]byte(files[name])), name)
	}
	return "h1:" + base64.StdEncoding.EncodeToString(h.Sum(nil))
}

func goIndex(t *testing.T) index {
	t.Helper()
	const mod, path = "module example.org/greet\n\ngo 1.21\n", "example.org/greet@v1.0.0/"
	module := map[string]string{path + "go.mod": mod, path + "greet.go": "package greet\n\n// Greeting greets.\nconst Greeting = \"hello\"\n"}
	url, at := serveIndex(t, func(string) map[string][]byte {
		return map[string][]byte{
			"/example.org/greet/@v/v1.0.0.info": []byte(`{"Version":"v1.0.0"}`), "/example.org/greet/@v/v1.0.0.mod": []byte(mod),
			"/example.org/greet/@v/v1.0.0.zip": zipOf(t, module),
		}
	})
	return index{url: url, at: at, files: map[string]string{
		"go.mod":       "module example.com/shop\n\ngo 1.21\n\nrequire example.org/greet v1.0.0\n",
		"go.sum":       fmt.Sprintf("example.org/greet v1.0.0 %s\nexample.org/greet v1.0.0/go.mod %s\n", goSum(module), goSum(map[string]string{"go.mod": mod})),
		"main.go":      "package main\n\nimport \"example.org/greet\"\n\nfunc main() { println(greet.Greeting) }\n",
		"main_test.go": "package main\n\nimport (\n\t\"testing\"\n\n\t\"example.org/greet\"\n)\n\nfunc TestGreeting(t *testing.T) {\n\tif greet.Greeting != \"hello\" {\n\t\tt.Fail()\n\t}\n}\n",
	}}
}

func npmIndex(t *testing.T) index {
	t.Helper()
	tgz := tgzOf(t, map[string]string{
		"package/package.json": `{"name":"greet","version":"1.0.0","main":"index.js","scripts":{"install":"exit 1"}}`, "package/index.js": "module.exports = \"hello\";\n",
	})
	url, at := serveIndex(t, func(string) map[string][]byte { return map[string][]byte{"/greet/-/greet-1.0.0.tgz": tgz} })
	sum := sha512.Sum512(tgz)
	return index{url: url + "/", at: at, files: map[string]string{
		"package.json": `{"name":"shop","version":"1.0.0","dependencies":{"greet":"1.0.0"}}`,
		"package-lock.json": fmt.Sprintf(`{"name":"shop","version":"1.0.0","lockfileVersion":3,"requires":true,"packages":{
"":{"name":"shop","version":"1.0.0","dependencies":{"greet":"1.0.0"}},
"node_modules/greet":{"version":"1.0.0","resolved":"https://registry.npmjs.org/greet/-/greet-1.0.0.tgz","integrity":"sha512-%s","hasInstallScript":true}}}`,
			base64.StdEncoding.EncodeToString(sum[:])),
		"test/greet.test.js": "const test = require(\"node:test\");\nconst assert = require(\"node:assert\");\n\ntest(\"greets\", () => assert.equal(require(\"greet\"), \"hello\"));\n",
	}}
}

func pipIndex(t *testing.T) index {
	t.Helper()
	const info = "greet-1.0.0.dist-info/"
	wheel := zipOf(t, map[string]string{
		"greet.py": "GREETING = \"hello\"\n", info + "METADATA": "Metadata-Version: 2.1\nName: greet\nVersion: 1.0.0\n",
		info + "WHEEL":  "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
		info + "RECORD": "greet.py,,\n" + info + "METADATA,,\n" + info + "WHEEL,,\n" + info + "RECORD,,\n",
	})
	sum := sha256.Sum256(wheel)
	url, at := serveIndex(t, func(string) map[string][]byte {
		return map[string][]byte{
			"/simple/greet/":                      []byte(`<html><body><a href="/files/greet-1.0.0-py3-none-any.whl">greet-1.0.0-py3-none-any.whl</a></body></html>`),
			"/files/greet-1.0.0-py3-none-any.whl": wheel,
		}
	})
	return index{url: url + "/simple", at: at, files: map[string]string{
		"requirements.txt":    "greet==1.0.0 --hash=sha256:" + hex.EncodeToString(sum[:]) + "\n",
		"tests/test_greet.py": "import unittest\n\nimport greet\n\n\nclass TestGreet(unittest.TestCase):\n    def test_greeting(self):\n        self.assertEqual(greet.GREETING, \"hello\")\n\n    def test_host_packages(self):\n        with self.assertRaises(ImportError):\n            import pip\n",
	}}
}

func cargoIndex(t *testing.T) index {
	t.Helper()
	crate := tgzOf(t, map[string]string{
		"greet-1.0.0/Cargo.toml": "[package]\nname = \"greet\"\nversion = \"1.0.0\"\nedition = \"2021\"\n", "greet-1.0.0/src/lib.rs": "pub const GREETING: &str = \"hello\";\n",
	})
	sum := fmt.Sprintf("%x", sha256.Sum256(crate))
	url, at := serveIndex(t, func(url string) map[string][]byte {
		return map[string][]byte{
			"/index/config.json":  fmt.Appendf(nil, `{"dl":"%s/crates/{crate}/{version}"}`, url),
			"/index/gr/ee/greet":  fmt.Appendf(nil, `{"name":"greet","vers":"1.0.0","deps":[],"cksum":"%s","features":{},"yanked":false}`+"\n", sum),
			"/crates/greet/1.0.0": crate,
		}
	})
	return index{url: "sparse+" + url + "/index/", at: at, files: map[string]string{
		"Cargo.toml":  "[package]\nname = \"shop\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[dependencies]\ngreet = \"1.0.0\"\n",
		"Cargo.lock":  fmt.Sprintf("version = 3\n\n[[package]]\nname = \"greet\"\nversion = \"1.0.0\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\nchecksum = \"%s\"\n\n[[package]]\nname = \"shop\"\nversion = \"0.1.0\"\ndependencies = [\n \"greet\",\n]\n", sum),
		"src/main.rs": "fn main() {\n    println!(\"{}\", greet::GREETING);\n}\n\n#[test]\nfn greets() {\n    assert_eq!(greet::GREETING, \"hello\");\n}\n",
	}}
}
