package runflags

import (
	"encoding/csv"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// attachment is one --network.
type attachment struct {
	target         string
	aliases, links []string
	driverOpts     map[string]string
	ip, ip6, mac   string
	linkLocalIPs   []string
	gwPriority     int
}

type networks struct{ values []attachment }

func (*networks) Type() string   { return "network" }
func (*networks) String() string { return "" }

func (n *networks) Set(s string) error {
	a := attachment{target: s}
	if regexp.MustCompile(`\w+=\w+(,\w+=\w+)*`).MatchString(s) {
		var err error
		if a, err = longNetwork(s); err != nil {
			return err
		}
	}
	n.values = append(n.values, a)
	return nil
}

// longNetwork parses name=NET,alias=A,ip=….
func longNetwork(s string) (attachment, error) {
	var a attachment
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil {
		return a, err
	}
	for _, f := range fields {
		k, v, ok := strings.Cut(strings.ToLower(f), "=")
		if !ok || k == "" {
			return a, fmt.Errorf("invalid field %s", f)
		}
		k, v = strings.TrimSpace(k), strings.TrimSpace(v)
		switch k {
		case "name":
			a.target = v
		case "alias":
			a.aliases = append(a.aliases, v)
		case "ip":
			a.ip = v
		case "ip6":
			a.ip6 = v
		case "mac-address":
			a.mac = v
		case "link-local-ip":
			a.linkLocalIPs = append(a.linkLocalIPs, v)
		case "driver-opt":
			dk, dv, ok := strings.Cut(v, "=")
			if !ok || dk == "" {
				return a, errors.New("invalid key value pair format in driver options")
			}
			if a.driverOpts == nil {
				a.driverOpts = map[string]string{}
			}
			a.driverOpts[strings.TrimSpace(dk)] = strings.TrimSpace(dv)
		case "gw-priority":
			if a.gwPriority, err = strconv.Atoi(v); err != nil {
				return a, fmt.Errorf("invalid gw-priority (%s): %w", v, errors.Unwrap(err))
			}
		default:
			return a, errors.New("invalid field key " + k)
		}
	}
	if a.target == "" {
		return a, errors.New("network name/id is not specified")
	}
	return a, nil
}

func (n *networks) mode() container.NetworkMode {
	if len(n.values) == 0 {
		return network.NetworkDefault
	}
	return container.NetworkMode(n.values[0].target)
}

// endpoints makes the endpoints' settings. The flags without a network's name
// belong to the first one.
func (o *Options) endpoints() (map[string]*network.EndpointSettings, error) {
	out := map[string]*network.EndpointSettings{}
	all := o.networks.values
	if len(all) == 0 {
		all = []attachment{{target: network.NetworkDefault}}
	}
	userDefined, other := false, false
	for i, a := range all {
		if len(o.networks.values) > 0 && container.NetworkMode(a.target).IsUserDefined() {
			userDefined = true
		} else if len(o.networks.values) > 0 {
			other = true
		}
		if i == 0 {
			if err := o.applyTo(&a); err != nil {
				return nil, err
			}
		}
		e, err := a.settings()
		if err != nil {
			return nil, err
		}
		if _, ok := out[a.target]; ok {
			return nil, fmt.Errorf("network %q is specified multiple times", a.target)
		}
		// The daemon makes an endpoint without settings itself; older ones take one
		// network only.
		if len(o.networks.values) == 1 && empty(e) {
			continue
		}
		out[a.target] = e
	}
	if userDefined && other {
		return nil, errors.New("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
	}
	return out, nil
}

func empty(e *network.EndpointSettings) bool {
	return e.IPAMConfig == nil && e.Links == nil && e.Aliases == nil && e.DriverOpts == nil && e.GwPriority == 0 && e.MacAddress == nil
}

func (o *Options) applyTo(a *attachment) error {
	conflict := func(flag, what string) error {
		return fmt.Errorf("conflicting options: cannot specify both --%s and per-network %s", flag, what)
	}
	switch {
	case len(a.aliases) > 0 && len(o.aliases.Values) > 0:
		return conflict("network-alias", "alias")
	case a.ip != "" && o.ip != "":
		return conflict("ip", "IPv4 address")
	case a.ip6 != "" && o.ip6 != "":
		return conflict("ip6", "IPv6 address")
	case a.mac != "" && o.macAddress != "":
		return conflict("mac-address", "MAC address")
	case len(a.linkLocalIPs) > 0 && len(o.linkLocalIPs.Values) > 0:
		return conflict("link-local-ip", "link-local IP addresses")
	}
	a.aliases = append(a.aliases, o.aliases.Values...)
	a.linkLocalIPs = append(a.linkLocalIPs, o.linkLocalIPs.Values...)
	// On the default bridge --link is the old kind, in HostConfig.
	if container.NetworkMode(a.target).IsUserDefined() {
		a.links = append(a.links, o.links.Values...)
	}
	a.ip += o.ip
	a.ip6 += o.ip6
	a.mac += o.macAddress
	return nil
}

func (a attachment) settings() (*network.EndpointSettings, error) {
	if strings.TrimSpace(a.target) == "" {
		return nil, errors.New("no name set for network")
	}
	if !container.NetworkMode(a.target).IsUserDefined() {
		if len(a.aliases) > 0 {
			return nil, errors.New("network-scoped aliases are only supported for user-defined networks")
		}
		if len(a.links) > 0 {
			return nil, errors.New("links are only supported for user-defined networks")
		}
	}
	e := &network.EndpointSettings{Aliases: a.aliases, Links: a.links, DriverOpts: a.driverOpts, GwPriority: a.gwPriority}
	if a.mac != "" {
		mac, err := net.ParseMAC(strings.TrimSpace(a.mac))
		if err != nil {
			return nil, fmt.Errorf("%s is not a valid mac address", a.mac)
		}
		e.MacAddress = network.HardwareAddr(mac)
	}
	return e, a.addresses(e)
}

// addresses fills in what --ip, --ip6 and --link-local-ip ask for.
func (a attachment) addresses(e *network.EndpointSettings) error {
	if a.ip == "" && a.ip6 == "" && len(a.linkLocalIPs) == 0 {
		return nil
	}
	e.IPAMConfig = &network.EndpointIPAMConfig{}
	parse := func(s, kind string, ok func(netip.Addr) bool) (netip.Addr, error) {
		if s == "" {
			return netip.Addr{}, nil
		}
		ip, err := netip.ParseAddr(s)
		if err != nil || !ok(ip) {
			return netip.Addr{}, fmt.Errorf("invalid %s address: %s", kind, s)
		}
		return ip, nil
	}
	var err error
	if e.IPAMConfig.IPv4Address, err = parse(a.ip, "IPv4", netip.Addr.Is4); err != nil {
		return err
	}
	if e.IPAMConfig.IPv6Address, err = parse(a.ip6, "IPv6", netip.Addr.Is6); err != nil {
		return err
	}
	for _, s := range a.linkLocalIPs {
		ip, err := parse(s, "link-local", netip.Addr.IsValid)
		if err != nil {
			return err
		}
		e.IPAMConfig.LinkLocalIPs = append(e.IPAMConfig.LinkLocalIPs, ip)
	}
	return nil
}
