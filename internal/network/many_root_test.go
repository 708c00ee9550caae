//go:build root

package network_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
	mobynet "github.com/moby/moby/api/types/network"

	"muelle/internal/linux/netns"
	"muelle/internal/network"
)

// Fifty containers come and go by eight hands, each with a port, on two networks.
func TestManyAtOnce(t *testing.T) {
	w := newWorld(t)
	w.network("front")
	names := make(chan string)
	seen := struct {
		sync.Mutex
		addrs map[netip.Addr]string
	}{addrs: map[netip.Addr]string{}}
	var wg sync.WaitGroup
	errs := make(chan error, 50)
	for range 8 {
		wg.Go(func() {
			for name := range names {
				s := published(spec(name, "front", "bridge"), "->80/tcp")
				sb, err := w.Prepare(context.Background(), s)
				if err != nil {
					errs <- err
					continue
				}
				seen.Lock()
				for net, e := range sb.Endpoints {
					if other := seen.addrs[e.IPAddress]; other != "" {
						errs <- fmt.Errorf("%s and %s both have %s on %s", name, other, e.IPAddress, net)
					}
					seen.addrs[e.IPAddress] = name
				}
				seen.Unlock()
				w.mu.Lock()
				w.shims[sb.ID] = sb
				w.mu.Unlock()
			}
		})
	}
	for i := range 50 {
		names <- fmt.Sprint("c", i)
	}
	close(names)
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	var one *network.Sandbox
	for _, one = range w.shims {
		break
	}
	if got := resolve(t, one.NetNS, "udp", "c49", dns.TypeA); !strings.HasPrefix(got, "172.18.") {
		t.Errorf("got %q for the last one's name", got)
	}
	ids := make(chan string)
	for range 8 {
		wg.Go(func() {
			for id := range ids {
				if err := w.Release(context.Background(), id); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for id, sb := range w.shims {
		must(t, sb.Close())
		ids <- id
	}
	close(ids)
	wg.Wait()
	clear(w.shims)
}

// A container that is started again gets the address that it asked for at once.
func TestStaticAddress(t *testing.T) {
	w := newWorld(t)
	w.network("fixed", func(r *mobynet.CreateRequest) {
		r.IPAM = &mobynet.IPAM{Config: []mobynet.IPAMConfig{{Subnet: netip.MustParsePrefix("10.9.0.0/29")}}}
	})
	w.network("chosen")
	at := func(name, net, addr string) network.SandboxSpec {
		s := spec(name, net)
		s.Endpoints[0].Settings = &mobynet.EndpointSettings{
			IPAMConfig: &mobynet.EndpointIPAMConfig{IPv4Address: netip.MustParseAddr(addr)},
			MacAddress: mobynet.HardwareAddr{2, 0, 0, 0, 0, 7},
		}
		return s
	}
	for range 3 {
		sb := w.start(at("c", "fixed", "10.9.0.5"))
		if e := sb.Endpoints["fixed"]; e.IPAddress.String() != "10.9.0.5" || e.MacAddress.String() != "02:00:00:00:00:07" {
			t.Errorf("got %+v", e)
		}
		w.stop(sb.ID)
	}
	// More than there are addresses, one after the other.
	for i := range 12 {
		w.stop(w.start(spec(fmt.Sprint("d", i), "fixed")).ID)
	}
	w.start(at("c", "fixed", "10.9.0.5"))
	for _, tc := range []struct{ name, net, addr, want string }{
		{"taken", "fixed", "10.9.0.5", "Address already in use"},
		{"gateway", "fixed", "10.9.0.1", "Address already in use"},
		{"outside", "fixed", "10.8.0.5", "It does not belong to any of this network's subnets"},
		{"no own subnet", "chosen", "172.18.0.9", "user specified IP address is supported only when connecting to networks with user configured subnets"},
		{"predefined", "bridge", "172.17.0.9", "user specified IP address is supported on user defined networks only"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := w.Prepare(context.Background(), at("x", tc.net, tc.addr)); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestIPv6Network(t *testing.T) {
	w := newWorld(t)
	yes := true
	w.network("six", func(r *mobynet.CreateRequest) { r.EnableIPv6 = &yes })
	a, b := w.start(spec("a", "six")), w.start(spec("b", "six"))
	addr := a.Endpoints["six"].GlobalIPv6Address
	if got := resolve(t, b.NetNS, "udp", "a", dns.TypeAAAA); got != addr.String() {
		t.Errorf("got %q, want %s", got, addr)
	}
	must(t, netns.Do(a.NetNS, func() error { return w.listen6(addr) }))
	w.reaches(b.NetNS, "tcp6", netip.AddrPortFrom(addr, 80).String(), "six")
	w.reaches(nil, "tcp6", netip.AddrPortFrom(addr, 80).String(), "six")
}

func TestHostAndNone(t *testing.T) {
	w := newWorld(t)
	host := w.start(published(spec("h", "host"), "8080->80/tcp"))
	if host.NetNS != nil || len(host.Held) > 0 || host.Endpoints["host"] == nil {
		t.Errorf("got %+v", host)
	}
	none := w.start(spec("n", "none"))
	if none.NetNS == nil || len(none.Held) > 0 {
		t.Errorf("got %+v", none)
	}
	in, err := w.Inspect(context.Background(), "none", false)
	must(t, err)
	if in.Containers[none.ID].Name != "n" {
		t.Errorf("got %+v", in.Containers)
	}
	must(t, netns.Do(none.NetNS, func() error {
		data, err := os.ReadFile("/proc/thread-self/net/dev")
		if err == nil && strings.Contains(string(data), "eth0") {
			err = errors.New("a container without network has an interface")
		}
		return err
	}))
	_, err = w.Prepare(context.Background(), spec("x", "host", "bridge"))
	if err == nil {
		t.Error("host and bridge together worked")
	}
}
