//go:build root

package network_test

import (
	"fmt"
	"testing"

	mobynet "github.com/moby/moby/api/types/network"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"muelle/internal/linux/rtnl"
)

// TestHostAsksForNeighboursAtOnce: the bridge's link-local address, which the kernel asks
// for a container's neighbour entry with, waits for no duplicate address detection. Else
// published ports are deaf by IPv6 in the first second of a network.
func TestHostAsksForNeighboursAtOnce(t *testing.T) {
	w := newWorld(t)
	yes := true
	w.network("six", func(r *mobynet.CreateRequest) {
		r.EnableIPv6 = &yes
		r.Options = map[string]string{"com.docker.network.bridge.name": "muetest0"}
	})
	w.start(spec("web", "six"))
	if !rtnl.SysctlIs("ipv6/conf/muetest0/accept_dad", 0) {
		t.Error("the bridge looks for others who have its address")
	}
	link, err := netlink.LinkByName("muetest0")
	must(t, err)
	w.eventually(func() error {
		addrs, err := netlink.AddrList(link, netlink.FAMILY_V6)
		if err != nil {
			return err
		}
		for _, a := range addrs {
			if a.IP.IsLinkLocalUnicast() && a.Flags&unix.IFA_F_TENTATIVE == 0 {
				return nil
			}
		}
		return fmt.Errorf("no link-local address is valid among %v", addrs)
	})
}
