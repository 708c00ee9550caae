package shim

import (
	"golang.org/x/sys/unix"

	"muelle/internal/shimapi"
)

// held is a descriptor that outlives the daemon.
type held struct {
	shimapi.Held
	fd int
	r  relay
}

// relay is a held socket whose traffic the shim passes on.
type relay interface {
	handler
	stop()
	// rest tells where it leads, and whether nothing is on its way.
	rest() (to unix.Sockaddr, quiet bool)
}

// hold keeps descriptors from now on, and begins to relay where that is asked for:
// all of them, or none and they are closed.
func (s *shim) hold(list []shimapi.Held, fds []int) error {
	if len(list) != len(fds) || s.exit.Ended {
		closeAll(fds)
		if s.exit.Ended {
			return errGone
		}
		return shimapi.ErrMalformed
	}
	before := len(s.held)
	for i := range list {
		// The name is copied out of a message whose bytes are not kept.
		h := held{Held: shimapi.Held{Name: list[i].Name, Datagram: list[i].Datagram, Messages: list[i].Messages}, fd: fds[i]}
		if len(list[i].Farewell) > 0 {
			h.Farewell = append([]byte(nil), list[i].Farewell...)
		}
		if len(list[i].Relay) > 0 {
			r, err := s.relay(h.fd, &list[i])
			if err != nil {
				for _, done := range s.held[before:] {
					s.drop(done)
				}
				s.held = s.held[:before]
				closeAll(fds[i:])
				return wrap("relay "+h.Name, err)
			}
			h.r = r
		}
		s.held = append(s.held, h)
	}
	return nil
}

// letGo closes what is held under these names.
func (s *shim) letGo(names []string) {
	going := make(map[string]bool, len(names))
	for _, name := range names {
		going[name] = true
	}
	kept := make([]held, 0, len(s.held))
	for _, h := range s.held {
		if going[h.Name] {
			s.drop(h)
		} else {
			kept = append(kept, h)
		}
	}
	s.held = kept
}

// drop ends a relay with its connections, and closes the descriptor.
func (s *shim) drop(h held) {
	if h.r != nil {
		h.r.stop()
		s.loop.close(h.fd)
		return
	}
	unix.Close(h.fd)
}

// farewell tells the kernel what a daemon would have told it, if there is none.
func (s *shim) farewell() {
	if len(s.conns) > 0 {
		return
	}
	for _, h := range s.held {
		if len(h.Farewell) == 0 {
			continue
		}
		if err := tellNetfilter(h.Farewell); err != nil {
			s.complain("take the container out of its shared ports", err)
		}
	}
}

func tellNetfilter(batch []byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, batch, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}
