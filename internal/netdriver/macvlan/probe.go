package macvlan

import (
	"errors"
	"fmt"
	"os"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"muelle/internal/linux/netns"
	"muelle/internal/linux/rtnl"
	"muelle/internal/netdriver"
)

// Kinds of the parents that are made for a network.
const (
	kindDummy = "dummy"
	kindVLAN  = "vlan"
)

// needs are the kernel's option and module of each kind of interface.
var needs = map[string]struct{ option, module string }{
	Macvlan: {"CONFIG_MACVLAN", "macvlan"}, IPVlan: {"CONFIG_IPVLAN", "ipvlan"},
	kindDummy: {"CONFIG_DUMMY", "dummy"}, kindVLAN: {"CONFIG_VLAN_8021Q", "8021q"},
}

// Probe makes what a network's first container would need of the kernel, in a network
// namespace that nobody else sees, and removes it: the parent, where it is to be made, and
// an interface on it, which is never switched on. errdefs.ErrNotImplemented: the kernel
// lacks one of them; errdefs.ErrPermissionDenied: the parent carries something else.
func (d *Driver) Probe(n netdriver.Network) error {
	o, err := d.parse(n.Options)
	if err != nil {
		return err
	}
	ns, err := netns.New(func() error { return nil })
	if err != nil {
		return err
	}
	defer ns.Close()
	const name = "mueprobe"
	if rtnl.Exists(n.Interface) {
		if err := d.add(o, rtnl.Sub{Name: name, Parent: n.Interface, NetNS: ns}); err != nil {
			return d.refused(err, d.kind, o, n.Interface)
		}
		// Here, not with the namespace: its end is not waited for, and the parent is somebody's.
		return netns.Do(ns, func() error { return rtnl.Delete(name) })
	}
	if err := d.makeParent(n, ns); err != nil {
		return err
	}
	return netns.Do(ns, func() error {
		err := d.add(o, rtnl.Sub{Name: name, Parent: n.Interface, NetNS: ns})
		return errors.Join(d.refused(err, d.kind, o, n.Interface), rtnl.Delete(n.Interface))
	})
}

// makeParent makes in the namespace what Up would make.
func (d *Driver) makeParent(n netdriver.Network, ns *os.File) error {
	if master, id, ok := vlan(n.Interface); ok {
		return d.refused(rtnl.AddVLANIn(ns, n.Interface, master, id), kindVLAN, options{}, n.Interface)
	}
	return netns.Do(ns, func() error {
		return d.refused(rtnl.AddDummy(n.Interface, d.owner+n.Name), kindDummy, options{}, n.Interface)
	})
}

// refused words what the kernel says to an interface of a kind.
func (d *Driver) refused(err error, kind string, o options, parent string) error {
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return errdefs.ErrNotImplemented.WithMessage(d.lacks(kind, o, parent))
	case errors.Is(err, unix.EEXIST) && kind == kindVLAN:
		master, id, _ := vlan(parent)
		return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("VLAN %d of %s has an interface of another name already: give that one as the parent", id, master))
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EINVAL) && kind == Macvlan && o.mode == "passthru":
		what, _ := rtnl.Occupied(parent)
		if what == "" {
			what = "another interface, perhaps in another network namespace, is on it"
		}
		return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("parent interface %s cannot carry %s%s: %s", parent, kind, o.alone(), what))
	}
	return err
}

func (o options) alone() string {
	if o.mode == "passthru" {
		return " in the mode passthru, which has its parent for itself"
	}
	return ""
}

// lacks says what the kernel does not have, and what to do.
func (d *Driver) lacks(kind string, o options, parent string) string {
	n := needs[kind]
	load := fmt.Sprintf("load its module (modprobe %s) or have it built in (%s)", n.module, n.option)
	switch {
	case kind != d.kind && !supports(d.kind):
		return d.lacks(d.kind, o, parent)
	case kind == kindDummy:
		return fmt.Sprintf("this kernel has no %s interfaces, of which one is made for a network of the driver %s without a parent: %s, give a parent (-o parent=eth0), or use the driver bridge with --internal", kind, d.kind, load)
	case kind == kindVLAN:
		return fmt.Sprintf("the parent interface %s is not there, and this kernel has no VLANs to make it: %s, or give a parent that is there", parent, load)
	case supports(kind): // but not all of it
		return fmt.Sprintf("this kernel's %s has no mode %s (CONFIG_IPVLAN_L3S): use another mode", kind, o.mode)
	}
	other := IPVlan
	if kind == IPVlan {
		other = Macvlan
	}
	instead := "or use the driver bridge"
	if supports(other) {
		instead = "or use the driver " + other + " or bridge"
	}
	return fmt.Sprintf("this kernel has no %s interfaces: %s, %s", kind, load, instead)
}

// supports tells whether the kernel has a kind of interface.
func supports(kind string) bool {
	lacks := false
	ns, err := netns.New(func() error {
		lacks = rtnl.Supports(kind) != nil
		return nil
	})
	if err != nil {
		return false
	}
	ns.Close()
	return !lacks
}
