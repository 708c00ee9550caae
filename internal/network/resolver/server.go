// Package resolver answers the lookups of containers at 127.0.0.11: names of the
// networks that they are on by itself, everything else by asking upstream. The
// sockets lie in the containers' namespaces and outlive the daemon; one goroutine
// serves them all, others run only while an upstream is being asked.
package resolver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Directory knows the names on the networks.
type Directory interface {
	// Lookup is asked in lower case, without a trailing dot.
	Lookup(asker, name string) Answer
	// Reverse gives the name of an address on a network of the asker.
	Reverse(asker string, a netip.Addr) (string, bool)
	// Upstream says whom to ask for the rest.
	Upstream(asker string) Upstream
}

// Answer is what the networks know of a name.
type Answer struct {
	// Known: the name exists on a network of the asker.
	Known bool
	Addrs []netip.Addr
	// Hidden: it exists, but the asker may not know it; no upstream is asked.
	Hidden bool
}

// Upstream is whom a container's other lookups go to.
type Upstream struct {
	Servers []Forwarder
	// Qualified: single labels are not asked for, the container has search domains
	// for them (ndots was set above 0).
	Qualified bool
}

// Forwarder is a name server, asked from NetNS, or the host where that is nil.
type Forwarder struct {
	Addr  netip.AddrPort
	NetNS *os.File
}

// Server serves the sockets of all sandboxes.
type Server struct {
	dir Directory
	log *slog.Logger

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	poll    *os.File // an epoll instance, made with the first sandbox
	pollFD  int
	closed  bool
	sockets map[int32]*socket
	askers  map[string][]*socket
}

// New makes a server without sockets.
func New(dir Directory, log *slog.Logger) *Server {
	ctx, cancel := context.WithCancel(context.Background())
	return &Server{dir: dir, log: log, ctx: ctx, cancel: cancel, sockets: map[int32]*socket{}, askers: map[string][]*socket{}}
}

// Add serves the sockets of an asker; they belong to the server then, also on error.
// What waits in them already is answered.
func (s *Server) Add(asker string, udp, tcp *os.File) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.start()
	for _, in := range []struct {
		file   *os.File
		stream bool
	}{{udp, false}, {tcp, true}} {
		if err != nil {
			in.file.Close()
			continue
		}
		sock := newSocket(s, asker, in.file, in.stream)
		// Registered before it is polled: the loop must find it.
		s.sockets[sock.fd] = sock
		s.askers[asker] = append(s.askers[asker], sock)
		err = unix.EpollCtl(s.pollFD, unix.EPOLL_CTL_ADD, int(sock.fd), &unix.EpollEvent{Events: unix.EPOLLIN, Fd: sock.fd})
	}
	if err != nil {
		s.remove(asker)
		return fmt.Errorf("serve lookups: %w", err)
	}
	return nil
}

// start makes the epoll instance, which Go's own poller waits for: no thread is
// blocked by it.
func (s *Server) start() error {
	if s.closed {
		return errors.New("the resolver is closed")
	}
	if s.poll != nil {
		return nil
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return err
	}
	s.poll, s.pollFD = os.NewFile(uintptr(fd), "resolver"), fd
	conn, err := s.poll.SyscallConn()
	if err != nil {
		return err
	}
	s.wg.Go(func() {
		for s.wait(conn.Read) {
		}
	})
	return nil
}

// wait handles one batch of events; false when the server was closed.
func (s *Server) wait(read func(func(uintptr) bool) error) bool {
	var events [64]unix.EpollEvent
	n := 0
	err := read(func(fd uintptr) bool {
		var err error
		n, err = unix.EpollWait(int(fd), events[:], 0)
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	})
	if err != nil {
		return false
	}
	for _, e := range events[:max(n, 0)] {
		s.mu.Lock()
		sock := s.sockets[e.Fd]
		s.mu.Unlock()
		if sock != nil {
			sock.ready()
		}
	}
	return true
}

// Remove stops to serve an asker.
func (s *Server) Remove(asker string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(asker)
}

func (s *Server) remove(asker string) {
	for _, sock := range s.askers[asker] {
		delete(s.sockets, sock.fd)
		sock.close(s.pollFD)
	}
	delete(s.askers, asker)
}

// Close stops to serve, and waits for what is under way. The sockets stay open
// where others hold them.
func (s *Server) Close() {
	s.cancel()
	s.mu.Lock()
	s.closed = true
	for asker := range s.askers {
		s.remove(asker)
	}
	if s.poll != nil {
		s.poll.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}
