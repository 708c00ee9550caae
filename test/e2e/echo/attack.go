package main

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"muelle/internal/network/frametest"
)

// attacks are what a container does that wants out of its network. Each fails where
// the kernel refuses.
var attacks = map[string]func(args []string) error{"raw": raw, "flood": flood, "upon": upon, "within": within, "sctp": sctp}

// raw sends the frames that it reads from standard input, a line of base64 each, by an
// interface.
func raw(args []string) error {
	w, err := frametest.Open(args[0])
	if err != nil {
		return err
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		frame, err := base64.StdEncoding.DecodeString(in.Text())
		if err == nil {
			err = w.Send(frame)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// flood sends a datagram, one frame of base64, as often as asked for, each time from
// another port to another one: each is a connection of its own to who tracks them.
func flood(args []string) error {
	w, err := frametest.Open(args[0])
	if err != nil {
		return err
	}
	frame, err := base64.StdEncoding.DecodeString(args[1])
	if err != nil {
		return err
	}
	count, err := strconv.Atoi(args[2])
	for i := range count {
		binary.BigEndian.PutUint16(frame[34:], uint16(1024+i%60000))
		binary.BigEndian.PutUint16(frame[36:], uint16(1024+i/60000))
		// A full queue of the interface is no end of the attack.
		if e := w.Send(frame); e != nil && e != unix.ENOBUFS {
			return e
		}
	}
	return err
}

// upon makes an interface here that lies upon the interface of the given number in the
// namespace at the other end of this one's own.
func upon(args []string) error {
	index, err := strconv.ParseUint(args[0], 10, 32)
	if err != nil {
		return err
	}
	return link("macvlan", nl.NewRtAttr(unix.IFLA_LINK, nl.Uint32Attr(uint32(index))), nl.NewRtAttr(unix.IFLA_LINK_NETNSID, nl.Uint32Attr(0)))
}

// within makes an interface in the namespace at the other end, on the bridge of the
// given number there.
func within(args []string) error {
	index, err := strconv.ParseUint(args[0], 10, 32)
	if err != nil {
		return err
	}
	return link("veth", nl.NewRtAttr(unix.IFLA_TARGET_NETNSID, nl.Uint32Attr(0)), nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(index))))
}

func link(kind string, more ...*nl.RtAttr) error {
	// The kernel numbers the namespace at the other end when it is asked about the interface.
	ask := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
	ask.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	if _, err := ask.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return err
	}
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated("evil0")))
	for _, a := range more {
		req.AddData(a)
	}
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated(kind))
	req.AddData(info)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	if err != nil {
		return fmt.Errorf("make an interface of the kind %s: %w", kind, err)
	}
	return nil
}
