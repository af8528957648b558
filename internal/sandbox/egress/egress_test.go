package egress

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

func TestRules(t *testing.T) {
	t.Parallel()
	r, err := ParseRules([]string{"Proxy.example.org", "*.cdn.example.org", "npm.example.org:8443", "10.1.0.0/16", "127.0.0.1:4873", "[::1]:99"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		host string
		port uint16
		want bool
	}{
		{"proxy.example.org", 443, true}, {"PROXY.example.org.", 80, true}, {"proxy.example.org", 8443, false},
		{"a.b.cdn.example.org", 443, true}, {"cdn.example.org", 443, false}, {"evilcdn.example.org", 443, false},
		{"npm.example.org", 8443, true}, {"npm.example.org", 443, false}, {"proxy.example.org.evil.test", 443, false},
		{"10.1.2.3", 5000, true}, {"10.2.0.1", 443, false}, {"127.0.0.1", 4873, true}, {"127.0.0.1", 80, false},
		{"::1", 99, true}, {"::ffff:127.0.0.1", 4873, true}, {"8.8.8.8", 443, false}, {"", 443, false}, {".cdn.example.org", 443, false},
	} {
		if got := r.host(c.host, c.port); got != c.want {
			t.Errorf("%s:%d allowed: %t", c.host, c.port, got)
		}
	}
	for address, want := range map[string]bool{
		"8.8.8.8": true, "2606:4700::1111": true, "10.1.9.9": true,
		"127.0.0.1": false, "10.9.9.9": false, "192.168.1.1": false, "172.16.0.1": false, "169.254.169.254": false, "100.64.0.1": false,
		"0.0.0.0": false, "::1": false, "fe80::1": false, "fd00::1": false, "::ffff:169.254.169.254": false, "64:ff9b::a9fe:a9fe": false,
		"224.0.0.1": false, "255.255.255.255": false, "2002:a9fe:a9fe::1": false, "198.18.0.1": false,
	} {
		if got := r.address(netip.MustParseAddr(address), 443, true); got != want {
			t.Errorf("a host whose name is allowed at %s: %t", address, got)
		}
	}
	for _, bad := range []string{"", "*", "a b", "http://example.org", "host:0", "host:99999", "-x.org", "*.*.org", "10.0.0.0/99"} {
		if _, err := ParseRules([]string{bad}); fault.KindOf(err) != fault.Usage {
			t.Errorf("%q is taken: %v", bad, err)
		}
	}
}

// serve starts a proxy with an allow-list and returns it with a client of it.
func serve(t *testing.T, allow ...string) (*Proxy, *http.Transport) {
	t.Helper()
	rules, err := ParseRules(allow)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := Serve(l, rules, map[string]netip.Addr{"index.test": netip.MustParseAddr("127.0.0.1")})
	transport := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: l.Addr().String()})}
	t.Cleanup(transport.CloseIdleConnections)
	return p, transport
}

// upstream is a server that tells what it was sent.
func upstream(t *testing.T, start func(http.Handler) *httptest.Server) (*httptest.Server, string) {
	t.Helper()
	s := start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Connection", "X-Secret")
		w.Header().Set("X-Secret", "x")
		_, _ = io.WriteString(w, r.Method+" "+r.URL.Path+" "+string(body)+" "+r.Header.Get("Proxy-Authorization"))
	}))
	t.Cleanup(s.Close)
	return s, s.Listener.Addr().String()
}

func TestForwards(t *testing.T) {
	t.Parallel()
	s, at := upstream(t, httptest.NewServer)
	p, transport := serve(t, at)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/x", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Proxy-Authorization", "secret")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || string(b) != "POST /x hello " || resp.Header.Get("X-Secret") != "" {
		t.Errorf("%q, %v, %v", b, resp.Header, err)
	}
	if notes := p.Close(); len(notes) != 1 || notes[0] != (Note{Host: at, Allowed: true, Count: 1, Sent: 5, Received: int64(len(b))}) {
		t.Errorf("notes %+v", notes)
	}
}

