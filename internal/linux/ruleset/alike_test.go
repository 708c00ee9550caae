package ruleset

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"muelle/internal/linux/nft"
)

// attrs are those of an expression, in pairs of number and value.
func attrs(pairs ...any) [][]byte {
	list := make([][]byte, largestAttribute+1)
	for i := 0; i < len(pairs); i += 2 {
		switch v := pairs[i+1].(type) {
		case int:
			list[pairs[i].(int)] = []byte{0, 0, byte(v >> 8), byte(v)}
		case string:
			list[pairs[i].(int)] = append([]byte(v), 0)
		case []byte:
			list[pairs[i].(int)] = v
		}
	}
	return list
}

func asData(value ...byte) []byte { return nft.Attribute(unix.NFTA_DATA_VALUE, value) }

// TestAlikeByAMap: what a port is mapped to is asked of the port only where it is looked at.
func TestAlikeByAMap(t *testing.T) {
	ports := &set{keyLen: 2, dataLen: 4, flags: setMap, elements: []element{
		{key: big16(80), value: []byte{0, 0, 0, 1}}, {key: big16(81), value: []byte{0, 0, 0, 2}}, {key: big16(82), value: []byte{0, 0, 0, 1}},
	}}
	loaded := expression{"payload", attrs(unix.NFTA_PAYLOAD_DREG, unix.NFT_REG32_00, unix.NFTA_PAYLOAD_BASE, unix.NFT_PAYLOAD_TRANSPORT_HEADER, unix.NFTA_PAYLOAD_OFFSET, 2, unix.NFTA_PAYLOAD_LEN, 2)}
	mapped := expression{"lookup", attrs(unix.NFTA_LOOKUP_SET, "ports", unix.NFTA_LOOKUP_SREG, unix.NFT_REG32_00, unix.NFTA_LOOKUP_DREG, unix.NFT_REG32_00+1)}
	compared := expression{"cmp", attrs(unix.NFTA_CMP_SREG, unix.NFT_REG32_00+1, unix.NFTA_CMP_OP, unix.NFT_CMP_EQ, unix.NFTA_CMP_DATA, asData(0, 0, 0, 1))}
	turned := expression{"bitwise", attrs(unix.NFTA_BITWISE_SREG, unix.NFT_REG32_00+1, unix.NFTA_BITWISE_DREG, unix.NFT_REG32_00+2, unix.NFTA_BITWISE_LEN, 4, unix.NFTA_BITWISE_MASK, asData(0, 0, 0, 0xff), unix.NFTA_BITWISE_XOR, asData(0, 0, 0, 0))}
	again := expression{"lookup", attrs(unix.NFTA_LOOKUP_SET, "values", unix.NFTA_LOOKUP_SREG, unix.NFT_REG32_00+1)}
	sent := expression{"nat", attrs(unix.NFTA_NAT_TYPE, unix.NFT_NAT_DNAT, unix.NFTA_NAT_FAMILY, unix.NFPROTO_IPV4, unix.NFTA_NAT_REG_ADDR_MIN, unix.NFT_REG32_00+1)}
	for _, tt := range []struct {
		name  string
		exprs []expression
		alike []uint16
	}{
		{"found", []expression{loaded, mapped}, []uint16{80, 81, 82}},
		{"translated", []expression{loaded, mapped, sent}, []uint16{80, 81, 82}},
		{"compared", []expression{loaded, mapped, compared}, []uint16{80}},
		{"looked up", []expression{loaded, mapped, again}, []uint16{80}},
		{"of which bits are taken", []expression{loaded, mapped, turned}, []uint16{80}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &Chain{Family: IP, Base: true, Hook: Prerouting, rules: []rule{{exprs: tt.exprs}}, sets: map[string]*set{"ports": ports, "values": {keyLen: 4, elements: []element{{key: []byte{0, 0, 0, 1}}}}}}
			rules := &Ruleset{Chains: []*Chain{c}}
			a := NewAlike(Values{HostPort: 80})
			rules.AskAlike(a, Packet{Protocol: unix.IPPROTO_TCP, DestinationPort: 80, Of: Roles{DestinationPort: HostPort}}, nil, Prerouting)
			for port := range uint16(200) {
				want := false
				for _, p := range tt.alike {
					want = want || p == port
				}
				if got := a.Holds(Values{HostPort: port}); got != want {
					t.Errorf("port %d: alike %v, want %v", port, got, want)
				}
			}
		})
	}
}

