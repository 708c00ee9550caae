package bridge

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"muelle/internal/linux/nft"
)

// deleteFlows deletes the tracked flows of a family that match. Those of SCTP are looked at
// apart where there are any: package netlink reads no ports of theirs.
func deleteFlows(family netlink.InetFamily, filter netlink.CustomConntrackFilter, sctp bool) error {
	_, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, filter)
	if sctp {
		err = errors.Join(err, deleteSCTPFlows(family, filter))
	}
	return err
}

func deleteSCTPFlows(family netlink.InetFamily, filter netlink.CustomConntrackFilter) error {
	all, err := conntrackRequest(family, nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP, nil)
	if err != nil {
		return fmt.Errorf("list tracked flows of SCTP: %w", err)
	}
	var failed []error
	for _, message := range all {
		if len(message) < nl.SizeofNfgenmsg {
			continue
		}
		flow, ok := sctpFlow(message[nl.SizeofNfgenmsg:])
		if !ok || !filter.MatchConntrackFlow(flow) {
			continue
		}
		_, err := conntrackRequest(family, nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK, message[nl.SizeofNfgenmsg:])
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = append(failed, fmt.Errorf("delete a tracked flow of SCTP: %w", err))
		}
	}
	return errors.Join(failed...)
}

func conntrackRequest(family netlink.InetFamily, operation, flags int, attributes []byte) ([][]byte, error) {
	r := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|operation, flags)
	r.AddData(&nl.Nfgenmsg{NfgenFamily: uint8(family), Version: nl.NFNETLINK_V0})
	if attributes != nil {
		r.AddRawData(attributes)
	}
	return r.Execute(unix.NETLINK_NETFILTER, 0)
}

// sctpFlow reads the attributes of a tracked flow; false where it is none of SCTP.
func sctpFlow(attributes []byte) (*netlink.ConntrackFlow, bool) {
	all := nft.Attributes(attributes)
	flow := &netlink.ConntrackFlow{Forward: flowTuple(all[nl.CTA_TUPLE_ORIG]), Reverse: flowTuple(all[nl.CTA_TUPLE_REPLY])}
	return flow, flow.Forward.Protocol == unix.IPPROTO_SCTP
}

func flowTuple(b []byte) (t netlink.IPTuple) {
	parts := nft.Attributes(b)
	nft.EachAttribute(parts[nl.CTA_TUPLE_IP], func(kind uint16, data []byte) {
		switch kind {
		case nl.CTA_IP_V4_SRC, nl.CTA_IP_V6_SRC:
			t.SrcIP = data
		case nl.CTA_IP_V4_DST, nl.CTA_IP_V6_DST:
			t.DstIP = data
		}
	})
	proto := nft.Attributes(parts[nl.CTA_TUPLE_PROTO])
	if n := proto[nl.CTA_PROTO_NUM]; len(n) > 0 {
		t.Protocol = n[0]
	}
	port := func(kind uint16) uint16 {
		if b := proto[kind]; len(b) >= 2 {
			return binary.BigEndian.Uint16(b)
		}
		return 0
	}
	t.SrcPort, t.DstPort = port(nl.CTA_PROTO_SRC_PORT), port(nl.CTA_PROTO_DST_PORT)
	return t
}
