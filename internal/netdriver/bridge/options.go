package bridge

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"muelle/internal/linux/rtnl"
	"muelle/internal/netdriver"
)

// Driver options, named as Docker documents them.
const (
	optName        = "com.docker.network.bridge.name"
	optICC         = "com.docker.network.bridge.enable_icc"
	optMasquerade  = "com.docker.network.bridge.enable_ip_masquerade"
	optHostBinding = "com.docker.network.bridge.host_binding_ipv4"
	optDefault     = "com.docker.network.bridge.default_bridge"
	optMTU         = "com.docker.network.driver.mtu"
	optMode4       = "com.docker.network.bridge.gateway_mode_ipv4"
	optMode6       = "com.docker.network.bridge.gateway_mode_ipv6"
	optInhibit4    = "com.docker.network.bridge.inhibit_ipv4"
	optTrusted     = "com.docker.network.bridge.trusted_host_interfaces"
	optSource4     = "com.docker.network.host_ipv4"
	optSource6     = "com.docker.network.host_ipv6"
	// OptIfPrefix begins the names of interfaces inside containers instead of eth.
	OptIfPrefix = "com.docker.network.container_iface_prefix"
	optPrefix   = "com.docker.network."
	// Our own: on (the default) or off.
	optGuard = "io.muelle.guard"
)

// options are a network's driver options, understood.
type options struct {
	name            string
	icc, masquerade bool
	inhibit4        bool // the bridge has no IPv4 address
	access          access
	guard           bool // against containers that send as somebody else
	mtu             int  // 0: that of the default route
}

func parse(opts map[string]string) (options, error) {
	o := options{icc: true, masquerade: true, guard: true}
	for key, value := range opts {
		var err error
		switch key {
		case optName:
			o.name, err = value, checkName(value)
		case optICC:
			o.icc, err = strconv.ParseBool(value)
		case optMasquerade:
			o.masquerade, err = strconv.ParseBool(value)
		case optDefault:
			_, err = strconv.ParseBool(value)
		case optMode4:
			o.access.modes[0], err = value, checkMode(value)
		case optMode6:
			o.access.modes[1], err = value, checkMode(value)
		case optInhibit4:
			o.inhibit4, err = strconv.ParseBool(value)
		case optTrusted:
			o.access.trusted, err = splitNames(value)
		case optSource4, optSource6:
			var a netip.Addr
			if a, err = netip.ParseAddr(value); err == nil && a.Is6() != (key == optSource6) {
				err = fmt.Errorf("it is of the other family")
			}
			o.access.sources[index(key == optSource6)] = a
		case OptIfPrefix:
			err = checkName(value + "0")
		case optGuard:
			o.guard, err = onOff(value)
		case optHostBinding:
			_, err = netip.ParseAddr(value)
		case optMTU:
			o.mtu, err = strconv.Atoi(value)
			if err == nil && (o.mtu < 68 || o.mtu > 65535) {
				err = fmt.Errorf("invalid MTU %d", o.mtu)
			}
		default:
			if strings.HasPrefix(key, optPrefix) {
				return o, errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf("driver option %q is not supported", key))
			}
		}
		if err != nil {
			return o, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("failed to parse %s value: %s (%v)", key, value, err))
		}
	}
	return o, nil
}

func onOff(s string) (bool, error) {
	switch s {
	case "on":
		return true, nil
	case "off":
		return false, nil
	}
	return false, fmt.Errorf("want on or off")
}

func checkName(s string) error {
	if s == "" || len(s) > 15 || strings.ContainsFunc(s, notOfName) || strings.ContainsRune(nameSigns, rune(s[0])) {
		return fmt.Errorf("not an interface name (1 to 15 letters, digits and %s, which do not come first)", nameSigns)
	}
	return nil
}

// nameSigns are more narrow than the kernel: names stand in commands that users are given
// to type, and others' rules may mean more than one interface by a plus.
const nameSigns = "_.-"

func notOfName(r rune) bool {
	return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune(nameSigns, r))
}

// HostBinding is the address that ports of the network are published on when none
// is asked for.
func HostBinding(opts map[string]string) netip.Addr {
	if a, err := netip.ParseAddr(opts[optHostBinding]); err == nil {
		return a
	}
	return netip.IPv4Unspecified()
}

// Check implements netdriver.Driver.
func (d *Driver) Check(n netdriver.Network) (string, error) {
	o, err := parse(n.Options)
	switch {
	case err != nil:
		return "", err
	case !n.Internal && (o.access.modes[0] == modeIsolated || o.access.modes[1] == modeIsolated):
		return "", errdefs.ErrInvalidArgument.WithMessage("gateway mode 'isolated' can only be used for an internal network")
	case o.name != "":
		return o.name, nil
	case n.Default:
		return d.defaultName(), nil
	}
	return "mueb" + d.tag() + n.ID[:7], nil
}

func (d *Driver) defaultName() string {
	if d.instance == "" {
		return "muelle0"
	}
	return "muelle-" + d.instance
}

// tag tells instances apart in names of at most fifteen bytes; who owns a bridge
// is settled by its alias.
func (d *Driver) tag() string { return tag(d.instance) }

func tag(instance string) string {
	if instance == "" {
		return "0000"
	}
	return instance[:4]
}

func (d *Driver) vethPrefix() string { return vethPrefix(d.instance) }

func vethPrefix(instance string) string { return "muev" + tag(instance) }

const vethID = 7 // digits of the endpoint's id

func (d *Driver) veth(e netdriver.Endpoint) string { return d.vethPrefix() + e.ID[:vethID] }

// isVeth tells whether veth could have given the name. That of an instance with a tag
// is longer than the default one's.
func (d *Driver) isVeth(name string) bool {
	return strings.HasPrefix(name, d.vethPrefix()) && len(name) == len(d.vethPrefix())+vethID
}

// owner starts the alias of each of our bridges.
func (d *Driver) owner() string { return d.fw.name + " network " }

func (o options) effectiveMTU() int {
	if o.mtu > 0 {
		return o.mtu
	}
	return rtnl.DefaultMTU()
}
