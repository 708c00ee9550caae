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
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"muelle/api"
)

// Server serves the sockets of all sandboxes.
type Server struct {
	dir Directory
	log *slog.Logger

	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	pending pending
	// leaving: what is not answered is the next server's from here on.
	leaving atomic.Bool

	mu      sync.Mutex
	poll    *os.File // an epoll instance, made with the first sandbox
	pollFD  int
	conn    syscall.RawConn // of poll
	closed  bool
	serving bool
	sockets map[int32]*socket
	clients map[string]*client

	records sync.Mutex
	rings   map[string]*ring
	ended   []string // containers whose rings are kept though they have ended, oldest first
}

// client is one asker: its sockets, and what bounds it and is remembered of it.
type client struct {
	id      string
	sockets []*socket
	safe    *safe
	// slots are for lookups that wait for an upstream, streams for TCP connections.
	slots, streams chan struct{}
	ring           *ring

	mu sync.Mutex
	// silent are servers that did not answer lately, until when they are asked last.
	silent map[netip.AddrPort]time.Time
}

// New makes a server without sockets. Its lookups under way are kept in a file at path,
// from which the next server goes on if this one is killed; empty: nowhere. What comes
// is answered from Serve on.
func New(dir Directory, path string, log *slog.Logger) *Server {
	ctx, cancel := context.WithCancel(context.Background())
	return &Server{dir: dir, log: log, ctx: ctx, cancel: cancel, pending: pending{path: path}, sockets: map[int32]*socket{}, clients: map[string]*client{}, rings: map[string]*ring{}}
}

// Serve begins to answer: the directory knows all names now. What has waited, and what
// the daemon before was asked and did not answer, comes first.
func (s *Server) Serve() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.serving || s.closed {
		return
	}
	s.serving = true
	left, err := s.pending.take()
	if err != nil {
		s.log.Warn("read the lookups that were under way", "err", err)
	}
	for _, c := range s.clients {
		s.resume(c, left)
	}
	s.loop()
}

// Add serves the sockets of an asker; they belong to the server then, also on error.
// What waits in them already is answered.
func (s *Server) Add(asker string, own Sockets) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.start()
	c := &client{id: asker, slots: make(chan struct{}, perAsker), streams: make(chan struct{}, streams), ring: s.ringOf(asker)}
	s.clients[asker] = c
	if own[2] != nil && own[3] != nil {
		c.safe = &safe{in: own[2], out: own[3]}
	}
	for i, file := range own[:2] {
		if err != nil {
			file.Close()
			continue
		}
		sock := newSocket(s, c, file, i == 1)
		// Registered before it is polled: the loop must find it.
		s.sockets[sock.fd] = sock
		c.sockets = append(c.sockets, sock)
		err = unix.EpollCtl(s.pollFD, unix.EPOLL_CTL_ADD, int(sock.fd), &unix.EpollEvent{Events: unix.EPOLLIN, Fd: sock.fd})
	}
	if err != nil {
		s.remove(asker)
		return fmt.Errorf("serve lookups: %w", err)
	}
	if s.serving {
		s.resume(c, nil)
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
	if s.conn, err = s.poll.SyscallConn(); err != nil {
		return err
	}
	s.loop()
	return nil
}

// loop handles events when there is something to wait for, and all names are known.
func (s *Server) loop() {
	if s.serving && s.conn != nil {
		s.wg.Go(func() {
			for s.wait(s.conn.Read) {
			}
		})
	}
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
	c := s.clients[asker]
	if c == nil {
		return
	}
	for _, sock := range c.sockets {
		delete(s.sockets, sock.fd)
		sock.close(s.pollFD)
	}
	c.safe.close()
	delete(s.clients, asker)
	s.keep(asker, c.ring)
}

// ringOf gives the record of a container's lookups, that of its last run too.
func (s *Server) ringOf(asker string) *ring {
	s.records.Lock()
	defer s.records.Unlock()
	r := s.rings[asker]
	if r == nil {
		r = &ring{}
		s.rings[asker] = r
	}
	s.ended = slices.DeleteFunc(s.ended, func(id string) bool { return id == asker })
	r.begin()
	return r
}

// keep remembers the last lookups of a container that ends, and forgets those of the
// one that ended longest ago.
func (s *Server) keep(asker string, r *ring) {
	kept := r.end()
	s.records.Lock()
	defer s.records.Unlock()
	if kept == 0 {
		delete(s.rings, asker)
		return
	}
	s.ended = append(s.ended, asker)
	if len(s.ended) > past {
		delete(s.rings, s.ended[0])
		s.ended = s.ended[1:]
	}
}

// Queries gives the lookups of a container after the first n, as far as they are
// kept, and the number to go on from. The channel is closed when there are more; nil:
// the container does not run, there will be none.
func (s *Server) Queries(asker string, n uint64) (list []api.DNSQuery, next uint64, changed <-chan struct{}) {
	s.records.Lock()
	r := s.rings[asker]
	s.records.Unlock()
	if r == nil {
		return nil, n, nil
	}
	return r.since(n)
}

// Close stops to serve. What is under way is the next server's: lookups that others are
// being asked for, and connections. The sockets stay open where others hold them.
func (s *Server) Close() {
	s.leaving.Store(true)
	s.mu.Lock()
	s.closed = true
	for asker := range s.clients {
		s.remove(asker)
	}
	if s.poll != nil {
		s.poll.Close()
	}
	s.mu.Unlock()
	// Not before the safes are closed: what is given up here stays in them.
	s.cancel()
	s.wg.Wait()
	s.pending.close()
}
