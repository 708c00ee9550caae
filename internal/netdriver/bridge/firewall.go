package bridge

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"muelle/internal/linux/nft"
	"muelle/internal/linux/rtnl"
	"muelle/internal/netdriver"
)

// bridgeRules says in which sets a bridge is.
type bridgeRules struct {
	name                      string
	internal, masquerade, icc bool
	zone                      zoneRules
	// gateways are the bridge's own addresses.
	gateways []netip.Addr
	access   access
}

// firewall is our nftables table and the memory of what is in it. The table comes
// with the first bridge. Its rules are written once; bridges and ports are elements.
type firewall struct {
	name string
	log  *slog.Logger

	mu sync.Mutex
	// recovering: only take note, the kernel still has a former daemon's table.
	recovering bool
	up         bool
	t          *table
	bridges    map[string]bridgeRules
	ports      map[portKey]netdriver.Mapping
	// doomed are elements to be deleted with the next transaction: deleting waits for
	// a grace period, so nobody waits for it.
	doomed map[portKey]netdriver.Mapping
	wg     sync.WaitGroup
	// guarded: we switched forwarding on (or an instance that left us the duty did), of
	// IPv4 and of IPv6.
	guarded [2]bool
	// advertised are the interfaces that believe routers although we have forwarding on,
	// forced those that forwarded IPv6 before.
	advertised  map[string]bool
	forced      []string
	foreign     foreign
	translators translators
	// changed is when others' rules last did, as nanoseconds of Unix, 0 where that is not
	// known; unsure asks for another look, when they have been left alone.
	changed atomic.Int64
	unsure  chan struct{}
	// incomparable is a difference between what is written and what the kernel tells,
	// which writing again does not end.
	incomparable string
	// lan are the prefixes on the host's links, looked up where a zone needs them.
	lan []rtnl.Neighbourhood
	// names are the addresses that zones' names stand for, by bridge.
	names map[string]map[netip.Addr]following
	spoof *spoof
}

func newFirewall(instance string, log *slog.Logger) *firewall {
	name := "muelle"
	if instance != "" {
		name += "-" + instance
	}
	return &firewall{
		unsure: make(chan struct{}, 1),
		name:   name, log: log, recovering: true,
		bridges: map[string]bridgeRules{},
		ports:   map[portKey]netdriver.Mapping{},
		doomed:  map[portKey]netdriver.Mapping{},
		names:   map[string]map[netip.Addr]following{},
		spoof:   newSpoof(name, vethPrefix(instance), log),
	}
}

// addBridge puts a bridge into its sets, and makes the table before the first.
func (f *firewall) addBridge(b bridgeRules) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, had := f.bridges[b.name]
	f.bridges[b.name] = b
	if f.recovering {
		return nil
	}
	changed, err := f.mustGuard()
	switch {
	case err != nil:
	case !f.up || had || changed || f.t.forwards6 != forwards6() || b.zone.zoned() || b.caresForRelays() && f.t.relays == nil:
		err = f.replace()
	default:
		err = f.transaction(func(c *nftables.Conn) error { return f.t.eachSet(b, c.SetAddElements) })
		if changedByOthers(err) {
			err = f.replace()
		}
	}
	if err == nil {
		err = f.allowForwarding()
	}
	if err != nil {
		delete(f.bridges, b.name)
		return err
	}
	return nil
}

// forgetBridge takes a bridge out of memory, removeBridge out of the sets too.
func (f *firewall) forgetBridge(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.bridges, name)
}

func (f *firewall) removeBridge(b bridgeRules) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.bridges, b.name)
	if f.recovering || !f.up {
		return
	}
	f.distrust(b.name)
	if len(f.bridges) == 0 && len(f.ports) == 0 {
		if err := f.removeLocked(); err != nil {
			f.log.Error("firewall table stays behind", "table", f.name, "err", err)
		}
		return
	}
	delete(f.names, b.name)
	var err error
	if b.zone.zoned() {
		err = f.replace()
	} else {
		// The next network may have this one's subnet already.
		err = f.transaction(func(c *nftables.Conn) error {
			return f.t.eachSet(b, func(s *nftables.Set, list []nftables.SetElement) error {
				if f.t.host.holdsGateway(s, list[0], f.bridges) {
					return nil
				}
				return c.SetDeleteElements(s, list)
			})
		})
	}
	if changedByOthers(err) {
		err = f.replace()
	}
	if f.foreign.paired && !hasOurPrefix(b.name) {
		f.inspectForeign() // a rule of its own
	}
	if err = errors.Join(err, f.forbidUnneeded()); err != nil {
		f.log.Error("bridge stays in the firewall's sets", "table", f.name, "bridge", b.name, "err", err)
	}
}

