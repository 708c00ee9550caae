package secure_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"muelle/internal/logdriver"
	"muelle/internal/logdriver/secure"
)

// certificate writes one that signs itself, and its key.
func certificate(t *testing.T, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	model := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{name},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, model, model, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for file, block := range map[string]*pem.Block{"cert": {Type: "CERTIFICATE", Bytes: der}, "key": {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "cert"), filepath.Join(dir, "key")
}

// server takes one connection at a time and gives what it has received at its end.
func server(t *testing.T, cert, key, clients string) (port string, got chan string) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}}
	if clients != "" {
		data, err := os.ReadFile(clients)
		if err != nil {
			t.Fatal(err)
		}
		config.ClientCAs, config.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		config.ClientCAs.AppendCertsFromPEM(data)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	got = make(chan string, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b, _ := io.ReadAll(c)
			got <- string(b)
			c.Close()
		}
	}()
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port, got
}

// run starts the relay; shim is the other end of its socket.
func run(t *testing.T, s secure.Server) (shim *net.UnixConn, ended chan error) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for n, fd := range fds {
		f := os.NewFile(uintptr(fd), "")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		ends[n] = c.(*net.UnixConn)
	}
	t.Cleanup(func() { ends[0].Close() })
	ended = make(chan error, 1)
	go func() { ended <- secure.Run(context.Background(), s, ends[1]) }()
	return ends[0], ended
}

func TestWhatItAnswersAndPassesOn(t *testing.T) {
	cert, key := certificate(t, "localhost")
	own, ownKey := certificate(t, "client")
	open, openGot := server(t, cert, key, "")
	strict, strictGot := server(t, cert, key, own)
	for _, tt := range []struct {
		name, want string // empty: it works
		s          secure.Server
		got        chan string
	}{
		{"certificate", "", secure.Server{Address: "localhost:" + open, CA: cert}, openGot},
		{"unknown authority", "tls: failed to verify certificate", secure.Server{Address: "localhost:" + open}, openGot},
		{"other name", "tls: failed to verify certificate", secure.Server{Address: "127.0.0.1:" + open, CA: cert}, openGot},
		{"not verified", "", secure.Server{Address: "127.0.0.1:" + open, SkipVerify: true}, openGot},
		{"client certificate", "", secure.Server{Address: "localhost:" + strict, CA: cert, Cert: own, Key: ownKey}, strictGot},
		{"no client certificate", "the server ended the connection", secure.Server{Address: "localhost:" + strict, CA: cert}, strictGot},
		{"nobody", "connection refused", secure.Server{Address: "127.0.0.1:1", CA: cert}, nil},
		{"no file", "could not read CA certificate", secure.Server{Address: "127.0.0.1:1", CA: "/nope"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			shim, ended := run(t, tt.s)
			b := make([]byte, logdriver.HelperWords)
			n, err := shim.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			if tt.want != "" {
				if !strings.Contains(string(b[:n]), tt.want) {
					t.Errorf("%q, want %q", b[:n], tt.want)
				}
				if <-ended == nil {
					t.Error("it says that it was fine")
				}
				if tt.got != nil {
					<-tt.got
				}
				return
			}
			if n != 1 || b[0] != logdriver.HelperReady {
				t.Fatalf("%q", b[:n])
			}
			const text = "<30>first\n<30>second\n"
			if _, err := shim.Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
			shim.Close()
			if got := <-tt.got; got != text {
				t.Errorf("the server got %q", got)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestServerGone: the shim learns it by its socket.
func TestServerGone(t *testing.T) {
	cert, key := certificate(t, "localhost")
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		bufio.NewReader(c).ReadString('\n')
		c.Close()
	}()
	shim, ended := run(t, secure.Server{Address: l.Addr().String(), SkipVerify: true})
	if _, err := shim.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := shim.Write([]byte("line\n")); err != nil {
		t.Fatal(err)
	}
	if <-ended == nil {
		t.Error("no error")
	}
	if n, err := shim.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("the socket is still open: %d, %v", n, err)
	}
}

func TestArgs(t *testing.T) {
	want := secure.Server{Address: "h:1", CA: "a", Cert: "b", Key: "c", SkipVerify: true}
	got, err := secure.Parse(want.Args())
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Error(err, d)
	}
	if _, err := secure.Parse([]string{"x"}); err == nil {
		t.Error("taken")
	}
}
