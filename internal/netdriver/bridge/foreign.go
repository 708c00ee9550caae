package bridge

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"muelle/internal/linux/rtnl"
	"muelle/internal/linux/ruleset"
)

// foreign is what other firewalls on this host mean for our bridges. A drop in any
// base chain of a hook is final: no accept of ours undoes it.
type foreign struct {
	// off: nothing is done about others' rules, it is only told.
	off bool
	// docker: a chain DOCKER-USER is there.
	docker bool
	// paired: our rules are in it.
	paired bool
	// zoned are the bridges that were put into a zone of firewalld's.
	zoned    map[string]string
	warnings []string
	logged   map[string]bool
	// suspected is since when what is not logged yet has been found by every look.
	suspected map[string]time.Time
	// asked: somebody asks, maybe before the watch has read the news of a change.
	asked bool
}

// Other firewalls change their rules by several transactions, between which anything may
// be dropped: what is found is logged when nobody has changed rules for as long as settled,
// or, where somebody does all the time, when every look for as long as persists has found it.
const (
	settled  = 1500 * time.Millisecond
	persists = 3 * time.Second
)

const dockerUser = "DOCKER-USER"

// inspect looks at others' rules. Called whenever something changed, without the lock.
// It tells how long that took.
func (f *firewall) inspect() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.recovering {
		return 0
	}
	start := time.Now()
	if f.up && f.t.forwards6 != forwards6() {
		if err := f.replace(); err != nil {
			f.log.Error("nftables table is not written again", "table", f.name, "err", err)
		}
	}
	f.inspectForeign()
	return time.Since(start)
}

func (f *firewall) inspectForeign() {
	if err := f.lookAround(f.up && len(f.bridges) > 0); err != nil {
		f.log.Error("cannot look at other firewalls", "err", err)
	}
}

// readForeign reads all rules but those of our instances.
func readForeign() (*ruleset.Ruleset, error) { return ruleset.Read(notOurs) }

// glanceForeign sees something also where somebody changes rules all the time: what is
// found is told when it lasts.
func glanceForeign() (*ruleset.Ruleset, error) { return ruleset.Glance(notOurs) }

func notOurs(_ ruleset.Family, table string) bool { return !isOurs(table) }

// lookAround finds base chains that would drop the bridges' traffic. For those whose
// owner offers something it does that, if act is set; for the rest it keeps warnings.
func (f *firewall) lookAround(act bool) error {
	at := f.translators.now()
	rules, err := glanceForeign()
	if err != nil {
		return err
	}
	f.translators.note(at, rules)
	users := dockerUsers(rules)
	hadDocker := f.foreign.docker
	f.foreign.docker, f.foreign.paired, f.foreign.warnings = len(users) > 0, false, nil
	if act && f.guarded != [2]bool{} && hadDocker != f.foreign.docker {
		if err := f.replace(); err != nil {
			return err
		}
	}
	if act && !f.foreign.off {
		changed, err := f.cooperate(rules, users)
		if err != nil {
			return err
		}
		if changed {
			if rules, err = glanceForeign(); err != nil {
				return err
			}
		}
	}
	found := map[string]bool{}
	for _, t := range f.troubles(rules) {
		if f.warn(t, act) {
			found[t.key()] = true
		}
	}
	maps.DeleteFunc(f.foreign.suspected, func(key string, _ time.Time) bool { return !found[key] })
	if len(found) > 0 {
		select {
		case f.unsure <- struct{}{}:
		default:
		}
	}
	return nil
}

// cooperate does what the owners of other firewalls offer, and tells whether that
// changed a rule.
func (f *firewall) cooperate(rules *ruleset.Ruleset, users []ruleset.Family) (changed bool, err error) {
	for _, family := range users {
		paired, err := f.pair(family)
		if err != nil {
			return changed, fmt.Errorf("add rules to %s: %w", dockerUser, err)
		}
		changed = changed || paired
	}
	if !ownedByFirewalld(rules) {
		return changed, nil
	}
	var blocked []string
	for _, t := range f.troubles(rules) {
		if t.owner() == firewalld {
			blocked = append(blocked, t.bridges...)
		}
	}
	slices.Sort(blocked)
	trusted, err := f.trust(slices.Compact(blocked))
	if err != nil {
		// The warning that stays says what to do by hand.
		f.log.Debug("firewalld is not asked", "err", err)
	}
	return changed || trusted, nil
}

