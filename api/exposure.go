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
	if p.Partly {
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

// Wider tells whether p is open to more than o.
func (p *ExposedPort) Wider(o *ExposedPort) bool { return rank(p.Reach) > rank(o.Reach) }

// Of tells in a few words who reaches the ports of a container: "LAN" where it is the
// same for all, else "8080 LAN, 9000 this host"; empty where nothing is published.
func (r *ExposureReport) Of(containerID string) string {
	type key struct {
		port     uint16
		protocol string
	}
	widest := map[key]*ExposedPort{}
	var order []key
	for i := range r.Ports {
		p := &r.Ports[i]
		if p.ContainerID != containerID || containerID == "" {
			continue
		}
		k := key{p.Port, p.Protocol}
		old := widest[k]
		if old == nil {
			order = append(order, k)
		}
		if old == nil || p.Wider(old) {
			widest[k] = p
		}
	}
	var texts []string
	same := true
	for _, k := range order {
		text := strconv.Itoa(int(k.port))
		if k.protocol != "tcp" {
			text += "/" + k.protocol
		}
		texts = append(texts, text+" "+widest[k].circle())
		same = same && widest[k].circle() == widest[order[0]].circle()
	}
	if len(order) > 0 && same {
		return widest[order[0]].circle()
	}
	return strings.Join(texts, ", ")
}

// circle is the reach in one or two words.
func (p *ExposedPort) circle() string {
	short := *p
	short.RouterDecides = false
	return short.Words()
}
