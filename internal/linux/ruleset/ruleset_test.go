package ruleset

import (
	"testing"

	"muelle/internal/linux/nft"
)

// FuzzLegacy: a table as the kernel gives it is cut into chains, or refused.
func FuzzLegacy(f *testing.F) {
	entry := func(code int32) []byte {
		e := make([]byte, 152)
		e[88], e[90] = 112, 152
		copy(e[112:], []byte{40, 0})
		copy(e[144:], native32(uint32(code)))
		return e
	}
	info := make([]byte, infoBytes)
	copy(info[tableName:], native32(1<<Forward))
	f.Add(info, append(entry(-2), entry(-1)...))
	f.Fuzz(func(t *testing.T, info, entries []byte) {
		info = append(info, make([]byte, infoBytes)...)[:infoBytes]
		for _, l := range layouts {
			chains, err := l.decode("filter", info, entries)
			if err != nil {
				continue
			}
			r := &Ruleset{Chains: chains}
			r.Ask(Packet{Protocol: 6, DestinationPort: 80, V6: l.family == IP6}, nil, Prerouting, Input, Forward, Output, Postrouting)
		}
	})
}

// TestQueue: a program may take a packet from a queue, and drop it.
func TestQueue(t *testing.T) {
	for _, r := range []rule{{exprs: []expression{{name: "queue"}}}, {legacy: &legacyRule{target: "NFQUEUE"}}} {
		rules := &Ruleset{Chains: []*Chain{{Family: IP, Base: true, Hook: Forward, rules: []rule{r}}}}
		got := rules.Ask(Packet{Protocol: 6}, nil, Forward)
		if !got.Passes || !got.Dropped || len(got.Reasons) != 1 || got.Reasons[0] != "the program that takes it from a queue" {
			t.Errorf("got %+v", got)
		}
	}
}

func TestPolicyOfALegacyTable(t *testing.T) {
	entries := make([]byte, 152)
	entries[88], entries[90] = 112, 152
	copy(entries[112:], []byte{40, 0})
	copy(entries[144:], native32(0xffffffff)) // -NF_DROP - 1
	info := make([]byte, infoBytes)
	copy(info[tableName:], native32(1<<Forward))
	chains, err := layouts[0].decode("filter", info, entries)
	if err != nil || len(chains) != 1 || !chains[0].Drops || chains[0].String() != "iptables-legacy -t filter FORWARD" {
		t.Fatalf("got %v, %v", chains, err)
	}
	if _, err := layouts[0].decode("filter", info, entries[:100]); err == nil {
		t.Error("half a table is taken")
	}
}

// FuzzAttributes: bytes of the kernel's are bounded by their own lengths only.
func FuzzAttributes(f *testing.F) {
	f.Add([]byte{8, 0, 1, 0, 1, 2, 3, 4})
	f.Fuzz(func(_ *testing.T, b []byte) {
		attrs := nft.Attributes(b)
		decodeVerdict(b)
		comment(b)
		s := &set{flags: setInterval, keyLen: 4}
		s.add(attrs)
		s.add(nft.Attributes(attrs[1]))
		s.ranges()
		w := walk{state: &state{rules: &Ruleset{}, mark: unknown(4), Packet: Packet{Protocol: 6}}}
		for _, name := range []string{"tcp", "udp", "conntrack", "multiport", "addrtype", "mark", "iprange", "state", "pkttype", "rpfilter", "hashlimit", "connlimit", "quota", "recent", "set"} {
			for rev := range uint32(4) {
				w.match(name, rev, b)
			}
		}
		c, list := &Chain{sets: map[string]*set{"": s}}, attributes(b)
		for _, name := range []string{"meta", "ct", "fib", "payload", "bitwise", "immediate", "cmp", "range", "lookup", "limit", "match", "target", "byteorder", "queue", "x"} {
			w.evaluate(c, &rule{exprs: []expression{{name, list}, {"cmp", list}, {name, list}}})
		}
	})
}

func TestBits(t *testing.T) {
	part := data{[]byte{10, 0}, []byte{0xff, 0}} // 10.*
	for _, tt := range []struct {
		name      string
		got, want answer
	}{
		{"equal", part.equal([]byte{10}), yes},
		{"open", part.equal([]byte{10, 7}), maybe},
		{"different", part.equal([]byte{11, 7}), no},
		{"masked", part.masked([]byte{0xff, 0}, nil).equal([]byte{10, 0}), yes},
		{"within", part.within([]byte{10, 0}, []byte{10, 255}), yes},
		{"half within", part.within([]byte{10, 7}, []byte{10, 255}), maybe},
		{"above", part.within([]byte{11, 0}, nil), no},
		{"no end", part.within([]byte{9, 0}, nil), yes},
		{"less", part.compare(2, []byte{11, 0}), yes},
		{"perhaps less", part.compare(2, []byte{10, 9}), maybe},
		{"not less", part.compare(2, []byte{10, 0}), no},
		{"too long", part.equal([]byte{10, 0, 0}), maybe},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, tt.got, tt.want)
		}
	}
}
