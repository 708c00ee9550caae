// Package dissect words Ethernet frames, a line each, much as tcpdump does: addresses by
// the names that are known for them, ports, TCP flags, ICMP types, ARP, and DNS questions.
// Frames come from strangers and may be cut off anywhere.
package dissect

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Names gives the name of an address, or nothing.
type Names func(netip.Addr) string

const (
	typeIPv4 = 0x0800
	typeARP  = 0x0806
	typeIPv6 = 0x86dd
)

// Line words a frame; length is its length on the wire.
func Line(frame []byte, length int, names Names) string {
	d := dissector{names: names}
	if len(frame) < 14 {
		return fmt.Sprintf("a frame of %d bytes", length)
	}
	kind := binary.BigEndian.Uint16(frame[12:])
	text, ok := "", false
	switch kind {
	case typeIPv4:
		text, ok = d.ip4(frame[14:])
	case typeIPv6:
		text, ok = d.ip6(frame[14:])
	case typeARP:
		text, ok = d.arp(frame[14:])
	}
	if ok {
		return text
	}
	return fmt.Sprintf("%s > %s: ethertype 0x%04x, length %d", net.HardwareAddr(frame[6:12]), net.HardwareAddr(frame[:6]), kind, length)
}

type dissector struct{ names Names }

func (d dissector) host(a netip.Addr) string {
	if n := d.names(a); n != "" {
		return n
	}
	return a.String()
}

func (d dissector) end(a netip.Addr, port uint16) string {
	return d.host(a) + "." + strconv.Itoa(int(port))
}

func (d dissector) arp(b []byte) (string, bool) {
	if len(b) < 28 || b[4] != 6 || b[5] != 4 {
		return "", false
	}
	from, to := netip.AddrFrom4([4]byte(b[14:18])), netip.AddrFrom4([4]byte(b[24:28]))
	switch op := binary.BigEndian.Uint16(b[6:]); op {
	case 1:
		return fmt.Sprintf("ARP, who has %s, tell %s", d.host(to), d.host(from)), true
	case 2:
		return fmt.Sprintf("ARP, %s is at %s", d.host(from), net.HardwareAddr(b[8:14])), true
	default:
		return fmt.Sprintf("ARP, operation %d", op), true
	}
}

func (d dissector) ip4(b []byte) (string, bool) {
	if len(b) < 20 || b[0]>>4 != 4 {
		return "", false
	}
	head, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if head < 20 || total < head || len(b) < head {
		return "", false
	}
	from, to := netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	frag := binary.BigEndian.Uint16(b[6:])
	if off := frag & 0x1fff; off != 0 {
		return fmt.Sprintf("IP %s > %s: fragment at %d, length %d", d.host(from), d.host(to), int(off)*8, total-head), true
	}
	return d.transport("IP", from, to, b[9], b[head:], total-head), true
}

func (d dissector) ip6(b []byte) (string, bool) {
	if len(b) < 40 || b[0]>>4 != 6 {
		return "", false
	}
	from, to := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	next, length, rest := b[6], int(binary.BigEndian.Uint16(b[4:])), b[40:]
	// Hop-by-hop, routing and destination options.
	for (next == 0 || next == 43 || next == 60) && len(rest) >= 8 {
		n := (int(rest[1]) + 1) * 8
		if n > len(rest) || n > length {
			break
		}
		next, rest, length = rest[0], rest[n:], length-n
	}
	return d.transport("IP6", from, to, next, rest, length), true
}

func (d dissector) transport(family string, from, to netip.Addr, proto byte, b []byte, length int) string {
	ends := func() string {
		return fmt.Sprintf("%s %s > %s", family, d.end(from, binary.BigEndian.Uint16(b)), d.end(to, binary.BigEndian.Uint16(b[2:])))
	}
	switch {
	case proto == 6 && len(b) >= 20:
		return ends() + ": " + tcp(b, length)
	case proto == 17 && len(b) >= 8:
		data := b[8:]
		if p, q := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:]); p == 53 || q == 53 {
			if text, ok := dns(data); ok {
				return ends() + ": " + text
			}
		}
		return fmt.Sprintf("%s: UDP, length %d", ends(), max(length-8, 0))
	case proto == 132 && len(b) >= 12:
		return fmt.Sprintf("%s: SCTP, length %d", ends(), length)
	case proto == 1 && len(b) >= 8:
		return fmt.Sprintf("%s %s > %s: ICMP %s, length %d", family, d.host(from), d.host(to), icmp(icmp4, b), length)
	case proto == 58 && len(b) >= 8:
		return fmt.Sprintf("%s %s > %s: ICMP6 %s, length %d", family, d.host(from), d.host(to), icmp(icmp6, b), length)
	}
	return fmt.Sprintf("%s %s > %s: protocol %d, length %d", family, d.host(from), d.host(to), proto, length)
}

