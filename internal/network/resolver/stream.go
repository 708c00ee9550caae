package resolver

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// longestQuery is more than any lookup of a name needs, and fits into what the kernel
// keeps of a connection that nobody reads.
const longestQuery = 16 << 10

// streamNote is the note on a connection in a safe.
const streamNote = 's'

// accept takes connections, and closes those that are too many.
func (k *socket) accept() {
	for range turn {
		conn := k.next()
		if conn == nil {
			return
		}
		if !k.spawn(k.client.streams, func() { k.serve(conn, nil) }) {
			k.note(record{at: time.Now(), code: -1, tcp: true, reason: tooMany})
			hangUp(conn)
		}
	}
}

// next takes one connection; nil: there is none. It is in the safe before anybody can
// close that.
func (k *socket) next() connection {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil
	}
	fd, _, err := unix.Accept4(int(k.fd), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	if err != nil {
		return nil
	}
	return k.client.safe.hold(os.NewFile(uintptr(fd), "lookup"), []byte{streamNote})
}

// serve answers the queries of one TCP connection. A query is taken from it when it has
// been answered: until then the next daemon would find it there. By the sockets in before
// the daemon before has asked others for the first one.
func (k *socket) serve(conn connection, before []asked) {
	defer func() {
		closeAll(before)
		if !k.server.leaving.Load() { // else the next daemon serves it
			hangUp(conn)
		}
		conn.Close()
	}()
	var answering sync.Mutex
	defer context.AfterFunc(k.server.ctx, func() {
		_ = conn.SetDeadline(time.Now())
		// What has been answered is taken from it first, or the next daemon would answer twice.
		answering.Lock()
		defer answering.Unlock()
		conn.Close()
	})()
	var inode uint64
	if onFD(conn, func(fd int) { inode = inodeOf(fd) }) != nil {
		return
	}
	for {
		if conn.SetDeadline(time.Now().Add(idle)) != nil {
			return
		}
		query, err := peekQuery(conn)
		if err != nil {
			return
		}
		answer := k.exchange(query[2:], inode, before)
		before = nil
		if answer == nil {
			return
		}
		answering.Lock()
		ok := k.reply(conn, query, answer)
		answering.Unlock()
		if !ok {
			return
		}
	}
}

// reply writes the answer to a query and takes the query from the connection.
func (k *socket) reply(conn connection, query, answer []byte) bool {
	if conn.SetDeadline(time.Now().Add(idle)) != nil || k.server.ctx.Err() != nil {
		return false
	}
	if _, err := conn.Write(framed(answer)); err != nil {
		return false
	}
	var err error
	failed := onFD(conn, func(fd int) { _, _, err = unix.Recvfrom(fd, query, unix.MSG_DONTWAIT) })
	return failed == nil && err == nil
}

// hangUp closes a connection though a copy of it may be in the safe for a while.
func hangUp(conn connection) {
	_ = onFD(conn, func(fd int) { _ = unix.Shutdown(fd, unix.SHUT_RDWR) })
	conn.Close()
}

func (k *socket) exchange(data []byte, inode uint64, before []asked) []byte {
	query, e := parse(data)
	if query == nil {
		closeAll(before)
		return nil
	}
	answer := k.own(query, &e, true)
	if answer == nil {
		answer = k.server.forward(&errand{client: k.client, tcp: true, query: query, ticket: ticketOf(inode), before: before}, &e)
	} else {
		closeAll(before)
	}
	k.note(e)
	return answer
}

// ticketOf stands for the lookup that a connection waits for, which is in no file.
func ticketOf(inode uint64) ticket { return ticket{slot: -1, at: int64(inode)} }

// peekQuery waits until a query has arrived whole, and gives it with its length, which
// stands before it. It stays in the connection.
func peekQuery(conn connection) (query []byte, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	failed := raw.Read(func(fd uintptr) bool {
		query, err = arrived(int(fd))
		return query != nil || err != nil
	})
	return query, errors.Join(err, failed)
}

// arrived gives the first query of a connection; nil: there is none yet.
func arrived(fd int) ([]byte, error) {
	// Looked at before what has come: more cannot come then.
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	if _, err := unix.Poll(poll, 0); err != nil && !errors.Is(err, unix.EINTR) {
		return nil, err
	}
	partly := func() ([]byte, error) {
		if poll[0].Revents != 0 {
			return nil, io.ErrUnexpectedEOF
		}
		return nil, nil
	}
	var length [2]byte
	if n, err := peek(fd, length[:]); err != nil || n < len(length) {
		if errors.Is(err, unix.EAGAIN) {
			err = nil
		} else if err != nil {
			return nil, err
		}
		return partly()
	}
	size := len(length) + int(binary.BigEndian.Uint16(length[:]))
	if size > longestQuery {
		return nil, errors.New("the query is too long")
	}
	// Memory for what has come, not for what was announced.
	if n, err := unix.IoctlGetInt(fd, unix.SIOCINQ); err != nil {
		return nil, err
	} else if n < size {
		return partly()
	}
	query := make([]byte, size)
	if n, err := peek(fd, query); err != nil || n < size {
		return nil, errors.Join(err, io.ErrUnexpectedEOF)
	}
	return query, nil
}

func peek(fd int, buf []byte) (int, error) {
	for {
		n, _, err := unix.Recvfrom(fd, buf, unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// onFD calls f with the descriptor of a connection, while that cannot be closed.
func onFD(conn connection, f func(fd int)) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) { f(int(fd)) })
}
