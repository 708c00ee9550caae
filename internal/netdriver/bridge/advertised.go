package bridge

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"

	"muelle/internal/linux/nft"
	"muelle/internal/linux/rtnl"
)

// A host that forwards IPv6 believes routers' advertisements only where accept_ra is
// 2 (Documentation/networking/ip-sysctl.rst): many hosts have their address and default
// route from those. Interfaces with 1 get 2 for as long as we have forwarding on. Their
// names are the elements of a set in our table, for who puts them back; no interface
// can have the name default, which stands for those to come.

const advertisedSet = "advertised"

func newAdvertisedSet(t *nftables.Table) *nftables.Set {
	return &nftables.Set{Table: t, Name: advertisedSet, KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian}
}

func (t *table) writeAdvertised(c *nftables.Conn, names map[string]bool) error {
	var elements []nftables.SetElement
	for _, name := range slices.Sorted(maps.Keys(names)) {
		elements = append(elements, nftables.SetElement{Key: nft.Name(name)})
	}
	return c.AddSet(newAdvertisedSet(t.table), elements)
}

// believes is the sysctl by which an interface believes routers.
func believes(name string) string { return "ipv6/conf/" + name + "/accept_ra" }

// noteAdvertised finds the interfaces that must go on to believe routers: those that
// do, and those that other instances, or a former daemon, changed.
func (f *firewall) noteAdvertised(all tables) error {
	f.advertised = map[string]bool{}
	entries, err := os.ReadDir("/proc/sys/net/ipv6/conf")
	if err != nil {
		return fmt.Errorf("list interfaces that speak IPv6: %w", err)
	}
	for _, e := range entries {
		name := e.Name()
		if name != "all" && name != "lo" && !strings.HasPrefix(name, "mue") && rtnl.SysctlIs(believes(name), 1) {
			f.advertised[name] = true
		}
	}
	return f.recallAdvertised(all)
}

// recallAdvertised adds what the tables of all instances say.
func (f *firewall) recallAdvertised(all tables) error {
	c, err := nft.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	for name := range all {
		if !all.guard(name, 1) {
			continue
		}
		list, err := nft.SetElements(c, newAdvertisedSet(&nftables.Table{Name: name, Family: nftables.TableFamilyINet}))
		if err != nil && !changedByOthers(err) {
			return fmt.Errorf("list %s of %s: %w", advertisedSet, name, err)
		}
		for _, e := range list {
			if f.advertised == nil {
				f.advertised = map[string]bool{}
			}
			f.advertised[strings.TrimRight(string(e.Key), "\x00")] = true
		}
	}
	return nil
}

func (f *firewall) keepAdvertised() error { return f.setAdvertised(1, 2) }

// forbid6 puts back what was before we switched forwarding of IPv6 on.
func (f *firewall) forbid6() error {
	forced := forced6()
	err := rtnl.Sysctl(forwardSysctls[1], "0")
	// The kernel took these back with it (since 6.17).
	for _, name := range forced {
		err = errors.Join(err, rtnl.Sysctl("ipv6/conf/"+name+"/force_forwarding", "1"))
	}
	if err = errors.Join(err, f.setAdvertised(2, 1)); err != nil {
		return fmt.Errorf("put back forwarding: %w", err)
	}
	f.advertised = nil
	return nil
}

// setAdvertised changes the noted interfaces that have the value from. One that is
// gone meanwhile needs nothing.
func (f *firewall) setAdvertised(from, to int) error {
	var errs []error
	for name := range f.advertised {
		if !rtnl.SysctlIs(believes(name), from) {
			continue
		}
		if err := rtnl.Sysctl(believes(name), fmt.Sprint(to)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// forced6 are the interfaces whose owner lets them forward IPv6 whether or not the host does.
func forced6() (list []string) {
	entries, err := os.ReadDir("/proc/sys/net/ipv6/conf")
	if err != nil {
		return nil // no IPv6
	}
	for _, e := range entries {
		if rtnl.SysctlIs("ipv6/conf/"+e.Name()+"/force_forwarding", 1) {
			list = append(list, e.Name())
		}
	}
	return list
}
