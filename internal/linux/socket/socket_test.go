package socket_test

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"muelle/internal/linux/socket"
)

func TestParse(t *testing.T) {
	const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	for _, tc := range []struct {
		name, proto, in string
		want            []socket.Listener
	}{
		{"listening", "tcp", "   0: 0100007F:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0",
			[]socket.Listener{{Proto: "tcp", Addr: netip.MustParseAddrPort("127.0.0.1:5000"), Inode: 4711}}},
		{"connected", "tcp", "   0: 0100007F:1388 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4711 1", nil},
		{"IPv6", "tcp", "   0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1",
			[]socket.Listener{{Proto: "tcp", Addr: netip.MustParseAddrPort("[::]:80"), Inode: 1}}},
		{"IPv6 loopback", "udp", "   0: 00000000000000000000000001000000:0035 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 2 1",
			[]socket.Listener{{Proto: "udp", Addr: netip.MustParseAddrPort("[::1]:53"), Inode: 2}}},
		{"mapped", "tcp", "   0: 0000000000000000FFFF00000100007F:0035 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1",
			[]socket.Listener{{Proto: "tcp", Addr: netip.MustParseAddrPort("127.0.0.1:53"), Inode: 2}}},
		{"garbage", "tcp", "a b c\n0: zz:1 x 0A 1 1 1 1 1 1 1\n0: 00:1 x 0A 1 1 1 1 1 1 1\n", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := socket.Parse(strings.NewReader(head+tc.in), tc.proto)
			if diff := cmp.Diff(tc.want, got, cmpopts.EquateComparable(netip.AddrPort{})); err != nil || diff != "" {
				t.Error(err, diff)
			}
		})
	}
}

// The lines are those of Linux 6.1.
func TestParseEndpoints(t *testing.T) {
	const in = ` ENDPT     SOCK   STY SST HBKT LPORT   UID INODE LADDRS
0000000000000000 0000000000000000 2   10  34   80      0 11434 0000:0000:0000:0000:0000:0000:0000:0000 
0000000000000000 0000000000000000 2   10  2    7000    0 11435 192.0.2.1 10.0.0.1 
0000000000000000 0000000000000000 2   7   2    7001    0 11436 192.0.2.1 
0000000000000000 0000000000000000 2   10  2    x       0 11437 192.0.2.1 
`
	got, err := socket.ParseEndpoints(strings.NewReader(in))
	want := []socket.Listener{
		{Proto: "sctp", Addr: netip.MustParseAddrPort("[::]:80"), Inode: 11434},
		{Proto: "sctp", Addr: netip.MustParseAddrPort("192.0.2.1:7000"), Inode: 11435}, {Proto: "sctp", Addr: netip.MustParseAddrPort("10.0.0.1:7000"), Inode: 11435},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{})); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

func TestListeners(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	all, err := socket.Listeners()
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddrPort(l.Addr().String())
	i := slices.IndexFunc(all, func(l socket.Listener) bool { return l.Addr == addr && l.Proto == "tcp" })
	if i < 0 {
		t.Fatalf("%s is not among %v", addr, all)
	}
	if mine, err := socket.ListenersOf(os.Getpid()); err != nil || !slices.Contains(mine, all[i]) {
		t.Errorf("%v is not among this process's %v: %v", all[i], mine, err)
	}
	if who := socket.Holder(all[i].Inode); !strings.Contains(who, "(pid ") {
		t.Errorf("held by %q, want this process, %d", who, os.Getpid())
	}
	if who := socket.Holder(); who != "" {
		t.Errorf("got %q for nothing", who)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4711 1\n", "tcp")
	f.Fuzz(func(t *testing.T, text, proto string) {
		list, _ := socket.Parse(strings.NewReader(text), proto)
		endpoints, _ := socket.ParseEndpoints(strings.NewReader(text))
		list = append(list, endpoints...)
		for _, l := range list {
			if !l.Addr.IsValid() || l.Addr.Port() == 0 || l.Inode == 0 {
				t.Errorf("%q: %+v", text, l)
			}
		}
	})
}
