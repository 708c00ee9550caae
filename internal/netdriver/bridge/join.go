package bridge

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"muelle/internal/linux/netns"
	"muelle/internal/linux/rtnl"
	"muelle/internal/netdriver"
)

// Join implements netdriver.Driver.
func (d *Driver) Join(_ context.Context, n netdriver.Network, e netdriver.Endpoint) error {
	d.mu.Lock()
	st := d.bridges[n.ID]
	name := d.veth(e)
	if st != nil {
		d.joining.add(name)
	}
	d.mu.Unlock()
	if st == nil {
		return fmt.Errorf("join network %s: it is down", n.Name)
	}
	if st.guard {
		if err := d.fw.spoof.guard(portOf(name, e)); err != nil {
			d.joining.remove(name)
			return fmt.Errorf("join network %s: %w", n.Name, err)
		}
	}
	if err := rtnl.AddVeth(rtnl.Veth{Name: name, Master: st.index, Peer: e.Interface, NetNS: e.NetNS, MAC: e.MAC, MTU: st.mtu}); err != nil {
		d.joining.remove(name)
		d.fw.spoof.forget(name)
		return fmt.Errorf("make interface pair %s in network %s: %w", name, n.Name, err)
	}
	var err error
	if !st.rules.icc {
		err = rtnl.Isolate(name)
	}
	// With bridge-nf-call-iptables a frame is translated inside the bridge, and goes
	// back through the port that it came from.
	if err == nil && e.Publishes {
		err = rtnl.Hairpin(name)
	}
	if err == nil {
		err = netns.Do(e.NetNS, func() error { return rtnl.Configure(e.Interface, e.Addresses, e.Gateways...) })
	}
	// The bridge has a carrier when it has a port with one.
	if err == nil {
		err = rtnl.Carry(name, n.Interface)
	}
	if err != nil {
		err = errors.Join(fmt.Errorf("join network %s: %w", n.Name, err), rtnl.Delete(name))
		d.joining.remove(name)
		d.fw.spoof.forget(name)
	}
	return err
}

// joining is a set of names.
type joining struct {
	mu    sync.Mutex
	names map[string]bool
}

func (j *joining) add(name string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.names == nil {
		j.names = map[string]bool{}
	}
	j.names[name] = true
}

func (j *joining) remove(name string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.names, name)
}

func (j *joining) has(name string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.names[name]
}

// Leave implements netdriver.Driver.
func (d *Driver) Leave(_ netdriver.Network, e netdriver.Endpoint, gone func()) {
	name := d.veth(e)
	d.reaper.add(name, func() {
		d.joining.remove(name)
		d.fw.spoof.forget(name)
		gone()
	})
}

// Adopt takes note of a running container's endpoint, which a former daemon joined. To
// be called before Recover.
func (d *Driver) Adopt(n netdriver.Network, e netdriver.Endpoint) {
	d.Spare(e)
	d.mu.Lock()
	st := d.bridges[n.ID]
	d.mu.Unlock()
	if st != nil && st.guard {
		d.fw.spoof.note(portOf(d.veth(e), e))
	}
}

// Spare keeps Recover from removing an endpoint's interface.
func (d *Driver) Spare(e netdriver.Endpoint) { d.joining.add(d.veth(e)) }

// Plugged tells whether the endpoint's interface is there.
func (d *Driver) Plugged(e netdriver.Endpoint) bool { return rtnl.Exists(d.veth(e)) }

// Unplug detaches a container that goes on: when it returns its interface is gone.
// Leave follows.
func (d *Driver) Unplug(e netdriver.Endpoint) error { return rtnl.Delete(d.veth(e)) }
