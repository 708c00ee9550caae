package explain

import (
	"net/netip"
	"slices"

	"muelle/internal/network"
)

// chooseAddresses says where the source connects to.
func (f *facts) chooseAddresses() {
	switch {
	case f.lookup != nil && len(f.lookup.addrs) > 0:
		f.to = f.ofThisReplica(f.lookup.addrs)
	case f.Target.Addr.IsValid():
		f.to = []netip.Addr{f.Target.Addr}
	case f.itself:
		f.to = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	case f.dst != nil && f.dst.Host, f.Target.Kind == Host:
		f.to = f.hostAddresses()
	case f.dst != nil:
		f.to = f.modelAddresses()
	}
	f.to = f.to[:min(len(f.to), most)]
}

// ofThisReplica keeps, of a name's addresses, those of the container that is meant, if
// there are any.
func (f *facts) ofThisReplica(addrs []netip.Addr) []netip.Addr {
	if f.dst == nil {
		return addrs
	}
	var own []netip.Addr
	for _, a := range addrs {
		if f.holding(a) == f.dst {
			own = append(own, a)
		}
	}
	if len(own) == 0 {
		return addrs
	}
	return own
}

// modelAddresses are the target's on the networks that are shared, else, for the host,
// all that it has.
func (f *facts) modelAddresses() (list []netip.Addr) {
	for _, e := range f.dst.Endpoints {
		shared := slices.ContainsFunc(f.shared, func(n network.NetworkView) bool { return n.ID == e.Network })
		if !shared && f.Source.Kind != Host && (f.src == nil || !f.src.Host) {
			continue
		}
		for _, p := range e.Addresses {
			list = append(list, p.Addr())
		}
	}
	return list
}

// hostAddresses are the host's as the source sees it.
func (f *facts) hostAddresses() (list []netip.Addr) {
	if f.src == nil {
		return nil
	}
	for _, e := range f.src.Endpoints {
		n := f.network(e.Network)
		if n == nil {
			continue
		}
		for _, sub := range n.Subnets {
			if sub.Gateway.IsValid() && (e.Gateway || len(f.src.Endpoints) == 1) {
				list = append(list, sub.Gateway)
			}
		}
	}
	return list
}
