package main

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"muelle/internal/network"
)

// checkNetworks refuses what cannot be read or contradicts itself.
func (c *config) checkNetworks() error {
	if c.Bridge != "" && (c.BIP != "" || c.BIP6 != "") {
		return errors.New("you specified -b & --bip, mutually exclusive options, please specify only one")
	}
	if c.MTU != 0 && (c.MTU < 68 || c.MTU > 65535) {
		return fmt.Errorf("invalid default MTU: %d", c.MTU)
	}
	for _, a := range []struct {
		name string
		addr netip.Addr
		six  bool
	}{{"default-gateway", c.DefaultGateway, false}, {"default-gateway-v6", c.DefaultGatewayV6, true}, {"ip", c.DefaultIP, false}} {
		if a.addr.IsValid() && a.addr.Is6() != a.six {
			return fmt.Errorf("%s: %s is of the wrong address family", a.name, a.addr)
		}
	}
	for _, p := range c.AddressPools {
		if err := p.check(); err != nil {
			return err
		}
	}
	_, err := c.defaultBridge()
	return err
}

// defaultBridge is what was said of the predefined network.
func (c *config) defaultBridge() (network.DefaultBridge, error) {
	d := network.DefaultBridge{IPv6: c.IPv6, Options: map[string]string{
		"com.docker.network.bridge.enable_icc":           strconv.FormatBool(c.ICC),
		"com.docker.network.bridge.enable_ip_masquerade": strconv.FormatBool(c.Masquerade),
	}}
	switch c.Bridge {
	case "none":
		d.None = true
	default:
		d.Interface = c.Bridge
	}
	for _, p := range []struct {
		name, text string
		six        bool
		to         *[]netip.Prefix
	}{
		{"bip", c.BIP, false, &d.Addresses}, {"bip6", c.BIP6, true, &d.Addresses},
		{"fixed-cidr", c.FixedCIDR, false, &d.Ranges}, {"fixed-cidr-v6", c.FixedCIDRv6, true, &d.Ranges},
	} {
		if p.text == "" {
			continue
		}
		prefix, err := netip.ParsePrefix(p.text)
		if err != nil || prefix.Addr().Is6() != p.six {
			return d, fmt.Errorf("%s: %q is no address with a prefix length", p.name, p.text)
		}
		if p.six && !c.IPv6 {
			continue
		}
		*p.to = append(*p.to, prefix)
	}
	for _, a := range []netip.Addr{c.DefaultGateway, c.DefaultGatewayV6} {
		if a.IsValid() && (a.Is4() || c.IPv6) {
			d.Gateways = append(d.Gateways, a)
		}
	}
	if c.MTU != 0 {
		d.Options["com.docker.network.driver.mtu"] = strconv.Itoa(c.MTU)
	}
	if c.DefaultIP.IsValid() {
		d.Options["com.docker.network.bridge.host_binding_ipv4"] = c.DefaultIP.String()
	}
	return d, nil
}

// hostGateways are the addresses for host-gateway, under the key's new and old name.
func (c *config) hostGateways() []netip.Addr {
	if c.HostGateway.IsValid() {
		return append(slices.Clone(c.HostGateways), c.HostGateway)
	}
	return c.HostGateways
}

// networkOpts are default driver options: by driver, then by name.
type networkOpts map[string]map[string]string

// Set adds one, written as bridge=com.docker.network.driver.mtu=1450.
func (o *networkOpts) Set(text string) error {
	driver, rest, ok := strings.Cut(text, "=")
	name, value, ok2 := strings.Cut(rest, "=")
	if !ok || !ok2 || driver == "" || name == "" {
		return fmt.Errorf("invalid value %q: use DRIVER=OPTION=VALUE", text)
	}
	if *o == nil {
		*o = networkOpts{}
	}
	if (*o)[driver] == nil {
		(*o)[driver] = map[string]string{}
	}
	(*o)[driver][name] = value
	return nil
}

// String lists them.
func (o *networkOpts) String() string {
	var out []string
	for _, driver := range slices.Sorted(maps.Keys(*o)) {
		for _, name := range slices.Sorted(maps.Keys((*o)[driver])) {
			out = append(out, driver+"="+name+"="+(*o)[driver][name])
		}
	}
	return strings.Join(out, " ")
}

// Type is the word in the help text.
func (o *networkOpts) Type() string { return "network-opts" }
