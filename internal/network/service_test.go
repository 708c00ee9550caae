package network_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	mobynet "github.com/moby/moby/api/types/network"

	"muelle/api"
	"muelle/internal/filter"
	"muelle/internal/network"
)

func open(t *testing.T, root string) *network.Service {
	t.Helper()
	s, err := network.Open(context.Background(), network.Options{
		Root: root, Instance: "00000000", ResolvConf: filepath.Join(t.TempDir(), "none"),
		AddressPools: []network.AddressPool{{Base: netip.MustParsePrefix("10.203.0.0/22"), Size: 24}},
		Log:          slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func names(t *testing.T, s *network.Service, f filter.Args) string {
	t.Helper()
	list, err := s.List(context.Background(), f)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, n := range list {
		out = append(out, n.Name)
	}
	return strings.Join(out, " ")
}

func ipam(config ...mobynet.IPAMConfig) *mobynet.IPAM { return &mobynet.IPAM{Config: config} }

func subnet(s string) mobynet.IPAMConfig { return mobynet.IPAMConfig{Subnet: netip.MustParsePrefix(s)} }

func TestCreate(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	yes, no := true, false
	for _, tc := range []struct {
		name string
		in   mobynet.CreateRequest
		want string // subnet and gateway, or the beginning of the error
		is   func(error) bool
	}{
		{"chosen", mobynet.CreateRequest{Name: "a"}, "10.203.1.0/24 10.203.1.1", nil},
		{"chosen next", mobynet.CreateRequest{Name: "b", Driver: "bridge"}, "10.203.2.0/24 10.203.2.1", nil},
		{"asked for", mobynet.CreateRequest{Name: "c", IPAM: ipam(subnet("10.7.0.0/16"))}, "10.7.0.0/16 10.7.0.1", nil},
		{"gateway", mobynet.CreateRequest{Name: "d", IPAM: ipam(mobynet.IPAMConfig{Subnet: netip.MustParsePrefix("10.8.0.0/16"), Gateway: netip.MustParseAddr("10.8.0.9")})}, "10.8.0.0/16 10.8.0.9", nil},
		{"range", mobynet.CreateRequest{Name: "e", IPAM: ipam(mobynet.IPAMConfig{Subnet: netip.MustParsePrefix("10.9.0.0/16"), IPRange: netip.MustParsePrefix("10.9.5.0/24")})}, "10.9.0.0/16 10.9.5.0", nil},
		{"name taken", mobynet.CreateRequest{Name: "a"}, "network with name a already exists", errdefs.IsAlreadyExists},
		{"predefined", mobynet.CreateRequest{Name: "bridge"}, "operation is not permitted on predefined bridge network", errdefs.IsPermissionDenied},
		{"overlap", mobynet.CreateRequest{Name: "x", IPAM: ipam(subnet("10.7.1.0/24"))}, "invalid pool request: Pool overlaps with other one on this address space", errdefs.IsPermissionDenied},
		{"overlap with itself", mobynet.CreateRequest{Name: "x", IPAM: ipam(subnet("10.70.0.0/24"), subnet("10.70.0.0/25"))}, "invalid pool request", errdefs.IsPermissionDenied},
		{"host bits", mobynet.CreateRequest{Name: "x", IPAM: ipam(subnet("10.71.0.1/24"))}, "invalid network config", errdefs.IsInvalidArgument},
		{"loopback", mobynet.CreateRequest{Name: "x", IPAM: ipam(subnet("127.0.0.0/24"))}, "invalid network config:\ninvalid subnet 127.0.0.0/24: no container can have an address of 127.0.0.0/8", errdefs.IsInvalidArgument},
		{"everything", mobynet.CreateRequest{Name: "x", EnableIPv6: &yes, IPAM: ipam(subnet("::/0"))}, "invalid network config:\ninvalid subnet ::/0: no container can have an address of ::/127", errdefs.IsInvalidArgument},
		{"bridge name of a shell", mobynet.CreateRequest{Name: "x", Options: map[string]string{"com.docker.network.bridge.name": "a;b"}}, "failed to parse com.docker.network.bridge.name value: a;b (not an interface name", errdefs.IsInvalidArgument},
		{"gateway outside", mobynet.CreateRequest{Name: "x", IPAM: ipam(mobynet.IPAMConfig{Subnet: netip.MustParsePrefix("10.72.0.0/24"), Gateway: netip.MustParseAddr("10.8.0.9")})}, "invalid network config", errdefs.IsInvalidArgument},
		{"IPv6 subnet without IPv6", mobynet.CreateRequest{Name: "x", IPAM: ipam(subnet("fd00:1::/64"))}, "invalid network config", errdefs.IsInvalidArgument},
		{"without IPv4", mobynet.CreateRequest{Name: "x", EnableIPv4: &no}, "IPv4 or IPv6 must be enabled", errdefs.IsInvalidArgument},
		{"isolated", mobynet.CreateRequest{Name: "x", Options: map[string]string{"com.docker.network.bridge.gateway_mode_ipv4": "isolated"}}, "gateway mode 'isolated' can only be used for an internal network", errdefs.IsInvalidArgument},
		{"gateway mode", mobynet.CreateRequest{Name: "x", Options: map[string]string{"com.docker.network.bridge.gateway_mode_ipv6": "open"}}, "failed to parse com.docker.network.", errdefs.IsInvalidArgument},
		{"long name", mobynet.CreateRequest{Name: strings.Repeat("x", 256)}, "invalid network name: it has 256 characters, and may have 255", errdefs.IsInvalidArgument},
		{"many subnets", mobynet.CreateRequest{Name: "x", IPAM: ipam(make([]mobynet.IPAMConfig, 129)...)}, "invalid network config:\n129 subnets, and there may be 128", errdefs.IsInvalidArgument},
		{"many options", mobynet.CreateRequest{Name: "x", Options: many(1001)}, "invalid network config:\n1001 options and 0 labels, and there may be 1000 of each", errdefs.IsInvalidArgument},
		{"many labels", mobynet.CreateRequest{Name: "x", Labels: many(10000)}, "invalid network config:\n0 options and 10000 labels, and there may be 1000 of each", errdefs.IsInvalidArgument},
		{"overlay", mobynet.CreateRequest{Name: "x", Driver: "overlay"}, "the network driver overlay is not supported", errdefs.IsNotImplemented},
		{"plugin", mobynet.CreateRequest{Name: "x", Driver: "weave"}, `plugin "weave" not found`, errdefs.IsNotFound},
		{"from no configuration", mobynet.CreateRequest{Name: "x", ConfigFrom: &mobynet.ConfigReference{Network: "a"}}, `configuration network "a" does not exist`, errdefs.IsNotFound},
		{"configuration of a configuration", mobynet.CreateRequest{Name: "x", ConfigOnly: true, ConfigFrom: &mobynet.ConfigReference{Network: "a"}}, "a configuration network cannot depend on another", errdefs.IsPermissionDenied},
		{"internal configuration", mobynet.CreateRequest{Name: "x", ConfigOnly: true, Internal: true}, "configuration network can only contain", errdefs.IsPermissionDenied},
		{"configuration and more", mobynet.CreateRequest{Name: "x", ConfigFrom: &mobynet.ConfigReference{Network: "a"}, Options: map[string]string{"a": "b"}}, "network driver options are not supported", errdefs.IsPermissionDenied},
		{"bad name", mobynet.CreateRequest{Name: "a b"}, "invalid network name", errdefs.IsInvalidArgument},
		{"unknown option", mobynet.CreateRequest{Name: "x", Options: map[string]string{"com.docker.network.bridge.nope": "1"}}, "driver option", errdefs.IsNotImplemented},
		{"bad option", mobynet.CreateRequest{Name: "x", Options: map[string]string{"com.docker.network.driver.mtu": "many"}}, "failed to parse com.docker.network.", errdefs.IsInvalidArgument},
		{"IPv6", mobynet.CreateRequest{Name: "f", EnableIPv6: &yes, IPAM: ipam(subnet("10.10.0.0/24"))}, "10.10.0.0/24 10.10.0.1", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			res, err := s.Create(context.Background(), tc.in)
			if tc.is != nil {
				if err == nil || !tc.is(err) || !strings.HasPrefix(err.Error(), tc.want) {
					t.Errorf("got %v, want %q", err, tc.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			n, err := s.Get(res.ID)
			if err != nil {
				t.Fatal(err)
			}
			c := n.IPAM.Config[0]
			if diff := cmp.Diff(tc.want, c.Subnet.String()+" "+c.Gateway.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
	if got := names(t, s, nil); got != "a b bridge c d e f host none" {
		t.Errorf("got %s", got)
	}
	before, _ := s.Get("a")
	if err := s.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	s = open(t, root)
	after, err := s.Get("a")
	if err != nil || after.ID != before.ID || after.IPAM.Config[0].Subnet != before.IPAM.Config[0].Subnet {
		t.Errorf("after a restart: got %+v, %v", after, err)
	}
}

func TestListRemovePrune(t *testing.T) {
	s := open(t, t.TempDir())
	for name, labels := range map[string]map[string]string{"red": {"colour": "red"}, "blue": {"colour": "blue", "keep": ""}, "plain": nil} {
		if _, err := s.Create(context.Background(), mobynet.CreateRequest{Name: name, Labels: labels, IPAM: ipam(subnet(map[string]string{"red": "10.1.0.0/24", "blue": "10.2.0.0/24", "plain": "10.3.0.0/24"}[name]))}); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name string
		f    filter.Args
		want string
	}{
		{"all", nil, "blue bridge host none plain red"},
		{"label", filter.Args{"label": {"colour"}}, "blue red"},
		{"label and value", filter.Args{"label": {"colour=red"}}, "red"},
		{"part of a name", filter.Args{"name": {"l"}}, "blue plain"},
		{"driver", filter.Args{"driver": {"null"}}, "none"},
		{"builtin", filter.Args{"type": {"builtin"}}, "bridge host none"},
		{"dangling", filter.Args{"dangling": {"true"}}, "blue plain red"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, names(t, s, tc.f)); diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, err := s.List(context.Background(), filter.Args{"nonsense": {"1"}}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("got %v", err)
	}
	if err := s.Remove(context.Background(), "bridge"); err == nil || err.Error() != "bridge is a pre-defined network and cannot be removed" {
		t.Errorf("got %v", err)
	}
	if err := s.Remove(context.Background(), "nosuch"); !errdefs.IsNotFound(err) || err.Error() != "network nosuch not found" {
		t.Errorf("got %v", err)
	}
	report, err := s.Prune(context.Background(), filter.Args{"label!": {"keep"}})
	if err != nil || len(report.NetworksDeleted) != 2 {
		t.Errorf("got %v, %v", report, err)
	}
	if err := s.Remove(context.Background(), "blue"); err != nil {
		t.Error(err)
	}
	if got := names(t, s, nil); got != "bridge host none" {
		t.Errorf("got %s", got)
	}
}

func many(n int) map[string]string {
	m := map[string]string{}
	for i := range n {
		m[strconv.Itoa(i)] = ""
	}
	return m
}

// TestRemovedWhileZonesChange: nothing of a network comes back that was removed while
// others changed its zone, or took note that it had changed.
func TestRemovedWhileZonesChange(t *testing.T) {
	root, ctx := t.TempDir(), context.Background()
	s := open(t, root)
	var all []string
	for i := range 60 {
		name := "n" + strconv.Itoa(i)
		if _, err := s.Create(ctx, mobynet.CreateRequest{Name: name, IPAM: ipam(subnet(fmt.Sprintf("10.44.%d.0/24", i)))}); err != nil {
			t.Fatal(err)
		}
		if err := s.SetZone(ctx, name, api.Zone{Between: api.ZoneDeny}); err != nil {
			t.Fatal(err)
		}
		all = append(all, name)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.ZonesFollowed(); err != nil {
			t.Error(err)
		}
	})
	for _, name := range all {
		wg.Go(func() {
			if err := s.SetZone(ctx, name, api.Zone{Between: api.ZoneAllow}); err != nil && !errdefs.IsNotFound(err) {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if err := s.Remove(ctx, name); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := names(t, open(t, root), filter.Args{"type": {"custom"}}); got != "" {
		t.Errorf("after all were removed there are %s", got)
	}
}
