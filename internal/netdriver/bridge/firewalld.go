package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/godbus/dbus/v5"
)

// What firewalld answers to; man firewalld.dbus.
const (
	firewalldName = "org.fedoraproject.FirewallD1"
	firewalldPath = "/org/fedoraproject/FirewallD1"
	zoneMethods   = "org.fedoraproject.FirewallD1.zone."
	// trustedZone accepts everything; ownZone is taken instead where the administrator made one.
	trustedZone, ownZone = "trusted", "muelle"
)

// firewalldPatience is how long firewalld may take, with the firewall's lock held.
const firewalldPatience = 3 * time.Second

// askFirewalld calls f with firewalld's object; one that does not run is not started.
func askFirewalld(f func(call func(method string, out any, args ...any) error) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), firewalldPatience)
	defer cancel()
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("connect to the system bus: %w", err)
	}
	defer conn.Close()
	object := conn.Object(firewalldName, firewalldPath)
	return f(func(method string, out any, args ...any) error {
		if err := object.CallWithContext(ctx, zoneMethods+method, dbus.FlagNoAutoStart, args...).Store(out); err != nil {
			return fmt.Errorf("firewalld: %s: %w", method, err)
		}
		return nil
	})
}

// trust puts bridges that are in no zone into one that lets their traffic through:
// until firewalld is reloaded, and then again. It tells whether any was.
func (f *firewall) trust(bridges []string) (changed bool, err error) {
	if len(bridges) == 0 {
		return false, nil
	}
	err = askFirewalld(func(call func(string, any, ...any) error) error {
		var zones []string
		if err := call("getZones", &zones); err != nil {
			return err
		}
		zone := trustedZone
		if slices.Contains(zones, ownZone) {
			zone = ownZone
		}
		var errs []error
		for _, b := range bridges {
			var at string
			if err := call("getZoneOfInterface", &at, b); err != nil {
				errs = append(errs, err)
				continue
			}
			if at != "" {
				continue // the administrator's choice
			}
			if err := call("addInterface", &at, zone, b); err != nil {
				errs = append(errs, err)
				continue
			}
			f.log.Info("bridge put into a zone of firewalld", "bridge", b, "zone", zone)
			f.noteTrusted(b, zone)
			changed = true
		}
		return errors.Join(errs...)
	})
	return changed, err
}

// rememberZones finds the bridges that a former daemon put into a zone, as far as
// their names are ours: they are taken out again some day.
func (f *firewall) rememberZones() {
	rules, err := readForeign()
	if err != nil || !ownedByFirewalld(rules) {
		return
	}
	err = askFirewalld(func(call func(string, any, ...any) error) error {
		var errs []error
		for b := range f.bridges {
			var at string
			if !hasOurPrefix(b) {
				continue
			}
			err := call("getZoneOfInterface", &at, b)
			if err == nil && (at == trustedZone || at == ownZone) {
				f.noteTrusted(b, at)
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
	if err != nil {
		f.log.Debug("firewalld is not asked", "err", err)
	}
}

func (f *firewall) noteTrusted(bridge, zone string) {
	if f.foreign.zoned == nil {
		f.foreign.zoned = map[string]string{}
	}
	f.foreign.zoned[bridge] = zone
}

// distrust takes a bridge out of the zone that trust put it into, in the background.
func (f *firewall) distrust(bridge string) {
	zone := f.foreign.zoned[bridge]
	if zone == "" {
		return
	}
	delete(f.foreign.zoned, bridge)
	f.wg.Go(func() {
		err := askFirewalld(func(call func(string, any, ...any) error) error {
			var at string
			return call("removeInterface", &at, zone, bridge)
		})
		if err != nil {
			f.log.Debug("bridge stays in a zone of firewalld", "bridge", bridge, "zone", zone, "err", err)
		}
	})
}
