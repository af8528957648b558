package docker_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/engine"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/docker"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// TestContractRemote reaches an engine over TCP with certificates of both ends, as one on
// another machine is reached, and has all files copied.
func TestContractRemote(t *testing.T) {
	onEngine(t, docker.Docker, func(t *testing.T, r rig) {
		certificates := newCertificates(t)
		host := forward(t, strings.TrimPrefix(r.host, "unix://"), certificates)

		// Who has no certificate is told what to set.
		_, err := docker.New(docker.Options{Host: host}).Probe(t.Context())
		if fault.KindOf(err) != fault.Unavailable || !strings.Contains(fault.HintOf(err), "DOCKER_CERT_PATH") {
			t.Errorf("without certificates: %v, hint %q", err, fault.HintOf(err))
		}
		t.Setenv("DOCKER_CERT_PATH", certificates.dir)
		t.Setenv("DOCKER_TLS_VERIFY", "1")
		o := options(t, r, "remote")
		o.Host, o.Copy = host, true
		contract(t, o, short("mounts", "exec", "addresses", "killed creator"))
	})
}

func TestSSH(t *testing.T) {
	t.Parallel()
	_, err := engine.Open("ssh://root@example.org", "")
	if fault.KindOf(err) != fault.Usage || !strings.Contains(fault.HintOf(err), "ssh -nNT -L") {
		t.Errorf("%v, hint %q", err, fault.HintOf(err))
	}
}

// certificates are those of an authority, a server on the loopback address, and a client.
type certificates struct {
	// dir is as DOCKER_CERT_PATH has it.
	dir    string
	server tls.Certificate
	pool   *x509.CertPool
}

func newCertificates(t *testing.T) certificates {
	t.Helper()
	c := certificates{dir: t.TempDir(), pool: x509.NewCertPool()}
	serial := int64(0)
	issue := func(parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, []byte, []byte) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		serial++
		template := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: parent == nil, BasicConstraintsValid: true,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
			KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		}
		if parent == nil {
			parent, signer = template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		private, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return certificate, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	}
	authority, key, ca, _ := issue(nil, nil)
	c.pool.AddCert(authority)
	_, _, cert, private := issue(authority, key)
	var err error
	if c.server, err = tls.X509KeyPair(cert, private); err != nil {
		t.Fatal(err)
	}
	_, _, cert, private = issue(authority, key)
	for name, content := range map[string][]byte{"ca.pem": ca, "cert.pem": cert, "key.pem": private} {
		if err := os.WriteFile(filepath.Join(c.dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// forward carries connections from TCP, where both ends prove who they are, to a socket.
// It returns the address, and ends with the test.
func forward(t *testing.T, socket string, c certificates) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{c.server}, ClientCAs: c.pool, ClientAuth: tls.RequireAndVerifyClientCert})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	open := map[net.Conn]bool{}
	var mu sync.Mutex
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for conn := range open {
			conn.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	all.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[near] = true
			mu.Unlock()
			all.Go(func() {
				carry(near.(*tls.Conn), socket)
				mu.Lock()
				delete(open, near)
				mu.Unlock()
			})
		}
	})
	return "tcp://" + l.Addr().String()
}

// carry carries one connection; the end of one direction is carried too.
func carry(near *tls.Conn, socket string) {
	defer near.Close()
	if err := near.Handshake(); err != nil {
		if plain := (tls.RecordHeaderError{}); errors.As(err, &plain) && plain.Conn != nil { // as net/http, and so an engine, answers
			_, _ = io.WriteString(plain.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
		}
		return
	}
	far, err := net.Dial("unix", socket)
	if err != nil {
		return
	}
	defer far.Close()
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(far, near)
		_ = far.(*net.UnixConn).CloseWrite()
	})
	_, _ = io.Copy(near, far)
	near.Close() // an engine that ends its side has no more to hear
	both.Wait()
}
