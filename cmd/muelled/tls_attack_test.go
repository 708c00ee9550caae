package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"muelle/internal/server"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) sign(t *testing.T, use x509.ExtKeyUsage, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "somebody"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{use}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// secured serves on a TCP port as the daemon does.
func secured(t *testing.T, ca *authority) (addr string) {
	t.Helper()
	dir := t.TempDir()
	own := ca.sign(t, x509.ExtKeyUsageServerAuth, nil)
	key, err := x509.MarshalPKCS8PrivateKey(own.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, filepath.Join(dir, "ca"), "CERTIFICATE", ca.cert.Raw)
	writePEM(t, filepath.Join(dir, "cert"), "CERTIFICATE", own.Certificate[0])
	writePEM(t, filepath.Join(dir, "key"), "PRIVATE KEY", key)
	c := &config{TLS: true, TLSVerify: true, TLSCACert: filepath.Join(dir, "ca"), TLSCert: filepath.Join(dir, "cert"), TLSKey: filepath.Join(dir, "key")}
	l, err := listenTCP("127.0.0.1:0", c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s := server.New(server.Options{})
	done := make(chan error, 1)
	go func() { done <- s.Serve(t.Context(), l) }()
	t.Cleanup(func() { <-done })
	return l.Addr().String()
}

// TestStrangersAtTheTLSPort: only who shows a certificate for clients, of our authority
// and still good, gets an answer.
func TestStrangersAtTheTLSPort(t *testing.T) {
	ca, other := newAuthority(t, "ours"), newAuthority(t, "ours") // of the same name
	addr := secured(t, ca)
	past := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }
	soon := func(c *x509.Certificate) { c.NotBefore = time.Now().Add(30 * time.Minute) }
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	for _, tt := range []struct {
		name   string
		cert   *tls.Certificate
		change func(*tls.Config)
		ok     bool
	}{
		{"good", ptr(ca.sign(t, x509.ExtKeyUsageClientAuth, nil)), nil, true},
		{"good, TLS 1.2", ptr(ca.sign(t, x509.ExtKeyUsageClientAuth, nil)), func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, true},
		{"none", nil, nil, false},
		{"another authority", ptr(other.sign(t, x509.ExtKeyUsageClientAuth, nil)), nil, false},
		{"its own", ptr(selfSigned(t)), nil, false},
		{"expired", ptr(ca.sign(t, x509.ExtKeyUsageClientAuth, past)), nil, false},
		{"not yet", ptr(ca.sign(t, x509.ExtKeyUsageClientAuth, soon)), nil, false},
		{"for servers", ptr(ca.sign(t, x509.ExtKeyUsageServerAuth, nil)), nil, false},
		{"for mail", ptr(ca.sign(t, x509.ExtKeyUsageEmailProtection, nil)), nil, false},
		{"TLS 1.1", ptr(ca.sign(t, x509.ExtKeyUsageClientAuth, nil)), func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, false},
		{"TLS 1.0", ptr(ca.sign(t, x509.ExtKeyUsageClientAuth, nil)), func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS10 }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := &tls.Config{RootCAs: roots}
			if tt.cert != nil {
				// Shown whatever authorities the server names.
				cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return tt.cert, nil }
			}
			if tt.change != nil {
				tt.change(cfg)
			}
			client := http.Client{Transport: &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}}
			resp, err := client.Get("https://" + addr + "/_ping")
			if err == nil {
				resp.Body.Close()
			}
			if (err == nil && resp.StatusCode == http.StatusOK) != tt.ok {
				t.Errorf("%v, %v", resp, err)
			}
		})
	}
	t.Run("no TLS", func(t *testing.T) {
		resp, err := http.Get("http://" + addr + "/_ping")
		if err == nil {
			resp.Body.Close()
		}
		if err == nil && resp.StatusCode == http.StatusOK {
			t.Errorf("%v", resp.Status)
		}
	})
	t.Run("headers without end", func(t *testing.T) {
		cert := ca.sign(t, x509.ExtKeyUsageClientAuth, nil)
		conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET /_ping HTTP/1.1\r\nHost: x\r\n")
		go func() {
			line := "X-More: " + strings.Repeat("a", 4000) + "\r\n"
			for {
				if _, err := io.WriteString(conn, line); err != nil {
					return
				}
			}
		}()
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err == nil && resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%s", resp.Status)
		}
	})
}

func ptr[T any](v T) *T { return &v }

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	a := newAuthority(t, "somebody")
	return tls.Certificate{Certificate: [][]byte{a.cert.Raw}, PrivateKey: a.key}
}
