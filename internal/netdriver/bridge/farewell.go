package bridge

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"muelle/internal/linux/nft"
	"muelle/internal/netdriver"
)

// Farewell is what a container's shim sends to the kernel (NETLINK_NETFILTER) when the
// container ends and no daemon is there: a transaction that empties the chains by which
// new connections through these ports come to it, where they are shared. It is made here
// since a shim knows nothing of nftables.
func (d *Driver) Farewell(ports []netdriver.Mapping) []byte {
	batch := message(unix.NFNL_MSG_BATCH_BEGIN, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil)
	for _, m := range ports {
		if relayed(m) {
			continue
		}
		chain := shareKey{m.Protocol, m.Host.Port()}.target(m.Targets[0])
		batch = append(batch, message(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_DELRULE, unix.NFPROTO_INET, 0,
			append(nft.TextAttribute(unix.NFTA_RULE_TABLE, d.fw.name), nft.TextAttribute(unix.NFTA_RULE_CHAIN, chain)...))...)
	}
	return append(batch, message(unix.NFNL_MSG_BATCH_END, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil)...)
}

// message is a struct nlmsghdr, a struct nfgenmsg and attributes.
func message(kind uint16, family byte, resource uint16, attrs []byte) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+4+len(attrs)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST)
	b = append(b, make([]byte, 8)...) // sequence and port
	b = binary.BigEndian.AppendUint16(append(b, family, unix.NFNETLINK_V0), resource)
	return append(b, attrs...)
}
