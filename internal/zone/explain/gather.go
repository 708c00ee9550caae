package explain

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"strings"

	"muelle/internal/linux/netns"
	"muelle/internal/linux/socket"
	"muelle/internal/network"
)

// most addresses of one name are tried.
const most = 4

// gather collects the facts: what is in the way of nothing that was asked is tried.
func gather(ctx context.Context, networks Networks, q Question) *facts {
	f := &facts{Question: q, all: networks.Snapshot(), warnings: networks.Warnings(), toPort: q.Port, serving: q.Port}
	f.filters, f.unread = readFilters()
	f.model()
	src, inSource := namespace(networks, &f.Source, f.src)
	if src != nil {
		defer src.Close()
	}
	if inSource && f.Target.DNSName != "" && (f.Source.Kind != Host || f.Target.Kind == Outside) {
		f.lookUp(ctx, src)
		f.explained(networks)
	}
	f.choosePort(networks)
	f.chooseAddresses()
	f.findMapping()
	f.findSentOn()
	f.findAstray()
	f.readListeners(networks)
	if err := f.askFilters(); err != nil && f.unread == nil {
		f.unread = err
	}
	if f.Source.Kind == World && !f.guarded {
		f.tryFromHere(ctx)
	}
	if !inSource || len(f.to) == 0 || f.lookup != nil && len(f.lookup.addrs) == 0 {
		return f
	}
	f.route = routeTo(src, f.to[0])
	if f.toPort != 0 && f.worthTrying() {
		f.attempt = f.try(ctx, src)
	}
	return f
}

// namespace opens a party's network namespace; nil and true is the host's. A party
// that does not run, or is outside, has none.
func namespace(networks Networks, p *Party, sb *network.SandboxView) (*os.File, bool) {
	switch {
	case p.Kind == Host:
		return nil, true
	case p.Kind != Container || sb == nil || !p.running():
		return nil, false
	}
	ns, err := networks.NetNS(sb.ID)
	return ns, err == nil
}

// model finds the parties' sandboxes and what they share.
func (f *facts) model() {
	f.src, f.dst = f.sandbox(&f.Source), f.sandbox(&f.Target)
	if f.Target.Kind == Itself {
		f.dst = f.src
	}
	f.itself = f.Target.Kind == Itself || f.src != nil && f.src == f.dst || f.onHost(&f.Source, f.src) && f.onHost(&f.Target, f.dst)
	if f.src == nil || f.dst == nil {
		return
	}
	for _, n := range f.all.Networks {
		if on(f.src, n.ID) != nil && on(f.dst, n.ID) != nil && n.Driver != "host" && n.Driver != "null" {
			f.shared = append(f.shared, n)
		}
	}
}

// onHost tells whether a party is in the host's network namespace.
func (f *facts) onHost(p *Party, sb *network.SandboxView) bool {
	return p.Kind == Host || sb != nil && sb.Host
}

func (f *facts) sandbox(p *Party) *network.SandboxView {
	if p.Kind != Container || p.ID == "" {
		return nil
	}
	id := p.Sandbox
	if id == "" {
		id = p.ID
	}
	return f.sandboxOf(id)
}

func (f *facts) sandboxOf(id string) *network.SandboxView {
	i := slices.IndexFunc(f.all.Sandboxes, func(s network.SandboxView) bool { return s.ID == id })
	if i < 0 {
		return nil
	}
	return &f.all.Sandboxes[i]
}

// holding finds whose address one is.
func (f *facts) holding(a netip.Addr) *network.SandboxView {
	for i, sb := range f.all.Sandboxes {
		for _, e := range sb.Endpoints {
			if slices.ContainsFunc(e.Addresses, func(p netip.Prefix) bool { return p.Addr() == a }) {
				return &f.all.Sandboxes[i]
			}
		}
	}
	return nil
}

// on gives the endpoint of a sandbox on a network.
func on(sb *network.SandboxView, id string) *network.EndpointView {
	i := slices.IndexFunc(sb.Endpoints, func(e network.EndpointView) bool { return e.Network == id })
	if i < 0 {
		return nil
	}
	return &sb.Endpoints[i]
}

