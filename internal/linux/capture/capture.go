// Package capture reads the packets of a network namespace's interfaces from a packet
// socket (packet(7)), behind a filter in the kernel. What the reader is too slow for the
// kernel drops, and counts: memory is bounded by the socket's buffer.
package capture

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// buffer is what the kernel keeps for us, in bytes.
const buffer = 4 << 20

// Options of a capture.
type Options struct {
	// Interface is its index in the namespace; 0: all but the loopback.
	Interface int
	// Filter runs in the kernel; nil lets everything through.
	Filter []bpf.RawInstruction
	// SnapLen is how much of a packet is kept.
	SnapLen int
}

// Packet is one packet. Data is valid until the next call of Read.
type Packet struct {
	At     time.Time
	Length int // on the wire
	Data   []byte
}

// Capture is an open capture.
type Capture struct {
	o       Options
	file    *os.File
	data    []byte
	control []byte

	mu    sync.Mutex
	drops int
}

// Open begins to capture in the network namespace of the calling thread.
func Open(o Options) (*Capture, error) {
	// Protocol 0: nothing comes before the filter is there.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	if err := prepare(fd, &o); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &Capture{o: o, file: os.NewFile(uintptr(fd), "capture"), data: make([]byte, o.SnapLen), control: make([]byte, 256)}, nil
}

func prepare(fd int, o *Options) error {
	if len(o.Filter) > 0 {
		prog := make([]unix.SockFilter, len(o.Filter))
		for i, f := range o.Filter {
			prog[i] = unix.SockFilter{Code: f.Op, Jt: f.Jt, Jf: f.Jf, K: f.K}
		}
		f := &unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
		if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, f); err != nil {
			return fmt.Errorf("attach filter: %w", err)
		}
	}
	for _, opt := range []struct{ level, name, value int }{
		{unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer},
		{unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1},
		{unix.SOL_PACKET, unix.PACKET_AUXDATA, 1},
	} {
		if err := unix.SetsockoptInt(fd, opt.level, opt.name, opt.value); err != nil {
			return fmt.Errorf("set up packet socket: %w", err)
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: network(unix.ETH_P_ALL), Ifindex: o.Interface}); err != nil {
		return fmt.Errorf("bind packet socket: %w", err)
	}
	return nil
}

func network(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}

// Read waits for the next packet. When ctx is done it gives ctx's error.
func (c *Capture) Read(ctx context.Context) (Packet, error) {
	if err := ctx.Err(); err != nil {
		return Packet{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	return c.read(ctx, true)
}

// Ready gives a packet that is there already; ok is false where there is none.
func (c *Capture) Ready() (p Packet, ok bool, err error) {
	p, err = c.read(context.Background(), false)
	if errors.Is(err, unix.EAGAIN) {
		return p, false, nil
	}
	return p, err == nil, err
}

func (c *Capture) read(ctx context.Context, wait bool) (p Packet, err error) {
	conn, err := c.file.SyscallConn()
	if err != nil {
		return p, err
	}
	var failed error
	err = conn.Read(func(fd uintptr) bool {
		for {
			var wanted bool
			p, wanted, failed = c.receive(int(fd))
			switch {
			case failed == unix.EINTR, failed == nil && !wanted:
			case failed == unix.EAGAIN:
				return !wait
			default:
				return true
			}
		}
	})
	if ctx.Err() != nil {
		return p, ctx.Err()
	}
	return p, errors.Join(err, failed)
}

// receive tells whether the packet is one that was asked for: an Ethernet frame, and of
// the loopback, which shows each packet twice, only the one that comes.
func (c *Capture) receive(fd int) (p Packet, wanted bool, err error) {
	n, cn, _, from, err := unix.Recvmsg(fd, c.data, c.control, unix.MSG_TRUNC)
	if err != nil {
		return p, false, err
	}
	p = Packet{At: time.Now(), Length: n, Data: c.data[:min(n, len(c.data))]}
	for rest := c.control[:cn]; len(rest) > 0; {
		var h unix.Cmsghdr
		var data []byte
		if h, data, rest, err = unix.ParseOneSocketControlMessage(rest); err != nil {
			return p, false, err
		}
		if h.Level == unix.SOL_SOCKET && h.Type == unix.SO_TIMESTAMPNS && len(data) >= int(unsafe.Sizeof(unix.Timespec{})) {
			p.At = time.Unix((*unix.Timespec)(unsafe.Pointer(&data[0])).Unix())
		}
	}
	ll, ok := from.(*unix.SockaddrLinklayer)
	if !ok {
		return p, false, nil
	}
	switch ll.Hatype {
	case unix.ARPHRD_ETHER:
		return p, true, nil
	case unix.ARPHRD_LOOPBACK:
		return p, c.o.Interface != 0 && ll.Pkttype != unix.PACKET_OUTGOING, nil
	}
	return p, false, nil
}

// Dropped is how many packets the kernel had no room for, so far.
func (c *Capture) Dropped() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	conn, err := c.file.SyscallConn()
	if err != nil {
		return c.drops
	}
	_ = conn.Control(func(fd uintptr) {
		// Reading the counters clears them.
		if s, err := unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
			c.drops += int(s.Drops)
		}
	})
	return c.drops
}

// Close ends the capture.
func (c *Capture) Close() error { return c.file.Close() }
