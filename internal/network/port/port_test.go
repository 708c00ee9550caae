package port_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"muelle/internal/network/port"
)

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		name, port, ip, host string
		start, end           uint16
		fails                bool
	}{
		{"any", "80/tcp", "", "", 0, 0, false},
		{"zero", "80/tcp", "", "0", 0, 0, false},
		{"fixed", "80/udp", "127.0.0.1", "8080", 8080, 8080, false},
		{"range", "80/tcp", "", "8000-8010", 8000, 8010, false},
		{"loopback of IPv6", "80/tcp", "::1", "8080", 8080, 8080, false},
		{"other address of IPv6", "80/tcp", "fd00::1", "8080", 8080, 8080, false},
		{"address with a zone", "80/tcp", "fe80::1%eth0", "8080", 0, 0, true},
		{"backwards", "80/tcp", "", "9-8", 0, 0, true},
		{"too large", "80/tcp", "", "65536", 0, 0, true},
		{"words", "80/tcp", "", "http", 0, 0, true},
		{"SCTP", "80/sctp", "", "80", 80, 80, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := network.PortBinding{HostPort: tc.host}
			if tc.ip != "" {
				b.HostIP = netip.MustParseAddr(tc.ip)
			}
			got, err := port.Parse(network.MustParsePort(tc.port), b)
			if (err != nil) != tc.fails || !tc.fails && (got.Start != tc.start || got.End != tc.end) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func TestReserve(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := uint16(l.Addr().(*net.TCPAddr).Port)
	book := port.NewBook()
	request := port.Request{Container: network.MustParsePort("80/tcp"), Start: taken, End: taken}
	_, err = book.Reserve(request, netip.IPv4Unspecified())
	var want *port.TakenError
	if !errors.As(err, &want) {
		t.Fatalf("got %v, want a TakenError", err)
	}
	if got := port.Holder(want); !strings.Contains(got, fmt.Sprintf("(pid %d)", os.Getpid())) {
		t.Errorf("the holder is %v", got)
	}
	request.Start, request.End = 0, 0
	first, err := book.Reserve(request, netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	defer first.File.Close()
	if p := first.Host.Port(); p < 32768 || p > 60999 {
		t.Errorf("got the port %d", p)
	}
	if _, err := net.Listen("tcp4", first.Host.String()); err == nil {
		t.Error("a reserved port could be listened on")
	}
	again, ok := port.ParseName(first.Name())
	if !ok || again.Host != first.Host || again.Container != first.Container {
		t.Errorf("got %+v from the name %q", again, first.Name())
	}
}

// A port on all addresses is one socket, deaf to IPv4, which is the rules'.
func TestReserveBoth(t *testing.T) {
	book := port.NewBook()
	request := port.Request{Container: network.MustParsePort("80/tcp")}
	b, err := book.Reserve(request, netip.IPv4Unspecified())
	if err != nil {
		t.Fatal(err)
	}
	defer b.File.Close()
	if again, ok := port.ParseName(b.Name()); !ok || !again.Both || len(again.Hosts()) != 2 || again.Hosts()[0].String() != fmt.Sprintf("0.0.0.0:%d", b.Host.Port()) {
		t.Errorf("got %+v from the name %q", again, b.Name())
	}
	for _, addr := range []string{"127.0.0.1", "::1", "::", "0.0.0.0"} {
		request.Host, request.Start, request.End = netip.MustParseAddr(addr), b.Host.Port(), b.Host.Port()
		var taken *port.TakenError
		if _, err := book.Reserve(request, netip.Addr{}); !errors.As(err, &taken) {
			t.Errorf("%s: got %v, want a TakenError", addr, err)
		}
	}
	c, err := net.Dial("tcp6", netip.AddrPortFrom(netip.IPv6Loopback(), b.Host.Port()).String())
	if err != nil {
		t.Errorf("the relay's socket does not hear IPv6: %v", err)
	} else {
		c.Close()
	}
	c, err = net.DialTimeout("tcp4", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), b.Host.Port()).String(), 200*time.Millisecond)
	if err == nil {
		c.Close()
		t.Error("the relay's socket hears IPv4")
	}
}

// Replicas share a port, others do not; it is free when the last has gone.
func TestReserveShared(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := uint16(l.Addr().(*net.TCPAddr).Port)
	l.Close()
	book := port.NewBook()
	request := port.Request{Container: network.MustParsePort("80/tcp"), Start: free, End: free, Owner: "project/web"}
	var bound []port.Binding
	for range 2 {
		b, err := book.Reserve(request, netip.IPv4Unspecified())
		if err != nil {
			t.Fatal(err)
		}
		bound = append(bound, b)
	}
	var taken *port.TakenError
	for _, owner := range []string{"", "project/other"} {
		request.Owner = owner
		if _, err := book.Reserve(request, netip.IPv4Unspecified()); !errors.As(err, &taken) {
			t.Errorf("owner %q: got %v, want a TakenError", owner, err)
		}
	}
	for i, b := range bound {
		b.File.Close()
		book.Release(bound[i:i+1], "project/web")
		other, err := book.Reserve(request, netip.IPv4Unspecified())
		if isFree := err == nil; isFree != (i == 1) {
			t.Errorf("after %d releases: %v", i+1, err)
		} else if isFree {
			other.File.Close()
			book.Release([]port.Binding{other}, "project/other")
		}
	}
	// A daemon that comes back knows them again.
	b, err := book.Reserve(request, netip.IPv4Unspecified())
	if err != nil {
		t.Fatal(err)
	}
	defer b.File.Close()
	later := port.NewBook()
	if err := later.Adopt(b, "project/other"); err != nil {
		t.Fatal(err)
	}
	second, err := later.Reserve(request, netip.IPv4Unspecified())
	if err != nil {
		t.Fatal(err)
	}
	second.File.Close()
}

// More containers than were tried in one go have ports that nobody asked for.
func TestManyDynamic(t *testing.T) {
	for range 2 { // as after a restart of the daemon
		book := port.NewBook()
		for range 300 {
			b, err := book.Reserve(port.Request{Container: network.MustParsePort("80/udp")}, netip.IPv4Unspecified())
			if err != nil {
				t.Fatal(err)
			}
			defer b.File.Close()
		}
	}
}

// Whoever is in the way is found, whatever the family and the protocol.
func TestHolder(t *testing.T) {
	for _, tc := range []struct{ name, at, host string }{
		{"udp4", "127.0.0.1:0", "0.0.0.0"}, {"udp6", "[::1]:0", "::1"}, {"tcp6", "[::]:0", "127.0.0.1"}, {"tcp6", "[::1]:0", "::"},
	} {
		t.Run(tc.name+" "+tc.at, func(t *testing.T) {
			var addr net.Addr
			if tc.name[:3] == "udp" {
				c, err := net.ListenPacket(tc.name, tc.at)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				addr = c.LocalAddr()
			} else {
				l, err := net.Listen(tc.name, tc.at)
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				addr = l.Addr()
			}
			e := &port.TakenError{Host: netip.AddrPortFrom(netip.MustParseAddr(tc.host), netip.MustParseAddrPort(addr.String()).Port()), Proto: network.IPProtocol(tc.name[:3])}
			if got := port.Holder(e); !strings.Contains(got, fmt.Sprintf("(pid %d)", os.Getpid())) {
				t.Errorf("got %v", got)
			}
		})
	}
}

// SCTP is reserved where the kernel speaks it, and refused with the reason elsewhere.
func TestReserveSCTP(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP)
	speaks := err == nil
	if speaks {
		unix.Close(fd)
	}
	book := port.NewBook()
	b, err := book.Reserve(port.Request{Container: network.MustParsePort("80/sctp"), Start: 18499, End: 18499}, netip.IPv4Unspecified())
	if !speaks {
		if !errdefs.IsNotImplemented(err) || !strings.Contains(err.Error(), "host port 0.0.0.0:18499/sctp cannot be reserved: this kernel does not speak SCTP") {
			t.Errorf("got %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer b.File.Close()
	if !b.Relays() {
		t.Error("SCTP is not to be relayed")
	}
	var taken *port.TakenError
	if _, err := book.Reserve(port.Request{Container: network.MustParsePort("80/sctp"), Start: 18499, End: 18499}, netip.IPv4Unspecified()); !errors.As(err, &taken) {
		t.Errorf("twice: got %v, want a TakenError", err)
	}
}
