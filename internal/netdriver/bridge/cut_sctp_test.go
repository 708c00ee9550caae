package bridge_test

import (
	"encoding/binary"
	"net"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"muelle/internal/netdriver/bridge"
)

// attribute is one of netlink's, padded.
func attribute(kind uint16, parts ...[]byte) []byte {
	data := slices.Concat(parts...)
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(data)))
	b = append(binary.NativeEndian.AppendUint16(b, kind), data...)
	return append(b, make([]byte, -len(b)&3)...)
}

func TestSCTPFlow(t *testing.T) {
	const nested = 1 << 15
	tuple := func(kind uint16, proto byte, from, to net.IP, fromPort, toPort uint16) []byte {
		return attribute(kind|nested,
			attribute(1|nested, attribute(3, from), attribute(4, to)),
			attribute(2|nested, attribute(1, []byte{proto}), attribute(2, binary.BigEndian.AppendUint16(nil, fromPort)), attribute(3, binary.BigEndian.AppendUint16(nil, toPort))))
	}
	a, b := net.ParseIP("2001:db8::1"), net.ParseIP("2001:db8::2")
	flow := slices.Concat(tuple(1, 132, a, b, 40000, 18300), tuple(2, 132, b, a, 80, 40000))
	got, ok := bridge.SCTPFlow(flow)
	want := &netlink.ConntrackFlow{
		Forward: netlink.IPTuple{Protocol: 132, SrcIP: a, DstIP: b, SrcPort: 40000, DstPort: 18300},
		Reverse: netlink.IPTuple{Protocol: 132, SrcIP: b, DstIP: a, SrcPort: 80, DstPort: 40000},
	}
	if d := cmp.Diff(want, got); d != "" || !ok {
		t.Errorf("ok %v (-want +got):\n%s", ok, d)
	}
	for name, b := range map[string][]byte{"TCP": tuple(1, 6, a, b, 1, 2), "nothing": nil, "cut": flow[:9]} {
		if got, ok := bridge.SCTPFlow(b); ok {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
