package shim

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Options of linux/sctp.h, control messages, and where fields lie in its structures.
const (
	sctpInitMsg        = 2
	sctpNoDelay        = 3
	sctpPeerAddrParams = 9
	sctpEvents         = 11
	sctpMaxSeg         = 13
	sctpStatus         = 14
	sctpRecvRcvInfo    = 32

	// struct cmsghdr, of a kernel of 64 bits.
	cmsgHeader  = 16
	cmsgSndInfo = 2
	cmsgRcvInfo = 3
	sizeRcvInfo = 28
	sizeSndInfo = 16

	msgNotification = 0x8000
	sctpUnordered   = 1

	// struct sctp_event_subscribe, as far as the last one that is asked for.
	eventAssociation     = 1
	eventPartialDelivery = 6

	// struct sctp_paddrparams, as of before Linux 4.17, which is taken as well.
	paddrMTU    = 138
	paddrFlags  = 146
	paddrSize   = 152
	noDiscovery = 16

	// struct sctp_status.
	statusMTU  = 172
	statusIn   = 16
	statusOut  = 18
	statusSize = 176
)

// messageInfo is what a message has beside its bytes.
type messageInfo struct {
	stream    uint16
	unordered bool
	ppid      uint32 // as it is on the wire: the kernel does not touch it
	cmsg      [cmsgHeader + sizeSndInfo]byte
}

// receivedInfo finds struct sctp_rcvinfo among control messages.
func receivedInfo(oob []byte) (m messageInfo, ok bool) {
	for len(oob) >= cmsgHeader {
		size := binary.NativeEndian.Uint64(oob)
		if size < cmsgHeader || size > uint64(len(oob)) {
			return m, false
		}
		level, kind := binary.NativeEndian.Uint32(oob[8:]), binary.NativeEndian.Uint32(oob[12:])
		if b := oob[cmsgHeader:size]; level == unix.IPPROTO_SCTP && kind == cmsgRcvInfo && len(b) >= sizeRcvInfo {
			m.stream = binary.NativeEndian.Uint16(b)
			m.unordered = binary.NativeEndian.Uint16(b[4:])&sctpUnordered != 0
			m.ppid = binary.NativeEndian.Uint32(b[8:])
			return m, true
		}
		oob = oob[min((size+7)&^7, uint64(len(oob))):]
	}
	return m, false
}

// sending is the control message with struct sctp_sndinfo that sends it on like that.
func (m *messageInfo) sending() []byte {
	var flags uint16
	if m.unordered {
		flags = sctpUnordered
	}
	b := m.cmsg[:]
	binary.NativeEndian.PutUint64(b, uint64(len(b)))
	binary.NativeEndian.PutUint32(b[8:], unix.IPPROTO_SCTP)
	binary.NativeEndian.PutUint32(b[12:], cmsgSndInfo)
	binary.NativeEndian.PutUint16(b[16:], m.stream)
	binary.NativeEndian.PutUint16(b[18:], flags)
	binary.NativeEndian.PutUint32(b[20:], m.ppid)
	return b
}

// What a notification says.
const (
	noticeNone = iota
	noticeEnd  // the association has ended in order
	noticeLost // it was aborted, or begun anew by a peer that knows nothing of it
	noticeCut  // the rest of a message in pieces will not come
)

// notice reads union sctp_notification: the type, and of struct sctp_assoc_change the state.
func notice(b []byte) int {
	const (
		assocChange, partialDelivery    = 0x8001, 0x8006
		commLost, restart, shutdownComp = 1, 2, 3
		cantStart                       = 4
	)
	if len(b) < 10 {
		return noticeNone
	}
	switch binary.NativeEndian.Uint16(b) {
	case partialDelivery:
		return noticeCut
	case assocChange:
		switch binary.NativeEndian.Uint16(b[8:]) {
		case shutdownComp:
			return noticeEnd
		case commLost, restart, cantStart:
			return noticeLost
		}
	}
	return noticeNone
}

// hearMessages has a socket, and those that it accepts, say what comes with a message and
// what becomes of the association, and send at once.
func hearMessages(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_SCTP, sctpRecvRcvInfo, 1); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_SCTP, sctpNoDelay, 1); err != nil {
		return err
	}
	events := [eventPartialDelivery + 1]byte{eventAssociation: 1, eventPartialDelivery: 1}
	return setsockopt(fd, sctpEvents, events[:])
}

// onlyIPv6 has an association hear nothing by IPv4. Its client knows this host's addresses
// of IPv4 too, and what zones say of relays is said of IPv6.
func onlyIPv6(fd int) error {
	// The version is the first half of the network header's first byte, at SKF_NET_OFF.
	program := [...]unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 0xfff00000},
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0xf0},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 0x60, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff},
		{Code: unix.BPF_RET | unix.BPF_K},
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
}

// smallPackets has a socket send packets that pass every network of containers: what is
// translated on its way from the loopback is taken for as large as those of the loopback, 64
// KiB, which are lost, and come again after a second each.
func smallPackets(fd int) error {
	var b [paddrSize]byte
	binary.NativeEndian.PutUint32(b[paddrMTU:], 1280)
	binary.NativeEndian.PutUint32(b[paddrFlags:], noDiscovery)
	return setsockopt(fd, sctpPeerAddrParams, b[:])
}

// setStreams is struct sctp_initmsg: how many streams are asked for, and how many at most
// the peer gets.
func setStreams(fd int, out, in uint16) error {
	var b [8]byte
	binary.NativeEndian.PutUint16(b[:], out)
	binary.NativeEndian.PutUint16(b[2:], in)
	return setsockopt(fd, sctpInitMsg, b[:])
}

// streams are those that the peer sends by, and those that it takes; mtu is of the way there.
func streams(fd int) (in, out uint16, mtu uint32, err error) {
	var b [statusSize]byte
	size := uint32(len(b))
	if _, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_SCTP, sctpStatus, uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&size)), 0); e != 0 {
		return 0, 0, 0, e
	}
	return binary.NativeEndian.Uint16(b[statusIn:]), binary.NativeEndian.Uint16(b[statusOut:]), binary.NativeEndian.Uint32(b[statusMTU:]), nil
}

func setsockopt(fd, option int, b []byte) error {
	if _, _, e := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.IPPROTO_SCTP, uintptr(option), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0); e != 0 {
		return e
	}
	return nil
}
