package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"github.com/spf13/cobra"

	"muelle/api"
	"muelle/internal/cli/runflags"
	"muelle/internal/policy"
)

func (a *app) network() *cobra.Command {
	inspect := a.inspectCommand("inspect [OPTIONS] NETWORK [NETWORK...]", "Display detailed information on one or more networks", func(c *cobra.Command) func() inspector {
		verbose := c.Flags().BoolP("verbose", "v", false, "Verbose output for diagnostics")
		return func() inspector { return networkInspector(*verbose) }
	})
	return a.group("network", "Manage networks", a.networkCreate(), a.networkLs(), inspect, a.networkRm(),
		a.prune(networkPruner(), "Remove all unused networks"), a.networkConnect(), a.networkDisconnect())
}

func (a *app) networkCreate() *cobra.Command {
	var r network.CreateRequest
	var ipam ipamFlags
	var driverOpts runflags.Map
	labels := runflags.List{Check: runflags.CheckLabel}
	var ipv4, ipv6 bool
	var configFrom string
	var zones []string
	var c *cobra.Command
	c = a.command("create [OPTIONS] NETWORK", "Create a network", exactArgs(1), func(ctx context.Context, args []string) error {
		var err error
		if r.IPAM, err = ipam.config(); err != nil {
			return err
		}
		r.Name, r.Labels, r.Options = args[0], runflags.Pairs(labels.Values), driverOpts.Values
		if r.Options, err = withZone(r.Options, zones); err != nil {
			return err
		}
		if c.Flags().Changed("ipv4") {
			r.EnableIPv4 = &ipv4
		}
		if c.Flags().Changed("ipv6") {
			r.EnableIPv6 = &ipv6
		}
		if configFrom != "" {
			r.ConfigFrom = &network.ConfigReference{Network: configFrom}
		}
		engine, err := a.api(ctx)
		if err != nil {
			return err
		}
		out, err := engine.Networks.Create(ctx, r)
		if err != nil {
			return err
		}
		if out.Warning != "" {
			a.warn([]string{out.Warning})
		}
		_, _ = fmt.Fprintln(a.Out, out.ID)
		return nil
	})
	f := c.Flags()
	f.StringVarP(&r.Driver, "driver", "d", "bridge", "Driver to manage the Network")
	f.VarP(&driverOpts, "opt", "o", "Set driver specific options")
	f.Var(&labels, "label", "Set metadata on a network")
	f.StringArrayVar(&zones, "zone", nil, "What the network may do: publish=none|host|lan|any, egress=none|any|NAME,ADDRESS,…, between=deny|allow")
	f.BoolVar(&r.Internal, "internal", false, "Restrict external access to the network")
	f.BoolVar(&ipv4, "ipv4", true, "Enable or disable IPv4 address assignment")
	f.BoolVar(&ipv6, "ipv6", false, "Enable or disable IPv6 address assignment")
	f.BoolVar(&r.Attachable, "attachable", false, "Enable manual container attachment")
	f.BoolVar(&r.Ingress, "ingress", false, "Create swarm routing-mesh network")
	f.StringVar(&r.Scope, "scope", "", "Control the network's scope")
	f.BoolVar(&r.ConfigOnly, "config-only", false, "Create a configuration only network")
	f.StringVar(&configFrom, "config-from", "", "The network from which to copy the configuration")
	f.StringVar(&ipam.driver, "ipam-driver", "default", "IP Address Management Driver")
	f.StringSliceVar(&ipam.subnets, "subnet", nil, "Subnet in CIDR format that represents a network segment")
	f.StringSliceVar(&ipam.ranges, "ip-range", nil, "Allocate container ip from a sub-range")
	f.StringSliceVar(&ipam.gateways, "gateway", nil, "IPv4 or IPv6 Gateway for the master subnet")
	f.Var(&ipam.auxAddresses, "aux-address", "Auxiliary IPv4 or IPv6 addresses used by Network driver")
	f.Var(&ipam.ipamOptsFlag, "ipam-opt", "Set IPAM driver specific options")
	return c
}

