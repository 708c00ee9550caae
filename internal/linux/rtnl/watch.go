package rtnl

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Change is what the kernel tells of an address or a route.
type Change struct {
	// Link is the index of its interface, 0 where there is none or are several.
	Link int
}

// groups are those of addresses and of routes, of both families.
const (
	addressGroups = unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR
	routeGroups   = unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE
)

// WatchRoutes calls changed for changes of the network namespace's routes until done is
// closed. Link-local ones and the local table's, which come and go with each container,
// do not even wake the program. changed is called once at the beginning too, and with
// an empty Change where there were too many at once.
func WatchRoutes(changed func(Change), done <-chan struct{}) error {
	return watch(routeGroups, changed, done)
}

// WatchLinks is WatchRoutes for changes of addresses too.
func WatchLinks(changed func(Change), done <-chan struct{}) error {
	return watch(routeGroups|addressGroups, changed, done)
}

func watch(groups uint32, changed func(Change), done <-chan struct{}) error {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{Groups: groups})
	if err != nil {
		return fmt.Errorf("follow routes: %w", err)
	}
	filter, err := bpf.Assemble(worthKnowing())
	if err == nil {
		err = conn.SetBPF(filter)
	}
	if err != nil {
		conn.Close()
		return fmt.Errorf("follow routes: %w", err)
	}
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-done:
		case <-ended:
		}
		conn.Close()
	}()
	changed(Change{})
	for {
		list, err := conn.Receive()
		switch {
		case errors.Is(err, unix.ENOBUFS):
			changed(Change{})
		case err != nil:
			select {
			case <-done:
				return nil
			default:
				return fmt.Errorf("follow routes: %w", err)
			}
		}
		for _, m := range list {
			changed(Change{Link: linkOf(m)})
		}
	}
}

// Lengths of ifaddrmsg and rtmsg of linux/if_addr.h and linux/rtnetlink.h; the kind of a
// message is the low byte of its type, at offset 4 on little-endian machines.
const (
	lenAddress = 8
	lenRoute   = 12
)

// worthKnowing drops routes of the local table, and link-local addresses and routes.
func worthKnowing() []bpf.Instruction {
	const (
		header = unix.NLMSG_HDRLEN
		table  = header + 4
		drop   = 0
		keep   = 1 << 18
	)
	return []bpf.Instruction{
		/*  0 */ bpf.LoadAbsolute{Off: 4, Size: 1},
		/*  1 */ bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.RTM_NEWROUTE, SkipTrue: 4},
		/*  2 */ bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.RTM_DELROUTE, SkipTrue: 3},
		/*  3 */ bpf.LoadConstant{Dst: bpf.RegX, Val: unix.IFA_ADDRESS},
		/*  4 */ bpf.LoadConstant{Dst: bpf.RegA, Val: header + lenAddress},
		/*  5 */ bpf.Jump{Skip: 4},
		/*  6 */ bpf.LoadAbsolute{Off: table, Size: 1},
		/*  7 */ bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.RT_TABLE_LOCAL, SkipTrue: 10},
		/*  8 */ bpf.LoadConstant{Dst: bpf.RegX, Val: unix.RTA_DST},
		/*  9 */ bpf.LoadConstant{Dst: bpf.RegA, Val: header + lenRoute},
		/* 10 */ bpf.LoadExtension{Num: bpf.ExtNetlinkAttr},
		/* 11 */ bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 5},
		/* 12 */ bpf.TAX{},
		/* 13 */ bpf.LoadAbsolute{Off: header, Size: 1},
		/* 14 */ bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.AF_INET6, SkipFalse: 2},
		/* 15 */ bpf.LoadIndirect{Off: 4, Size: 2},
		/* 16 */ bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0xfe80, SkipTrue: 1},
		/* 17 */ bpf.RetConstant{Val: keep},
		/* 18 */ bpf.RetConstant{Val: drop},
	}
}

func linkOf(m netlink.Message) int {
	switch m.Header.Type {
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		if len(m.Data) >= lenAddress {
			return int(binary.NativeEndian.Uint32(m.Data[4:]))
		}
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		if len(m.Data) < lenRoute {
			break
		}
		d, err := netlink.NewAttributeDecoder(m.Data[lenRoute:])
		for err == nil && d.Next() {
			if d.Type() == unix.RTA_OIF {
				return int(d.Uint32())
			}
		}
	}
	return 0
}
