package nft

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Message is a question to nftables: kind is an NFT_MSG_… of linux/netfilter/nf_tables.h,
// family of AF_… or NFPROTO_…, attrs its attributes as they go on the wire.
func Message(kind uint16, flags netlink.HeaderFlags, family byte, attrs []byte) netlink.Message {
	return netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind), Flags: netlink.Request | flags},
		Data:   append([]byte{family, unix.NFNETLINK_V0, 0, 0}, attrs...),
	}
}

// Generation is the number of the last transaction of the connection's network
// namespace, whose ever it was: each adds one. It waits for one that is being committed.
func Generation(conn *netlink.Conn) (uint32, error) {
	if err := settle(conn); err != nil {
		return 0, fmt.Errorf("wait for nftables: %w", err)
	}
	list, err := conn.Execute(Message(unix.NFT_MSG_GETGEN, 0, unix.AF_UNSPEC, nil))
	if err != nil {
		return 0, fmt.Errorf("read the generation of nftables: %w", err)
	}
	for _, m := range list {
		if id := Body(m)[unix.NFTA_GEN_ID]; len(id) == 4 {
			return binary.BigEndian.Uint32(id), nil
		}
	}
	return 0, errors.New("read the generation of nftables: the kernel tells none")
}

// settle returns when no transaction is half committed. The kernel counts one before it
// is done (nf_tables_commit of net/netfilter/nf_tables_api.c), and who lists then sees
// neither all of the old nor all of the new: two lists between two equal generations may
// differ. A batch waits for its turn, and one of nothing changes and counts nothing.
func settle(conn *netlink.Conn) error {
	edge := func(kind netlink.HeaderType) netlink.Message {
		return netlink.Message{
			Header: netlink.Header{Type: kind, Flags: netlink.Request},
			// struct nfgenmsg; its last field names the subsystem, in network byte order.
			Data: []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES},
		}
	}
	_, err := conn.SendMessages([]netlink.Message{edge(unix.NFNL_MSG_BATCH_BEGIN), edge(unix.NFNL_MSG_BATCH_END)})
	return err
}

// Body gives the attributes of a message: of each type the last. nil where it is too
// short to have any.
func Body(m netlink.Message) map[uint16][]byte {
	if len(m.Data) < 4 {
		return nil
	}
	return Attributes(m.Data[4:])
}

// Attribute is one of a question, as it goes on the wire.
func Attribute(kind uint16, value []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	b = append(binary.NativeEndian.AppendUint16(b, kind), value...)
	return append(b, make([]byte, (4-len(b)%4)%4)...)
}

// TextAttribute is one whose value is text, such as a name.
func TextAttribute(kind uint16, value string) []byte {
	return Attribute(kind, append([]byte(value), 0))
}

// Attributes reads a list of attributes: of each type the last. It stops where the
// bytes are none.
func Attributes(b []byte) map[uint16][]byte {
	out := map[uint16][]byte{}
	EachAttribute(b, func(kind uint16, data []byte) { out[kind] = data })
	return out
}

// EachAttribute calls f with the attributes of a list, in order.
func EachAttribute(b []byte, f func(kind uint16, data []byte)) {
	for len(b) >= 4 {
		size, kind := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])
		if size < 4 || size > len(b) {
			return
		}
		f(kind&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[4:size])
		b = b[min((size+3)&^3, len(b)):]
	}
}
