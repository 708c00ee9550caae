//go:build root

package rtnl_test

import (
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"muelle/internal/linux/rtnl"
)

// TestAddresses: they are those that package net tells, which asks for all of them for each
// interface, also where the other end has one of its own.
func TestAddresses(t *testing.T) {
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(`link set lo up
link add one type veth peer name other
link set one up
addr add 192.0.2.1/24 dev one
addr add 198.51.100.1 peer 198.51.100.2/25 dev one
addr add 203.0.113.1/32 dev one
addr add fd00:7::1/64 dev one nodad
addr add fd00:8::1 peer fd00:8::2/48 dev one nodad
`)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", "one").Run() })
	got, err := rtnl.Addresses()
	if err != nil {
		t.Fatal(err)
	}
	list, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range list {
		addrs, err := i.Addrs()
		if err != nil {
			t.Fatal(err)
		}
		var want []netip.Prefix
		for _, a := range addrs {
			want = append(want, netip.MustParsePrefix(a.String()))
		}
		if !slices.Equal(got[i.Index], want) {
			t.Errorf("%s: %v, want %v", i.Name, got[i.Index], want)
		}
		if i.Name == "one" && len(want) < 5 {
			t.Errorf("one has %v", want)
		}
	}
}