// TestAlikeBounds: on one side of what an address was compared with all are alike.
func TestAlikeBounds(t *testing.T) {
	at := netip.MustParseAddr
	for _, tt := range []struct {
		note      func(*Alike)
		low, high string // the first and the last that are alike
	}{
		{func(*Alike) {}, "0.0.0.0", "255.255.255.255"},
		{func(a *Alike) { a.masked(TargetAddress, []byte{255, 255, 0, 0}) }, "172.17.0.0", "172.17.255.255"},
		{func(a *Alike) { a.masked(TargetAddress, []byte{255, 0, 255, 0}) }, "172.17.0.2", "172.17.0.2"},
		{func(a *Alike) { a.within(TargetAddress, []byte{172, 17, 0, 3}, []byte{172, 17, 0, 9}) }, "0.0.0.0", "172.17.0.2"},
		{func(a *Alike) { a.within(TargetAddress, []byte{172, 17, 0, 0}, []byte{172, 17, 0, 1}) }, "172.17.0.2", "255.255.255.255"},
		{func(a *Alike) { a.within(TargetAddress, []byte{172, 17, 0, 1}, []byte{172, 17, 0, 9}) }, "172.17.0.1", "172.17.0.9"},
		{func(a *Alike) { a.within(TargetAddress, make([]byte, 16), make([]byte, 16)) }, "172.17.0.2", "172.17.0.2"},
	} {
		a := NewAlike(Values{TargetAddress: at("172.17.0.2")})
		tt.note(a)
		low, high := at(tt.low), at(tt.high)
		for address, want := range map[netip.Addr]bool{low: true, high: true, low.Prev(): false, high.Next(): false} {
			if address.IsValid() && a.Holds(Values{TargetAddress: address}) != want {
				t.Errorf("%s to %s: %s: alike %v", tt.low, tt.high, address, !want)
			}
		}
	}
}

// TestAlikeByIptables: each match notes what it looked at.
func TestAlikeByIptables(t *testing.T) {
	single := func(a string) netip.Prefix { return netip.MustParsePrefix(a + "/32") }
	of := Packet{
		Protocol: unix.IPPROTO_TCP, Source: single("172.17.0.2"), Destination: single("172.17.0.2"), Original: single("172.17.0.2"), Translated: true,
		SourcePort: 80, DestinationPort: 80, OriginalPort: 80,
	}
	ranged := func(flags byte) []byte { // 172.17.0.0 to 172.17.0.9
		info := make([]byte, 68)
		copy(info, []byte{172, 17, 0, 0})
		copy(info[16:], []byte{172, 17, 0, 9})
		copy(info[32:], info[:32])
		info[64] = flags
		return info
	}
	tracked := func(at int, flag uint16) []byte { // 172.17.0.0/29, or port 80
		info := make([]byte, 160)
		copy(info[at:], []byte{172, 17, 0, 0})
		copy(info[at+16:], []byte{255, 255, 255, 248})
		if at == 140 {
			clear(info)
			copy(info[140:], native32(80)[:2])
			copy(info[156:], native32(89)[:2])
		}
		copy(info[146:], native32(uint32(flag))[:2])
		return info
	}
	ports := func(at int) []byte { // 80 to 89
		info := make([]byte, 12)
		copy(info, []byte{0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff})
		copy(info[at:], append(native32(80)[:2], native32(89)[:2]...))
		return info
	}
	multi := make([]byte, 48)
	multi[0], multi[1], multi[32] = 1, 2, 1
	copy(multi[2:], append(native32(80)[:2], native32(89)[:2]...))
	net := func(p *netMatch) func(*legacyRule) {
		return func(r *legacyRule) { *p = netMatch{[]byte{172, 17, 0, 0}, []byte{255, 255, 255, 248}} }
	}
	match := func(name string, revision uint32, info []byte) func(*legacyRule) {
		return func(r *legacyRule) { r.matches = []legacyMatch{{name, revision, info}} }
	}
	var source, dest netMatch
	for _, tt := range []struct {
		name  string
		roles Roles
		with  func(*legacyRule)
	}{
		{"-s", Roles{Source: TargetAddress}, net(&source)},
		{"-d", Roles{Destination: TargetAddress}, net(&dest)},
		{"--src-range", Roles{Source: TargetAddress}, match("iprange", 1, ranged(1))},
		{"--dst-range", Roles{Destination: TargetAddress}, match("iprange", 1, ranged(2))},
		{"--ctorigsrc", Roles{Source: TargetAddress}, match("conntrack", 3, tracked(0, ctOrigSrc))},
		{"--ctorigdst", Roles{Original: TargetAddress}, match("conntrack", 3, tracked(32, ctOrigDst))},
		{"--ctorigdstport", Roles{OriginalPort: HostPort}, match("conntrack", 3, tracked(140, ctOrigDstPort))},
		{"--sport", Roles{SourcePort: TargetPort}, match("tcp", 0, ports(0))},
		{"--dport", Roles{DestinationPort: TargetPort}, match("tcp", 0, ports(4))},
		{"--dports", Roles{DestinationPort: HostPort}, match("multiport", 1, multi)},
	} {
		source, dest = netMatch{make([]byte, 4), make([]byte, 4)}, netMatch{make([]byte, 4), make([]byte, 4)}
		r := &legacyRule{verdict: verdict{kind: verdictDrop}, in: ifMatch{make([]byte, 16), make([]byte, 16)}, out: ifMatch{make([]byte, 16), make([]byte, 16)}}
		tt.with(r)
		r.source, r.dest = source, dest
		near := Values{HostPort: 80, TargetPort: 80, TargetAddress: of.Source.Addr()}
		a := NewAlike(near)
		p := of
		p.Of = tt.roles
		rules := &Ruleset{Chains: []*Chain{{Family: IP, Base: true, Hook: Forward, rules: []rule{{legacy: r}}}}}
		if got := rules.AskAlike(a, p, nil, Forward); !got.Certain() {
			t.Errorf("%s does not match: %+v", tt.name, got)
		}
		far := Values{HostPort: 90, TargetPort: 90, TargetAddress: netip.MustParseAddr("172.17.0.130")}
		if a.Holds(far) {
			t.Errorf("%s: what does not match is alike", tt.name)
		}
		near.HostPort, near.TargetPort, near.TargetAddress = 81, 81, netip.MustParseAddr("172.17.0.3")
		if !a.Holds(near) {
			t.Errorf("%s: what matches as well is not alike", tt.name)
		}
	}
}

