package api

import "net/netip"

// ZoneReport is the answer of GET /muelle/v1/zones: who reaches whom on a project's
// networks, or on all. With ?verify=1 every way that there is was tried.
type ZoneReport struct {
	// Project is empty where all networks were asked for.
	Project string `json:",omitempty"`
	Zones   []ZoneView
	Members []ZoneMember
	Cells   []ZoneCell
	Expect  []ZoneExpectation `json:",omitempty"`
	// Verified: Tries of Cells have results.
	Verified bool
	// Violations counts expectations that do not hold, and tries that went otherwise
	// than the model says.
	Violations int
}

// ZoneView is one network.
type ZoneView struct {
	// Name is the network's key in the project, or its name.
	Name     string
	Network  string // its name
	Internal bool   `json:",omitempty"`
	IPv6     bool   `json:",omitempty"`
	// Driver is bridge, or another, past whose containers this host's rules do not see.
	Driver string
	// Mode4 and Mode6 are the bridge's gateway modes; empty is nat.
	Mode4 string `json:",omitempty"`
	Mode6 string `json:",omitempty"`
	// Apart: its containers do not reach each other.
	Apart   bool `json:",omitempty"`
	Zone    Zone
	Subnets []netip.Prefix `json:",omitempty"`
	Members []string       `json:",omitempty"`
}

// ZoneMember is a service with its running containers, or a container of no project.
type ZoneMember struct {
	Name       string
	Containers []string
	Networks   []string `json:",omitempty"`
	// Host: it is in the host's own network.
	Host  bool       `json:",omitempty"`
	Ports []ZonePort `json:",omitempty"`
}

// ZonePort is a port that a member listens on, exposes or publishes.
type ZonePort struct {
	Port     uint16
	Protocol string
	// Listening: somebody waits for connections, on other than a loopback address unless Local.
	Listening bool `json:",omitempty"`
	Local     bool `json:",omitempty"`
	// Published are the host's addresses that lead to it.
	Published []netip.AddrPort `json:",omitempty"`
}

// ZoneCell says whether From reaches a port of To. From is a member, host, lan or
// internet. To is a member, or host or internet, which have no port here.
type ZoneCell struct {
	From, To string
	Port     uint16 `json:",omitempty"`
	Protocol string `json:",omitempty"`
	// Reached is what the model says; Some: to listed destinations only, or, where it is
	// Reached, from some of those outside, as another firewall on this host tells them apart.
	Reached bool
	Some    bool `json:",omitempty"`
	// ByHost: a member reaches To by a port of the host only, as anybody there does.
	ByHost bool `json:",omitempty"`
	// Firewall is the rule of another firewall on this host, and whose it is, that drops
	// what the zones allow.
	Firewall string `json:",omitempty"`
	Why      string `json:",omitempty"`
	// Differs: a try went otherwise than the model says.
	Differs bool      `json:",omitempty"`
	Tries   []ZoneTry `json:",omitempty"`
}

// Results of a ZoneTry.
const (
	ZoneOpen     = "open"     // connected, or the datagram arrived
	ZoneRefused  = "refused"  // reached, and nobody listens
	ZoneDropped  = "dropped"  // no answer
	ZoneRejected = "rejected" // somebody on the way said no
	ZoneNoRoute  = "no route" // the kernel knows no way
	ZoneUnproved = "unproved" // it cannot be tried from this machine
	// Nothing is sent from where other machines are: the rules that are in the kernel, all
	// firewalls', were followed instead.
	ZonePasses  = "passes"
	ZoneBlocked = "blocked"
)

// ZoneTry is one way to try a cell.
type ZoneTry struct {
	// From and To are containers; From may be host, lan or internet.
	From, To string
	// Address is what was asked; Published: a port of the host's.
	Address   netip.AddrPort
	Published bool `json:",omitempty"`
	Expected  bool // reached, says the model
	Why       string
	Result    string `json:",omitempty"`
	Differs   bool   `json:",omitempty"`
}

// ZoneExpectation is one sentence of x-expect.
type ZoneExpectation struct {
	Sentence string
	Holds    bool
	Why      string `json:",omitempty"`
}
