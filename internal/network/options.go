package network

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/containerd/errdefs"

	"muelle/internal/linux/netns"
	"muelle/internal/linux/rtnl"
	"muelle/internal/netdriver/bridge"
	"muelle/internal/network/address"
)

// Options of an endpoint (--driver-opt of connect, driver-opt= of --network), named as Docker
// documents them.
const (
	optIfName  = "com.docker.network.endpoint.ifname"
	optSysctls = "com.docker.network.endpoint.sysctls"
)

// ifname gives the name asked for inside the container, or what names there begin with.
func (e *endpoint) ifname() (prefix, name string) {
	prefix = "eth"
	if p := e.net.Options[bridge.OptIfPrefix]; p != "" && e.net.Driver == predefinedBridge {
		prefix = p
	}
	return prefix, e.settings.DriverOpts[optIfName]
}

// checkOptions refuses options that are not known, or not what they should be.
func (e *endpoint) checkOptions() error {
	for key, value := range e.settings.DriverOpts {
		switch key {
		case optIfName:
			if value == "" || len(value) > 15 || value == "lo" || value == "." || value == ".." || strings.ContainsAny(value, "/: \t\n") {
				return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid interface name %q", value))
			}
		case optSysctls:
			if _, err := sysctlsOf(value, "eth0"); err != nil {
				return err
			}
		default:
			if strings.HasPrefix(key, "com.docker.network.") {
				return errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf("endpoint option %q is not supported", key))
			}
		}
	}
	if e.settings.IPAMConfig != nil {
		for _, a := range e.settings.IPAMConfig.LinkLocalIPs {
			if !a.IsLinkLocalUnicast() {
				return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid endpoint settings:\ninvalid link-local IP address %s", a))
			}
		}
	}
	return nil
}

// sysctlsOf reads "net.ipv4.conf.IFNAME.log_martians=1,…" into paths below
// /proc/sys/net and values. Only an interface's own settings are allowed. Docker's client sends
// what --network says in small letters.
func sysctlsOf(option, iface string) (list [][2]string, err error) {
	for _, part := range strings.Split(option, ",") {
		key, value, ok := strings.Cut(part, "=")
		fields := strings.Split(strings.TrimSpace(key), ".")
		if !ok || len(fields) != 5 || fields[0] != "net" || !strings.EqualFold(fields[3], "IFNAME") || strings.ContainsAny(key, "/") ||
			!(fields[1] == "ipv4" || fields[1] == "ipv6" || fields[1] == "mpls") || !(fields[2] == "conf" || fields[2] == "neigh") {
			return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid endpoint sysctl %q: want net.ipv4.conf.IFNAME.NAME=VALUE", part))
		}
		list = append(list, [2]string{strings.Join([]string{fields[1], fields[2], iface, fields[4]}, "/"), value})
	}
	return list, nil
}

// setSysctls sets what was asked for of the interface, once it is there.
func (e *endpoint) setSysctls() error {
	option := e.settings.DriverOpts[optSysctls]
	if option == "" || e.sandbox.ns == nil {
		return nil
	}
	list, err := sysctlsOf(option, e.iface)
	if err != nil {
		return err
	}
	return netns.Do(e.sandbox.ns, func() error {
		for _, kv := range list {
			if err := rtnl.Sysctl(kv[0], kv[1]); err != nil {
				return errdefs.ErrInvalidArgument.WithMessage(err.Error())
			}
		}
		return nil
	})
}

// linkLocal are the further addresses that somebody asked for.
func (e *endpoint) linkLocal() (list []netip.Prefix) {
	if e.settings.IPAMConfig == nil {
		return nil
	}
	for _, a := range e.settings.IPAMConfig.LinkLocalIPs {
		bits := 16
		if a.Is6() {
			bits = 64
		}
		list = append(list, netip.PrefixFrom(a, bits))
	}
	return list
}

// pools are those of one address family. Of IPv6 there is always one: a unique local
// range (RFC 4193) that is this machine's own.
func (s *Service) pools(six bool) (list []address.Pool) {
	for _, p := range s.o.AddressPools {
		if p.Base.Addr().Is6() == six {
			list = append(list, p)
		}
	}
	if len(list) > 0 {
		return list
	}
	if !six {
		return address.DefaultPools()
	}
	return []address.Pool{{Base: uniqueLocal(s.o.Root), Size: 64}}
}

// uniqueLocal is a /48 made of what stays the same on this machine.
func uniqueLocal(otherwise string) netip.Prefix {
	seed, err := os.ReadFile("/etc/machine-id")
	if err != nil || len(strings.TrimSpace(string(seed))) == 0 {
		name, _ := os.Hostname()
		seed = []byte(name + otherwise)
	}
	sum := sha256.Sum256(append([]byte("muelle network "), seed...))
	a := [16]byte{0xfd}
	copy(a[1:6], sum[:5])
	return netip.PrefixFrom(netip.AddrFrom16(a), 48)
}
