//go:build root

package network_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// wire is a raw socket on an interface: what is sent passes no rule of its own side.
type wire struct {
	fd, index int
	mac       []byte
}

func tap(t testing.TB, ns *os.File, name string) *wire {
	t.Helper()
	w := &wire{}
	must(t, in(ns, func() error {
		i, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		w.index, w.mac = i.Index, i.HardwareAddr
		all := binary.NativeEndian.Uint16([]byte{unix.ETH_P_ALL >> 8, unix.ETH_P_ALL})
		if w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all)); err != nil {
			return err
		}
		return unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: w.index})
	}))
	t.Cleanup(func() { unix.Close(w.fd) })
	return w
}

func (w *wire) send(frame []byte) error {
	return unix.Sendto(w.fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: w.index})
}

// sees reads until the frame with the text last comes, and tells whether one with
// text came before it.
func (w *wire) sees(text, last string) (bool, error) {
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

func ethernet(dst, src []byte, kind uint16, payload ...[]byte) []byte {
	b := binary.BigEndian.AppendUint16(slices.Concat(dst, src), kind)
	return append(b, slices.Concat(payload...)...)
}

// vlan is what follows a frame's type 802.1Q.
func vlan(id, kind uint16) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, id), kind)
}

func arpPacket(op uint16, sha []byte, spa string, tha []byte, tpa string) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0, 1, 8, 0, 6, 4}, op)
	return slices.Concat(b, sha, addr(spa), tha, addr(tpa))
}

func addr(s string) []byte { return netip.MustParseAddr(s).AsSlice() }

func ipv4(src, dst string, proto byte, options, payload []byte) []byte {
	h := make([]byte, 20, 60)
	h[0], h[8], h[9] = 0x40|byte(5+len(options)/4), 8, proto
	binary.BigEndian.PutUint16(h[2:], uint16(20+len(options)+len(payload)))
	copy(h[12:], addr(src))
	copy(h[16:], addr(dst))
	h = append(h, options...)
	binary.BigEndian.PutUint16(h[10:], checksum(h))
	return append(h, payload...)
}

func ipv6(src, dst string, next byte, payload []byte) []byte {
	h := make([]byte, 8, 40)
	h[0], h[6], h[7] = 0x60, next, 255
	binary.BigEndian.PutUint16(h[4:], uint16(len(payload)))
	return slices.Concat(h, addr(src), addr(dst), payload)
}

func udp(from, to uint16, text string) []byte {
	b := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, from), to)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(text)))
	return append(append(b, 0, 0), text...) // IPv4 may go without a checksum
}

// icmpv6 has a type, a word, and what follows.
func icmpv6(src, dst string, kind byte, body []byte) []byte {
	p := append([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, body...)
	pseudo := slices.Concat(addr(src), addr(dst), binary.BigEndian.AppendUint32(nil, uint32(len(p))), []byte{0, 0, 0, 58}, p)
	binary.BigEndian.PutUint16(p[2:], checksum(pseudo))
	return p
}

func checksum(b []byte) uint16 {
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
