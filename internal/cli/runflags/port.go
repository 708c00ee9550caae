package runflags

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/network"
)

// Ports parses -p and --expose. Published ports are exposed too.
func Ports(publish, expose []string) (network.PortSet, network.PortMap, error) {
	exposed, bound := network.PortSet{}, network.PortMap{}
	for _, p := range publish {
		spec, err := longPort(p)
		if err != nil {
			return nil, nil, err
		}
		if err := publishPort(spec, exposed, bound); err != nil {
			return nil, nil, err
		}
	}
	for _, e := range expose {
		if strings.Contains(e, ":") {
			return nil, nil, fmt.Errorf("invalid port format for --expose: %s", e)
		}
		ports, proto, _ := strings.Cut(e, "/")
		if proto == "" {
			proto = "tcp"
		}
		from, to, err := portRange(ports)
		if err != nil {
			return nil, nil, fmt.Errorf("invalid range format for --expose: %s, error: %w", e, err)
		}
		for n := int(from); n <= int(to); n++ {
			p, _ := network.PortFrom(uint16(n), network.IPProtocol(proto))
			exposed[p] = struct{}{}
		}
	}
	return exposed, bound, nil
}

// longPort turns published=8080,target=80,protocol=tcp into the short form.
func longPort(s string) (string, error) {
	if !strings.Contains(s, "=") {
		return s, nil
	}
	m := map[string]string{"protocol": "tcp"}
	for param := range strings.SplitSeq(s, ",") {
		k, v, ok := strings.Cut(param, "=")
		if !ok || k == "" {
			return "", fmt.Errorf("invalid publish opts format (should be name=value but got '%s')", param)
		}
		switch k {
		case "protocol", "published", "target":
			m[k] = v
		case "mode":
			if v != "host" && v != "ingress" {
				return "", fmt.Errorf("invalid publish mode %q", v)
			}
		default:
			return "", fmt.Errorf("invalid publish opts format: unknown name '%s'", k)
		}
	}
	return m["published"] + ":" + m["target"] + "/" + m["protocol"], nil
}

// publishPort parses [[IP:][HOST[-HOST]]:]PORT[-PORT][/PROTO].
func publishPort(spec string, exposed network.PortSet, bound network.PortMap) error {
	ip, host, target := splitPort(spec)
	target, proto, _ := strings.Cut(target, "/")
	if target == "" {
		return fmt.Errorf("no port specified: %s<empty>", spec)
	}
	if proto = strings.ToLower(proto); proto == "" {
		proto = "tcp"
	}
	if proto != "tcp" && proto != "udp" && proto != "sctp" {
		return errors.New("invalid proto: " + proto)
	}
	addr, err := hostIP(ip)
	if err != nil {
		return err
	}
	from, to, err := portRange(target)
	if err != nil {
		return errors.New("invalid containerPort: " + target)
	}
	var hostFrom, hostTo uint16
	if host != "" {
		if hostFrom, hostTo, err = portRange(host); err != nil {
			return errors.New("invalid hostPort: " + host)
		}
		// A range on the host for one port of the container: any free one of it.
		if to-from != hostTo-hostFrom && to != from {
			return fmt.Errorf("invalid ranges specified for container and host Ports: %s and %s", target, host)
		}
	}
	for n := range int(to) - int(from) + 1 {
		b := network.PortBinding{HostIP: addr}
		if host != "" {
			b.HostPort = strconv.Itoa(int(hostFrom) + n)
			if from == to && hostFrom != hostTo {
				b.HostPort += "-" + strconv.Itoa(int(hostTo))
			}
		}
		p, _ := network.PortFrom(from+uint16(n), network.IPProtocol(proto))
		exposed[p] = struct{}{}
		bound[p] = append(bound[p], b)
	}
	return nil
}

func splitPort(s string) (ip, host, target string) {
	parts := strings.Split(s, ":")
	n := len(parts)
	switch n {
	case 1:
		return "", "", parts[0]
	case 2:
		return "", parts[0], parts[1]
	}
	return strings.Join(parts[:n-2], ":"), parts[n-2], parts[n-1]
}

func hostIP(s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	plain := s
	if s[0] == '[' {
		h, _, err := net.SplitHostPort(s + ":")
		if err != nil {
			return netip.Addr{}, fmt.Errorf("invalid IP address %v: %w", s, err)
		}
		plain = h
	}
	a, err := netip.ParseAddr(plain)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, errors.New("invalid IP address: " + plain)
	}
	return a.Unmap(), nil
}

func portRange(s string) (from, to uint16, err error) {
	if s == "" {
		return 0, 0, errors.New("empty string specified for ports")
	}
	a, b, ok := strings.Cut(s, "-")
	if from, err = portNumber(a); err != nil {
		return 0, 0, fmt.Errorf("invalid start port '%s': %w", a, err)
	}
	if !ok {
		return from, from, nil
	}
	if to, err = portNumber(b); err != nil {
		return 0, 0, fmt.Errorf("invalid end port '%s': %w", b, err)
	}
	if to < from {
		return 0, 0, errors.New("invalid port range: " + s)
	}
	return from, to, nil
}

func portNumber(s string) (uint16, error) {
	if s == "" {
		return 0, errors.New("value is empty")
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, errors.Unwrap(err)
	}
	if n > 65535 {
		return 0, errors.New("value out of range (0–65535)")
	}
	return uint16(n), nil
}
