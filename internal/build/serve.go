package build

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
)

// ServeGRPC serves BuildKit's gRPC services on a hijacked connection (the client
// begins with HTTP/2's preface) until the peer closes it or ctx ends. It closes conn.
func (s *Service) ServeGRPC(ctx context.Context, conn net.Conn) error {
	e, done, err := s.open()
	if err != nil {
		conn.Close()
		return err
	}
	defer done()
	return e.conns.handle(ctx, conn)
}

// ServeSession attaches a client's session (its files, secrets, credentials) on a
// hijacked POST /session; header is the request's. It closes conn when it returns.
func (s *Service) ServeSession(ctx context.Context, conn net.Conn, header http.Header) error {
	defer conn.Close()
	e, done, err := s.open()
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.life, func() { cancel(context.Cause(s.life)) })()
	return e.sessions.HandleConn(ctx, &watchedConn{Conn: conn, ended: func() { cancel(errGone) }}, header)
}

var errGone = errors.New("the build's client has gone")

// watchedConn tells when the peer has gone. The session manager alone would notice
// that only by its health checks, seconds later.
type watchedConn struct {
	net.Conn
	ended func()
}

func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.ended()
	}
	return n, err
}

// connListener hands connections that already exist to a server that wants to
// accept them.
type connListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newConnListener() *connListener {
	return &connListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// handle gives conn to the server and returns when it is closed.
func (l *connListener) handle(ctx context.Context, conn net.Conn) error {
	c := &trackedConn{Conn: conn, done: make(chan struct{})}
	select {
	case l.conns <- c:
	case <-ctx.Done():
		conn.Close()
		return context.Cause(ctx)
	case <-l.closed:
		conn.Close()
		return errClosing
	}
	defer context.AfterFunc(ctx, func() { c.Close() })()
	<-c.done
	return nil
}

func (l *connListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *connListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *connListener) Addr() net.Addr { return &net.UnixAddr{Net: "unix", Name: "build"} }

// trackedConn tells when the server has closed it.
type trackedConn struct {
	net.Conn
	once sync.Once
	done chan struct{}
}

func (c *trackedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { close(c.done) })
	return err
}