func (f *facts) network(id string) *network.NetworkView {
	i := slices.IndexFunc(f.all.Networks, func(n network.NetworkView) bool { return n.ID == id })
	if i < 0 {
		return nil
	}
	return &f.all.Networks[i]
}

// explained adds to a lookup that failed what the resolver says of it.
func (f *facts) explained(networks Networks) {
	l := f.lookup
	if l == nil || len(l.addrs) > 0 || f.src == nil {
		return
	}
	for _, q := range slices.Backward(networks.Queries(f.src.ID)) {
		if q.Name == strings.ToLower(l.name) && q.Reason != "" && (q.Failed() || q.Type == "A") {
			l.reason = q.Reason
			return
		}
	}
}

// readListeners reads the sockets of whoever has to listen.
func (f *facts) readListeners(networks Networks) {
	serving := f.dst
	if f.mapping != nil {
		serving = f.mapping.sandbox
	}
	switch {
	case serving != nil:
		f.readSockets(networks, serving)
	case f.mapping == nil && f.Target.Kind == Host, f.Target.Kind == Itself && f.Source.Kind == Host:
		f.listeners, f.listened = listenersIn(nil)
	}
	var inodes []uint64
	for _, l := range f.listeners {
		if l.Proto == f.Proto && l.Addr.Port() == f.serving {
			inodes = append(inodes, l.Inode)
		}
	}
	f.holder = socket.Holder(inodes...)
	if f.mapping == nil {
		return
	}
	for i := range f.mapping.others {
		o := &f.mapping.others[i]
		o.listeners, o.read = socketsOf(networks, o.sandbox)
	}
}

func (f *facts) readSockets(networks Networks, sb *network.SandboxView) {
	f.listeners, f.listened = socketsOf(networks, sb)
}

func socketsOf(networks Networks, sb *network.SandboxView) ([]socket.Listener, bool) {
	ns, err := networks.NetNS(sb.ID)
	if err != nil {
		return nil, false
	}
	if ns != nil {
		defer ns.Close()
	}
	return listenersIn(ns)
}

func listenersIn(ns *os.File) (list []socket.Listener, ok bool) {
	err := in(ns, func() (err error) {
		list, err = socket.Listeners()
		return err
	})
	return list, err == nil
}

func in(ns *os.File, f func() error) error {
	if ns == nil {
		return f()
	}
	return netns.Do(ns, f)
}

// worthTrying: a target without a network in common is not tried, which would take
// its time and tell nothing new.
func (f *facts) worthTrying() bool {
	if f.Target.Kind == Container && !f.Target.running() {
		return false
	}
	return f.dst == nil || f.itself || len(f.shared) > 0 || f.Source.Kind == Host || f.src != nil && f.src.Host
}

// findAstray looks whether the host's routes lead past the bridges that the connection's
// packets, or their answers, leave by: another route may have taken their addresses.
func (f *facts) findAstray() {
	var ends []netip.Addr
	switch {
	case f.itself || f.mapping == nil && len(f.shared) > 0: // the host is not asked
		return
	case f.mapping != nil:
		ends = append(ends, f.mapping.target.Addr())
	case f.dst != nil:
		ends = append(ends, f.to...)
	}
	if f.src != nil {
		for _, e := range f.src.Endpoints {
			for _, a := range e.Addresses {
				if e.Gateway {
					ends = append(ends, a.Addr())
				}
			}
		}
	}
	for _, a := range ends {
		n := f.bridgeOf(a)
		if n == nil {
			continue
		}
		if r := routeTo(nil, a); r.err == nil && r.iface != n.Interface {
			f.astray = &astray{to: a, network: n.Name, iface: r.iface}
			return
		}
	}
}

// bridgeOf is the network on whose bridge somebody has an address.
func (f *facts) bridgeOf(a netip.Addr) *network.NetworkView {
	for _, sb := range f.all.Sandboxes {
		for _, e := range sb.Endpoints {
			if slices.ContainsFunc(e.Addresses, func(p netip.Prefix) bool { return p.Addr() == a }) {
				if n := f.network(e.Network); n != nil && n.Driver == "bridge" && n.Interface != "" && n.Up {
					return n
				}
			}
		}
	}
	return nil
}
