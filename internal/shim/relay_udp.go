package shim

import (
	"time"

	"golang.org/x/sys/unix"
)

type udpRelay struct {
	s       *shim
	fd      int
	to      unix.Sockaddr
	clients map[clientKey]*udpClient
	timed   bool
	stopped bool
}

type clientKey struct {
	addr [16]byte
	port int
}

type udpClient struct {
	r    *udpRelay
	fd   int
	from unix.Sockaddr
	last time.Time
}

func (u *udpRelay) ready(uint32) {
	buf := u.s.loop.scratch
	n, from, err := unix.Recvfrom(u.fd, buf, 0)
	if err != nil {
		return
	}
	a, ok := from.(*unix.SockaddrInet6)
	if !ok {
		return
	}
	key := clientKey{a.Addr, a.Port}
	c := u.clients[key]
	if c == nil {
		if len(u.clients) >= maxClients {
			return
		}
		fd, err := dial(u.to, unix.SOCK_DGRAM)
		if err != nil {
			return
		}
		c = &udpClient{r: u, fd: fd, from: from}
		if u.s.loop.watch(fd, unix.EPOLLIN, c) != nil {
			unix.Close(fd)
			return
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
	c.last = time.Now()
	unix.Sendto(c.r.fd, buf[:n], unix.MSG_NOSIGNAL, c.from)
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

func (u *udpRelay) stop() {
	u.stopped = true
	for key, c := range u.clients {
		u.s.loop.close(c.fd)
		delete(u.clients, key)
	}
}
