package bridge

import (
	"fmt"

	"muelle/internal/linux/rtnl"
)

const ipForward = "ipv4/ip_forward"

// forwards6 tells whether this host forwards IPv6. That is decided by its owner: it
// then believes no router advertisements.
func forwards6() bool { return rtnl.SysctlIs("ipv6/conf/all/forwarding", 1) }

// mustGuard decides whether the table has the guard: where ip_forward is off and
// we are about to switch it on, or another instance did. It tells whether that changed.
func (f *firewall) mustGuard() (changed bool, err error) {
	if f.guarded {
		return false, nil
	}
	if rtnl.SysctlIs(ipForward, 0) {
		f.guarded = true
		return true, nil
	}
	all, err := listTables()
	if err != nil {
		return false, err
	}
	f.guarded = all.guarded()
	return f.guarded, nil
}

// allowForwarding switches ip_forward on, once the rules are there.
func (f *firewall) allowForwarding() error {
	if rtnl.SysctlIs(ipForward, 1) {
		return nil
	}
	f.log.Info("switching on forwarding between interfaces", "sysctl", "net.ipv4.ip_forward")
	if err := rtnl.Sysctl(ipForward, "1"); err != nil {
		return fmt.Errorf("allow forwarding: %w", err)
	}
	return nil
}

// forbidForwarding puts ip_forward back where we switched it on, unless somebody
// needs it now: another instance, which then has the duty, or Docker, which takes
// it for granted when it finds it on.
func (f *firewall) forbidForwarding() error {
	if !f.guarded {
		return nil
	}
	f.guarded = false
	all, err := listTables()
	if err != nil {
		return err
	}
	delete(all, f.name)
	if all.guarded() || f.foreign.docker {
		return nil
	}
	if err := rtnl.Sysctl(ipForward, "0"); err != nil {
		return fmt.Errorf("put back forwarding: %w", err)
	}
	return nil
}
