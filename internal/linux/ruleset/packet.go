package ruleset

import (
	"encoding/binary"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// Packet is what is known of a packet, and of the flow that it belongs to. What is
// left zero is unknown, unless said otherwise.
type Packet struct {
	// In and Out are the interfaces; Somewhere stands for one of unknown name, empty for
	// none, "mue*" for one whose name begins so.
	In, Out string
	// InBridge: In (or, in Out's case, OutBridge) is a bridge.
	InBridge, OutBridge bool
	// Within is the bridge in which a frame is switched, when only the family bridge
	// sees it; In and Out are its ports.
	Within string
	// V6: the packet is IPv6.
	V6 bool
	// Source and Destination: bits after the prefix's length are unknown; an invalid
	// prefix is an address of which nothing is known.
	Source, Destination netip.Prefix
	// Protocol is an IP protocol; the ports have a meaning with TCP, UDP and SCTP. That of
	// a Reply's destination, where it is unknown, is one that systems give to clients.
	Protocol                    uint8
	SourcePort, DestinationPort uint16
	// Established: an answer, or what follows it; else the first packet of a flow.
	Established bool
	// Reply: it goes against the flow's first packet.
	Reply bool
	// Translated: the destination was changed by DNAT, from Original:OriginalPort.
	Translated   bool
	Original     netip.Prefix
	OriginalPort uint16
	// ToLocal: at prerouting, the destination is an address of this host.
	ToLocal bool
	// Translates: that the packet arrives hangs on an address's being translated, there or
	// back, which is not done where it is not tracked.
	Translates bool
	// Tracking is that of earlier hooks; Opening, of a Reply, that of the flow's first packet.
	Tracking, Opening Tracking
	// Of says which values of a target's stand in the fields, for AskAlike.
	Of Roles
}

// Protocol gives the number of tcp, udp or sctp. Every other name is taken for tcp, which
// an empty one means in Docker's API.
func Protocol(name string) uint8 {
	switch name {
	case "udp":
		return unix.IPPROTO_UDP
	case "sctp":
		return unix.IPPROTO_SCTP
	}
	return unix.IPPROTO_TCP
}

// Somewhere is an interface of which only is known that there is one.
const Somewhere = "?"

// state is a packet on its way: what rules may change of it.
type state struct {
	Packet
	rules *Ruleset
	hook  Hook
	// asked is the packet as it was asked for; early: it is shown as it was before that.
	asked Packet
	early bool
	mark  data
	// alike, which may be nil, is told what of the fields with a role is looked at.
	alike *Alike
	// named: more of a name was asked for than is known.
	named bool
	// hangs is of the rule that is evaluated; hung of all that decide something.
	hangs, hung hangs
	// counts: the rule that is evaluated counts packets; rate is the first such.
	counts bool
	rate   string
	// tracking, and by which rule of a base chain it is no more; untrackHangs is what that hangs on.
	tracking     Tracking
	untracker    *Chain
	untrackRule  string
	untrackHangs hangs
	// headers, as far as they have been asked for.
	network, transport data
}

func native32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }
func big16(v uint16) []byte    { return binary.BigEndian.AppendUint16(nil, v) }

func (s *state) family() Family {
	if s.V6 {
		return IP6
	}
	return IP
}

func ifname(name string) data {
	if name == Somewhere {
		return unknown(unix.IFNAMSIZ)
	}
	if prefix, ok := strings.CutSuffix(name, "*"); ok {
		d := unknown(unix.IFNAMSIZ)
		for i := range copy(d.value, prefix) {
			d.known[i] = 0xff
		}
		return d
	}
	b := make([]byte, max(len(name), unix.IFNAMSIZ))
	copy(b, name)
	return known(b)
}

func (s *state) ifindex(name string) data {
	if i, ok := s.rules.index[name]; ok {
		return known(native32(i))
	}
	if name == "" {
		return known(native32(0))
	}
	return unknown(4)
}

// address gives the bits of a prefix; n is the length of an address.
func address(p netip.Prefix, n int) data {
	d := unknown(n)
	if !p.IsValid() || p.Addr().BitLen() != n*8 {
		return d
	}
	copy(d.value, p.Masked().Addr().AsSlice())
	for i := range p.Bits() {
		d.known[i/8] |= 0x80 >> (i % 8)
	}
	return d
}

