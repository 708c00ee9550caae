package filter_test

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/net/bpf"

	"muelle/internal/linux/capture/filter"
)

// packet builds an Ethernet frame of IPv4 or IPv6 with ports.
func packet(proto byte, from, to string, sport, dport uint16) []byte {
	a, b := netip.MustParseAddr(from), netip.MustParseAddr(to)
	eth := make([]byte, 14)
	copy(eth, "\x02\x42\x00\x00\x00\x01\x02\x42\x00\x00\x00\x02")
	ports := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, sport), dport)
	ports = append(ports, make([]byte, 16)...)
	if a.Is4() {
		binary.BigEndian.PutUint16(eth[12:], 0x0800)
		ip := make([]byte, 24) // with options: ports move
		ip[0], ip[9] = 0x46, proto
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+len(ports)))
		copy(ip[12:], a.AsSlice())
		copy(ip[16:], b.AsSlice())
		return append(append(eth, ip...), ports...)
	}
	binary.BigEndian.PutUint16(eth[12:], 0x86dd)
	ip := make([]byte, 40)
	ip[0], ip[6] = 0x60, proto
	copy(ip[8:], a.AsSlice())
	copy(ip[24:], b.AsSlice())
	return append(append(eth, ip...), ports...)
}

func arp(from, to string) []byte {
	b := make([]byte, 14+28)
	copy(b, "\xff\xff\xff\xff\xff\xff")
	binary.BigEndian.PutUint16(b[12:], 0x0806)
	copy(b[28:], netip.MustParseAddr(from).AsSlice())
	copy(b[38:], netip.MustParseAddr(to).AsSlice())
	return b
}

func fragment() []byte {
	b := packet(6, "10.0.0.1", "10.0.0.2", 1000, 80)
	binary.BigEndian.PutUint16(b[20:], 8)
	return b
}

func names(name string) []netip.Addr {
	if name == "db" {
		return []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")}
	}
	return nil
}

// matches runs a filter as the kernel does.
func matches(t *testing.T, text string, frame []byte) bool {
	t.Helper()
	raw, err := filter.Compile(text, names)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if raw == nil {
		return true
	}
	prog, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatalf("%s: unknown instructions", text)
	}
	vm, err := bpf.NewVM(prog)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	n, err := vm.Run(frame)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return n > 0
}

