package dissect_test

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"muelle/internal/cli/dissect"
)

// Frames as Linux made them: an ARP question, the first packet of a connection, a ping, a
// lookup.
const (
	askARP = "ffffffffffff0242ac120003 0806 0001 0800 06 04 0001 0242ac120003 ac120003 000000000000 ac120002"
	syn    = "0242ac1200020242ac120003 0800 4500003c00004000400600 00 ac120003 ac120002 a192 0050 b28da5be 00000000 a002 ff00 0000 0000 020405b40402080a0000000000000000 01030307"
	ping   = "0242ac1200020242ac120003 0800 45000054000040004001 0000 ac120003 ac120002 0800 0000 0003 0001 0000"
	ask    = "0242ac1200020242ac120003 0800 450000320000400040110000 ac120003 ac120002 8000 0035 001e 0000 1234 0100 0001 0000 0000 0000 02646202696f00 0001 0001"
	six    = "333300000001 0242ac120003 86dd 60000000 0008 3a ff fd000000000000000000000000000001 ff020000000000000000000000000001 8000 0000 0007 0002"
)

func frame(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func names(a netip.Addr) string {
	return map[string]string{"172.18.0.2": "web", "fd00::1": "six"}[a.String()]
}

func TestLine(t *testing.T) {
	for _, tc := range []struct{ frame, want string }{
		{askARP, "ARP, who has web, tell 172.18.0.3"},
		{syn, "IP 172.18.0.3.41362 > web.80: Flags [S], seq 2995627454, win 65280, length 0"},
		{ping, "IP 172.18.0.3 > web: ICMP echo request, id 3, seq 1, length 64"},
		{ask, "IP 172.18.0.3.32768 > web.53: DNS 4660 A? db.io."},
		{strings.Replace(ask, "02646202696f00", "041b5b324a020d0a00", 1), `IP 172.18.0.3.32768 > web.53: DNS 4660 A? \027[2J.\013\010.`},
		{six, "IP6 six > ff02::1: ICMP6 echo request, id 7, seq 2, length 8"},
		{"0242ac1200020242ac120003 88cc 00", "02:42:ac:12:00:03 > 02:42:ac:12:00:02: ethertype 0x88cc, length 15"},
		{"0242", "a frame of 2 bytes"},
	} {
		b := frame(t, tc.frame)
		if got := dissect.Line(b, len(b), names); got != tc.want {
			t.Errorf("got  %s\nwant %s", got, tc.want)
		}
	}
}

// FuzzLine: no frame makes it panic, or print what a terminal obeys.
func FuzzLine(f *testing.F) {
	for _, s := range []string{askARP, syn, ping, ask, six} {
		f.Add(frame(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, c := range dissect.Line(b, len(b), names) {
			if c < ' ' || c == 0x7f {
				t.Fatalf("%q", dissect.Line(b, len(b), names))
			}
		}
	})
}
