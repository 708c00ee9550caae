package shim

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

type udpRelay struct {
	s       *shim
	fd      int
	to      unix.Sockaddr
	clients map[clientKey]*udpClient
	timed   bool
	stopped bool
	// key is valid once keyed is set.
	key   sipKey
	keyed bool
}

// clientKey is where a datagram came from, and which address of the host it was for.
type clientKey struct {
	addr, local [16]byte
	port        int
	zone        uint32
}

type udpClient struct {
	r    *udpRelay
	fd   int
	from *unix.SockaddrInet6
	// source is what fd is bound to, the zero value where that is left to the kernel.
	source address4
	// info is the control message that has answers sent from the address that was asked.
	info []byte
	last time.Time
}

func (u *udpRelay) ready(uint32) {
	if u.s.tooEarly(u.fd, u) {
		return
	}
	buf := u.s.loop.scratch
	oob := u.s.loop.oob
	n, oobn, _, from, err := unix.Recvmsg(u.fd, buf, oob, 0)
	if err != nil {
		return
	}
	u.s.loop.litter(messageGarbage)
	a, ok := from.(*unix.SockaddrInet6)
	if !ok {
		return
	}
	info := pktinfo(oob[:oobn])
	key := clientKey{addr: a.Addr, port: a.Port, zone: a.ZoneId}
	if len(info) >= unix.CmsgLen(16) {
		copy(key.local[:], info[unix.CmsgLen(0):])
	}
	c := u.clients[key]
	if c == nil {
		if len(u.clients) >= maxClients {
			return
		}
		fd, source, err := u.connectAs(key)
		if err != nil {
			return
		}
		c = &udpClient{r: u, fd: fd, from: a, info: append([]byte(nil), info...), source: source}
		if u.s.loop.watch(fd, unix.EPOLLIN, c) != nil {
			unix.Close(fd)
			return
		}
		if u.clients == nil {
			u.clients = map[clientKey]*udpClient{}
		}
		u.clients[key] = c
		u.sweepLater()
	}
	c.last = time.Now()
	// A datagram that cannot be sent is lost, as datagrams are.
	unix.SendmsgN(c.fd, buf[:n], nil, nil, unix.MSG_NOSIGNAL)
}

func (c *udpClient) ready(uint32) {
	buf := c.r.s.loop.scratch
	n, err := unix.Read(c.fd, buf)
	if err != nil {
		return
	}
	c.r.s.loop.litter(messageGarbage)
	c.last = time.Now()
	unix.SendmsgN(c.r.fd, buf[:n], c.info, c.from, unix.MSG_NOSIGNAL)
}

// pktinfo gives the whole control message that says to which address, and on which
// interface, a datagram came; nil where there is none, as on a socket of one address.
func pktinfo(oob []byte) []byte {
	size := unix.CmsgSpace(unix.SizeofInet6Pktinfo)
	if len(oob) < size {
		return nil
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
	if h.Level != unix.IPPROTO_IPV6 || h.Type != unix.IPV6_PKTINFO || uint64(h.Len) != uint64(unix.CmsgLen(unix.SizeofInet6Pktinfo)) {
		return nil
	}
	return oob[:size]
}

func (u *udpRelay) sweepLater() {
	if u.timed {
		return
	}
	u.timed = true
	u.s.loop.after(udpIdle, func() {
		u.timed = false
		for key, c := range u.clients {
			if u.stopped || time.Since(c.last) > udpIdle {
				u.s.loop.close(c.fd)
				delete(u.clients, key)
			}
		}
		if len(u.clients) > 0 {
			u.sweepLater()
		}
	})
}

func (u *udpRelay) rest() (unix.Sockaddr, bool) { return u.to, len(u.clients) == 0 }

func (u *udpRelay) stop() {
	u.stopped = true
	for key, c := range u.clients {
		u.s.loop.close(c.fd)
		delete(u.clients, key)
	}
}
