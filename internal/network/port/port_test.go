package port_test

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/moby/moby/api/types/network"

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
		{"other address of IPv6", "80/tcp", "fd00::1", "8080", 0, 0, true},
		{"backwards", "80/tcp", "", "9-8", 0, 0, true},
		{"too large", "80/tcp", "", "65536", 0, 0, true},
		{"words", "80/tcp", "", "http", 0, 0, true},
		{"SCTP", "80/sctp", "", "80", 0, 0, true},
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
	if got := port.Holder(want); got == "" {
		t.Error("the holder is not named")
	}
	request.Start, request.End = 0, 0
	first, err := book.Reserve(request, netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close(first)
	if p := first[0].Host.Port(); p < 32768 || p > 60999 {
		t.Errorf("got the port %d", p)
	}
	if _, err := net.Listen("tcp4", first[0].Host.String()); err == nil {
		t.Error("a reserved port could be listened on")
	}
	again, ok := port.ParseName(first[0].Name())
	if !ok || again.Host != first[0].Host || again.Container != first[0].Container {
		t.Errorf("got %+v from the name %q", again, first[0].Name())
	}
}
