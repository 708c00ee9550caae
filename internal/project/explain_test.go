package project

import "testing"

func TestParseTarget(t *testing.T) {
	for _, tc := range []struct {
		text, ref string
		port      uint16
		proto     string // empty: an error
	}{
		{"app", "app", 0, "tcp"}, {"app:53", "app", 53, "tcp"}, {"app:53/udp", "app", 53, "udp"}, {"zones/app:80/sctp", "zones/app", 80, "sctp"},
		{"2001:db8::1", "2001:db8::1", 0, "tcp"}, {"[2001:db8::1]:80/sctp", "2001:db8::1", 80, "sctp"},
		{"app:0", "", 0, ""}, {"app:70000", "", 0, ""}, {":80", "", 0, ""},
	} {
		ref, port, proto, err := parseTarget(tc.text)
		if ref != tc.ref || port != tc.port || (err == nil) != (tc.proto != "") || err == nil && proto != tc.proto {
			t.Errorf("%s: %q %d %q %v", tc.text, ref, port, proto, err)
		}
	}
}
