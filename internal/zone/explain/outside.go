package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"muelle/api"
	"muelle/internal/linux/ruleset"
	"muelle/internal/policy"
	"muelle/internal/zone/exposure"
)

// parted is what other firewalls on this host do with those outside who ask for the target.
type parted struct {
	api.Sources
	by *ruleset.Chain
	// six: by IPv6 it is otherwise, and what is done then; nil where it is the same or
	// nobody can ask so.
	six *api.Sources
}

// most ranges of addresses are told.
const mostRanges = 8

// askFilters parts those outside, and finds the circle of one whose address is known.
func (f *facts) askFilters() error {
	if f.Source.Kind != World {
		return nil
	}
	read, err := exposure.ReadFilters(f.all, false)
	if err != nil {
		return fmt.Errorf("read the host's packet filters: %w", err)
	}
	who := exposure.Who{LAN: f.Source.Text != "internet" && f.Source.Text != "world", Internet: f.Source.Text != policy.LAN, Addr: f.Source.Addr}
	if who.Addr.IsValid() {
		f.onLink = read.OnLink(who.Addr)
		who.LAN, who.Internet = f.onLink, !f.onLink
	}
	if f.Target.Kind == Host && f.Target.Addr.IsValid() {
		who.To = f.Target.Addr
	}
	targets := f.outsideTargets(who)
	if len(targets) == 0 {
		return nil
	}
	f.guarded = read.FromHost(targets[0]).Dropped
	f.outside = &parted{}
	f.outside.Sources, f.outside.by = read.Sources(who, false, targets[0])
	if len(targets) > 1 {
		other, by := read.Sources(who, false, targets[1])
		f.outside.beside(other, by)
	}
	return nil
}

// beside takes over what is done by IPv6, where by IPv4 it is otherwise.
func (p *parted) beside(six api.Sources, by *ruleset.Chain) {
	none := func(s *api.Sources) bool { return len(s.Pass)+len(s.Drop)+len(s.Open) == 0 }
	all := func(s *api.Sources) bool { return len(s.Pass) > 0 && !s.Mixed() }
	switch {
	case none(&six) || all(&six) && all(&p.Sources):
	case none(&p.Sources):
		p.Sources, p.by = six, by
	case all(&p.Sources): // everyone gets through by IPv4
		p.six = &six
	default: // who does not by IPv4 may by IPv6
		p.Pass, p.Drop, p.Open = append(p.Pass, six.Pass...), append(p.Drop, six.Drop...), append(p.Open, six.Open...)
		for _, l := range [][2]*[]string{{&p.DependsOn, &six.DependsOn}, {&p.Drops, &six.Drops}, {&p.Lets, &six.Lets}, {&p.Limits, &six.Limits}} {
			for _, text := range *l[1] {
				if !slices.Contains(*l[0], text) {
					*l[0] = append(*l[0], text)
				}
			}
		}
	}
}

// outsideTargets are what somebody outside asks for: by IPv4 and by IPv6, where both lead there.
func (f *facts) outsideTargets(who exposure.Who) (list []exposure.Target) {
	switch {
	case f.sentOn != nil, f.mapping != nil && f.mapping.missed:
		return nil
	case f.mapping != nil:
		list = append(list, f.behind(f.mapping.host, f.mapping.target))
		if who.To.IsValid() || who.Addr.IsValid() || !f.mapping.host.Addr().IsUnspecified() || f.mapping.sandbox == nil {
			return list
		}
		for _, m := range f.mapping.sandbox.Mappings {
			if m.Protocol == f.Proto && m.Host.Port() == f.mapping.host.Port() && m.Host.Addr().IsUnspecified() && m.Host.Addr().Is6() != f.mapping.host.Addr().Is6() && len(m.Targets) > 0 {
				list = append(list, f.behind(m.Host, m.Targets[0]))
			}
		}
		return list
	case f.Target.Kind == Host, f.dst != nil && f.dst.Host:
		for _, any := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
			asked := who.To
			if who.Addr.IsValid() {
				asked = who.Addr
			}
			if (!asked.IsValid() || asked.Is6() == any.Is6()) && (!f.listened || slices.ContainsFunc(f.heard(), func(a netip.Addr) bool { return covers(a, any) })) {
				list = append(list, exposure.Target{Protocol: f.Proto, Host: netip.AddrPortFrom(any, f.toPort)})
			}
		}
	}
	return list
}

