package resolver

import (
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

const (
	// largestQuery is what EDNS lets a client announce without asking for trouble.
	largestQuery = 4096
	// perAsker bounds the lookups of one container that wait for an upstream.
	perAsker = 256
	// streams bounds its TCP connections, each of which may hold a query of 64 KiB.
	streams = 64
	// turn is how much is taken from one socket before it is the others' turn.
	turn = 64
	// idle is how long a TCP connection may say nothing.
	idle = 10 * time.Second
)

// rawFile wraps a descriptor that Go's poller shall leave alone, though it does not block.
func rawFile(fd int) *os.File {
	// os.NewFile would poll a descriptor that it finds non-blocking.
	_ = unix.SetNonblock(fd, false)
	f := os.NewFile(uintptr(fd), "resolver")
	_ = unix.SetNonblock(fd, true)
	return f
}

// socket is one of an asker's two.
type socket struct {
	server *Server
	client *client
	stream bool
	fd     int32
	inode  uint64

	mu     sync.Mutex
	file   *os.File
	closed bool // nothing is taken any more
}

func newSocket(s *Server, c *client, f *os.File, stream bool) *socket {
	fd := int32(f.Fd())
	_ = unix.SetNonblock(int(fd), true) // shared with the shim, which may see it otherwise
	return &socket{server: s, client: c, stream: stream, fd: fd, inode: inodeOf(int(fd)), file: f}
}

func (k *socket) close(poll int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	// Others hold the same socket: closing alone would leave it in the poll set.
	_ = unix.EpollCtl(poll, unix.EPOLL_CTL_DEL, int(k.fd), nil)
	k.closed = true
	k.file.Close()
}

// ready takes what has arrived. A lookup is taken from the socket when it has been
// answered, or is kept elsewhere: if the daemon is killed meanwhile, the next one finds
// it there.
func (k *socket) ready() {
	if k.stream {
		k.accept()
		return
	}
	var buf [largestQuery]byte
	for range turn {
		n, from, err := k.receive(buf[:], unix.MSG_PEEK)
		if err != nil {
			return
		}
		k.datagram(buf[:n], from, nil)
		if _, _, err := k.receive(nil, 0); err != nil {
			return
		}
	}
}

func (k *socket) receive(buf []byte, flags int) (int, unix.Sockaddr, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return 0, nil, os.ErrClosed
	}
	return unix.Recvfrom(int(k.fd), buf, unix.MSG_DONTWAIT|flags)
}

// datagram answers a lookup, which may be one of the daemon before; else nil.
func (k *socket) datagram(data []byte, from unix.Sockaddr, old *goneOn) {
	query, e := parse(data)
	if query == nil {
		old.drop(k.server)
		return
	}
	if answer := k.own(query, &e, false); answer != nil {
		k.note(e) // before the answer: who has it may ask what became of its lookup
		if k.send(answer, from) || !k.server.leaving.Load() {
			old.drop(k.server)
		}
		return
	}
	if old == nil {
		old = &goneOn{ticket: k.server.pending.put(k.inode, from, data)}
	}
	l := &errand{client: k.client, query: query, ticket: old.ticket, before: old.before}
	ok := k.spawn(k.client.slots, func() {
		answer := k.server.forward(l, &e)
		k.note(e)
		sent := answer != nil && k.send(answer, from)
		if sent || !k.server.leaving.Load() { // else the next daemon goes on
			k.server.pending.drop(l.ticket)
		}
	})
	if !ok {
		old.drop(k.server)
		e.reason = busy
		k.note(e)
	}
}

var busy = "too many lookups of the container wait for an answer: the limit is " + strconv.Itoa(perAsker)
var tooMany = "too many TCP connections of the container to its name server: the limit is " + strconv.Itoa(streams)

// parse reads a query; nil: what came is none, or an answer. A query that is not
// understood has no question.
func parse(data []byte) (*dns.Msg, record) {
	e := record{at: time.Now(), code: -1}
	query := new(dns.Msg)
	err := query.Unpack(data)
	if len(data) < 12 || query.Response {
		return nil, e
	}
	if err != nil {
		query.Question, query.Answer, query.Ns, query.Extra = nil, nil, nil, nil
	}
	return query, e
}

// own answers what the networks know; nil: an upstream is to be asked.
func (k *socket) own(query *dns.Msg, e *record, tcp bool) []byte {
	e.tcp = tcp
	reply := k.server.answer(k.client.id, query, e)
	if reply == nil {
		return nil
	}
	if size := replySize(query, tcp); reply.Len() > size {
		reply.Truncate(size)
	}
	return pack(reply, e)
}

// note puts a lookup on record.
func (k *socket) note(e record) {
	e.took = time.Since(e.at)
	k.client.ring.add(e)
}

// send answers a datagram; false: the socket is closed.
func (k *socket) send(data []byte, to unix.Sockaddr) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.closed {
		// The client asks again if its buffer was full.
		_ = unix.Sendto(int(k.fd), data, unix.MSG_DONTWAIT, to)
	}
	return !k.closed
}

// spawn runs f at the side, unless the asker has too much of its kind under way: then
// its resolver asks again.
func (k *socket) spawn(slots chan struct{}, f func()) bool {
	select {
	case slots <- struct{}{}:
	default:
		return false
	}
	k.server.wg.Go(func() {
		defer func() { <-slots }()
		f()
	})
	return true
}
