package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Line is a lasting connection for small transactions: elements of sets come and go
// with every container. Opening and closing a socket costs more than such a transaction,
// and the kernel makes who closes one wait for the grace period of what was deleted.
type Line struct {
	mu   sync.Mutex
	fd   int
	port uint32
	seq  uint32
	buf  []byte
}

// Elements are keys of one set; of a map, the value of each as well.
type Elements struct {
	Set    *nftables.Set
	Keys   [][]byte
	Values [][]byte
}

// Change puts elements into a set, or takes them out.
type Change struct {
	Elements
	Delete bool
}

// OpenLine opens one in the network namespace of the calling thread.
func OpenLine() (*Line, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	l := &Line{fd: fd}
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 4<<20)
	}
	if err == nil {
		var own unix.Sockaddr
		if own, err = unix.Getsockname(fd); err == nil {
			l.port = own.(*unix.SockaddrNetlink).Pid
		}
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	return l, nil
}

// Port is the sender of the news that the kernel tells of this line's transactions.
func (l *Line) Port() uint32 { return l.port }

// Close closes it; a transaction after it gives an error.
func (l *Line) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	fd := l.fd
	l.fd = -1
	if fd < 0 {
		return nil
	}
	return unix.Close(fd)
}

// Add puts elements into sets in one transaction; those that are there are no error.
func (l *Line) Add(list []Elements) error { return l.Apply(changes(list, false)) }

// Delete takes elements out in one transaction: unix.ENOENT where one is not there, and
// then all stay.
func (l *Line) Delete(list []Elements) error { return l.Apply(changes(list, true)) }

func changes(list []Elements, remove bool) []Change {
	out := make([]Change, len(list))
	for i, e := range list {
		out[i] = Change{Elements: e, Delete: remove}
	}
	return out
}

// perMessage bounds a message: the length of its list of elements has sixteen bits.
const perMessage = 512

// Apply carries changes out in their order, in one transaction, with the errors of Add and
// Delete: unix.EEXIST where a key is there with another value; unix.EBADF after Close.
func (l *Line) Apply(list []Change) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = l.buf[:0]
	l.message(unix.NFNL_MSG_BATCH_BEGIN, 0, 0, unix.NFNL_SUBSYS_NFTABLES, nil)
	last := -1
	for _, c := range list {
		kind, flags := uint16(unix.NFT_MSG_NEWSETELEM), uint16(unix.NLM_F_CREATE)
		if c.Delete {
			kind, flags = unix.NFT_MSG_DELSETELEM, 0
		}
		for at := 0; at < len(c.Keys); at += perMessage {
			last = len(l.buf)
			l.message(unix.NFNL_SUBSYS_NFTABLES<<8|kind, flags, byte(c.Set.Table.Family), 0, func() { l.elements(&c.Elements, at, min(at+perMessage, len(c.Keys))) })
		}
	}
	if last < 0 {
		return nil
	}
	// Errors are told anyway; one answer says that there was none.
	header := l.buf[last:]
	binary.NativeEndian.PutUint16(header[6:], binary.NativeEndian.Uint16(header[6:])|unix.NLM_F_ACK)
	acknowledged := binary.NativeEndian.Uint32(header[8:])
	l.message(unix.NFNL_MSG_BATCH_END, 0, 0, unix.NFNL_SUBSYS_NFTABLES, nil)
	err := l.send()
	if cap(l.buf) > 64<<10 {
		l.buf = nil // a thousand ports do not come with every container
	}
	if err != nil {
		return fmt.Errorf("change nftables: %w", err)
	}
	return l.outcome(acknowledged)
}

func (l *Line) send() error {
	for {
		err := unix.Sendto(l.fd, l.buf, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// outcome reads the answers. The kernel worked while it was sent to: all are there.
func (l *Line) outcome(seq uint32) (failed error) {
	done := false
	var answer [4096]byte
	for {
		n, _, err := unix.Recvfrom(l.fd, answer[:], unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN) && failed == nil && !done:
			return errors.New("change nftables: the kernel did not answer")
		case errors.Is(err, unix.EAGAIN):
			return failed
		case err != nil && failed == nil:
			failed = fmt.Errorf("read the answer of nftables: %w", err)
		case err != nil || n < unix.NLMSG_HDRLEN+4 || binary.NativeEndian.Uint16(answer[4:]) != unix.NLMSG_ERROR:
		default:
			code := int32(binary.NativeEndian.Uint32(answer[unix.NLMSG_HDRLEN:]))
			if code != 0 && failed == nil {
				failed = fmt.Errorf("change nftables: %w", unix.Errno(-code))
			}
			done = done || binary.NativeEndian.Uint32(answer[8:]) == seq
		}
	}
}

// message appends a message: nlmsghdr, nfgenmsg, and what body appends.
func (l *Line) message(kind, flags uint16, family byte, resource uint16, body func()) {
	start := len(l.buf)
	l.seq++
	l.buf = binary.NativeEndian.AppendUint32(l.buf, 0)
	l.buf = binary.NativeEndian.AppendUint16(l.buf, kind)
	l.buf = binary.NativeEndian.AppendUint16(l.buf, unix.NLM_F_REQUEST|flags)
	l.buf = binary.NativeEndian.AppendUint32(l.buf, l.seq)
	l.buf = binary.NativeEndian.AppendUint32(l.buf, l.port)
	l.buf = append(l.buf, family, unix.NFNETLINK_V0)
	l.buf = binary.BigEndian.AppendUint16(l.buf, resource)
	if body != nil {
		body()
	}
	binary.NativeEndian.PutUint32(l.buf[start:], uint32(len(l.buf)-start))
}

func (l *Line) elements(e *Elements, from, to int) {
	l.attribute(unix.NFTA_SET_ELEM_LIST_TABLE, func() { l.buf = append(append(l.buf, e.Set.Table.Name...), 0) })
	l.attribute(unix.NFTA_SET_ELEM_LIST_SET, func() { l.buf = append(append(l.buf, e.Set.Name...), 0) })
	l.attribute(unix.NFTA_SET_ELEM_LIST_ELEMENTS|unix.NLA_F_NESTED, func() {
		for i := from; i < to; i++ {
			var value []byte
			size := header + dataSize(e.Keys[i])
			if e.Values != nil {
				value = e.Values[i]
				size += dataSize(value)
			}
			l.header(size, unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED)
			l.data(unix.NFTA_SET_ELEM_KEY, e.Keys[i])
			if e.Values != nil {
				l.data(unix.NFTA_SET_ELEM_DATA, value)
			}
		}
	})
}

// header is the size of an attribute's header.
const header = unix.SizeofNlAttr

// dataSize is what data appends.
func dataSize(value []byte) int {
	return 2*header + (len(value)+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1)
}

func (l *Line) data(kind uint16, value []byte) {
	l.header(dataSize(value), kind|unix.NLA_F_NESTED)
	l.header(header+len(value), unix.NFTA_DATA_VALUE)
	l.buf = append(l.buf, value...)
	l.pad()
}

func (l *Line) header(size int, kind uint16) {
	l.buf = binary.NativeEndian.AppendUint16(l.buf, uint16(size))
	l.buf = binary.NativeEndian.AppendUint16(l.buf, kind)
}

func (l *Line) pad() {
	for len(l.buf)%unix.NLA_ALIGNTO != 0 {
		l.buf = append(l.buf, 0)
	}
}

func (l *Line) attribute(kind uint16, body func()) {
	start := len(l.buf)
	l.header(0, kind)
	body()
	binary.NativeEndian.PutUint16(l.buf[start:], uint16(len(l.buf)-start))
	l.pad()
}
