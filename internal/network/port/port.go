// Package port reserves ports of the host with bound sockets. The sockets carry no
// traffic (the firewall translates it before it would reach them); they keep others
// from taking the port, and are found taken when others have it.
package port

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/network"
)

// Request asks for one published port.
type Request struct {
	Container network.Port
	// Host is the address asked for, or the zero value: any.
	Host netip.Addr
	// Start and End are the range to choose from; both zero: any port.
	Start, End uint16
	// Owner is what may share the port with others of the same name, as replicas of a
	// service do; empty: nothing may. Ports chosen from a range are never shared.
	Owner string
	// Elsewhere, which may be nil, says who has a port without a socket, because the
	// firewall sends on what comes for it; "": nobody.
	Elsewhere func(proto string, host netip.AddrPort) string
}

// Satisfied tells whether a binding is one that the request may have been given.
func (r Request) Satisfied(b Binding) bool {
	if b.Container != r.Container || r.Host.IsValid() && (b.Both || b.Host.Addr() != r.Host) {
		return false
	}
	return r.Start == 0 || r.Start <= b.Host.Port() && b.Host.Port() <= r.End
}

// Parse reads a binding of the API.
func Parse(container network.Port, b network.PortBinding) (Request, error) {
	r := Request{Container: container, Host: b.HostIP.Unmap()}
	if proto := container.Proto(); proto != network.TCP && proto != network.UDP && proto != network.SCTP {
		return r, notSupported("publishing %s ports is not supported", strings.ToUpper(string(proto)))
	}
	if zone := b.HostIP.Zone(); zone != "" {
		return r, notSupported("publishing on an address with a zone (%s) is not supported: publish on [::]", b.HostIP)
	}
	if b.HostPort == "" || b.HostPort == "0" {
		return r, nil
	}
	first, second, isRange := strings.Cut(b.HostPort, "-")
	start, err := strconv.ParseUint(first, 10, 16)
	end := start
	if err == nil && isRange {
		end, err = strconv.ParseUint(second, 10, 16)
	}
	if err != nil || start == 0 || end < start {
		return r, invalid("invalid port specification: %q", b.HostPort)
	}
	r.Start, r.End = uint16(start), uint16(end)
	return r, nil
}

// Binding is a reserved port.
type Binding struct {
	Container network.Port
	// Host is an address of the host, or all of them of a family.
	Host netip.AddrPort
	// Both: Host is [::] and the socket reserves 0.0.0.0 too.
	Both bool
	// File is the socket. On addresses of IPv6 it hears what comes by IPv6, for a relay:
	// it listens (TCP, SCTP) or is bound (UDP).
	File *os.File
}

// Hosts are the addresses that the binding stands for.
func (b Binding) Hosts() []netip.AddrPort {
	if b.Both {
		return []netip.AddrPort{netip.AddrPortFrom(netip.IPv4Unspecified(), b.Host.Port()), b.Host}
	}
	return []netip.AddrPort{b.Host}
}

// Relays tells whether the socket's traffic is to be passed on.
func (b Binding) Relays() bool { return b.Host.Addr().Is6() }

// Name is the binding as text, parsed by ParseName.
func (b Binding) Name() string {
	name := make([]byte, 0, 32)
	if b.Both {
		name = strconv.AppendUint(append(name, "port *:"...), uint64(b.Host.Port()), 10)
	} else {
		name = b.Host.AppendTo(append(name, "port "...))
	}
	name = strconv.AppendUint(append(name, ' '), uint64(b.Container.Num()), 10)
	return string(append(append(name, '/'), b.Container.Proto()...))
}

// ParseName reads what Name wrote; false if it is something else.
func ParseName(s string) (Binding, bool) {
	fields := strings.Fields(s)
	if len(fields) != 3 || fields[0] != "port" {
		return Binding{}, false
	}
	var b Binding
	var err error
	if p, ok := strings.CutPrefix(fields[1], "*:"); ok {
		n, perr := strconv.ParseUint(p, 10, 16)
		b.Host, b.Both, err = netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(n)), true, perr
	} else {
		b.Host, err = netip.ParseAddrPort(fields[1])
	}
	if err != nil {
		return Binding{}, false
	}
	b.Container, err = network.ParsePort(fields[2])
	return b, err == nil
}

// TakenError tells that a port is in use.
type TakenError struct {
	Host  netip.AddrPort
	Proto network.IPProtocol
	// By says who has it, where that is known already.
	By string
}

func (e *TakenError) Error() string {
	return fmt.Sprintf("%s/%s: address already in use", e.Host, e.Proto)
}