// kinds of interfaces: a name in sixteen bytes.
func kind(name string, bridge bool) data {
	if bridge {
		return ifname("bridge")
	}
	if name == "" {
		return ifname("")
	}
	return unknown(unix.IFNAMSIZ)
}

// meta gives what "meta KEY" loads.
func (s *state) meta(key uint32) data {
	switch key {
	case unix.NFT_META_PROTOCOL:
		if s.V6 {
			return known(big16(unix.ETH_P_IPV6))
		}
		return known(big16(unix.ETH_P_IP))
	case unix.NFT_META_MARK:
		return s.mark
	case unix.NFT_META_IIF:
		return s.ifindex(s.In)
	case unix.NFT_META_OIF:
		return s.ifindex(s.Out)
	case unix.NFT_META_IIFNAME:
		return ifname(s.In)
	case unix.NFT_META_OIFNAME:
		return ifname(s.Out)
	case unix.NFT_META_NFPROTO:
		if s.Within != "" {
			return known([]byte{unix.NFPROTO_BRIDGE})
		}
		return known([]byte{s.nfproto()})
	case unix.NFT_META_L4PROTO:
		return s.protocol()
	case unix.NFT_META_BRI_IIFNAME, unix.NFT_META_BRI_OIFNAME:
		if s.Within != "" {
			return ifname(s.Within)
		}
	case unix.NFT_META_PKTTYPE:
		return known([]byte{0}) // PACKET_HOST
	case metaIIFKind:
		return kind(s.In, s.InBridge)
	case metaOIFKind:
		return kind(s.Out, s.OutBridge)
	}
	return unknown(unix.IFNAMSIZ)
}

// From linux/netfilter/nf_tables.h.
const (
	metaIIFKind = 26
	metaOIFKind = 27
)

func (s *state) nfproto() byte {
	if s.V6 {
		return unix.NFPROTO_IPV6
	}
	return unix.NFPROTO_IPV4
}

func (s *state) protocol() data {
	if s.Protocol == 0 {
		return unknown(1)
	}
	return known([]byte{s.Protocol})
}

// Bits of a connection's state in nftables, and of its status.
const (
	stateEstablished = 1 << 1
	stateNew         = 1 << 3
	statusSeenReply  = 1 << 1
	statusDNAT       = 1 << 5
)

// conntrack gives what "ct KEY" loads, or "ct original KEY", "ct reply KEY".
func (s *state) conntrack(key, direction uint32) data {
	switch key {
	case unix.NFT_CT_STATE:
		return s.stateOf()
	case unix.NFT_CT_DIRECTION:
		if s.Reply {
			return known([]byte{1})
		}
		return known([]byte{0})
	case unix.NFT_CT_STATUS:
		return s.status()
	case unix.NFT_CT_MARK:
		if s.rules.marks {
			return unknown(4)
		}
		return known(native32(0))
	case unix.NFT_CT_SRC_IP, unix.NFT_CT_SRC_IP6, unix.NFT_CT_SRC:
		if direction == 0 {
			return address(s.begunBy(), s.addressSize())
		}
	case unix.NFT_CT_L3PROTOCOL:
		return known([]byte{s.nfproto()})
	case unix.NFT_CT_PROTOCOL:
		return s.protocol()
	case unix.NFT_CT_DST_IP, unix.NFT_CT_DST_IP6, unix.NFT_CT_DST:
		if p, _, ok := s.original(); ok && direction == 0 {
			return address(p, s.addressSize())
		}
	case unix.NFT_CT_PROTO_DST:
		if _, port, ok := s.original(); ok && direction == 0 && port != 0 {
			return known(big16(port))
		}
	}
	return unknown(16)
}

// status: only the bit of DNAT and that of an answer's having been seen are known.
func (s *state) status() data {
	var v uint32
	if s.Translated {
		v |= statusDNAT
	}
	if s.Established {
		v |= statusSeenReply
	}
	return data{native32(v), native32(statusDNAT | statusSeenReply)}
}

// begunBy is where the flow's first packet came from.
func (s *state) begunBy() netip.Prefix {
	if s.Reply {
		return s.Destination
	}
	return s.Source
}

