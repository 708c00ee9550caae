// Package bridge is the network driver that connects containers of one network
// by a Linux bridge, and networks to the world by one nftables table: published
// ports are elements of two maps, networks elements of a few sets, so that the
// rules themselves never grow.
package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"

	"muelle/internal/linux/rtnl"
	"muelle/internal/netdriver"
)

// Options of a Driver.
type Options struct {
	Instance string
	// KeepOut: nothing is added to the rules of other firewalls (firewall-cooperation).
	KeepOut bool
	Log     *slog.Logger
}

// Driver implements netdriver.Driver.
type Driver struct {
	instance string
	log      *slog.Logger
	fw       *firewall
	reaper   *reaper
	watch    *watch

	mu      sync.Mutex
	bridges map[string]*state // by network id, those that are up
	// joining are the interfaces that Join made, or that were adopted, until they are gone.
	// With a lock of its own: Up waits with mu held for the reaper, which forgets them.
	joining joining
}

// state of a bridge that is up.
type state struct {
	name  string
	index int
	mtu   int
	rules bridgeRules
	// borrowed: the bridge is the host's own.
	borrowed bool
	// guard: a container sends as itself only.
	guard bool
}

// New makes a driver. Nothing in the kernel changes before Recover, and then only
// where networks are up.
func New(o Options) *Driver {
	d := &Driver{instance: o.Instance, log: o.Log, bridges: map[string]*state{}}
	d.fw = newFirewall(o.Instance, o.Log)
	d.fw.foreign.off = o.KeepOut
	d.reaper = newReaper(o.Log)
	d.watch = newWatch(d.fw, o.Log)
	return d
}

// Up implements netdriver.Driver. A subnet that somebody else's route covers
// gives errdefs.ErrConflict.
func (d *Driver) Up(_ context.Context, n netdriver.Network) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bridges[n.ID] != nil {
		return nil
	}
	o, err := parse(n.Options)
	if err != nil {
		return err
	}
	st := &state{name: n.Interface, mtu: o.effectiveMTU(), borrowed: n.Borrowed, guard: o.guard, rules: bridgeRules{
		name: n.Interface, internal: n.Internal, masquerade: o.masquerade && !n.Internal, icc: between(n, o), zone: zoneOf(n),
		access: o.access, gateways: o.own(n),
	}}
	// A former network's bridge of the same name may still be on its way out; somebody
	// else's interface must not come under our rules, not even for a moment.
	d.reaper.await(n.Interface)
	if !n.Borrowed {
		err = rtnl.CheckBridge(d.linkOf(n, st))
	}
	if err != nil {
		return fmt.Errorf("bring up network %s: %w", n.Name, err)
	}
	if err := d.fw.addBridge(st.rules); err != nil {
		return fmt.Errorf("add rules for network %s: %w", n.Name, err)
	}
	if n.Borrowed {
		st.index, err = borrow(n.Interface)
	} else {
		st.index, err = d.make(n, st)
	}
	if err != nil {
		d.fw.removeBridge(st.rules)
		return fmt.Errorf("bring up network %s: %w", n.Name, err)
	}
	d.bridges[n.ID] = st
	d.watch.start() // before it is looked at: what changes afterwards is heard of
	d.fw.inspect()
	return nil
}

// borrow takes a bridge of the host's into use as it is. Translating 127.0.0.1:PORT
// needs route_localnet there too; giveBack ends that.
func borrow(name string) (index int, err error) {
	if index, err = rtnl.BridgeIndex(name); err != nil {
		return 0, err
	}
	return index, rtnl.Sysctl("ipv4/conf/"+name+"/route_localnet", "1")
}

func giveBack(name string) error {
	if !rtnl.Exists(name) {
		return nil
	}
	return rtnl.Sysctl("ipv4/conf/"+name+"/route_localnet", "0")
}