// recover replaces what a former daemon left by what is in memory, or removes it.
func (f *firewall) recover() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.recovering = false
	tables, err := listTables()
	if err != nil {
		return err
	}
	for family := range f.guarded {
		f.guarded[family] = tables.guard(f.name, family)
	}
	if f.guarded[1] {
		if err := f.recallAdvertised(tables); err != nil {
			return err
		}
	}
	f.up = tables.has(f.name)
	f.recallNames()
	if len(f.bridges) == 0 {
		// The table may be gone and the rest not: a daemon was killed in between.
		if f.up {
			return f.removeLocked()
		}
		return f.leaveForeign()
	}
	if _, err := f.mustGuard(); err != nil {
		return err
	}
	if err := f.replace(); err != nil {
		return err
	}
	if err := errors.Join(f.allowForwarding(), f.forbidUnneeded()); err != nil {
		return err
	}
	f.rememberZones()
	if f.foreign.off {
		// A former daemon may have been allowed to.
		if err := f.leaveForeign(); err != nil {
			return err
		}
	}
	f.inspectForeign()
	return nil
}

// replace writes the whole table in one transaction: no packet sees less than the rules.
func (f *firewall) replace() error {
	t := newTable(f.name)
	if f.zoned() {
		if _, err := f.refreshLAN(); err != nil {
			return err
		}
	}
	t.forwards6 = forwards6()
	if f.guarded[1] {
		f.forced = forced6()
	}
	// What joins meanwhile is in the old table and would not be in the new one.
	f.spoof.mu.Lock()
	defer f.spoof.mu.Unlock()
	err := f.transaction(func(c *nftables.Conn) error {
		// Deleting what may not exist fails the transaction; adding first never does.
		c.AddTable(t.table)
		c.DelTable(t.table)
		f.spoof.drop(c)
		return f.fill(c, t)
	})
	if err != nil {
		return fmt.Errorf("write nftables table %s: %w", f.name, err)
	}
	f.t, f.up = t, true
	f.spoof.written(true)
	clear(f.doomed)
	return nil
}

// fill adds all that is ours to a transaction. It changes nothing but t: what it
// leaves is also what the kernel's tables are compared with. The lock of spoof is held.
func (f *firewall) fill(c *nftables.Conn, t *table) error {
	if err := f.spoof.fill(c); err != nil {
		return err
	}
	c.AddTable(t.table)
	if err := f.writeZones(c, t); err != nil {
		return err
	}
	if err := t.write(c, f.bridges, f.ports); err != nil {
		return err
	}
	if err := f.writeRelays(c, t); err != nil {
		return err
	}
	if f.guarded[0] {
		t.guard(c, 0, f.foreign.docker, nil)
	}
	if f.guarded[1] {
		t.guard(c, 1, f.foreign.docker, f.forced)
		return t.writeAdvertised(c, f.advertised)
	}
	return nil
}

// remove takes away the table, what we put into others' chains, and forwarding if
// we were the ones who switched it on.
func (f *firewall) remove() error {
	f.wg.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.bridges)
	clear(f.ports)
	clear(f.doomed)
	if !f.up {
		return nil
	}
	return f.removeLocked()
}

// removeLocked takes the table last: it says that forwarding is ours to put back,
// should the daemon be killed in between.
func (f *firewall) removeLocked() error {
	errs := errors.Join(f.leaveForeign(), f.forbidForwarding())
	f.spoof.mu.Lock()
	defer f.spoof.mu.Unlock()
	err := f.transaction(func(c *nftables.Conn) error {
		c.AddTable(&nftables.Table{Name: f.name, Family: nftables.TableFamilyINet})
		c.DelTable(&nftables.Table{Name: f.name, Family: nftables.TableFamilyINet})
		f.spoof.drop(c)
		return nil
	})
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return errors.Join(errs, fmt.Errorf("remove nftables table %s: %w", f.name, err))
	}
	f.up, f.t = false, nil
	f.spoof.written(false)
	return errs
}

// changedByOthers tells whether a transaction failed because somebody has flushed or
// changed the table, which the watch has not seen yet.
func changedByOthers(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EEXIST)
}

func (f *firewall) transaction(fill func(*nftables.Conn) error) error {
	c, err := nft.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	if err := fill(c); err != nil {
		return err
	}
	return c.Flush()
}

// settle waits for deletions under way.
func (f *firewall) settle() { f.wg.Wait() }
