// Package macvlan is the network driver of containers that are neighbours of this
// host on its own link: macvlan gives each a hardware address of its own, ipvlan
// shares the parent's. Nothing is translated, filtered or published: the link's
// other machines reach every port. One package serves both drivers.
package macvlan

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"muelle/internal/linux/netns"
	"muelle/internal/linux/rtnl"
	"muelle/internal/netdriver"
)

// Names of the drivers.
const (
	Macvlan = "macvlan"
	IPVlan  = "ipvlan"
)

// Driver options, named as Docker documents them.
const (
	optParent = "parent"
	optMode   = "_mode" // behind the driver's name
	optFlag   = "ipvlan_flag"
	optPrefix = "com.docker.network."
)

// Driver implements netdriver.Driver.
type Driver struct {
	kind, owner string
	log         *slog.Logger

	mu sync.Mutex
	up map[string]bool // by network id
	wg sync.WaitGroup
}

// New makes a driver of one of the two kinds.
func New(kind, instance string, log *slog.Logger) *Driver {
	owner := "muelle"
	if instance != "" {
		owner += "-" + instance
	}
	return &Driver{kind: kind, owner: owner + " network ", log: log, up: map[string]bool{}}
}

type options struct{ parent, mode, flag string }

func (d *Driver) parse(opts map[string]string) (options, error) {
	o := options{mode: "bridge", flag: "bridge"}
	modes := []string{"bridge", "private", "vepa", "passthru"}
	if d.kind == IPVlan {
		o.mode, modes = "l2", []string{"l2", "l3", "l3s"}
	}
	for key, value := range opts {
		switch {
		case key == optParent:
			o.parent = value
			if len(value) > 15 || strings.ContainsAny(value, "/ \t\n") || value == "lo" || strings.Contains(value, ":") {
				return o, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid parent interface %q", value))
			}
		case key == d.kind+optMode && value == "":
		case key == d.kind+optMode:
			o.mode = value
			if !contains(modes, value) {
				return o, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("requested %s mode %q is not valid, %q mode is the %s driver default", d.kind, value, modes[0], d.kind))
			}
		case key == optFlag && d.kind == IPVlan:
			o.flag = value
			if !contains([]string{"bridge", "private", "vepa"}, value) {
				return o, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("requested ipvlan flag %q is not valid, \"bridge\" is the default", value))
			}
		case strings.HasPrefix(key, optPrefix):
			return o, errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf("driver option %q is not supported by driver %s", key, d.kind))
		}
	}
	return o, nil
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// Check implements netdriver.Driver. The interface on the host is the parent: without
// one, one of our own that leads nowhere.
func (d *Driver) Check(n netdriver.Network) (string, error) {
	o, err := d.parse(n.Options)
	if err != nil {
		return "", err
	}
	if o.parent == "" {
		return d.dummy(n), nil
	}
	if master, id, ok := vlan(o.parent); ok && !rtnl.Exists(o.parent) {
		if id < 1 || id > 4094 {
			return "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("vlan id must be between 1-4094, received: %d", id))
		}
		if !rtnl.Exists(master) {
			return "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("-o parent interface was not found on the host: %s", master))
		}
	} else if !ok && !rtnl.Exists(o.parent) {
		return "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("-o parent interface was not found on the host: %s", o.parent))
	}
	return o.parent, nil
}

func (d *Driver) dummy(n netdriver.Network) string { return "muedm-" + n.ID[:8] }

// vlan reads "eth0.10".
func vlan(name string) (master string, id int, ok bool) {
	master, number, ok := strings.Cut(name, ".")
	id, err := strconv.Atoi(number)
	return master, id, ok && err == nil
}

// Up makes the parent where it is to be made: a VLAN of an interface, or a dummy.
func (d *Driver) Up(_ context.Context, n netdriver.Network) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.up[n.ID] {
		return nil
	}
	if !rtnl.Exists(n.Interface) {
		var err error
		if master, id, ok := vlan(n.Interface); ok {
			err = d.refused(rtnl.AddVLAN(n.Interface, master, id, d.owner+n.Name), kindVLAN, options{}, n.Interface)
		} else if n.Interface == d.dummy(n) {
			err = d.refused(rtnl.AddDummy(n.Interface, d.owner+n.Name), kindDummy, options{}, n.Interface)
		} else {
			err = errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("parent interface %s is not there", n.Interface))
		}
		if err != nil {
			return fmt.Errorf("bring up network %s: %w", n.Name, err)
		}
	}
	d.up[n.ID] = true
	return nil
}

