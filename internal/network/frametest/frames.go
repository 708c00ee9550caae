// Package frametest sends frames as attackers do and tells which arrive: raw sockets,
// the headers of Ethernet, ARP, IPv4 and IPv6, and the list of what a container may try
// on its own network. Tests of the network service and of the whole engine share it.
package frametest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Wire is a raw socket on an interface: what is sent passes no rule of its own side.
type Wire struct {
	fd, index int
	// MAC is the interface's hardware address.
	MAC []byte
}

// Open opens a wire on an interface of the calling thread's network namespace.
func Open(name string) (*Wire, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	all := binary.NativeEndian.Uint16([]byte{unix.ETH_P_ALL >> 8, unix.ETH_P_ALL})
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all))
	if err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index}); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &Wire{fd, i.Index, i.HardwareAddr}, nil
}

// Close closes the socket.
func (w *Wire) Close() error { return unix.Close(w.fd) }

// Send sends one frame.
func (w *Wire) Send(frame []byte) error {
	return unix.Sendto(w.fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: w.index})
}

// Sees reads until the frame with the text last comes, and tells whether one with
// text came before it.
func (w *Wire) Sees(text, last string) (bool, error) {
	buf := make([]byte, 2048)
	for deadline, found := time.Now().Add(10*time.Second), false; time.Now().Before(deadline); {
		tv := unix.NsecToTimeval(int64(time.Second))
		if err := unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
			return false, err
		}
		n, from, err := unix.Recvfrom(w.fd, buf, 0)
		if err == unix.EAGAIN || err == unix.EINTR {
			continue
		}
		if err != nil {
			return false, err
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		found = found || bytes.Contains(buf[:n], []byte(text))
		if bytes.Contains(buf[:n], []byte(last)) {
			return found, nil
		}
	}
	return false, fmt.Errorf("the frame after it never came")
}

// Ethernet is a frame: addresses, type, and what it carries.
func Ethernet(dst, src []byte, kind uint16, payload ...[]byte) []byte {
	b := binary.BigEndian.AppendUint16(slices.Concat(dst, src), kind)
	return append(b, slices.Concat(payload...)...)
}

// VLAN is what follows a frame's type 802.1Q.
func VLAN(id, kind uint16) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, id), kind)
}

// ARP is a packet of ARP for IPv4: the operation, and hardware and protocol addresses of sender and target.
func ARP(op uint16, sha []byte, spa string, tha []byte, tpa string) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0, 1, 8, 0, 6, 4}, op)
	return slices.Concat(b, sha, Addr(spa), tha, Addr(tpa))
}

// Addr gives an address's bytes.
func Addr(s string) []byte { return netip.MustParseAddr(s).AsSlice() }

// IPv4 is a packet with a header of its own; the length of options is a multiple of four.
func IPv4(src, dst string, proto byte, options, payload []byte) []byte {
	h := make([]byte, 20, 60)
	h[0], h[8], h[9] = 0x40|byte(5+len(options)/4), 8, proto
	binary.BigEndian.PutUint16(h[2:], uint16(20+len(options)+len(payload)))
	copy(h[12:], Addr(src))
	copy(h[16:], Addr(dst))
	h = append(h, options...)
	binary.BigEndian.PutUint16(h[10:], Checksum(h))
	return append(h, payload...)
}

// IPv6 is a packet with the hop limit that neighbours must have.
func IPv6(src, dst string, next byte, payload []byte) []byte {
	h := make([]byte, 8, 40)
	h[0], h[6], h[7] = 0x60, next, 255
	binary.BigEndian.PutUint16(h[4:], uint16(len(payload)))
	return slices.Concat(h, Addr(src), Addr(dst), payload)
}

// UDP is a datagram without a checksum.
func UDP(from, to uint16, text string) []byte {
	b := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, from), to)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(text)))
	return append(append(b, 0, 0), text...) // IPv4 may go without a checksum
}

// ICMPv6 has a type, a word, and what follows.
func ICMPv6(src, dst string, kind byte, body []byte) []byte {
	p := append([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, body...)
	pseudo := slices.Concat(Addr(src), Addr(dst), binary.BigEndian.AppendUint32(nil, uint32(len(p))), []byte{0, 0, 0, 58}, p)
	binary.BigEndian.PutUint16(p[2:], Checksum(pseudo))
	return p
}

// Checksum is that of RFC 1071.
func Checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		word := uint32(b[i]) << 8
		if i+1 < len(b) {
			word |= uint32(b[i+1])
		}
		sum += word
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