// TestAlikeByTheBeginning: of an address only the first bytes may be asked for.
func TestAlikeByTheBeginning(t *testing.T) {
	loaded := func(offset, size int) expression {
		return expression{"payload", attrs(unix.NFTA_PAYLOAD_DREG, unix.NFT_REG32_00, unix.NFTA_PAYLOAD_BASE, unix.NFT_PAYLOAD_NETWORK_HEADER, unix.NFTA_PAYLOAD_OFFSET, offset, unix.NFTA_PAYLOAD_LEN, size)}
	}
	compared := func(value ...byte) expression {
		return expression{"cmp", attrs(unix.NFTA_CMP_SREG, unix.NFT_REG32_00, unix.NFTA_CMP_OP, unix.NFT_CMP_EQ, unix.NFTA_CMP_DATA, asData(value...))}
	}
	for _, tt := range []struct {
		name               string
		exprs              []expression
		sibling, neighbour bool // 172.17.0.3 and 172.18.0.2 are alike
	}{
		{"all of it", []expression{loaded(16, 4), compared(172, 17, 0, 2)}, false, false},
		{"its beginning", []expression{loaded(16, 2), compared(172, 17)}, true, false},
		{"its end", []expression{loaded(18, 2), compared(0, 2)}, false, false},
		{"the source", []expression{loaded(12, 4), compared(0, 0, 0, 0)}, true, true},
		{"both", []expression{loaded(12, 8), compared(0, 0, 0, 0, 172, 17, 0, 2)}, false, false},
	} {
		rules := &Ruleset{Chains: []*Chain{{Family: IP, Base: true, Hook: Forward, rules: []rule{{exprs: tt.exprs}}}}}
		a := NewAlike(Values{TargetAddress: netip.MustParseAddr("172.17.0.2")})
		rules.AskAlike(a, Packet{Destination: netip.MustParsePrefix("172.17.0.2/32"), Of: Roles{Destination: TargetAddress}}, nil, Forward)
		for address, want := range map[string]bool{"172.17.0.2": true, "172.17.0.3": tt.sibling, "172.18.0.2": tt.neighbour} {
			if got := a.Holds(Values{TargetAddress: netip.MustParseAddr(address)}); got != want {
				t.Errorf("%s: %s is alike: %v", tt.name, address, got)
			}
		}
	}
}
