package shim

import (
	"golang.org/x/sys/unix"

	"muelle/internal/shimapi"
)

// conn is one daemon's connection.
type conn struct {
	s   *shim
	fd  int
	in  []byte
	fds []int // received, not yet taken by a frame
	// told: it knows every exec, having started them or asked.
	told bool
}

func (s *shim) accept(fd int, told bool) {
	c := &conn{s: s, fd: fd, told: told}
	if err := s.loop.watch(fd, unix.EPOLLIN, c); err != nil {
		unix.Close(fd)
		return
	}
	s.conns = append(s.conns, c)
	c.send(shimapi.TypeHello, 0, s.hello(), nil)
}

// listener takes connections of daemons that come back.
type listener struct {
	s  *shim
	fd int
}

func (l *listener) ready(uint32) {
	fd, _, err := unix.Accept4(l.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err == nil {
		l.s.accept(fd, false)
	}
}

func (c *conn) ready(uint32) {
	oob := c.s.loop.oob
	n, oobn, _, _, err := unix.Recvmsg(c.fd, c.s.loop.scratch, oob, unix.MSG_CMSG_CLOEXEC)
	if err == unix.EAGAIN || err == unix.EINTR {
		return
	}
	if err != nil || n == 0 {
		c.close()
		return
	}
	c.s.loop.litter(requestGarbage)
	c.takeFDs(oob[:oobn])
	in := c.s.loop.scratch[:n]
	if len(c.in) > 0 {
		in = append(c.in, in...)
	}
	c.in = nil
	for c.fd >= 0 {
		h, payload, fds, rest := c.frame(in)
		if rest == nil {
			break
		}
		// A request may read into the scratch buffer, where further frames may lie.
		if len(rest) > 0 {
			rest = append([]byte(nil), rest...)
		}
		c.s.serve(c, h, payload, fds)
		in = rest
	}
	if len(in) > 0 && c.fd >= 0 {
		c.in = append([]byte(nil), in...)
	}
}

// frame cuts the first frame off; rest is nil where none is complete.
func (c *conn) frame(in []byte) (h shimapi.Header, payload []byte, fds []int, rest []byte) {
	if len(in) < shimapi.HeaderSize {
		return h, nil, nil, nil
	}
	h, ok := shimapi.ParseHeader(in)
	if !ok {
		c.close()
		return h, nil, nil, nil
	}
	end := shimapi.HeaderSize + int(h.Length)
	if len(in) < end || len(c.fds) < int(h.FDs) {
		return h, nil, nil, nil
	}
	fds = c.fds[:h.FDs:h.FDs]
	c.fds = c.fds[h.FDs:]
	return h, in[shimapi.HeaderSize:end:end], fds, in[end:]
}

func (c *conn) takeFDs(oob []byte) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return
	}
	for i := range messages {
		if fds, err := unix.ParseUnixRights(&messages[i]); err == nil {
			c.fds = append(c.fds, fds...)
		}
	}
}

// send writes one frame. A peer that leaves so much unread that the socket is full
// is not a daemon that works: it is cut off.
func (c *conn) send(t shimapi.Type, seq uint32, m shimapi.Message, fds []int) {
	b := shimapi.AppendFrame(nil, t, seq, len(fds), m)
	for len(fds) > shimapi.MaxFDs {
		if err := unix.Sendmsg(c.fd, b[:1], unix.UnixRights(fds[:shimapi.MaxFDs]...), nil, unix.MSG_NOSIGNAL); err != nil {
			c.close()
			return
		}
		b, fds = b[1:], fds[shimapi.MaxFDs:]
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	n, err := unix.SendmsgN(c.fd, b, oob, nil, unix.MSG_NOSIGNAL)
	if err != nil || n < len(b) {
		c.close()
	}
}

func (c *conn) close() {
	if c.fd < 0 {
		return
	}
	c.s.loop.close(c.fd)
	c.fd = -1
	c.s.endSessionsOf(c)
	closeAll(c.fds)
	c.fds = nil
	for i, o := range c.s.conns {
		if o == c {
			c.s.conns = append(c.s.conns[:i], c.s.conns[i+1:]...)
			break
		}
	}
	c.s.maybeQuit()
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