func TestCompile(t *testing.T) {
	frames := map[string][]byte{
		"tcp":  packet(6, "10.0.0.1", "10.0.0.2", 1000, 80),
		"back": packet(6, "10.0.0.2", "10.0.0.1", 80, 1000),
		"udp":  packet(17, "10.0.0.1", "10.9.0.3", 5353, 53),
		"six":  packet(6, "fd00::1", "fd00::2", 1000, 443),
		"sctp": packet(132, "10.0.0.1", "10.0.0.2", 7, 9),
		"icmp": packet(1, "10.0.0.1", "10.0.0.2", 0, 0),
		"nd":   packet(58, "fd00::1", "ff02::1", 0, 0),
		"arp":  arp("10.0.0.1", "10.0.0.2"),
		"frag": fragment(),
	}
	for _, tc := range []struct{ filter, want string }{
		{"", "tcp back udp six sctp icmp nd arp frag"},
		{"ip", "tcp back udp sctp icmp frag"},
		{"ip6", "six nd"},
		{"arp", "arp"},
		{"tcp", "tcp back six frag"},
		{"udp", "udp"},
		{"sctp", "sctp"},
		{"icmp", "icmp"},
		{"icmp6", "nd"},
		{"host 10.0.0.2", "tcp back sctp icmp arp frag"},
		{"10.0.0.2", "tcp back sctp icmp arp frag"},
		{"ip host 10.0.0.2", "tcp back sctp icmp frag"},
		{"arp host 10.0.0.2", "arp"},
		{"src 10.0.0.2", "back"},
		{"dst host 10.0.0.2", "tcp sctp icmp arp frag"},
		{"src or dst host 10.9.0.3", "udp"},
		{"src and dst net 10.0.0.0/24", "tcp back sctp icmp arp frag"},
		{"host db", "tcp back six sctp icmp arp frag"},
		{"host fd00::1", "six nd"},
		{"net fd00::/8", "six nd"},
		{"net 10.9.0.0/16", "udp"},
		{"net 0.0.0.0/0", "tcp back udp sctp icmp arp frag"},
		{"port 80", "tcp back"},
		{"port http", "tcp back"},
		{"dst port 80", "tcp"},
		{"tcp port 53", ""},
		{"udp port 53", "udp"},
		{"ip6 port 443", "six"},
		{"portrange 50-60", "udp"},
		{"dst portrange 79-81", "tcp"},
		{"port 80 or 443", "tcp back six"},
		{"tcp and port 80", "tcp back"},
		{"not tcp", "udp sctp icmp nd arp"},
		{"! (tcp or udp)", "sctp icmp nd arp"},
		{"tcp && !port 80", "six frag"},
		{"icmp or arp and host 10.0.0.9", ""}, // from left to right, as tcpdump
		{"icmp or (arp and host 10.0.0.2)", "icmp arp"},
		{"broadcast", "arp"},
		{"multicast", "arp"},
		{"greater 58", "tcp back udp six sctp icmp nd frag"},
		{"less 42", "arp"},
		{"not not icmp", "icmp"},
	} {
		t.Run(tc.filter, func(t *testing.T) {
			want := strings.Fields(tc.want)
			for name, frame := range frames {
				wanted := false
				for _, w := range want {
					wanted = wanted || w == name
				}
				if got := matches(t, tc.filter, frame); got != wanted {
					t.Errorf("%s: %v", name, got)
				}
			}
		})
	}
}

func TestRefused(t *testing.T) {
	for _, tc := range []struct{ filter, want string }{
		{"tcp[13] & 2 != 0", "tcp[13]"},
		{"gateway x", "gateway"},
		{"host nobody", "nobody"},
		{"port", "port needs a value"},
		{"port 70000", "70000"},
		{"portrange 80", "FIRST-LAST"},
		{"portrange 90-80", "90-80"},
		{"net 10.0.0.1/8", "10.0.0.0/8"},
		{"(tcp", "bracket"},
		{"tcp)", "unexpected \")\""},
		{"tcp udp", "unexpected \"udp\""},
		{"and", "needs a value"},
		{"not", "ends"},
		{"icmp port 3", "icmp has no ports"},
		{"tcp host 10.0.0.1", "tcp has no addresses"},
		{"ip6 host 10.0.0.1", "ip6 has no address"},
		{"less x", "length"},
		{strings.Repeat("(", 70) + "tcp" + strings.Repeat(")", 70), "nested"},
		{strings.Repeat("port 1 or ", 600) + "tcp", "longer"},
		{strings.Repeat("net 10.0.0.0/8 or ", 220) + "tcp", "too long"},
	} {
		_, err := filter.Compile(tc.filter, names)
		if err == nil || !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%.40s: %v", tc.filter, err)
		}
	}
}

// FuzzCompile: what compiles, the kernel's rules for programs accept, and it runs on
// frames that are cut off anywhere.
func FuzzCompile(f *testing.F) {
	for _, s := range []string{"port 80 or 443", "not (host db and tcp)", "src and dst net 10.0.0.0/8", "portrange 1-2", "less 3 || !arp"} {
		f.Add(s, 20)
	}
	whole := packet(6, "10.0.0.1", "10.0.0.2", 1000, 80)
	f.Fuzz(func(t *testing.T, text string, cut int) {
		raw, err := filter.Compile(text, names)
		if err != nil || raw == nil {
			return
		}
		prog, _ := bpf.Disassemble(raw)
		vm, err := bpf.NewVM(prog)
		if err != nil {
			t.Fatal(err)
		}
		if cut < 0 || cut > len(whole) {
			cut = len(whole)
		}
		_, _ = vm.Run(whole[:cut])
	})
}