// withZone adds what --zone says to the driver options, which carry it.
func withZone(options map[string]string, zones []string) (map[string]string, error) {
	if len(zones) == 0 {
		return options, nil
	}
	var z api.Zone
	for _, arg := range zones {
		key, value, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, fmt.Errorf("--zone %s: it must be KEY=VALUE, such as publish=host", arg)
		}
		if err := policy.Set(&z, strings.TrimSpace(key), strings.TrimSpace(value)); err != nil {
			return nil, fmt.Errorf("--zone %s: %w", arg, err)
		}
	}
	return policy.ToOptions(options, z), nil
}

func (a *app) networkRm() *cobra.Command {
	var force bool
	c := a.command("rm NETWORK [NETWORK...]", "Remove one or more networks", minArgs(1), func(ctx context.Context, args []string) error {
		api, err := a.api(ctx)
		if err != nil {
			return err
		}
		failed := false
		for _, ref := range args {
			switch err := api.Networks.Remove(ctx, ref); {
			case err == nil:
				_, _ = fmt.Fprintln(a.Out, ref)
			case force && errdefs.IsNotFound(err):
			default:
				_, _ = fmt.Fprintln(a.Err, err)
				failed = true
			}
		}
		if failed {
			return statusError{1, "exit status 1"}
		}
		return nil
	})
	c.Flags().BoolVarP(&force, "force", "f", false, "Do not error if the network does not exist")
	c.Aliases = []string{"remove"}
	return a.also(c, "network rm", "network remove")
}

func (a *app) networkConnect() *cobra.Command {
	var ip, ip6 string
	links := runflags.List{}
	var aliases, linkLocal, driverOpts []string
	var priority int
	c := a.command("connect [OPTIONS] NETWORK CONTAINER", "Connect a container to a network", exactArgs(2), func(ctx context.Context, args []string) error {
		e := &network.EndpointSettings{IPAMConfig: &network.EndpointIPAMConfig{}, Links: links.Values, Aliases: aliases, GwPriority: priority, DriverOpts: map[string]string{}}
		for _, o := range driverOpts {
			k, v, ok := strings.Cut(o, "=")
			if k = strings.TrimSpace(k); !ok || k == "" {
				return errors.New("invalid key/value pair format in driver options")
			}
			e.DriverOpts[k] = strings.TrimSpace(v)
		}
		for flag, at := range map[string]*netip.Addr{ip: &e.IPAMConfig.IPv4Address, ip6: &e.IPAMConfig.IPv6Address} {
			if flag == "" {
				continue
			}
			addr, err := netip.ParseAddr(flag)
			if err != nil {
				return fmt.Errorf("invalid IP address: %s", flag)
			}
			*at = addr
		}
		for _, l := range linkLocal {
			addr, err := netip.ParseAddr(l)
			if err != nil {
				return fmt.Errorf("invalid IP address: %s", l)
			}
			e.IPAMConfig.LinkLocalIPs = append(e.IPAMConfig.LinkLocalIPs, addr)
		}
		api, err := a.api(ctx)
		if err != nil {
			return err
		}
		return api.Networks.Connect(ctx, args[0], args[1], e)
	})
	f := c.Flags()
	f.StringVar(&ip, "ip", "", `IPv4 address (e.g., "172.30.100.104")`)
	f.StringVar(&ip6, "ip6", "", `IPv6 address (e.g., "2001:db8::33")`)
	f.Var(&links, "link", "Add link to another container")
	f.StringSliceVar(&aliases, "alias", nil, "Add network-scoped alias for the container")
	f.StringSliceVar(&linkLocal, "link-local-ip", nil, "Add a link-local address for the container")
	f.StringSliceVar(&driverOpts, "driver-opt", nil, "driver options for the network")
	f.IntVar(&priority, "gw-priority", 0, "Highest gw-priority provides the default gateway. Accepts positive and negative values.")
	return c
}

func (a *app) networkDisconnect() *cobra.Command {
	var force bool
	c := a.command("disconnect [OPTIONS] NETWORK CONTAINER", "Disconnect a container from a network", exactArgs(2), func(ctx context.Context, args []string) error {
		api, err := a.api(ctx)
		if err != nil {
			return err
		}
		return api.Networks.Disconnect(ctx, args[0], args[1], force)
	})
	c.Flags().BoolVarP(&force, "force", "f", false, "Force the container to disconnect from a network")
	return c
}