// dockerUsers are the families whose table has the chain that Docker offers.
func dockerUsers(rules *ruleset.Ruleset) (list []ruleset.Family) {
	for _, family := range []ruleset.Family{ruleset.IP, ruleset.IP6} {
		if rules.Chain(family, "filter", dockerUser) != nil {
			list = append(list, family)
		}
	}
	return list
}

// flow is a kind of traffic that a bridge needs.
type flow struct {
	what   string
	packet ruleset.Packet
	hooks  []ruleset.Hook
	// in, out: rules that allow it name the bridge as iifname, as oifname.
	in, out bool
}

var (
	forwarded = []ruleset.Hook{ruleset.Prerouting, ruleset.Forward, ruleset.Postrouting}
	anywhere4 = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	anywhere6 = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
)

// flows are what a bridge must get through, by IPv4 or IPv6.
func flows(b bridgeRules, v6 bool, links []string) (list []flow) {
	all, nfCall := anywhere4, "bridge/bridge-nf-call-iptables"
	if v6 {
		all, nfCall = anywhere6, "bridge/bridge-nf-call-ip6tables"
	}
	packet := func(change func(*ruleset.Packet)) ruleset.Packet {
		p := ruleset.Packet{V6: v6, Source: all, Destination: all, Protocol: unix.IPPROTO_TCP}
		change(&p)
		return p
	}
	if !b.internal {
		for _, link := range links {
			list = append(list,
				flow{"to the world", packet(func(p *ruleset.Packet) { p.In, p.InBridge, p.Out = b.name, true, link }), forwarded, true, false},
				flow{"to published ports", packet(func(p *ruleset.Packet) {
					p.In, p.Out, p.OutBridge, p.Translated, p.Original = link, b.name, true, true, all
				}), forwarded, false, true})
		}
	}
	if b.icc {
		// With these sysctls frames inside a bridge pass the hooks of IP too.
		if rtnl.SysctlIs(nfCall, 1) {
			list = append(list, flow{"inside one network", packet(func(p *ruleset.Packet) {
				p.In, p.InBridge, p.Out, p.OutBridge = b.name, true, b.name, true
			}), forwarded, true, false})
		}
		list = append(list, flow{"inside one network", packet(func(p *ruleset.Packet) {
			p.Within, p.In, p.Out = b.name, ruleset.Somewhere, ruleset.Somewhere
		}), forwarded, true, false})
	}
	return append(list,
		flow{"from this host", packet(func(p *ruleset.Packet) { p.Out, p.OutBridge = b.name, true }), []ruleset.Hook{ruleset.Output, ruleset.Postrouting}, false, true},
		flow{"to this host, in answer", packet(func(p *ruleset.Packet) {
			p.In, p.InBridge, p.Established, p.Reply, p.ToLocal = b.name, true, true, true, true
		}), []ruleset.Hook{ruleset.Prerouting, ruleset.Input}, true, false})
}

// trouble is a chain that drops traffic of our bridges for certain.
type trouble struct {
	chain   *ruleset.Chain
	rule    string
	what    []string
	bridges []string
	in, out bool
}

// kin are bridges that are asked for at once: rules hardly ever tell those apart whose
// names we chose, and there may be hundreds.
type kin struct {
	bridgeRules
	v6    bool
	names []string
}

// families sorts the bridges that are up by what they need.
func (f *firewall) families() (list []*kin) {
	for _, b := range f.shown() {
		for _, v6 := range []bool{false, true} {
			if v6 && !rtnl.SysctlIs("ipv6/conf/"+b.name+"/disable_ipv6", 0) {
				continue
			}
			i := -1
			if hasOurPrefix(b.name) {
				i = slices.IndexFunc(list, func(k *kin) bool {
					return k.v6 == v6 && k.internal == b.internal && k.icc == b.icc && hasOurPrefix(k.names[0])
				})
			}
			if i < 0 {
				i = len(list)
				list = append(list, &kin{bridgeRules: bridgeRules{name: b.name, internal: b.internal, icc: b.icc}, v6: v6})
			}
			if list[i].names = append(list[i].names, b.name); len(list[i].names) > 1 {
				list[i].name = "mue*"
			}
		}
	}
	return list
}

