package exposure

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const title = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		name, line string
		want       []string
		fails      bool
	}{
		{"listening", "0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4711 1", []string{"127.0.0.1:8080 4711"}, false},
		{"all of IPv6", "0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 12 1", []string{"[::]:80 12"}, false},
		{"loopback of IPv6", "0: 00000000000000000000000001000000:0050 0:0 0A 0:0 0:0 0 0 0 12 1", []string{"[::1]:80 12"}, false},
		{"connected", "0: 0100007F:1F90 0100007F:9C40 01 0:0 0:0 0 0 0 4711 1", nil, false},
		{"short", "0: 0100007F:1F90", nil, true},
		{"no address", "0: 01:1F90 0:0 0A 0:0 0:0 0 0 0 4711 1", nil, true},
		{"no port", "0: 0100007F 0:0 0A 0:0 0:0 0 0 0 4711 1", nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			list, err := parse(strings.NewReader(title+tt.line+"\n"), stateListen)
			var got []string
			for _, s := range list {
				got = append(got, s.at.String()+" "+s.inode)
			}
			if d := cmp.Diff(tt.want, got); d != "" || (err != nil) != tt.fails {
				t.Errorf("%v: %s", err, d)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(title + "0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4711 1\n")
	f.Fuzz(func(_ *testing.T, s string) { _, _ = parse(strings.NewReader(s), stateListen) })
}

func TestPublic(t *testing.T) {
	for a, want := range map[string]bool{
		"8.8.8.8": true, "10.0.0.1": false, "192.168.1.1": false, "100.64.0.1": false, "169.254.1.1": false, "127.0.0.1": false, "192.0.2.1": false,
		"2a02::1": true, "fd00::1": false, "fe80::1": false, "::1": false, "2001:db8::1": false,
	} {
		if got := public(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s: %v", a, got)
		}
	}
}
