// Package explain follows a connection from one party to another hop by hop: name,
// address, shared network, policy, route, published port, listener, answer. What the
// networks know is the model; lookups, routes, sockets and the connection itself are
// tried in the parties' own network namespaces. The first hop that is broken is told
// with what mends it.
package explain

import (
	"context"
	"net/netip"
	"os"
	"time"

	"muelle/api"
	"muelle/internal/linux/ruleset"
	"muelle/internal/linux/socket"
	"muelle/internal/network"
)

// Kind of a party.
type Kind int

// Kinds of parties.
const (
	// Container is one of this engine, running or not, or a service that has none.
	Container Kind = iota
	// Host is this machine.
	Host
	// Outside is a name or an address of the world.
	Outside
	// World is everybody outside, of whom nobody can be asked to try: Text says whether the
	// LAN, the internet or anybody is meant.
	World
	// Itself is localhost, as the source means it.
	Itself
)

// Party is a source or a target, as it was found.
type Party struct {
	Kind Kind
	// Text is what it was called in the question.
	Text string
	// DNSName is what the source asks for when it means this party; empty: it knows the
	// address.
	DNSName string
	// Addr of the party, where the question gave one.
	Addr netip.Addr

	// Of a container: ID is empty where a project declares a service without containers.
	ID, Name, Project, Service string
	// Sandbox is the container whose network namespace it is in, usually itself.
	Sandbox string
	// State is Docker's, as running or exited; Health too, or empty.
	State, Health string
	ExitCode      int
	// Mode is its network mode; Networks are the names of those it is configured for.
	Mode     string
	Networks []string
	// ComposeFile is where its project was read from, or empty.
	ComposeFile string
	// Resolv and Hosts are /etc/resolv.conf and /etc/hosts as the container sees them; nil
	// where they could not be read.
	Resolv, Hosts []byte
}

func (p *Party) running() bool {
	return p.Kind != Container || p.State == "running" || p.State == "paused"
}

// ref is what the party is called in a command.
func (p *Party) ref() string {
	switch {
	case p.Name != "":
		return p.Name
	case p.Service != "":
		return p.Project + "/" + p.Service
	}
	return p.Text
}

// Networks is what is asked of *network.Service.
type Networks interface {
	Snapshot() network.Snapshot
	// NetNS duplicates a container's network namespace; nil for the host's.
	NetNS(containerID string) (*os.File, error)
	Queries(containerID string) []api.DNSQuery
	Warnings() []string
}

// Question is what is to be explained.
type Question struct {
	Source, Target Party
	Port           uint16 // 0: the one that the target serves
	Proto          string // "tcp", "udp" or "sctp"
}

// facts are what is known and what was tried.
type facts struct {
	Question
	all      network.Snapshot
	warnings []string
	// filters are others' packet filters; nil where they could not be read, and unread why.
	filters *filters
	unread  error
	// outside is what they do with a source outside; nil where there are none or it was not
	// asked. onLink: the source's address is a neighbour's.
	outside *parted
	onLink  bool
	// guarded: they drop what this host itself sends to the port, which proves nothing of others.
	guarded bool

	// src and dst are the parties' network sides; nil for those that are no running
	// containers.
	src, dst *network.SandboxView
	// shared are the networks on which both are; mapping is the published port that leads
	// to the target, where the way goes through one.
	shared  []network.NetworkView
	mapping *mapping
	// sentOn: others' rules send on the port of the host that is asked for.
	sentOn *ruleset.Translation
	// to are the addresses that the source connects to, by name or by the model, and
	// toPort their port; serving is the port that the listener needs.
	to              []netip.Addr
	toPort, serving uint16

	lookup    *lookup
	route     *route
	astray    *astray
	listeners []socket.Listener
	listened  bool // the target's sockets could be read
	holder    string
	attempt   *attempt
	// itself: source and target are in one network namespace.
	itself bool
}

// mapping is a published port and the container that it leads to.
type mapping struct {
	host    netip.AddrPort
	target  netip.AddrPort
	sandbox *network.SandboxView // nil: nobody who runs has that address
	others  []sharer             // who shares the port with it, and gets new connections
	zone    api.Zone
	// missed: it is published at another address than the source asks.
	missed bool
}

// sharer is a further replica behind a published port.
type sharer struct {
	sandbox   *network.SandboxView
	target    netip.AddrPort
	listeners []socket.Listener
	read      bool
}

// lookup is what became of asking for the target's name inside the source.
type lookup struct {
	name   string
	from   string // "/etc/hosts", or the name server
	addrs  []netip.Addr
	code   string
	reason string
	err    error
	took   time.Duration
	// without: the source has no name server to ask.
	without bool
}

type route struct {
	iface string
	via   netip.Addr
	err   error
}

// astray: the host sends what is for an address of a network by another interface.
type astray struct {
	to      netip.Addr
	network string
	iface   string
}

type attempt struct {
	to      netip.AddrPort
	failed  []netip.AddrPort // tried before, in vain
	err     error
	took    time.Duration
	unheard bool // UDP: nobody refused, and nobody answered
}

// Explain answers a question.
func Explain(ctx context.Context, networks Networks, q Question) *api.Explanation {
	f := gather(ctx, networks, q)
	return judge(f)
}
