package policy

import (
	"fmt"
	"net/netip"
)

// Who there is beside the members of a world.
const (
	Host     = "host"     // this machine
	LAN      = "lan"      // what is on a link of it
	Internet = "internet" // everything else
)

// World is what the model knows: networks, and who is on them.
type World struct {
	Networks []Network
	Members  []Member
	// Addresses are this host's on its other links, which a zone opens by listing them.
	Addresses []netip.Addr
	// Beside, unless nil, tells which rule of another firewall on this host drops a way
	// for certain; "" where none does.
	Beside func(Way) string
}

// Way is how somebody gets somewhere, for World.Beside.
type Way struct {
	// From and To are a member's name, Host, LAN, Internet, or, of To, an address or name.
	From, To string
	// In is the network, by its key, by which the asker begins, Out the one by which the
	// other is reached; empty where that is no network of this world.
	In, Out string
	Six     bool
	// Port is the other's, in Protocol; 0 is any.
	Protocol string
	Port     uint16
	// Host is the address of this host that was asked for, where it was one.
	Host netip.AddrPort
}

// Member is a service, or a container of none.
type Member struct {
	Name string
	// Of, unless empty, is the service that it is one replica of, where the replicas are
	// not on the same networks: each is a member then.
	Of       string
	Networks []string
	// Way is the network with the default route, or empty.
	Way string
	// Host: it is in the host's namespace.
	Host  bool
	Ports []Port
}

// Port is what a member listens on, exposes or publishes.
type Port struct {
	Protocol string // tcp, udp or sctp
	Number   uint16
	// Local: it listens on a loopback address only.
	Local     bool
	Published []Publication
}

// Publication is one port of the host that leads to a port.
type Publication struct {
	Host netip.AddrPort
	// Network is the key of the network that it leads through.
	Network string
	// Own: Host is no address of the host but the container's, where its network has it
	// published there.
	Own bool
}

// Verdict says whether somebody reaches something, and why.
type Verdict struct {
	Allowed bool
	// ByHost: a member reaches another by a port of the host only, as anybody there does;
	// it knows neither its name nor its address.
	ByHost bool
	// Firewall is the rule of another firewall on this host that drops what the zones
	// allow, or empty.
	Firewall string
	Why      string
}

func allowed(format string, args ...any) Verdict {
	return Verdict{Allowed: true, Why: fmt.Sprintf(format, args...)}
}

func denied(format string, args ...any) Verdict { return Verdict{Why: fmt.Sprintf(format, args...)} }

// MemberName is what somebody is called in a World. What is outside has its words for
// itself: a service that is called host is not this machine. Kind says what it is then.
func MemberName(name, kind string) string {
	if isOutside(name) {
		return name + " (" + kind + ")"
	}
	return name
}

func isOutside(name string) bool { return name == Host || name == LAN || name == Internet }

// Network finds one by its key.
func (w *World) Network(key string) *Network {
	for i := range w.Networks {
		if w.Networks[i].Key == key {
			return &w.Networks[i]
		}
	}
	return nil
}

// Member finds one by its name.
func (w *World) Member(name string) *Member {
	for i := range w.Members {
		if w.Members[i].Name == name {
			return &w.Members[i]
		}
	}
	return nil
}

// Port gives what is known of one of a member's ports.
func (m *Member) Port(protocol string, number uint16) Port {
	for _, p := range m.Ports {
		if p.Protocol == protocol && p.Number == number {
			return p
		}
	}
	return Port{Protocol: protocol, Number: number}
}