// linkOf describes the bridge of a network.
func (d *Driver) linkOf(n netdriver.Network, st *state) rtnl.Bridge {
	b := rtnl.Bridge{Name: n.Interface, Alias: d.owner() + n.Name, Reserved: d.isReserved(n.Interface), MTU: st.mtu}
	for _, s := range n.Subnets {
		b.IPv6 = b.IPv6 || s.Prefix.Addr().Is6()
		if slices.Contains(st.rules.gateways, s.Gateway) {
			b.Addresses = append(b.Addresses, netip.PrefixFrom(s.Gateway, s.Prefix.Bits()))
		}
	}
	return b
}

// isReserved tells of names that this instance makes of its id.
func (d *Driver) isReserved(name string) bool { return strings.HasPrefix(name, "mueb"+d.tag()) }

// isBridge tells whether an interface is a bridge of this instance, one included that a
// daemon was killed over before it could mark it.
func (d *Driver) isBridge(l rtnl.Link) bool {
	return l.Kind == "bridge" && (strings.HasPrefix(l.Alias, d.owner()) || l.Alias == "" && d.isReserved(l.Name))
}

func (d *Driver) make(n netdriver.Network, st *state) (index int, err error) {
	b := d.linkOf(n, st)
	// One that a former daemon left has containers: whatever routes have come since, they stay.
	left := rtnl.Exists(n.Interface)
	if index, err = rtnl.AddBridge(b); err != nil {
		return 0, err
	}
	defer func() {
		if err != nil && !left {
			err = errors.Join(err, rtnl.Delete(n.Interface))
		}
	}()
	if err := sysctls(n.Interface, b.IPv6, st.guard); err != nil {
		return 0, err
	}
	if err := rtnl.Up(n.Interface); err != nil {
		return 0, err
	}
	if left {
		return index, nil
	}
	return index, d.checkRoutes(n)
}

// sysctls: the bridge ignores router advertisements of containers
// (CVE-2020-13401). route_localnet lets 127.0.0.1:PORT of this host be translated;
// that it opens 127.0.0.0/8 to the containers (CVE-2020-8558) is undone by the
// firewall's first chain, which was there before the bridge.
func sysctls(name string, ipv6, guard bool) error {
	path := "0"
	if guard {
		path = "1"
	}
	err := errors.Join(
		rtnl.Sysctl("ipv4/conf/"+name+"/route_localnet", "1"),
		rtnl.Sysctl("ipv4/conf/"+name+"/rp_filter", path),
		rtnl.Sysctl("ipv4/conf/"+name+"/accept_source_route", "0"),
		rtnl.Sysctl("ipv4/conf/"+name+"/accept_redirects", "0"))
	// An interface with an MTU below 1280 has no IPv6.
	if !rtnl.HasIPv6On(name) {
		if ipv6 {
			return errors.Join(err, errdefs.ErrInvalidArgument.WithMessage("IPv6 needs a kernel that speaks it and an MTU of 1280 or more"))
		}
		return err
	}
	disable := "1"
	if ipv6 {
		disable = "0"
		// Nobody on the bridge can have its link-local address, which this host needs to ask
		// for a container's neighbour entry: not in a second, but with the first packet.
		err = errors.Join(err, rtnl.Sysctl("ipv6/conf/"+name+"/accept_dad", "0"))
	}
	return errors.Join(err,
		rtnl.Sysctl("ipv6/conf/"+name+"/disable_ipv6", disable),
		rtnl.Sysctl("ipv6/conf/"+name+"/accept_redirects", "0"),
		rtnl.Sysctl("ipv6/conf/"+name+"/accept_ra", "0"))
}

// checkRoutes looks again once the bridge exists: another daemon may have chosen
// the same subnet at the same time.
func (d *Driver) checkRoutes(n netdriver.Network) error {
	routes, err := rtnl.Routes()
	if err != nil {
		return err
	}
	for _, r := range routes {
		for _, s := range n.Subnets {
			// A host route to a single address inside is how VPNs and the like work, not a clash.
			if r.Interface != n.Interface && r.Prefix.Overlaps(s.Prefix) && !r.Prefix.IsSingleIP() && !d.ours(r.Interface) {
				return errdefs.ErrConflict.WithMessage(fmt.Sprintf("subnet %s overlaps with the host's route to %s on %s", s.Prefix, r.Prefix, r.Interface))
			}
		}
	}
	return nil
}

