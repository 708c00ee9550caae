package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// listenTCP opens a TCP port: with TLS and certificates of clients, or, where that
// was allowed in so many words, without.
func listenTCP(addr string, c *config, log *slog.Logger) (net.Listener, error) {
	if !c.AllowInsecureTCP && !(c.TLS && c.TLSVerify) {
		if c.TLS {
			return nil, errors.New("refused, because without --tlsverify whoever reaches the port is root on this machine: use --tlsverify, or --allow-insecure-tcp if that is meant")
		}
		return nil, errors.New("refused, because whoever reaches a TCP port without TLS is root on this machine: use the unix socket, --tlsverify with certificates, or --allow-insecure-tcp if that is meant")
	}
	addr = c.withPort(addr)
	var secure *tls.Config
	if c.TLS {
		var err error
		if secure, err = c.serverTLS(); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	if secure == nil || secure.ClientAuth != tls.RequireAndVerifyClientCert {
		log.Warn("the API is reachable without authentication: whoever connects is root", "addr", l.Addr().String(), "tls", secure != nil)
	}
	if secure != nil {
		l = tls.NewListener(l, secure)
	}
	return l, nil
}

// serverTLS reads the certificates. HTTP/2 is not offered: attach and exec take the
// connection over, which it cannot give.
func (c *config) serverTLS() (*tls.Config, error) {
	cert, key := certificate(c.TLSCert, "cert.pem"), certificate(c.TLSKey, "key.pem")
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("could not load X509 key pair: %w: check --tlscert and --tlskey", err)
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	if !c.TLSVerify {
		return cfg, nil
	}
	ca := certificate(c.TLSCACert, "ca.pem")
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, fmt.Errorf("could not read CA certificate: %w: check --tlscacert", err)
	}
	cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	if !cfg.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s: check --tlscacert", ca)
	}
	return cfg, nil
}

// certificate is the file given, or Docker's default for it.
func certificate(path, name string) string {
	if path != "" {
		return path
	}
	home := os.Getenv("HOME")
	if home == "" {
		home = "/root" // of a unit of systemd
	}
	return filepath.Join(home, ".docker", name)
}

// warnings are what `info` says of ports that anybody may use, in Docker's words.
func (c *config) warnings() []string {
	var out []string
	for _, host := range c.Hosts {
		addr, ok := strings.CutPrefix(host, "tcp://")
		if !ok || c.TLS && c.TLSVerify {
			continue
		}
		what := "http://" + addr + " without encryption."
		if c.TLS {
			what = "https://" + addr + " without TLS client verification."
		}
		out = append(out, "WARNING: API is accessible on "+what+"\n         Access to the remote API is equivalent to root access on the host. Refer\n         to docs/drop-in.md for what protects it.")
	}
	return out
}

// withPort adds Docker's ports where none is given.
func (c *config) withPort(addr string) string {
	if _, _, err := net.SplitHostPort(addr); err == nil {
		return addr
	}
	port := "2375"
	if c.TLS {
		port = "2376"
	}
	return net.JoinHostPort(addr, port)
}
