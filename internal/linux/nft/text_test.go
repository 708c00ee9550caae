package nft_test

import (
	"testing"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"muelle/internal/linux/nft"
)

// TestText: the words are nft's own.
func TestText(t *testing.T) {
	set, m := &nftables.Set{Name: "bridges"}, &nftables.Set{Name: "ports", IsMap: true}
	for _, tt := range []struct {
		want string
		rule nft.Expr
	}{
		{`iifname "lo" accept`, nft.Rule(nft.IIF("lo"), nft.Accept())},
		{`iifname != "lo" meta nfproto ipv4 ip daddr 127.0.0.0/8 return`, nft.Rule(nft.NotIIF("lo"), nft.ToLoopback(), nft.Return())},
		{`oifname "mue*" drop`, nft.Rule(nft.OIFPrefix("mue"), nft.Drop())},
		{`iifname @bridges ct state established,related accept`, nft.Rule(nft.IIFIn(set), nft.Established(), nft.Accept())},
		{`oifname != @bridges masquerade`, nft.Rule(nft.OIFNotIn(set), nft.Masquerade())},
		{`iifname . oifname @bridges ct status dnat drop`, nft.Rule(nft.PairIn(set), nft.Translated(), nft.Drop())},
		{`fib daddr type local dnat ip to meta l4proto . th dport map @ports`, nft.Rule(nft.ToLocal(), nft.DNATByPort(m))},
		{`dnat ip to ip daddr . meta l4proto . th dport map @ports`, nft.DNATByAddress(m)},
		{`meta nfproto ipv6 ip6 daddr fe80::/16 return`, nft.Rule(nft.ToLinkLocal6(), nft.Return())},
		{`dnat ip6 to ip6 daddr . meta l4proto . th dport map @ports`, nft.DNATByAddress6(m)},
		{`dnat ip6 to meta l4proto . th dport map @ports`, nft.DNATByPort6(m)},
		{`meta l4proto . th dport vmap @ports`, nft.VerdictByPort(m)},
		{`numgen inc mod 3 vmap @ports`, nft.ByTurn(m, 3)},
		{`jump one`, nft.Jump("one")},
		{`iifname @bridges ct state new meta nfproto ipv6 iifname . ip6 daddr != @bridges drop`, nft.Rule(nft.IIFIn(set), nft.Fresh(), nft.IIFToNotIn(set, true), nft.Drop())},
		{`ct status ! dnat fib saddr type local meta nfproto ipv4 ip daddr . meta l4proto . th dport != @bridges drop`, nft.Rule(nft.NotTranslated(), nft.FromLocal(), nft.ToServiceNotIn(set, false), nft.Drop())},
		{`jhash ip6 saddr . th sport mod 3 vmap @ports`, nft.BySource6(m, 3)},
		{`meta nfproto ipv4 ip daddr 127.0.0.11 th dport 53 dnat ip to 127.0.0.11:10053`, nft.Rule(nft.To([]byte{127, 0, 0, 11}), nft.ToPort(53), nft.DNAT([]byte{127, 0, 0, 11}, 10053))},
		{`ip option 131 exists drop`, nft.Rule(nft.HasOption4(131), nft.Drop())},
		{`exthdr 43 exists drop`, nft.Rule(nft.HasExtension6(43), nft.Drop())},
		{`iifname != @bridges fib saddr oifname @bridges drop`, nft.Rule(nft.IIFNotIn(set), nft.ClaimsRouteTo(set), nft.Drop())},
		{`ct state untracked meta l4proto ipv6-icmp meta nfproto ipv6 ip6 daddr ff00::/8 accept`, nft.Rule(nft.Untracked(), nft.L4Proto(unix.IPPROTO_ICMPV6), nft.ToGroup6(), nft.Accept())},
		{`meta l4proto icmp accept`, nft.Rule(nft.L4Proto(unix.IPPROTO_ICMP), nft.Accept())},
		{`@nh,112,32 0x00000000 accept`, nft.Rule(nft.ARPSenderZero(), nft.Accept())},
		{`@ll,0,40 0x0180c20000 drop`, nft.Rule(nft.ToBridgeGroup(), nft.Drop())},
		{`meta nfproto ipv4 ip saddr . ip daddr @bridges counter packets 0 bytes 0 accept`, nft.Rule(nft.BetweenIn(set), nft.Counter(), nft.Accept())},
	} {
		if got := nft.Text(&nftables.Rule{Exprs: tt.rule}); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
	r := &nftables.Rule{Exprs: nft.Accept(), UserData: nft.Comment("ours")}
	if got := nft.Text(r); got != `accept comment "ours"` {
		t.Errorf("got %s", got)
	}
}

func TestElement(t *testing.T) {
	e := nftables.SetElement{Key: []byte{6, 0, 0, 0, 0x1f, 0x90, 0, 0}, Val: []byte{10, 0, 0, 2, 0, 80, 0, 0}}
	if got := nft.Element(e, []string{"protocol", "port"}, []string{"address", "port"}); got != "tcp . 8080 : 10.0.0.2 . 80" {
		t.Errorf("got %s", got)
	}
	e = nftables.SetElement{Key: append(append(nft.Name("veth0"), 2, 0, 0, 0, 0, 1, 0, 0), 10, 0, 0, 2)}
	if got := nft.Element(e, []string{"name", "mac", "address"}, nil); got != `"veth0" . 02:00:00:00:00:01 . 10.0.0.2` {
		t.Errorf("got %s", got)
	}
	if got := nft.Element(nftables.SetElement{Key: []byte{1}}, []string{"address"}, nil); got != "?" {
		t.Errorf("got %s", got)
	}
}
