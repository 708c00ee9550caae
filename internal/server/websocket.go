package server

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/net/websocket"

	"muelle/internal/container"
)

// attachWebsocket connects a client to a container's streams over a websocket: each
// piece of output is one message, binary from API version 1.28 on, never
// multiplexed. A client that sends Close ends the container's input and goes on to
// receive, as one that closes its half of a plain connection does.
func (s *Server) attachWebsocket(w *reply, r *request) error {
	q := r.URL.Query()
	keys, err := detachKeys(q.Get("detachKeys"))
	if err != nil {
		return err
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return badRequest("this endpoint speaks websocket: the request has no \"Upgrade: websocket\"")
	}
	if err := sameOrigin(r.Request); err != nil {
		return err
	}
	stdin, stdout, stderr := true, true, true
	if r.version >= 42 {
		stdin, stdout, stderr = boolOf(q, "stdin"), boolOf(q, "stdout"), boolOf(q, "stderr")
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	var ws *socket
	defer func() {
		if ws != nil {
			ws.close()
		}
	}()
	err = s.o.Containers.Attach(ctx, r.name, container.AttachOptions{
		Logs: boolOf(q, "logs"), Stream: boolOf(q, "stream"), DetachKeys: q.Get("detachKeys"),
		Open: func(tty bool) (c container.Streams, err error) {
			if ws, err = s.openSocket(w, r); err != nil {
				return c, err
			}
			if stdout {
				c.Stdout = ws.conn
			}
			if stderr {
				c.Stderr = ws.conn
			}
			if tty && stderr && !stdout {
				c.Stdout = ws.conn // a terminal has one output
			}
			in := &socketInput{socket: ws, cancel: cancel}
			if !stdin {
				go in.discard()
				return c, nil
			}
			c.Stdin = in
			if tty {
				c.Stdin = newDetachable(in, keys, cancel)
			}
			return c, nil
		},
	})
	if ended(ctx, err) {
		return nil
	}
	return err
}

// sameOrigin refuses a web page of another site. Docker does not ask; but whoever
// opens a TCP port, which browsers reach, does not mean every page that he visits.
// A client that is no browser sends no Origin, or the address that it connects to.
func sameOrigin(r *http.Request) error {
	addr, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	origin := r.Header.Get("Origin")
	if addr == nil || addr.Network() == "unix" || origin == "" {
		return nil
	}
	if u, err := url.Parse(origin); err != nil || !strings.EqualFold(u.Host, r.Host) {
		return errdefs.ErrPermissionDenied.WithMessage("websocket: the page's origin " + origin + " is not " + r.Host)
	}
	return nil
}

// socket is a taken-over connection that speaks websocket.
type socket struct {
	st     *stream
	conn   *websocket.Conn
	leave  chan struct{} // closed: the library may end its handler
	served chan struct{} // closed: it has
}

func (s *Server) openSocket(w *reply, r *request) (*socket, error) {
	st, err := s.takeOver(w, r)
	if err != nil {
		return nil, err
	}
	ws := &socket{st: st, leave: make(chan struct{}), served: make(chan struct{})}
	ready := make(chan *websocket.Conn, 1)
	// Without a Handshake the library asks for no origin.
	srv := websocket.Server{Handler: func(c *websocket.Conn) {
		ready <- c
		<-ws.leave
	}}
	go func() {
		defer close(ws.served)
		srv.ServeHTTP(hijacked{w, st}, r.Request)
	}()
	select {
	case ws.conn = <-ready:
	case <-ws.served: // it has answered that the handshake is wrong
		st.close()
		return nil, errHandshake
	}
	if r.version >= 28 {
		ws.conn.PayloadType = websocket.BinaryFrame
	}
	return ws, nil
}

var errHandshake = errors.New("websocket: handshake refused")

func (ws *socket) close() {
	_ = ws.conn.Close() // says so to the client, too
	close(ws.leave)
	ws.st.close()
	<-ws.served
}

// hijacked gives the library the connection that is ours already.
type hijacked struct {
	http.ResponseWriter
	st *stream
}

func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.st, bufio.NewReadWriter(bufio.NewReader(h.st), bufio.NewWriter(h.st)), nil
}

// socketInput is what the client sends, as standard input.
type socketInput struct {
	*socket
	cancel context.CancelCauseFunc
	over   bool
}

func (i *socketInput) Read(p []byte) (int, error) {
	n, err := i.conn.Read(p)
	if err != nil && !i.over {
		i.over = true
		go func() {
			i.st.awaitHangup()
			i.cancel(errGone)
		}()
	}
	return n, err
}

// discard reads for a client whose input is not wanted, to see it leave.
func (i *socketInput) discard() {
	buf := make([]byte, 4096)
	for {
		if _, err := i.conn.Read(buf); err != nil {
			i.cancel(errGone)
			return
		}
	}
}
