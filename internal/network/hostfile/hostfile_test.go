package hostfile_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muelle/internal/network/hostfile"
)

func TestHosts(t *testing.T) {
	got := string(hostfile.Hosts([]hostfile.Host{
		{Addr: netip.MustParseAddr("10.0.0.1"), Names: []string{"db"}},
		{Addr: netip.MustParseAddr("172.18.0.2"), Names: []string{"web.example.org", "web"}},
	}))
	want := "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\n" +
		"ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n10.0.0.1\tdb\n172.18.0.2\tweb.example.org web\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestExtra(t *testing.T) {
	gateway := netip.MustParseAddr("172.17.0.1")
	for _, tc := range []struct{ name, in, want string }{
		{"colon", "db:10.0.0.1", "10.0.0.1 db"},
		{"equals", "db=10.0.0.1", "10.0.0.1 db"},
		{"IPv6", "db:fd00::1", "fd00::1 db"},
		{"IPv6 in brackets", "db:[fd00::1]", "fd00::1 db"},
		{"gateway", "host.docker.internal:host-gateway", "172.17.0.1 host.docker.internal"},
		{"no address", "db", ""},
		{"no name", ":10.0.0.1", ""},
		{"not an address", "db:example", ""},
		{"two lines", "a\nb:10.0.0.1", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			list, err := hostfile.Extra(tc.in, gateway)
			got := ""
			for _, h := range list {
				got += h.Addr.String() + " " + h.Names[0]
			}
			if got != tc.want {
				t.Errorf("got %q, %v, want %q", got, err, tc.want)
			}
		})
	}
}

func TestResolv(t *testing.T) {
	host := hostfile.ParseResolv([]byte("# comment\nnameserver 127.0.0.53\nnameserver 192.0.2.1 ; more\nsearch a.example b.example\noptions edns0 trust-ad\nnameserver rubbish\n"))
	for _, tc := range []struct{ name, got, want string }{
		{"resolver", string(host.ForResolver().Bytes()), "nameserver 127.0.0.11\nsearch a.example b.example\noptions edns0 trust-ad ndots:0\n"},
		{"copy", string(host.ForCopy().Bytes()), "nameserver 192.0.2.1\nsearch a.example b.example\noptions edns0 trust-ad\n"},
		{"nothing left to copy", string(hostfile.Resolv{}.ForCopy().Bytes()), "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"},
		{"own ndots", string(host.Override(nil, []string{"."}, []string{"ndots:3"}).ForResolver().Bytes()), "nameserver 127.0.0.11\noptions ndots:3\n"},
		{"own server", string(host.Override([]netip.Addr{netip.MustParseAddr("9.9.9.9")}, nil, nil).ForCopy().Bytes("from the container's settings")), "nameserver 9.9.9.9\nsearch a.example b.example\noptions edns0 trust-ad\n# from the container's settings\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, tc.got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func FuzzParseResolv(f *testing.F) {
	f.Add([]byte("nameserver 1.1.1.1\noptions ndots:2\nsearch x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := hostfile.ParseResolv(data)
		again := hostfile.ParseResolv(r.Bytes())
		if diff := cmp.Diff(len(r.Servers), len(again.Servers)); diff != "" {
			t.Error(diff)
		}
	})
}