// heard are where those listen who are asked for; that of one address is taken for all of
// its family.
func (f *facts) heard() (list []netip.Addr) {
	for _, l := range f.listeners {
		if a := l.Addr.Addr(); l.Proto == f.Proto && l.Addr.Port() == f.serving && !a.IsLoopback() {
			if a.Is4() {
				a = netip.IPv4Unspecified()
			}
			list = append(list, a)
		}
	}
	return list
}

// behind is a published port as the filters see it.
func (f *facts) behind(host, target netip.AddrPort) exposure.Target {
	t := exposure.Target{Protocol: f.Proto, Host: host, To: target}
	if n := f.networkOf(f.mapping.sandbox, target.Addr()); n != nil {
		t.Bridge = n.Interface
	}
	if host == target { // published at the container's own address
		t.Host = netip.AddrPort{}
	}
	return t
}

// circle is who of the world the source is: lan, internet, or outside, which is either.
func (f *facts) circle() string {
	switch {
	case f.Source.Addr.IsValid() && f.onLink:
		return policy.LAN
	case f.Source.Addr.IsValid():
		return policy.Internet
	}
	return f.Source.Text
}

// partedHop adds to what the zones say what other firewalls do with those outside.
func (f *facts) partedHop(h *hop) *hop {
	s := &f.outside.Sources
	if h != nil && h.State == api.HopBroken {
		return h
	}
	switch {
	case len(s.Pass)+len(s.Drop)+len(s.Open) == 0: // nobody of them has a way here
		return h
	case !s.Mixed() && len(s.Pass) > 0:
		if h != nil && h.State == api.HopOK && f.filters != nil && f.filters.rules.Filters() {
			h.because("other firewalls of this host", "none is known to drop it")
		}
		if h != nil {
			f.limits(h, s.Limits)
		}
		if f.outside.six != nil {
			h = f.otherwiseBySix(h)
		}
		return h
	case !s.Mixed():
		h = broken("policy", "%s", loses(strings.Join(s.Drops, "")))
		if f.outside.by == nil {
			return broken("policy", "This host does not send it on: %s.", strings.Join(s.Drops, ", "))
		}
		for _, rule := range s.Drops {
			h.because("firewall of this host", "%s", rule)
		}
		return f.mend(h, f.outside.by)
	}
	return f.dependsHop(s)
}

func (f *facts) otherwiseBySix(h *hop) *hop {
	if h == nil {
		h = fine("policy", "By IPv4 nothing is in the way.")
	}
	text := "dropped"
	if f.outside.six.Mixed() {
		text = f.outside.six.Words()
	}
	if len(f.outside.six.Drops) > 0 {
		text += ": " + strings.Join(f.outside.six.Drops, ", ")
	}
	h.State = api.HopWarning
	return h.because("by IPv6", "%s", text)
}

// dependsHop says of whom it depends whether they get through.
func (f *facts) dependsHop(s *api.Sources) *hop {
	h := newHop("policy", api.HopDepends, "It depends on the source: another firewall on this host lets some in and drops others.")
	if len(s.Pass)+len(s.Drop) == 0 {
		h.What = fmt.Sprintf("It depends on %s: another firewall on this host may drop it.", strings.Join(s.DependsOn, ", "))
	}
	h.Sources = s
	longest := max(len(s.Pass), len(s.Drop), len(s.Open))
	for _, l := range []struct {
		what string
		list []api.SourceRange
	}{{"gets through", s.Pass}, {"dropped", s.Drop}, {"depends on " + strings.Join(s.DependsOn, ", "), s.Open}} {
		switch {
		case len(l.list) == longest && longest > mostRanges:
			h.because(l.what, "all others")
		case len(l.list) > 0:
			h.because(l.what, "%s", api.Ranges(l.list, mostRanges))
		}
	}
	for _, rule := range s.Lets {
		h.because("lets in", "%s", rule)
	}
	for _, rule := range s.Drops {
		h.because("firewall of this host", "%s", rule)
	}
	f.limits(h, s.Limits)
	if len(s.Pass)+len(s.Drop) > 0 {
		h.do("For one address: muelle explain ADDRESS %s", f.asked())
	}
	return f.mend(h, f.outside.by)
}

// asked is the target as somebody wrote it.
func (f *facts) asked() string {
	text := withPort(f.Target.Text, f.Port)
	if f.Target.Addr.IsValid() && f.Target.Addr.Is6() && f.Port != 0 {
		text = netip.AddrPortFrom(f.Target.Addr, f.Port).String()
	}
	return text + f.protoSuffix()
}

func (f *facts) limits(h *hop, rules []string) {
	for _, rule := range rules {
		h.because("limit", "not more than %s lets through", rule)
	}
}
