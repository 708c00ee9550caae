package address_test

import (
	"net/netip"
	"testing"

	"muelle/internal/network/address"
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestChoose(t *testing.T) {
	small := []address.Pool{{Base: netip.MustParsePrefix("10.0.0.0/23"), Size: 24}}
	for _, tc := range []struct {
		name  string
		pools []address.Pool
		taken []netip.Prefix
		want  string
	}{
		{"first", address.DefaultPools(), nil, "172.17.0.0/16"},
		{"route inside", address.DefaultPools(), prefixes("172.17.5.0/24"), "172.18.0.0/16"},
		{"route around", address.DefaultPools(), prefixes("172.16.0.0/12"), "192.168.0.0/20"},
		{"Docker's used up", address.DefaultPools(), prefixes("172.16.0.0/12", "192.168.0.0/16", "10.128.0.0/24"), "10.128.1.0/24"},
		{"part of the last pool", address.DefaultPools(), prefixes("172.16.0.0/12", "192.168.1.0/24"), "192.168.16.0/20"},
		{"second", small, prefixes("10.0.0.0/24"), "10.0.1.0/24"},
		{"none", small, prefixes("10.0.0.0/8"), ""},
		{"end of the address space", []address.Pool{{Base: netip.MustParsePrefix("255.255.255.0/24"), Size: 25}}, prefixes("255.255.255.0/24"), ""},
		{"IPv6", []address.Pool{{Base: netip.MustParsePrefix("fd00::/48"), Size: 64}}, prefixes("fd00::/64"), "fd00:0:0:1::/64"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := address.Choose(tc.pools, tc.taken)
			if tc.want == "" {
				if err == nil {
					t.Fatalf("got %s, want an error", got)
				}
				return
			}
			if err != nil || got.String() != tc.want {
				t.Fatalf("got %s, %v, want %s", got, err, tc.want)
			}
		})
	}
}

func TestSubnet(t *testing.T) {
	s, err := address.NewSubnet(netip.MustParsePrefix("10.1.0.0/29"), netip.Prefix{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Take(netip.MustParseAddr("10.1.0.1")); err != nil {
		t.Fatal(err)
	}
	if err := s.Take(netip.MustParseAddr("10.1.0.4")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"10.1.0.2", "10.1.0.3", "10.1.0.5", "10.1.0.6"} {
		if got, err := s.Next(); err != nil || got.String() != want {
			t.Fatalf("got %s, %v, want %s", got, err, want)
		}
	}
	if got, err := s.Next(); err == nil {
		t.Fatalf("got %s from a full subnet", got)
	}
	s.Free(netip.MustParseAddr("10.1.0.3"))
	if got, err := s.Next(); err != nil || got.String() != "10.1.0.3" {
		t.Fatalf("got %s, %v, want the freed address", got, err)
	}
	for _, taken := range []string{"10.1.0.3", "10.1.0.0", "10.1.0.7", "10.2.0.1"} {
		if s.Take(netip.MustParseAddr(taken)) == nil {
			t.Errorf("%s could be taken", taken)
		}
	}
}

func TestRange(t *testing.T) {
	s, err := address.NewSubnet(netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("10.1.5.0/30"))
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := s.Next(); got.String() != "10.1.5.0" {
		t.Errorf("got %s, want the first of the range", got)
	}
	if used, free := s.Usage(); used != 3 || free != 3 {
		t.Errorf("got %d used, %d free", used, free)
	}
	if _, err := address.NewSubnet(netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("10.0.0.0/8")); err == nil {
		t.Error("a range around the subnet was accepted")
	}
}