func TestTunnels(t *testing.T) {
	t.Parallel()
	s, at := upstream(t, httptest.NewTLSServer)
	p, transport := serve(t, at)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	for range 3 {
		resp, err := (&http.Client{Transport: transport}).Get(s.URL + "/y")
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "GET /y  " {
			t.Errorf("%q, %v", b, err)
		}
		resp.Body.Close()
		transport.CloseIdleConnections()
	}
	notes := p.Close()
	if len(notes) != 1 || !notes[0].Allowed || notes[0].Count != 3 || notes[0].Received < 1000 || notes[0].Sent < 300 {
		t.Errorf("notes %+v", notes)
	}
}

// Close ends tunnels that are open.
func TestCloseEndsTunnels(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	p, transport := serve(t, silent.Addr().String())
	proxy, _ := transport.Proxy(nil)
	c, err := net.Dial("tcp", proxy.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "CONNECT "+silent.Addr().String()+" HTTP/1.1\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if notes := p.Close(); len(notes) != 1 || notes[0].Count != 1 {
		t.Errorf("notes %+v", notes)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the tunnel is open")
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	s, at := upstream(t, httptest.NewServer)
	_, port, err := net.SplitHostPort(at)
	if err != nil {
		t.Fatal(err)
	}
	// The name of this machine's loopback is allowed, its address is not.
	p, transport := serve(t, "localhost:"+port, "index.test:"+port)
	client := &http.Client{Transport: transport}
	for url, want := range map[string]string{
		s.URL:                        "not in the allow-list",
		"http://localhost:" + port:   "not public",
		"http://index.test:" + port:  "not public",
		"http://169.254.169.254/":    "not in the allow-list",
		"http://example.org:" + port: "not in the allow-list",
	} {
		resp, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden || !strings.Contains(string(b), want) {
			t.Errorf("%s: %s %s", url, resp.Status, b)
		}
	}
	if _, err := client.Get("https://" + at); err == nil || !strings.Contains(err.Error(), "Forbidden") {
		t.Errorf("CONNECT: %v", err)
	}
	notes := p.Close()
	for _, n := range notes {
		if n.Allowed || n.Why == "" {
			t.Errorf("noted as allowed: %+v", n)
		}
	}
	if len(notes) != 5 { // the server twice
		t.Errorf("notes %+v", notes)
	}
}

// A request that is for the proxy itself, and nonsense, have no way out.
func TestNonsense(t *testing.T) {
	t.Parallel()
	p, transport := serve(t, "*.example.org")
	proxy, _ := transport.Proxy(nil)
	for _, text := range []string{"GET / HTTP/1.1\r\nHost: a.example.org\r\n\r\n", "CONNECT a.example.org HTTP/1.1\r\n\r\n", "CONNECT :443 HTTP/1.1\r\n\r\n", "GET ftp://a.example.org/ HTTP/1.1\r\nHost: x\r\n\r\n"} {
		c, err := net.Dial("tcp", proxy.Host)
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 64)
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		n, _ := c.Read(buf)
		if !strings.HasPrefix(string(buf[:n]), "HTTP/1.1 4") {
			t.Errorf("%q is answered by %q", text, buf[:n])
		}
		c.Close()
	}
	for _, n := range p.Close() {
		if n.Allowed {
			t.Errorf("allowed: %+v", n)
		}
	}
}

func FuzzRules(f *testing.F) {
	for _, s := range []string{"a.example", "*.x:1", "10.0.0.0/8", "[::1]:3", "127.0.0.1:1"} {
		f.Add(s, "a.example")
	}
	f.Fuzz(func(t *testing.T, entry, host string) {
		r, err := ParseRules([]string{entry})
		if err != nil {
			return
		}
		if r.host(host, 1) && strings.HasPrefix(entry, "*.") && !strings.Contains(host, ".") {
			t.Errorf("%q allows %q", entry, host)
		}
	})
}