// tcp words flags as tcpdump: a dot stands for ACK.
func tcp(b []byte, length int) string {
	var out strings.Builder
	out.WriteString("Flags [")
	for _, f := range []struct {
		bit  byte
		text string
	}{{0x02, "S"}, {0x01, "F"}, {0x08, "P"}, {0x04, "R"}, {0x20, "U"}, {0x40, "E"}, {0x80, "W"}, {0x10, "."}} {
		if b[13]&f.bit != 0 {
			out.WriteString(f.text)
		}
	}
	out.WriteString("]")
	data := max(length-int(b[12]>>4)*4, 0)
	seq := binary.BigEndian.Uint32(b[4:])
	switch {
	case data > 0:
		fmt.Fprintf(&out, ", seq %d:%d", seq, seq+uint32(data))
	case b[13]&0x07 != 0:
		fmt.Fprintf(&out, ", seq %d", seq)
	}
	if b[13]&0x10 != 0 {
		fmt.Fprintf(&out, ", ack %d", binary.BigEndian.Uint32(b[8:]))
	}
	fmt.Fprintf(&out, ", win %d, length %d", binary.BigEndian.Uint16(b[14:]), data)
	return out.String()
}

// Types of ICMP (RFC 792) and ICMPv6 (RFC 4443, 4861). A question has an id and a
// sequence number.
var (
	icmp4 = map[byte]string{0: "echo reply", 3: "unreachable", 5: "redirect", 8: "echo request", 11: "time exceeded"}
	icmp6 = map[byte]string{1: "unreachable", 2: "packet too big", 3: "time exceeded", 128: "echo request", 129: "echo reply",
		133: "router solicitation", 134: "router advertisement", 135: "neighbor solicitation", 136: "neighbor advertisement", 143: "multicast listener report"}
)

func icmp(kinds map[byte]string, b []byte) string {
	text := kinds[b[0]]
	switch {
	case text == "":
		return fmt.Sprintf("type %d, code %d", b[0], b[1])
	case strings.HasPrefix(text, "echo"):
		return fmt.Sprintf("%s, id %d, seq %d", text, binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:]))
	case text == "unreachable":
		return fmt.Sprintf("%s, code %d", text, b[1])
	}
	return text
}

var recordTypes = map[uint16]string{1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 65: "HTTPS", 255: "ANY"}

var responseCodes = [...]string{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"}

// dns words the first question (RFC 1035), and how many answers there are.
func dns(b []byte) (string, bool) {
	if len(b) < 12 || binary.BigEndian.Uint16(b[4:]) == 0 {
		return "", false
	}
	var name strings.Builder
	rest := b[12:]
	for {
		if len(rest) == 0 {
			return "", false
		}
		n := int(rest[0])
		if n == 0 {
			rest = rest[1:]
			break
		}
		if n > 63 || len(rest) < 1+n {
			return "", false
		}
		for _, c := range rest[1 : 1+n] {
			if c <= ' ' || c >= 0x7f || c == '\\' {
				fmt.Fprintf(&name, "\\%03d", c)
			} else {
				name.WriteByte(c)
			}
		}
		name.WriteByte('.')
		rest = rest[1+n:]
	}
	if len(rest) < 4 {
		return "", false
	}
	kind := binary.BigEndian.Uint16(rest)
	text := recordTypes[kind]
	if text == "" {
		text = "TYPE" + strconv.Itoa(int(kind))
	}
	if b[2]&0x80 == 0 {
		return fmt.Sprintf("DNS %d %s? %s", binary.BigEndian.Uint16(b), text, name.String()), true
	}
	code := strconv.Itoa(int(b[3] & 15))
	if int(b[3]&15) < len(responseCodes) {
		code = responseCodes[b[3]&15]
	}
	return fmt.Sprintf("DNS %d %s %s %s, %d answers", binary.BigEndian.Uint16(b), text, name.String(), code, binary.BigEndian.Uint16(b[6:])), true
}