// original is where the flow's first packet went to, as far as it is known.
func (s *state) original() (netip.Prefix, uint16, bool) {
	if s.Translated {
		return s.Original, s.OriginalPort, true
	}
	return s.Destination, s.DestinationPort, !s.Reply
}

// originalRoles are those of what original gives.
func (s *state) originalRoles() (address, port Role) {
	if s.Translated {
		return s.Of.Original, s.Of.OriginalPort
	}
	return s.Of.Destination, s.Of.DestinationPort
}

// begunByRole is that of what begunBy gives.
func (s *state) begunByRole() Role {
	if s.Reply {
		return s.Of.Destination
	}
	return s.Of.Source
}

func (s *state) addressSize() int {
	if s.V6 {
		return 16
	}
	return 4
}

// fib gives what a lookup of the routes loads: the kind of the destination's address.
// A source is taken to be routed where the packet came from; what comes by the loopback
// interface was sent by this host.
func (s *state) fib(result, flags uint32) data {
	if result != unix.NFT_FIB_RESULT_ADDRTYPE {
		if flags&unix.NFTA_FIB_F_PRESENT != 0 {
			return known([]byte{1})
		}
		if flags&unix.NFTA_FIB_F_SADDR != 0 && result == unix.NFT_FIB_RESULT_OIF {
			return s.ifindex(s.In)
		}
		if flags&unix.NFTA_FIB_F_SADDR != 0 {
			return ifname(s.In)
		}
		return unknown(unix.IFNAMSIZ)
	}
	if flags&unix.NFTA_FIB_F_DADDR == 0 {
		if s.In == "" || s.In == "lo" {
			return known(native32(unix.RTN_LOCAL))
		}
		return known(native32(unix.RTN_UNICAST))
	}
	return known(native32(s.destinationType()))
}

func (s *state) destinationType() uint32 {
	if s.hook == Input || s.ToLocal && (s.hook == Prerouting || s.hook == Output) {
		return unix.RTN_LOCAL
	}
	return unix.RTN_UNICAST
}

// payload gives bytes of the packet's headers.
func (s *state) payload(base, offset, size uint32) data {
	var header data
	switch base {
	case unix.NFT_PAYLOAD_LL_HEADER:
		header = unknown(14)
		s.put(header, 12, s.meta(unix.NFT_META_PROTOCOL))
	case unix.NFT_PAYLOAD_NETWORK_HEADER:
		if s.network.value == nil {
			s.network = s.networkHeader()
		}
		header = s.network
	case unix.NFT_PAYLOAD_TRANSPORT_HEADER:
		if s.transport.value == nil {
			s.transport = s.transportHeader()
		}
		header = s.transport
	}
	out := unknown(int(min(size, 64)))
	for i := range out.value {
		if at := int(offset) + i; at < len(header.value) {
			out.value[i], out.known[i] = header.value[at], header.known[at]
		}
	}
	return out
}

func (s *state) put(header data, at int, d data) {
	copy(header.value[at:], d.value)
	copy(header.known[at:], d.known)
}

func (s *state) networkHeader() data {
	header := unknown(40)
	if s.V6 {
		s.put(header, 6, s.protocol())
		s.put(header, 8, address(s.Source, 16))
		s.put(header, 24, address(s.Destination, 16))
		return header
	}
	header.value = header.value[:20]
	s.put(header, 6, known([]byte{0, 0})) // no fragment, as far as ports are compared
	header.known[6] = 0x3f                // but for the flag "do not fragment"
	s.put(header, 9, s.protocol())
	s.put(header, 12, address(s.Source, 4))
	s.put(header, 16, address(s.Destination, 4))
	return header
}

const tcpSYN = 0x02

// clientPorts is the first of those that Linux and others give to clients; all above are taken
// for such. No rule for one of them alone is meant for a client.
const clientPorts = 0x8000

func (s *state) transportHeader() data {
	header := unknown(20)
	if s.SourcePort != 0 {
		s.put(header, 0, known(big16(s.SourcePort)))
	}
	switch {
	case s.DestinationPort != 0:
		s.put(header, 2, known(big16(s.DestinationPort)))
	case s.Reply:
		s.put(header, 2, data{big16(clientPorts), big16(clientPorts)})
	}
	if s.Protocol == unix.IPPROTO_TCP && !s.Established {
		s.put(header, 13, known([]byte{tcpSYN}))
	}
	return header
}