// Ours tells whether an interface on the host belongs to this instance.
func (d *Driver) Ours(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ours(name)
}

func (d *Driver) ours(name string) bool {
	if name == d.defaultName() || d.isReserved(name) || strings.HasPrefix(name, d.vethPrefix()) {
		return true
	}
	for _, st := range d.bridges {
		if st.name == name {
			return true
		}
	}
	return d.reaper.pending(name)
}

// Down implements netdriver.Driver.
func (d *Driver) Down(_ context.Context, n netdriver.Network) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	st := d.bridges[n.ID]
	if st == nil {
		return nil
	}
	if st.borrowed {
		delete(d.bridges, n.ID)
		d.fw.removeBridge(st.rules)
		return giveBack(st.name)
	}
	if err := rtnl.DropAddresses(n.Interface); err != nil {
		return fmt.Errorf("take down network %s: %w", n.Name, err)
	}
	delete(d.bridges, n.ID)
	d.fw.forgetBridge(n.Interface)
	d.reaper.add(n.Interface, func() { d.fw.removeBridge(st.rules) })
	return nil
}

// Publish implements netdriver.Driver.
func (d *Driver) Publish(_ context.Context, ports []netdriver.Mapping) error {
	if err := d.fw.publish(ports); err != nil {
		return fmt.Errorf("publish ports: %w", err)
	}
	return nil
}

// Hairpin lets a container reach itself through a published port. Join does so for
// endpoints that publish; this is for those that begin to later.
func (d *Driver) Hairpin(e netdriver.Endpoint) error {
	if err := rtnl.Hairpin(d.veth(e)); err != nil {
		return fmt.Errorf("publish ports: %w", err)
	}
	return nil
}

// Unpublish implements netdriver.Driver.
func (d *Driver) Unpublish(ports []netdriver.Mapping) { d.fw.unpublish(ports) }

// Withdraw is Unpublish for a container that goes on: when it returns the ports lead
// nowhere any more, and the connections through them have ended.
func (d *Driver) Withdraw(ports []netdriver.Mapping) {
	d.fw.unpublish(ports)
	d.fw.bury()
	cutFlows(ports)
}

// Cut ends the connections through ports to their targets.
func (d *Driver) Cut(ports []netdriver.Mapping) { cutFlows(ports) }

// Recover ends the time after a start in which Up and Publish only take note of
// what a former daemon left running: the rules are replaced in one transaction, and
// what nobody took note of is removed. An interface of no endpoint on a bridge of ours
// is one that a daemon plugged in and was killed before it could tell: its address may
// be given to another.
func (d *Driver) Recover(_ context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	links, err := rtnl.Links("")
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, st := range d.bridges {
		known[st.name] = true
	}
	// Ports of somebody else's bridges are spared: names of interfaces have room for a
	// part of the instance only.
	ours := map[int]bool{0: true}
	for _, l := range links {
		ours[l.Index] = known[l.Name] || d.isBridge(l)
	}
	var errs []error
	for _, l := range links {
		leftover := d.isBridge(l) && !known[l.Name] ||
			l.Kind == "veth" && d.isVeth(l.Name) && ours[l.Master] && !d.joining.has(l.Name)
		if leftover {
			errs = append(errs, rtnl.Delete(l.Name))
		}
	}
	return errors.Join(append(errs, d.fw.recover())...)
}

// Close ends background work. If idle is set nothing of the driver is in use:
// bridges, rules and sysctls go too.
func (d *Driver) Close(idle bool) error {
	d.watch.close()
	d.reaper.close()
	d.fw.settle()
	d.fw.spoof.close()
	if !idle {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for id, st := range d.bridges {
		if st.borrowed {
			errs = append(errs, giveBack(st.name))
		} else {
			errs = append(errs, rtnl.Delete(st.name))
		}
		delete(d.bridges, id)
	}
	errs = append(errs, d.fw.remove())
	d.fw.settle()
	return errors.Join(errs...)
}

// Warnings tells what others' firewalls do to the traffic of the bridges.
func (d *Driver) Warnings() []string { return d.fw.warnings() }
