package resolver

import (
	"net/netip"
	"os"
	"time"
)

// Directory knows the names on the networks. Names are given to it in lower case,
// without a trailing dot.
type Directory interface {
	// Lookup says what the networks know of a name.
	Lookup(asker, name string) Answer
	// Services gives the containers called name that expose or publish a port, once for
	// each of their ports that is meant.
	Services(asker, name string, w Wanted) []Target
	// Reverse gives the name of an address on a network of the asker. An address that is
	// Own but has no name is nobody's whom the asker may know; no upstream is asked.
	Reverse(asker string, a netip.Addr) (name string, own bool)
	// Upstream says whom to ask for the rest.
	Upstream(asker string) Upstream
	// Answered is told what an upstream gave for a name before the asker is: what a zone
	// lets out by name is open before anybody can connect. The ttl is the shortest of the
	// records'. On error the answer is withheld.
	Answered(asker, name string, addrs []netip.Addr, ttl time.Duration) error
}

// Answer is what the networks know of a name.
type Answer struct {
	// Known: the name exists on a network of the asker.
	Known bool
	// Addrs of those who have the name. The first Equal of them are of different
	// containers, and given in changing order; the others are further addresses of the
	// same containers.
	Addrs []netip.Addr
	Equal int
	// From is who knows, for the record of lookups.
	From string
	// Hidden: it exists, but the asker may not know it; no upstream is asked.
	Hidden bool
	// Reason says why there is no answer.
	Reason string
}

// Wanted is the port of a lookup of SRV: Name is what a container calls one of its
// ports, the name of a service that everybody knows, or a number.
type Wanted struct{ Name, Proto string }

// Target is one container that serves a port.
type Target struct {
	Name  string
	Port  uint16
	Addrs []netip.Addr
}

// Upstream is whom a container's other lookups go to.
type Upstream struct {
	Servers []Forwarder
	// Qualified: single labels are not asked for, the container has search domains
	// for them (ndots was set above 0).
	Qualified bool
	// Reason says why there are no servers.
	Reason string
}

// Forwarder is a name server, asked from NetNS, or the host where that is nil.
type Forwarder struct {
	Addr  netip.AddrPort
	NetNS *os.File
}
