package zone

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Numbers of RFC 9260: the chunk that asks for an association, and a parameter that who
// does not know it skips without a word (the two high bits are 10).
const (
	sctpInit      = 1
	sctpInitSize  = 20
	sctpSkipped   = 0x80ff
	sctpMarkSize  = 4 + len(mark{})
	sctpHeader    = 12
	sctpFromPort  = 32768 // the first of those that are nobody's
	sctpFromPorts = 28000
)

// sctpQuestion is a packet that asks for an association, with a mark at its end. The kernel
// needs no SCTP for it; whoever answers keeps nothing before he is answered.
func sctpQuestion(from, to uint16, tag uint32, m mark) []byte {
	b := make([]byte, 0, sctpHeader+sctpInitSize+sctpMarkSize)
	b = binary.BigEndian.AppendUint16(b, from)
	b = binary.BigEndian.AppendUint16(b, to)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0) // no tag yet, and the checksum
	b = append(b, sctpInit, 0)
	b = binary.BigEndian.AppendUint16(b, sctpInitSize+uint16(sctpMarkSize))
	b = binary.BigEndian.AppendUint32(b, tag|1) // not 0
	b = binary.BigEndian.AppendUint32(b, 1<<16) // window
	b = append(b, 0, 1, 0, 1)                   // streams out and in
	b = binary.BigEndian.AppendUint32(b, tag)
	b = binary.BigEndian.AppendUint16(b, sctpSkipped)
	b = binary.BigEndian.AppendUint16(b, uint16(sctpMarkSize))
	b = append(b, m[:]...)
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// associate sends a mark by SCTP.
func (v *verification) associate(from string, to netip.AddrPort, m mark) (fd int, err error) {
	fd = -1
	err = v.within(from, func() error {
		sa, domain := sockaddr(netip.AddrPortFrom(to.Addr(), 0))
		if fd, err = unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_SCTP); err != nil {
			return fmt.Errorf("open raw socket: %w", err)
		}
		packet := sctpQuestion(uint16(sctpFromPort+rand.IntN(sctpFromPorts)), to.Port(), rand.Uint32(), m)
		return ignoring(unix.Sendto(fd, packet, 0, sa), unix.EPERM)
	})
	return fd, err
}
