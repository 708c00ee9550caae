package ruleset

import (
	"net/netip"
	"slices"
	"strings"

	"muelle/internal/linux/rtnl"
)

// below is what lies below an interface, by name: the ports of a bridge, the members of a
// bond, and that which a VLAN is of.
type below struct {
	ports, others map[string][]string
	programs      []rtnl.Program
}

// readBelow asks for what is below the interfaces but for ours, and the programs on them.
func (r *Ruleset) readBelow() error {
	ours := func(name string) bool { return strings.HasPrefix(name, "mue") }
	all, err := rtnl.Links("")
	if err != nil {
		return err
	}
	at := map[int]rtnl.Link{}
	for _, l := range all {
		at[l.Index] = l
	}
	r.below = below{ports: map[string][]string{}, others: map[string][]string{}}
	for _, l := range all {
		above, there := at[l.Master]
		switch {
		case !there || ours(above.Name):
		case above.Kind == "bridge":
			r.below.ports[above.Name] = append(r.below.ports[above.Name], l.Name)
		default:
			r.below.others[above.Name] = append(r.below.others[above.Name], l.Name)
		}
		if lower, there := at[l.Parent]; there && l.Kind == "vlan" {
			r.below.others[l.Name] = append(r.below.others[l.Name], lower.Name)
		}
	}
	for name, ports := range r.below.ports {
		if led := slices.DeleteFunc(slices.Clone(ports), toGuest); len(led) > 0 {
			r.below.ports[name] = led
		}
	}
	r.below.programs, err = rtnl.Programs(ours)
	return err
}

// toGuest tells ports behind which is a virtual machine or a container, by their names.
func toGuest(name string) bool {
	return slices.ContainsFunc([]string{"veth", "vnet", "tap", "lxc", "vb-", "fwpr"}, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// through are an interface and all that lie below it.
func (b *below) through(name string) []string {
	list := []string{name}
	for i := 0; i < len(list) && len(list) < 64; i++ {
		for _, l := range slices.Concat(b.ports[list[i]], b.others[list[i]]) {
			if !slices.Contains(list, l) {
				list = append(list, l)
			}
		}
	}
	return list
}

// asking is one packet's way.
type asking struct {
	*state
	skip func(*Chain) bool
	fate Fate
}

// meets has the base chains of a hook decide.
func (a *asking) meets(h Hook, family Family, device string) {
	a.hook = h
	for _, c := range a.rules.at(h, family, device) {
		if a.skip != nil && a.skip(c) || c.nat() && a.tracking == Untracked {
			continue
		}
		a.place(c)
		w := walk{state: a.state}
		out := w.base(c)
		if c.nat() && a.tracking == PerhapsTracked {
			out |= accepts
		}
		if w.letBy != nil {
			a.fate.Let = w.letBy.describe(w.let)
		}
		if out&translates != 0 {
			out = out&^translates | accepts
		}
		if out&drops != 0 {
			a.drops(out&accepts == 0, c, w.rule)
		}
	}
}

// drops notes what drops, or may drop. What does for certain is worth more to tell.
func (a *asking) drops(certain bool, c *Chain, rule string) {
	if a.fate.Rule == "" || certain && a.fate.Passes {
		a.fate.By, a.fate.Rule = c, rule
	}
	a.fate.Dropped = true
	a.fate.Passes = a.fate.Passes && !certain
}

// programs are attached to where the packet comes or leaves.
func (a *asking) programs(device string, leaving bool) {
	if len(a.rules.below.programs) == 0 {
		return
	}
	on := a.rules.below.through(device)
	for _, p := range a.rules.below.programs {
		if p.Leaving == leaving && slices.Contains(on, p.Interface) {
			a.drops(false, nil, p.String())
			a.hung.on(p.String())
		}
	}
}

// link is the way between an interface and the link that it is on, coming or leaving: by
// which of a bridge's ports is not known where there are several.
func (a *asking) link(h Hook) {
	real, device := a.asked, a.asked.In
	if h == Egress {
		device = a.asked.Out
	}
	// Here an address that is translated, there or back, is not the one that is known.
	whole := real
	if real.Translates && h == Egress {
		whole.Source, whole.SourcePort = netip.Prefix{}, 0
	} else if real.Translates && real.Reply {
		whole.Destination, whole.DestinationPort = netip.Prefix{}, 0
	}
	a.show(whole)
	defer a.show(real)
	a.programs(device, h == Egress)
	if h == Egress {
		a.meets(h, Netdev, device)
	}
	ports := a.rules.below.ports[device]
	before := a.fate
	var met []Fate
	for _, port := range ports {
		frame := whole
		frame.Within, frame.In = device, port
		if real.Translates && h == Ingress { // br_netfilter translates before the bridge's own hooks, where it is on
			frame.Destination, frame.DestinationPort = netip.Prefix{}, 0
		}
		hooks := []Hook{Prerouting, Input}
		if h == Egress {
			frame.In, frame.Out, hooks = "", port, []Hook{Output, Postrouting}
		}
		a.show(frame)
		a.fate = before
		if h == Ingress {
			a.meets(h, Netdev, port)
		}
		for _, one := range hooks {
			a.meets(one, Bridge, port)
		}
		if h == Egress {
			a.meets(h, Netdev, port)
		}
		met = append(met, a.fate)
	}
	a.show(whole)
	if len(ports) > 0 {
		a.fate = anyOf(met)
	}
	if h == Ingress {
		a.meets(h, Netdev, device)
	}
}

// show changes what is known of the packet for the hooks that follow.
func (a *asking) show(p Packet) {
	a.Packet, a.asked, a.early, a.network, a.transport = p, p, false, data{}, data{}
}

// anyOf is the fate of a packet that has one of these.
func anyOf(list []Fate) Fate {
	any := list[0]
	for _, f := range list[1:] {
		if f.Rule != "" && (any.Rule == "" || f.Certain() && !any.Certain()) {
			any.By, any.Rule = f.By, f.Rule
		}
		any.Passes, any.Dropped = any.Passes || f.Passes, any.Dropped || f.Dropped
	}
	return any
}
