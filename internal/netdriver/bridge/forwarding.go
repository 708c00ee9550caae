package bridge

import (
	"errors"
	"fmt"

	"muelle/internal/linux/rtnl"
)

// forwardSysctls switch forwarding on, of IPv4 and of IPv6.
var forwardSysctls = [2]string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"}

// forwards6 tells whether this host forwards IPv6.
func forwards6() bool { return rtnl.SysctlIs(forwardSysctls[1], 1) }

// leads6 tells whether the world and a bridge's containers find each other by IPv6.
func (b bridgeRules) leads6() bool {
	if b.internal {
		return false
	}
	for _, a := range b.gateways {
		if a.Is6() {
			return true
		}
	}
	return false
}

// needs tells whether some bridge needs a family's forwarding.
func (f *firewall) needs(family int) bool {
	if family == 0 {
		return len(f.bridges) > 0
	}
	for _, b := range f.bridges {
		if b.leads6() {
			return true
		}
	}
	return false
}

// mustGuard decides whether the table has the guards: where forwarding is off and
// we are about to switch it on, or another instance did. It tells whether that changed.
func (f *firewall) mustGuard() (changed bool, err error) {
	for family, name := range forwardSysctls {
		if f.guarded[family] || !f.needs(family) {
			continue
		}
		all, err := listTables()
		if err != nil {
			return changed, err
		}
		f.guarded[family] = rtnl.SysctlIs(name, 0) || all.guarded(family)
		if f.guarded[family] && family == 1 {
			if err := f.noteAdvertised(all); err != nil {
				return changed, err
			}
		}
		changed = changed || f.guarded[family]
	}
	return changed, nil
}

// allowForwarding switches on what is needed, once the rules are there.
func (f *firewall) allowForwarding() error {
	for family, name := range forwardSysctls {
		if !f.needs(family) {
			continue
		}
		if family == 1 && f.guarded[family] {
			// First: the kernel forgets the routers that it was told of by interfaces with 1.
			if err := f.keepAdvertised(); err != nil {
				return fmt.Errorf("allow forwarding: %w", err)
			}
		}
		if rtnl.SysctlIs(name, 1) {
			continue
		}
		f.log.Info("switching on forwarding between interfaces", "sysctl", "net/"+name)
		if err := rtnl.Sysctl(name, "1"); err != nil {
			return fmt.Errorf("allow forwarding: %w", err)
		}
	}
	if f.t != nil && f.t.forwards6 != forwards6() {
		return f.replace()
	}
	return nil
}

// forbidForwarding puts back what we switched on, of both families.
func (f *firewall) forbidForwarding() error {
	return errors.Join(f.forbid(0), f.forbid(1))
}

// forbid puts a family's forwarding back where we switched it on, unless somebody
// needs it now: another instance, which then has the duty, or Docker, which takes
// it for granted when it finds it on.
func (f *firewall) forbid(family int) error {
	if !f.guarded[family] {
		return nil
	}
	all, err := listTables()
	if err != nil {
		return err
	}
	f.guarded[family] = false
	delete(all, f.name)
	if all.guarded(family) || f.foreign.docker {
		return nil
	}
	if family == 1 {
		return f.forbid6()
	}
	if err := rtnl.Sysctl(forwardSysctls[family], "0"); err != nil {
		return fmt.Errorf("put back forwarding: %w", err)
	}
	return nil
}

// forbidUnneeded ends the forwarding of IPv6 with the last bridge that needs it; IPv4's
// goes with the table.
func (f *firewall) forbidUnneeded() error {
	if !f.guarded[1] || f.needs(1) {
		return nil
	}
	return errors.Join(f.forbid(1), f.replace())
}
