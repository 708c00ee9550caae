package policy

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"muelle/api"
)

// Gateway modes, as Docker names them; nat is what is not said.
const (
	modeUnprotected = "nat-unprotected"
	modeRouted      = "routed"
	modeIsolated    = "isolated"
)

// Driver options of networks that say who reaches whom.
const (
	optionICC        = "com.docker.network.bridge.enable_icc"
	optionBind       = "com.docker.network.bridge.host_binding_ipv4"
	optionTrusted    = "com.docker.network.bridge.trusted_host_interfaces"
	optionMode       = "com.docker.network.bridge.gateway_mode_ipv" // and 4 or 6
	optionMasquerade = "com.docker.network.bridge.enable_ip_masquerade"
	driverBridge     = "bridge"
	driverIPVlan     = "ipvlan"
	optionMACVlan    = "macvlan_mode"
	optionIPVlan     = "ipvlan_flag"
	apart, bySwitch  = "private", "vepa"
)

// Network is one network, a zone. Key identifies it in the world.
type Network struct {
	Key, Name string
	// Driver is bridge, or of those whose containers are on a link of the host's themselves.
	Driver            string
	Internal          bool
	NoIPv4, IPv6      bool
	Mode4, Mode6      string // gateway modes
	Trusted           []string
	TrustsLAN         bool // a trusted interface leads to the LAN,
	TrustsInternet    bool // and on
	Between, Switched bool // who is on it reaches each other; the link's switch decides
	Zone              api.Zone
	// Gateways are this host's addresses on it, where they are known.
	Gateways []netip.Addr
}

// Masquerades tells whether what leaves a bridge for other machines gets the host's address.
func Masquerades(options map[string]string, six bool) bool {
	mode := options[optionMode+"4"]
	if six {
		mode = options[optionMode+"6"]
	}
	on, err := strconv.ParseBool(options[optionMasquerade])
	return mode != modeRouted && (on || err != nil)
}

// NewNetwork describes a network by its driver and that one's options. What of it trusts
// which circle is the caller's to narrow, who may know the host's links.
func NewNetwork(key, name, driver string, options map[string]string, z api.Zone) Network {
	if driver == "" || driver == "default" {
		driver = driverBridge
	}
	n := Network{Key: key, Name: name, Driver: driver, Zone: z, Between: Between(z, options)}
	if driver != driverBridge {
		mode := options[optionMACVlan]
		if driver == driverIPVlan {
			mode = options[optionIPVlan]
		}
		n.Between, n.Switched = mode != apart && mode != bySwitch, mode == bySwitch
		return n
	}
	n.Mode4, n.Mode6 = options[optionMode+"4"], options[optionMode+"6"]
	if list := options[optionTrusted]; list != "" {
		n.Trusted, n.TrustsLAN, n.TrustsInternet = strings.Split(list, ":"), true, true
	}
	return n
}

// Between tells whether a zone and the driver options let containers reach each other.
func Between(z api.Zone, options map[string]string) bool {
	if z.Between != "" {
		return z.Between != api.ZoneDeny
	}
	on, err := strconv.ParseBool(options[optionICC])
	return on || err != nil
}

// linked tells whether its containers are on a link themselves, past this host's rules.
func (n *Network) linked() bool { return n.Driver != "" && n.Driver != driverBridge }

func (n *Network) mode(six bool) string {
	if six {
		return n.Mode6
	}
	return n.Mode4
}

// has tells whether its containers have addresses of a family.
func (n *Network) has(six bool) bool { return six && n.IPv6 || !six && !n.NoIPv4 }

// families that its containers have addresses of: false is IPv4.
func (n *Network) families() []bool {
	return slices.DeleteFunc([]bool{false, true}, func(six bool) bool { return !n.has(six) })
}

// Here tells whether this host has an address of a family on it.
func (n *Network) Here(six bool) bool { return !n.linked() && !n.isolated(six) }

// isolated: this host has no address on it.
func (n *Network) isolated(six bool) bool { return n.mode(six) == modeIsolated }

func (n *Network) publishes(words ...string) bool { return slices.Contains(words, n.Zone.Publish) }

// trusts tells whether a trusted interface leads to a circle.
func (n *Network) trusts(circle string) bool {
	return circle == LAN && n.TrustsLAN || circle == Internet && n.TrustsInternet
}
