package api

import (
	"strconv"
	"strings"
)

// ExposureReport is the answer of GET /muelle/v1/exposure: who can really reach each
// port, after this host's addresses, the networks' zones and the rules of every
// firewall on the host were asked.
type ExposureReport struct {
	Ports []ExposedPort
	// Warnings are about ports that are open to more than they should be.
	Warnings []string
}

// ExposedPort is one port of the host that leads to a container, that a container on
// the host's network listens on, or that is the engine's own (then Container is empty).
type ExposedPort struct {
	// ContainerID and Container, its name; Project and Service are Compose's, or empty.
	ContainerID string `json:",omitempty"`
	Container   string `json:",omitempty"`
	Project     string `json:",omitempty"`
	Service     string `json:",omitempty"`
	// Network is the one that it is published through, "host" for the host's own.
	Network string `json:",omitempty"`
	// Protocol is "tcp", "udp" or "sctp".
	Protocol string
	// Address of the host: one of them, or "0.0.0.0" or "::" for all.
	Address string
	Port    uint16
	// ContainerPort is what it leads to.
	ContainerPort uint16 `json:",omitempty"`
	// Process that listens, where the port is not published but on the host's network.
	Process string `json:",omitempty"`
	// Reach is the widest circle that gets through: "nobody", "host", "lan" or "everyone".
	Reach string
	// Partly: of that circle only some, as a firewall tells them apart.
	Partly bool `json:",omitempty"`
	// Sources tell of that circle who gets through, where Partly is set.
	Sources *Sources `json:",omitempty"`
	// RouterDecides: the host's address is a private one, and its own rules would let
	// everyone through: whoever the router sends here reaches the port.
	RouterDecides bool `json:",omitempty"`
	// Because says what keeps wider circles out.
	Because []string `json:",omitempty"`
	// Warning is empty where there is nothing to warn of.
	Warning string `json:",omitempty"`
}

// Words of ExposedPort.Reach, each wider than the one before.
const (
	ReachNobody   = "nobody"
	ReachHost     = "host"
	ReachLAN      = "lan"
	ReachEveryone = "everyone"
)

// Words are the reach in words for people: "LAN, and whoever the router lets in".
func (p *ExposedPort) Words() string {
	text := map[string]string{ReachHost: "this host", ReachLAN: "LAN"}[p.Reach]
	if text == "" {
		text = p.Reach
	}
	switch {
	case p.Partly && p.Sources != nil && p.Sources.Words() != "":
		text += " (" + p.Sources.Words() + ")"
	case p.Partly:
		text = "some of " + text
	}
	if p.RouterDecides {
		text += ", and whoever the router lets in"
	}
	return text
}

// rank orders the circles.
func rank(reach string) int {
	return strings.Index("nobody host lan everyone", reach)
}

// Wider tells whether p is open to more than o: to a wider circle, or to all of the same.
func (p *ExposedPort) Wider(o *ExposedPort) bool {
	return rank(p.Reach) > rank(o.Reach) || p.Reach == o.Reach && o.Partly && !p.Partly
}

// Of tells in a few words who reaches the ports of a container: "LAN" where it is the
// same for all, else "8080 LAN, 9000 this host"; empty where nothing is published. Where
// a firewall makes IPv4 and IPv6 differ, or IPv6 lets in more, both are told: "LAN (IPv6:
// this host)".
func (r *ExposureReport) Of(containerID string) string {
	type key struct {
		port     uint16
		protocol string
	}
	widest := map[key]*[2]*ExposedPort{} // by IPv4, by IPv6
	var order []key
	for i := range r.Ports {
		p := &r.Ports[i]
		if p.ContainerID != containerID || containerID == "" {
			continue
		}
		k := key{p.Port, p.Protocol}
		if widest[k] == nil {
			order = append(order, k)
			widest[k] = &[2]*ExposedPort{}
		}
		family := 0
		if strings.Contains(p.Address, ":") {
			family = 1
		}
		if old := widest[k][family]; old == nil || p.Wider(old) {
			widest[k][family] = p
		}
	}
	var texts []string
	same := true
	for _, k := range order {
		text := strconv.Itoa(int(k.port))
		if k.protocol != "tcp" {
			text += "/" + k.protocol
		}
		circle := circles(widest[k][0], widest[k][1])
		texts = append(texts, text+" "+circle)
		same = same && circle == circles(widest[order[0]][0], widest[order[0]][1])
	}
	if len(order) > 0 && same {
		return circles(widest[order[0]][0], widest[order[0]][1])
	}
	return strings.Join(texts, ", ")
}

// circles joins what is true of one port by IPv4 and by IPv6; one of them may be nil.
func circles(v4, v6 *ExposedPort) string {
	switch {
	case v4 == nil:
		return v6.circle()
	case v6 == nil || v4.circle() == v6.circle():
		return v4.circle()
	case v6.Wider(v4):
		return v6.circle() + " (IPv4: " + v4.circle() + ")"
	case len(v6.Because) > 0:
		return v4.circle() + " (IPv6: " + v6.circle() + ")"
	}
	return v4.circle() // the host has no address of IPv6 there
}

// circle is the reach in one or two words.
func (p *ExposedPort) circle() string {
	short := *p
	short.RouterDecides = false
	return short.Words()
}
