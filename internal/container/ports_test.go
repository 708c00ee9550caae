package container_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	ctypes "github.com/moby/moby/api/types/container"
	mnet "github.com/moby/moby/api/types/network"

	"muelle/internal/container"
)

// TestUpdatePortsOfStopped: what a container that does not run is to publish at its
// next start.
func TestUpdatePortsOfStopped(t *testing.T) {
	http, dns := mnet.MustParsePort("80/tcp"), mnet.MustParsePort("53/udp")
	bind := func(addr, port string) (b mnet.PortBinding) {
		if addr != "" {
			b.HostIP = netip.MustParseAddr(addr)
		}
		b.HostPort = port
		return b
	}
	one := func(p mnet.Port, list ...mnet.PortBinding) mnet.PortMap { return mnet.PortMap{p: list} }
	for _, tt := range []struct {
		name      string
		has       mnet.PortMap
		all       bool
		add, drop mnet.PortMap
		want      mnet.PortMap
		fails     string
	}{
		{name: "add", has: mnet.PortMap{}, add: one(http, bind("", "8080")), want: one(http, bind("", "8080"))},
		{name: "add a second", has: one(http, bind("", "8080")), add: one(http, bind("", "8081")), want: one(http, bind("", "8080"), bind("", "8081"))},
		{name: "add again", has: one(http, bind("", "8080")), add: one(http, bind("", "8080")), fails: "publishes 8080:80/tcp already"},
		{name: "drop by both ports", has: one(http, bind("", "8080"), bind("", "8081")), drop: one(http, bind("", "8080")), want: one(http, bind("", "8081"))},
		{name: "drop all of a port", has: one(http, bind("", "8080"), bind("127.0.0.1", "8081")), drop: one(http, bind("", "")), want: mnet.PortMap{}},
		{name: "drop by address", has: one(http, bind("127.0.0.1", "8080"), bind("127.0.0.2", "8080")), drop: one(http, bind("127.0.0.2", "8080")), want: one(http, bind("127.0.0.1", "8080"))},
		{name: "move", has: one(http, bind("", "8080")), drop: one(http, bind("", "8080")), add: one(dns, bind("", "53")), want: one(dns, bind("", "53"))},
		{name: "drop what is not", has: one(http, bind("", "8080")), drop: one(dns, bind("", "")), fails: "does not publish 53/udp: it publishes 8080:80/tcp"},
		{name: "address and port are told apart", has: one(http, bind("::1", "8080"), bind("127.0.0.1", "8080")), drop: one(dns, bind("", "")), fails: "it publishes 127.0.0.1:8080:80/tcp, [::1]:8080:80/tcp"},
		{name: "drop of nothing", has: mnet.PortMap{}, drop: one(http, bind("", "1")), fails: "does not publish 1:80/tcp: it publishes nothing"},
		{name: "drop one of all", all: true, drop: one(dns, bind("", "")), want: one(http, bind("", ""))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			hc := &ctypes.HostConfig{PortBindings: tt.has, PublishAllPorts: tt.all, NetworkMode: "bridge"}
			cfg := &ctypes.Config{}
			if tt.all {
				cfg.ExposedPorts = mnet.PortSet{http: {}, dns: {}}
			}
			b.create(container.CreateOptions{Name: "web", Config: cfg, HostConfig: hc})
			_, err := b.UpdatePorts(t.Context(), "web", tt.add, tt.drop)
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Fatalf("got %v, want %q", err, tt.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := b.Inspect(t.Context(), "web", false)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got.HostConfig.PortBindings, cmpopts.EquateComparable(netip.Addr{}, mnet.Port{})); d != "" {
				t.Error(d)
			}
			if got.HostConfig.PublishAllPorts {
				t.Error("all ports are still published")
			}
		})
	}
}
