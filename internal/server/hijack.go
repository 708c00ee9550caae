package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Media types of attach, exec and logs.
const (
	rawStream         = "application/vnd.docker.raw-stream"
	multiplexedStream = "application/vnd.docker.multiplexed-stream"
)

// errGone is the cause of a stream's cancellation when the client has gone.
var errGone = errors.New("client disconnected")

// stream is a connection taken from HTTP: bytes both ways, each direction closed
// on its own.
type stream struct {
	net.Conn
	buffered *bufio.Reader // what the client sent right behind its request
	server   *Server
}

// longestIgnored is how much of a body that says nothing is read before its connection is
// taken over, in bytes.
const longestIgnored = 1 << 20

// takeOver hijacks the request's connection. What is left of a body whose length was told
// is not part of the stream: dockerode repeats an attach's query there. The caller
// writes the status line itself; the answer counts as begun. The server closes the
// stream when it shuts down; close must be called in any case.
func (s *Server) takeOver(w *reply, r *request) (*stream, error) {
	h, ok := w.ResponseWriter.(http.Hijacker)
	if !ok {
		return nil, errdefs.ErrInternal.WithMessage("connection cannot be taken over")
	}
	if r.ContentLength > longestIgnored {
		return nil, badRequest("a body of %d bytes: what a stream carries comes after its request", r.ContentLength)
	}
	if r.ContentLength > 0 {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return nil, badRequest("read body: %v", err)
		}
	}
	conn, rw, err := h.Hijack()
	if err != nil {
		return nil, err
	}
	w.begun = true
	// http.Server leaves the deadline that ended its background read.
	if err := conn.SetDeadline(time.Time{}); err != nil {
		conn.Close()
		return nil, err
	}
	s.streams.Lock()
	defer s.streams.Unlock()
	if s.streams.closed {
		conn.Close()
		return nil, errdefs.ErrUnavailable.WithMessage("the daemon is shutting down")
	}
	s.streams.open[conn] = struct{}{}
	s.streams.wait.Add(1)
	return &stream{Conn: conn, buffered: rw.Reader, server: s}, nil
}

// closeStreams ends every stream and refuses new ones.
func (s *Server) closeStreams() {
	s.streams.Lock()
	defer s.streams.Unlock()
	s.streams.closed = true
	for conn := range s.streams.open {
		conn.Close()
	}
}

// Read gives what was buffered first.
func (st *stream) Read(p []byte) (int, error) {
	if st.buffered != nil {
		if n := st.buffered.Buffered(); n > 0 {
			return st.buffered.Read(p[:min(n, len(p))])
		}
		st.buffered = nil
	}
	return st.Conn.Read(p)
}

// close ends the stream and tells the server so.
func (st *stream) close() {
	st.server.streams.Lock()
	defer st.server.streams.Unlock()
	if _, open := st.server.streams.open[st.Conn]; open {
		delete(st.server.streams.open, st.Conn)
		st.server.streams.wait.Done()
	}
	st.Conn.Close()
}

// upgrade writes the head of the answer: 101 when the client asked for an upgrade
// (Docker's clients send "Upgrade: tcp"), else 200, after which the connection is
// the stream all the same. Header lines are given without their line end.
func (st *stream) upgrade(r *http.Request, contentType string, header ...string) error {
	var b strings.Builder
	if r.Header.Get("Upgrade") != "" {
		b.WriteString("HTTP/1.1 101 UPGRADED\r\nContent-Type: " + contentType + "\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n")
	} else {
		b.WriteString("HTTP/1.1 200 OK\r\nContent-Type: " + contentType + "\r\n")
	}
	for _, line := range header {
		b.WriteString(line + "\r\n")
	}
	b.WriteString("\r\n")
	_, err := io.WriteString(st.Conn, b.String())
	return err
}

// headPatience bounds how long the first output waits for the client to read the
// head of the answer.
const headPatience = time.Second

// socket is the connection's own, below TLS too.
func (st *stream) socket() (syscall.RawConn, bool) {
	conn := st.Conn
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil, false
	}
	raw, err := sc.SyscallConn()
	return raw, err == nil
}

// settle returns when the client has taken the head of the answer from the socket.
// docker-py reads the head through a buffer that it then throws away, and with it
// the output that came in the same read; Docker is too slow for that to show.
func (st *stream) settle() {
	raw, ok := st.socket()
	if !ok {
		return
	}
	deadline, pause := time.Now().Add(headPatience), 20*time.Microsecond
	for ; ; time.Sleep(pause) {
		pause = min(2*pause, 5*time.Millisecond)
		unread := 0
		err := raw.Control(func(fd uintptr) { unread, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
		if err != nil || unread == 0 || time.Now().After(deadline) {
			return
		}
	}
}

// awaitHangup returns when the peer has closed both directions, or the stream was
// closed here. A half-close alone (the end of its input) does not count. It must
// not run beside Read.
func (st *stream) awaitHangup() {
	raw, ok := st.socket()
	if !ok {
		return
	}
	// The poller wakes on every edge: half-close, hang-up, error, more input.
	_ = raw.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(p, 0)
		return err == nil && n > 0 && p[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0
	})
}

// input gives the stream as standard input, or nil if none is wanted, and watches
// for the client's end meanwhile: from the beginning without input, else from
// where the input ends, since only one may read the connection.
func (st *stream) input(cancel context.CancelCauseFunc, wanted bool) io.Reader {
	watch := func() {
		st.awaitHangup()
		cancel(errGone)
	}
	if !wanted {
		go watch()
		return nil
	}
	return &input{stream: st, ended: func() { go watch() }}
}

// input is a stream read as standard input.
type input struct {
	*stream
	ended func()
}

func (i *input) Read(p []byte) (int, error) {
	n, err := i.stream.Read(p)
	if err != nil && i.ended != nil {
		i.ended()
		i.ended = nil
	}
	return n, err
}
