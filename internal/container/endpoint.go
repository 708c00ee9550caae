package container

import (
	"strings"
	"unicode"

	ctypes "github.com/moby/moby/api/types/container"
	mnet "github.com/moby/moby/api/types/network"
)

// endpoints gives the networks that a container is attached to, by name.
func (s *Service) endpoints(hc *ctypes.HostConfig, n *mnet.NetworkingConfig) (map[string]*mnet.EndpointSettings, error) {
	out := map[string]*mnet.EndpointSettings{}
	if n != nil {
		for name, settings := range n.EndpointsConfig {
			if name == mnet.NetworkDefault {
				name = mnet.NetworkBridge
			}
			if err := validateEndpoint(name, settings); err != nil {
				return nil, err
			}
			out[s.networkName(name)] = settings.Copy()
		}
	}
	mode := string(hc.NetworkMode)
	switch {
	case hc.NetworkMode.IsContainer():
		if len(out) > 0 {
			return nil, invalid("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
		}
		return out, nil
	case hc.NetworkMode.IsHost(), hc.NetworkMode.IsNone():
		for name := range out {
			if name != mode {
				return nil, invalid("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
			}
		}
		if e := out[mode]; e != nil && e.IPAMConfig != nil && (e.IPAMConfig.IPv4Address.IsValid() || e.IPAMConfig.IPv6Address.IsValid()) {
			return nil, invalid("invalid endpoint settings:\nuser specified IP address is supported on user defined networks only")
		}
		if out[mode] == nil {
			out[mode] = nil
		}
	case hc.NetworkMode.IsBridge():
		// Docker attaches to the bridge only where no endpoint says otherwise.
		if len(out) == 0 {
			out[mode] = nil
		}
	default:
		if _, ok := out[s.networkName(mode)]; !ok {
			out[s.networkName(mode)] = nil
		}
	}
	for name, settings := range out {
		if settings == nil {
			out[name] = &mnet.EndpointSettings{}
		}
	}
	return out, nil
}

func validateEndpoint(name string, e *mnet.EndpointSettings) error {
	if name == "" {
		return invalid("no network name or ID supplied")
	}
	if e == nil {
		return nil
	}
	for _, l := range e.Links {
		if _, _, err := parseLink(l); err != nil {
			return err
		}
	}
	for _, a := range e.Aliases {
		if a == "" || strings.ContainsFunc(a, func(r rune) bool { return r == ' ' || unicode.IsControl(r) }) {
			return invalid("invalid alias %q for network %s", a, name)
		}
	}
	return nil
}

// networkName gives a network's name for a name or id; one that does not exist
// (yet) keeps what was asked for, and the start says so.
func (s *Service) networkName(ref string) string {
	n, err := s.o.Networks.Get(ref)
	if err != nil {
		return ref
	}
	return n.Name
}