// troubles asks for every flow of every bridge what becomes of it.
func (f *firewall) troubles(rules *ruleset.Ruleset) (list troubles) {
	if !rules.Filters() {
		return nil
	}
	links := uplinks()
	for _, k := range f.families() {
		for i, fl := range flows(k.bridgeRules, k.v6, links) {
			fate := rules.Ask(fl.packet, nil, fl.hooks...)
			if !fate.Named {
				list.add(fate, fl, k.names...)
				continue
			}
			for _, name := range k.names {
				one := k.bridgeRules
				one.name = name
				fl := flows(one, k.v6, links)[i]
				list.add(rules.Ask(fl.packet, nil, fl.hooks...), fl, name)
			}
		}
	}
	return list
}

type troubles []*trouble

func (list *troubles) add(fate ruleset.Fate, fl flow, bridges ...string) {
	if !fate.Certain() {
		return
	}
	i := slices.IndexFunc(*list, func(t *trouble) bool { return t.chain == fate.By })
	if i < 0 {
		i = len(*list)
		*list = append(*list, &trouble{chain: fate.By, rule: fate.Rule})
	}
	for _, name := range bridges {
		(*list)[i].add(fl, name)
	}
}

func (t *trouble) add(fl flow, bridge string) {
	if !slices.Contains(t.what, fl.what) {
		t.what = append(t.what, fl.what)
	}
	if !slices.Contains(t.bridges, bridge) {
		t.bridges = append(t.bridges, bridge)
	}
	t.in, t.out = t.in || fl.in, t.out || fl.out
}

// shown are the bridges that are up; where none is, what one would meet.
func (f *firewall) shown() []bridgeRules {
	if len(f.bridges) == 0 {
		return []bridgeRules{{name: "muelle0", icc: true}}
	}
	list := make([]bridgeRules, 0, len(f.bridges))
	for _, b := range f.bridges {
		list = append(list, b)
	}
	slices.SortFunc(list, func(a, b bridgeRules) int { return strings.Compare(a.name, b.name) })
	return list
}

// uplinks are the interfaces of the default routes; without one, an unknown one.
func uplinks() []string {
	list, err := rtnl.DefaultInterfaces()
	if err != nil || len(list) == 0 {
		return []string{ruleset.Somewhere}
	}
	return list
}

// reloading is a table that firewalld has while it reloads.
const reloading = "firewalld_policy_drop"

func (t *trouble) key() string { return t.chain.String() + t.remedy() }

// warn keeps a warning, and logs it unless it has been or may pass: then it says so.
func (f *firewall) warn(t *trouble, act bool) (unsure bool) {
	text := fmt.Sprintf("the firewall chain %q drops the containers' traffic (%s; %s); to allow it: %s", t.chain, strings.Join(t.what, ", "), t.rule, t.remedy())
	if slices.Contains(f.foreign.warnings, text) {
		return false
	}
	f.foreign.warnings = append(f.foreign.warnings, text)
	key := t.key()
	if !act || f.foreign.logged[key] || t.chain.Table == reloading {
		return false
	}
	if !f.lasts(key) {
		return true
	}
	if f.foreign.logged == nil {
		f.foreign.logged = map[string]bool{}
	}
	f.foreign.logged[key] = true
	f.log.Warn(text)
	return false
}

// lasts tells whether what was found is no middle of a change.
func (f *firewall) lasts(key string) bool {
	if !f.foreign.asked && time.Since(time.Unix(0, f.changed.Load())) >= settled {
		return true
	}
	since, known := f.foreign.suspected[key]
	if !known {
		if f.foreign.suspected == nil {
			f.foreign.suspected = map[string]time.Time{}
		}
		f.foreign.suspected[key] = time.Now()
	}
	return known && time.Since(since) >= persists
}

// warnings looks again: rules of the old iptables change without news.
func (f *firewall) warnings() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.foreign.asked = true
	defer func() { f.foreign.asked = false }()
	if err := f.lookAround(f.up && len(f.bridges) > 0); err != nil {
		return []string{errors.Join(errors.New("cannot look at other firewalls"), err).Error()}
	}
	return slices.Clone(f.foreign.warnings)
}