// Down removes the parent where it is ours.
func (d *Driver) Down(_ context.Context, n netdriver.Network) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.up, n.ID)
	links, err := rtnl.Links(n.Interface)
	if err != nil {
		return err
	}
	for _, l := range links {
		if l.Name == n.Interface && strings.HasPrefix(l.Alias, d.owner) {
			return rtnl.Delete(l.Name)
		}
	}
	return nil
}

// Join implements netdriver.Driver.
func (d *Driver) Join(_ context.Context, n netdriver.Network, e netdriver.Endpoint) error {
	o, err := d.parse(n.Options)
	if err != nil {
		return err
	}
	err = d.add(o, rtnl.Sub{Name: e.Interface, Parent: n.Interface, NetNS: e.NetNS, MAC: e.MAC})
	if err != nil {
		return fmt.Errorf("make %s interface on %s in network %s: %w", d.kind, n.Interface, n.Name, d.refused(err, d.kind, o, n.Interface))
	}
	gateways := e.Gateways
	err = netns.Do(e.NetNS, func() error {
		if d.kind == IPVlan && o.mode != "l2" {
			// A routed container asks no neighbour for the way: everything leaves here.
			return rtnl.ConfigureRouted(e.Interface, e.Addresses, len(gateways) > 0)
		}
		return rtnl.Configure(e.Interface, e.Addresses, gateways...)
	})
	if err != nil {
		return errors.Join(fmt.Errorf("join network %s: %w", n.Name, err), d.Unplug(e))
	}
	return nil
}

// add makes a container's interface.
func (d *Driver) add(o options, l rtnl.Sub) error {
	l.Mode = o.mode
	if d.kind == IPVlan {
		l.MAC, l.Flag = nil, o.flag
		return rtnl.AddIPVlan(l)
	}
	return rtnl.AddMacvlan(l)
}

// Unplug detaches a container that goes on: when it returns its interface is gone.
func (d *Driver) Unplug(e netdriver.Endpoint) error {
	return netns.Do(e.NetNS, func() error { return rtnl.DeleteAt(e.Interface, e.Addresses) })
}

// Leave implements netdriver.Driver. The interface goes with its namespace, if that
// goes: whoever holds it open is not waited for.
func (d *Driver) Leave(_ netdriver.Network, e netdriver.Endpoint, gone func()) {
	fd := -1
	if e.NetNS != nil {
		if conn, err := e.NetNS.SyscallConn(); err == nil {
			_ = conn.Control(func(ns uintptr) { fd, _ = unix.FcntlInt(ns, unix.F_DUPFD_CLOEXEC, 0) })
		}
	}
	d.wg.Go(func() {
		defer gone()
		if fd < 0 {
			return
		}
		ns := os.NewFile(uintptr(fd), "netns")
		defer ns.Close()
		e.NetNS = ns
		if err := d.Unplug(e); err != nil {
			d.log.Error("interface stays behind", "interface", e.Interface, "container", e.Container, "err", err)
		}
	})
}

// Close waits for what is under way. If idle is set nothing of the driver is in use:
// parents of our own go too.
func (d *Driver) Close(idle bool) error {
	d.wg.Wait()
	if !idle {
		return nil
	}
	links, err := rtnl.Links("")
	if err != nil {
		return err
	}
	var errs []error
	for _, l := range links {
		if (l.Kind == "dummy" || l.Kind == "vlan") && strings.HasPrefix(l.Alias, d.owner) {
			errs = append(errs, rtnl.Delete(l.Name))
		}
	}
	return errors.Join(errs...)
}

// Publish ignores the ports, as Docker does: the container is on the link itself.
func (*Driver) Publish(context.Context, []netdriver.Mapping) error { return nil }

// Unpublish does nothing.
func (*Driver) Unpublish([]netdriver.Mapping) {}
