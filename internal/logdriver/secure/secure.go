// Package secure carries a container's log to a server over TLS. It is no part of the
// shim, one of which runs beside every container and which has no room for crypto/tls:
// the shim starts the program muelle-tls, which is this package, for a container that
// asks for it, and writes to it by a socket. One process is one connection. When that
// breaks the process ends, and the shim starts another one.
package secure

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"muelle/internal/logdriver"
)

// BinaryName is the program's file, which lies beside the shim's.
const BinaryName = "muelle-tls"

// patience is how long a connection may take until it can be used, and how long the
// last messages may take after the shim has closed its side.
const patience = 5 * time.Second

// Server is whom to connect to, and what proves that it is the right one.
type Server struct {
	// Address is HOST:PORT; the host is looked up at each connection, and its
	// certificate must be for that name unless SkipVerify.
	Address    string
	CA         string // file of certificates; empty: those of this machine
	Cert, Key  string // files; both or none
	SkipVerify bool
}

// Args are the program's arguments.
func (s Server) Args() []string {
	return []string{s.Address, s.CA, s.Cert, s.Key, strconv.FormatBool(s.SkipVerify)}
}

// Parse reads what Args gives.
func Parse(args []string) (s Server, err error) {
	if len(args) != 5 {
		return s, fmt.Errorf("want 5 arguments, not %d: the shim starts this program", len(args))
	}
	s = Server{Address: args[0], CA: args[1], Cert: args[2], Key: args[3]}
	s.SkipVerify, err = strconv.ParseBool(args[4])
	return s, err
}

// Config reads the files.
func (s Server) Config() (*tls.Config, error) {
	host, _, err := net.SplitHostPort(s.Address)
	if err != nil {
		return nil, err
	}
	c := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12, InsecureSkipVerify: s.SkipVerify}
	if s.CA != "" {
		pem, err := os.ReadFile(s.CA)
		if err != nil {
			return nil, fmt.Errorf("could not read CA certificate %q: %w", s.CA, err)
		}
		// As Docker: beside those of this machine.
		if c.RootCAs, err = x509.SystemCertPool(); err != nil {
			return nil, fmt.Errorf("read the machine's certificates: %w", err)
		}
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("failed to append certificates from PEM file: %q", s.CA)
		}
	}
	if s.Cert != "" || s.Key != "" {
		pair, err := tls.LoadX509KeyPair(s.Cert, s.Key)
		if err != nil {
			return nil, fmt.Errorf("could not load X509 key pair: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// Run connects, says on in how that went (see logdriver.HelperReady), and passes on what comes from in
// until that ends or the connection breaks. It closes in.
func Run(ctx context.Context, s Server, in *net.UnixConn) error {
	defer in.Close()
	conn, err := s.dial(ctx)
	if err != nil {
		text := err.Error()
		_, werr := in.Write([]byte(text[:min(len(text), logdriver.HelperWords)]))
		return errors.Join(err, werr)
	}
	defer conn.Close()
	if _, err := in.Write([]byte{logdriver.HelperReady}); err != nil {
		return err
	}
	return relay(conn, in)
}

func (s Server) dial(ctx context.Context) (*tls.Conn, error) {
	config, err := s.Config()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	plain, err := new(net.Dialer).DialContext(ctx, "tcp", s.Address)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(plain, config)
	begin := time.Now()
	if err = conn.HandshakeContext(ctx); err == nil {
		err = accepted(conn, 2*time.Since(begin))
	}
	if err != nil {
		plain.Close()
		return nil, err
	}
	return conn, nil
}

// accepted waits for a server that refuses the client's certificate: with TLS 1.3 it
// says so only after the handshake, which is over for the client by then. One that
// is content says nothing, so the wait is about two turns to it.
func accepted(conn *tls.Conn, wait time.Duration) error {
	if err := conn.SetReadDeadline(time.Now().Add(max(wait, 20*time.Millisecond))); err != nil {
		return err
	}
	_, err := conn.Read(make([]byte, 1))
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("the server ended the connection: %w", err)
	}
	return conn.SetReadDeadline(time.Time{})
}

// relay copies until one of the two sides ends. After the shim's end what it has
// written is still delivered.
func relay(conn *tls.Conn, in *net.UnixConn) error {
	gone, left := make(chan error, 1), make(chan error, 1)
	go func() { // a syslog server sends nothing, but it may close
		for buf := make([]byte, 256); ; {
			if _, err := conn.Read(buf); err != nil {
				gone <- err
				in.CloseRead()
				return
			}
		}
	}()
	go func() { left <- bounded(conn, in) }()
	buf := make([]byte, 32<<10)
	for {
		n, err := in.Read(buf)
		if n == 0 || err != nil {
			break
		}
		if _, err := conn.Write(buf[:n]); err != nil {
			return err
		}
	}
	select {
	case err := <-gone:
		return err
	default:
	}
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	if err := <-left; err != nil {
		return err
	}
	<-gone // the server has everything once it closes
	return nil
}

// bounded waits for the shim's end, and from then on bounds what is left to do: a
// server that takes nothing keeps no process for ever.
func bounded(conn *tls.Conn, in *net.UnixConn) error {
	raw, err := in.SyscallConn()
	if err != nil {
		return err
	}
	var fd int // of our own: a call on the connection's would hold up its Close
	var dup error
	if err = raw.Control(func(its uintptr) { fd, dup = unix.FcntlInt(its, unix.F_DUPFD_CLOEXEC, 0) }); err == nil {
		err = dup
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for {
		if _, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}, -1); err != unix.EINTR {
			break
		}
	}
	return errors.Join(err, conn.SetDeadline(time.Now().Add(patience)))
}
