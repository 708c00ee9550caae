package main

import (
	"encoding/binary"
	"fmt"
	"log"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sctp answers associations at a port, of both families, message by message and by the
// stream, with the identifier and in the order that a message came with. Most are answered
// with themselves; what else there is stands in answer. A second number is how many streams
// it offers at most.
func sctp(args []string) error {
	port, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
	if err != nil {
		return err
	}
	if len(args) > 1 {
		n, err := strconv.ParseUint(args[1], 10, 16)
		if err != nil {
			return err
		}
		var initial [8]byte // struct sctp_initmsg: streams out, and in at most
		binary.NativeEndian.PutUint16(initial[:], uint16(n))
		binary.NativeEndian.PutUint16(initial[2:], uint16(n))
		if err := unix.SetsockoptString(fd, unix.IPPROTO_SCTP, 2, string(initial[:])); err != nil {
			return err
		}
	}
	// SCTP_RECVRCVINFO, which those that are accepted inherit.
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_SCTP, 32, 1); err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet6{Port: port}); err != nil {
		return err
	}
	if err := unix.Listen(fd, 64); err != nil {
		return err
	}
	for {
		c, from, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
		if err != nil {
			return err
		}
		go serveSCTP(c, from)
	}
}

// ends and aborts are how many peers have ended an association, either way; sent is how
// many messages the last flood has sent by now.
var ends, aborts, sent atomic.Int64

func serveSCTP(fd int, from unix.Sockaddr) {
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 2<<20); err != nil {
		log.Print(err) // only large messages need it
	}
	buf, oob := make([]byte, 4<<20), make([]byte, 200)
	for {
		n, info := 0, []byte(nil)
		for {
			read, oobn, flags, _, err := unix.Recvmsg(fd, buf[n:], oob, 0)
			if err != nil {
				aborts.Add(1)
				return
			}
			if read == 0 {
				ends.Add(1)
				return
			}
			n += read
			if flags&unix.MSG_EOR != 0 {
				info = sendInfo(oob[:oobn])
				break
			}
		}
		if !answer(fd, from, buf[:n], info) {
			return
		}
	}
}

func answer(fd int, from unix.Sockaddr, b, info []byte) bool {
	word, number, _ := strings.Cut(string(b[:min(len(b), 40)]), " ")
	switch word {
	case "who":
		name, _ := os.Hostname()
		a, _ := from.(*unix.SockaddrInet6)
		b = []byte(name + " " + netip.AddrFrom16(a.Addr).Unmap().String())
	case "count":
		b = fmt.Append(nil, len(b))
	case "ended":
		b = fmt.Appendf(nil, "%d ends, %d aborts", ends.Load(), aborts.Load())
	case "sent":
		b = fmt.Append(nil, sent.Load())
	case "streams":
		var status [176]byte // struct sctp_status
		size := uint32(len(status))
		if _, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_SCTP, 14, uintptr(unsafe.Pointer(&status[0])), uintptr(unsafe.Pointer(&size)), 0); e != 0 {
			log.Print(e)
		}
		b = fmt.Appendf(nil, "%d in %d out", binary.NativeEndian.Uint16(status[16:]), binary.NativeEndian.Uint16(status[18:]))
	case "flood": // so many messages of 64 KiB, numbered
		n, _ := strconv.Atoi(number)
		message := make([]byte, 64<<10)
		sent.Store(0)
		for i := range n {
			binary.BigEndian.PutUint32(message, uint32(i))
			if _, err := unix.SendmsgN(fd, message, info, nil, unix.MSG_NOSIGNAL); err != nil {
				log.Print(err)
				return false
			}
			sent.Add(1)
		}
		return true
	case "bye":
		if _, err := unix.SendmsgN(fd, b, info, nil, unix.MSG_NOSIGNAL); err != nil {
			log.Print(err)
		}
		return false
	case "abort":
		if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
			log.Print(err)
		}
		return false
	}
	if _, err := unix.SendmsgN(fd, b, info, nil, unix.MSG_NOSIGNAL); err != nil {
		log.Print(err)
		return false
	}
	return true
}

// sendInfo makes of the control message SCTP_RCVINFO the SCTP_SNDINFO that answers by the
// same stream.
func sendInfo(oob []byte) []byte {
	list, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(list) == 0 || list[0].Header.Type != 3 {
		return nil
	}
	got := list[0].Data
	b := make([]byte, unix.CmsgSpace(16))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = unix.IPPROTO_SCTP, 2
	h.SetLen(unix.CmsgLen(16))
	data := b[unix.CmsgLen(0):]
	copy(data, got[:2])       // the stream
	copy(data[2:], got[4:6])  // flags
	copy(data[4:], got[8:12]) // the identifier
	return b
}
