package frametest

// Crossing is one frame that a container with all privileges over its network sends.
type Crossing struct {
	Name string
	// Legal frames arrive, whatever the guard.
	Legal bool
	// Filtered: something else of this host drops it where the guard does not.
	Filtered bool
	// Misleads: without guard the bridge sends the victim's frames to the attacker from then on.
	Misleads bool
	Frame    func(a *Attack, text string) []byte
}

// Attack is a container that sends frames to another on its network.
type Attack struct {
	// MAC and Victim are hardware addresses, of the sender and of its neighbour.
	MAC, Victim []byte
	// Addresses of both, and of their network's gateway.
	Own4, Own6, Local6, Victim4, Victim6, Gateway4, Gateway6 string
}

var broadcast = []byte{255, 255, 255, 255, 255, 255}

func option(kind string) []byte { return []byte(kind) }

func target(text, a string) []byte { return append(Addr(a), "\x01\x02xxxxxx"+text...) }

// Crossings are what a container may send on its own network.
var Crossings = []Crossing{
	{Name: "own address", Legal: true, Frame: func(a *Attack, s string) []byte {
		return Ethernet(a.Victim, a.MAC, 0x800, IPv4(a.Own4, a.Victim4, 17, nil, UDP(1, 2, s)))
	}},
	{Name: "own IPv6 address", Legal: true, Frame: func(a *Attack, s string) []byte {
		return Ethernet(a.Victim, a.MAC, 0x86dd, IPv6(a.Own6, a.Victim6, 17, UDP(1, 2, s)))
	}},
	{Name: "own link-local address", Legal: true, Frame: func(a *Attack, s string) []byte {
		return Ethernet(a.Victim, a.MAC, 0x86dd, IPv6(a.Local6, a.Victim6, 17, UDP(1, 2, s)))
	}},
	{Name: "question for an address", Legal: true, Frame: func(a *Attack, s string) []byte {
		return Ethernet(broadcast, a.MAC, 0x806, ARP(1, a.MAC, a.Own4, make([]byte, 6), a.Victim4), []byte(s))
	}},
	{Name: "is my address free", Legal: true, Frame: func(a *Attack, s string) []byte {
		return Ethernet(broadcast, a.MAC, 0x806, ARP(1, a.MAC, "0.0.0.0", make([]byte, 6), a.Own4), []byte(s))
	}},
	{Name: "DHCP", Legal: true, Frame: func(a *Attack, s string) []byte {
		return Ethernet(broadcast, a.MAC, 0x800, IPv4("0.0.0.0", "255.255.255.255", 17, nil, UDP(68, 67, s)))
	}},
	{Name: "group report", Legal: true, Frame: func(a *Attack, s string) []byte {
		return Ethernet([]byte{1, 0, 0x5e, 0, 0, 0x16}, a.MAC, 0x800, IPv4(a.Own4, "224.0.0.22", 2, option("\x94\x04\x00\x00"), append(make([]byte, 16), s...)))
	}},
	{Name: "duplicate address detection", Legal: true, Frame: func(a *Attack, s string) []byte {
		return Ethernet(a.Victim, a.MAC, 0x86dd, IPv6("::", "ff02::1:ff00:1", 58, ICMPv6("::", "ff02::1:ff00:1", 135, append(Addr(a.Own6), s...))))
	}},
	{Name: "neighbour advertisement of its own", Legal: true, Frame: func(a *Attack, s string) []byte {
		return Ethernet(a.Victim, a.MAC, 0x86dd, IPv6(a.Own6, a.Victim6, 58, ICMPv6(a.Own6, a.Victim6, 136, target(s, a.Own6))))
	}},

	{Name: "DHCP answer", Frame: func(a *Attack, s string) []byte {
		return Ethernet(a.Victim, a.MAC, 0x800, IPv4(a.Own4, a.Victim4, 17, nil, UDP(67, 68, s)))
	}},
	{Name: "DHCP answer behind an option", Frame: func(a *Attack, s string) []byte {
		return Ethernet(broadcast, a.MAC, 0x800, IPv4(a.Own4, "255.255.255.255", 17, option("\x94\x04\x00\x00"), UDP(67, 68, s)))
	}},
	{Name: "DHCPv6 answer", Frame: func(a *Attack, s string) []byte {
		return Ethernet(a.Victim, a.MAC, 0x86dd, IPv6(a.Local6, a.Victim6, 17, UDP(547, 546, s)))
	}},
	{Name: "redirect in the gateway's name", Filtered: true, Frame: func(a *Attack, s string) []byte {
		body := append([]byte{5, 1, 0, 0}, Addr(a.Own4)...)
		body = append(append(body, IPv4(a.Victim4, "203.0.113.1", 17, nil, UDP(1, 2, ""))...), s...)
		sum := Checksum(body)
		body[2], body[3] = byte(sum>>8), byte(sum)
		return Ethernet(a.Victim, a.MAC, 0x800, IPv4(a.Gateway4, a.Victim4, 1, nil, body))
	}},
	{Name: "foreign source address", Frame: func(a *Attack, s string) []byte {
		return Ethernet(a.Victim, a.MAC, 0x800, IPv4("198.51.100.7", a.Victim4, 17, nil, UDP(1, 2, s)))
	}},
	{Name: "gateway's source address", Filtered: true, Frame: func(a *Attack, s string) []byte {
		return Ethernet(a.Victim, a.MAC, 0x800, IPv4(a.Gateway4, a.Victim4, 17, nil, UDP(1, 2, s)))
	}},
	{Name: "foreign IPv6 source address", Frame: func(a *Attack, s string) []byte {
		return Ethernet(a.Victim, a.MAC, 0x86dd, IPv6("2001:db8::7", a.Victim6, 17, UDP(1, 2, s)))
	}},
	{Name: "gateway's IPv6 source address", Frame: func(a *Attack, s string) []byte {
		return Ethernet(a.Victim, a.MAC, 0x86dd, IPv6(a.Gateway6, a.Victim6, 6, append(make([]byte, 20), s...)))
	}},
	{Name: "invented hardware address", Frame: func(a *Attack, s string) []byte {
		return Ethernet(a.Victim, []byte{2, 1, 2, 3, 4, 5}, 0x88b5, []byte(s))
	}},
	{Name: "ARP answer for the gateway", Frame: func(a *Attack, s string) []byte {
		return Ethernet(a.Victim, a.MAC, 0x806, ARP(2, a.MAC, a.Gateway4, a.Victim, a.Victim4), []byte(s))
	}},
	{Name: "ARP announcement of the victim's address", Frame: func(a *Attack, s string) []byte {
		return Ethernet(broadcast, a.MAC, 0x806, ARP(1, a.MAC, a.Victim4, make([]byte, 6), a.Victim4), []byte(s))
	}},
	{Name: "ARP with the victim's hardware address inside", Frame: func(a *Attack, s string) []byte {
		return Ethernet(broadcast, a.MAC, 0x806, ARP(1, a.Victim, a.Own4, make([]byte, 6), a.Gateway4), []byte(s))
	}},
	{Name: "ARP behind a priority tag", Frame: func(a *Attack, s string) []byte {
		return Ethernet(a.Victim, a.MAC, 0x8100, VLAN(0, 0x806), ARP(2, a.MAC, a.Gateway4, a.Victim, a.Victim4), []byte(s))
	}},
	{Name: "ARP behind two tags", Frame: func(a *Attack, s string) []byte {
		return Ethernet(a.Victim, a.MAC, 0x88a8, VLAN(0, 0x8100), VLAN(0, 0x806), ARP(2, a.MAC, a.Gateway4, a.Victim, a.Victim4), []byte(s))
	}},
	{Name: "neighbour advertisement of the gateway", Frame: func(a *Attack, s string) []byte {
		return Ethernet(a.Victim, a.MAC, 0x86dd, IPv6(a.Own6, a.Victim6, 58, ICMPv6(a.Own6, a.Victim6, 136, target(s, a.Gateway6))))
	}},
	{Name: "neighbour advertisement behind an extension header", Frame: func(a *Attack, s string) []byte {
		body := append([]byte{58, 0, 1, 4, 0, 0, 0, 0}, ICMPv6(a.Own6, a.Victim6, 136, target(s, a.Gateway6))...)
		return Ethernet(a.Victim, a.MAC, 0x86dd, IPv6(a.Own6, a.Victim6, 60, body))
	}},
	{Name: "duplicate address detection of the victim's address", Frame: func(a *Attack, s string) []byte {
		return Ethernet(a.Victim, a.MAC, 0x86dd, IPv6("::", "ff02::1:ff00:1", 58, ICMPv6("::", "ff02::1:ff00:1", 135, append(Addr(a.Victim6), s...))))
	}},
	{Name: "router advertisement", Frame: func(a *Attack, s string) []byte {
		return Ethernet(a.Victim, a.MAC, 0x86dd, IPv6(a.Local6, "ff02::1", 58, ICMPv6(a.Local6, "ff02::1", 134, append(make([]byte, 8), s...))))
	}},
	{Name: "redirect", Frame: func(a *Attack, s string) []byte {
		return Ethernet(a.Victim, a.MAC, 0x86dd, IPv6(a.Local6, a.Victim6, 58, ICMPv6(a.Local6, a.Victim6, 137, append(make([]byte, 32), s...))))
	}},
	{Name: "loose source route", Frame: func(a *Attack, s string) []byte {
		return Ethernet(a.Victim, a.MAC, 0x800, IPv4(a.Own4, a.Victim4, 17, option("\x83\x07\x04\xc0\x00\x02\x01\x00"), UDP(1, 2, s)))
	}},
	{Name: "strict source route behind another option", Frame: func(a *Attack, s string) []byte {
		return Ethernet(a.Victim, a.MAC, 0x800, IPv4(a.Own4, a.Victim4, 17, option("\x01\x89\x07\x04\xc0\x00\x02\x01"), UDP(1, 2, s)))
	}},
	{Name: "IPv6 routing header", Frame: func(a *Attack, s string) []byte {
		body := append(append([]byte{17, 2, 0, 1, 0, 0, 0, 0}, Addr(a.Victim6)...), UDP(1, 2, s)...)
		return Ethernet(a.Victim, a.MAC, 0x86dd, IPv6(a.Own6, a.Victim6, 43, body))
	}},
	{Name: "martian: from 127.0.0.1", Filtered: true, Frame: func(a *Attack, s string) []byte {
		return Ethernet(a.Victim, a.MAC, 0x800, IPv4("127.0.0.1", a.Victim4, 17, nil, UDP(1, 2, s)))
	}},
	{Name: "martian: from a group", Filtered: true, Frame: func(a *Attack, s string) []byte {
		return Ethernet(a.Victim, a.MAC, 0x800, IPv4("224.0.0.1", a.Victim4, 17, nil, UDP(1, 2, s)))
	}},
	{Name: "martian: from nowhere", Filtered: true, Frame: func(a *Attack, s string) []byte {
		return Ethernet(a.Victim, a.MAC, 0x800, IPv4("0.0.0.0", a.Victim4, 17, nil, UDP(1, 2, s)))
	}},
	{Name: "victim's hardware address", Misleads: true, Frame: func(a *Attack, s string) []byte {
		return Ethernet(broadcast, a.Victim, 0x800, IPv4(a.Own4, a.Victim4, 17, nil, UDP(1, 2, s)))
	}},
}
