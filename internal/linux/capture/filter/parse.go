// Package filter compiles the commoner part of tcpdump's filter language
// (pcap-filter(7)) to a program that the kernel runs on each Ethernet frame: hosts, nets,
// ports and ranges of ports, with src and dst; the protocols ip, ip6, arp, tcp, udp, sctp,
// icmp and icmp6, alone or in front; broadcast, multicast, less and greater; not, and, or
// and brackets. What else that language knows is an error that names the word.
package filter

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// Resolve gives the addresses of a name in a filter, or none.
type Resolve func(name string) []netip.Addr

// MaxLength in bytes and maxDepth bound what a stranger's filter costs.
const (
	MaxLength = 4096
	maxDepth  = 64
)

// expr is a node of the tree.
type expr struct {
	op   string // "and", "or", "not", "test"
	a, b *expr
	t    test
}

// qualifiers of a primitive.
type qualifiers struct {
	proto string // "", ip, ip6, arp, tcp, udp, sctp, icmp, icmp6
	dir   string // "", src, dst, "and" (both)
	kind  string // host, net, port, portrange, or "" : not said
}

// test is one primitive.
type test struct {
	qualifiers
	kind     string // proto, host, net, port, broadcast, multicast, less, greater
	prefixes []netip.Prefix
	low, hi  uint32
}

type parser struct {
	words   []string
	resolve Resolve
	last    qualifiers
	depth   int
}

func bad(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage("filter: " + fmt.Sprintf(format, args...))
}

// words splits an expression.
func words(text string) (list []string) {
	for _, w := range []string{"(", ")", "&&", "||"} {
		text = strings.ReplaceAll(text, w, " "+w+" ")
	}
	text = strings.ReplaceAll(text, "!", " ! ")
	return strings.Fields(text)
}

func parse(text string, resolve Resolve) (*expr, error) {
	if len(text) > MaxLength {
		return nil, bad("it is longer than %d bytes", MaxLength)
	}
	p := &parser{words: words(text), resolve: resolve}
	if len(p.words) == 0 {
		return nil, nil
	}
	e, err := p.expression()
	if err == nil && len(p.words) > 0 {
		err = bad("unexpected %q: join tests by and, or", p.words[0])
	}
	return e, err
}

func (p *parser) peek() string {
	if len(p.words) == 0 {
		return ""
	}
	return p.words[0]
}

func (p *parser) next() string {
	w := p.peek()
	if w != "" {
		p.words = p.words[1:]
	}
	return w
}

// expression: and and or are of equal rank, from left to right, as in tcpdump.
func (p *parser) expression() (*expr, error) {
	e, err := p.unary()
	for err == nil {
		op := ""
		switch p.peek() {
		case "and", "&&":
			op = "and"
		case "or", "||":
			op = "or"
		}
		if op == "" {
			return e, nil
		}
		p.next()
		var b *expr
		if b, err = p.unary(); err == nil {
			e = &expr{op: op, a: e, b: b}
		}
	}
	return nil, err
}

func (p *parser) unary() (*expr, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, bad("it is nested more than %d deep", maxDepth)
	}
	defer func() { p.depth-- }()
	switch p.peek() {
	case "not", "!":
		p.next()
		a, err := p.unary()
		return &expr{op: "not", a: a}, err
	case "(":
		p.next()
		e, err := p.expression()
		if err == nil && p.next() != ")" {
			err = bad("a bracket is not closed")
		}
		return e, err
	}
	return p.primitive()
}

var protocols = []string{"ip", "ip6", "arp", "tcp", "udp", "sctp", "icmp", "icmp6"}

func (p *parser) primitive() (*expr, error) {
	var q qualifiers
	first := p.peek()
	switch first {
	case "":
		return nil, bad("it ends where a test is expected")
	case "broadcast", "multicast":
		p.next()
		return leaf(test{kind: first}), nil
	case "less", "greater":
		p.next()
		n, err := strconv.ParseUint(p.next(), 10, 16)
		if err != nil {
			return nil, bad("%s needs a length in bytes", first)
		}
		return leaf(test{kind: first, low: uint32(n)}), nil
	}
	if slices.Contains(protocols, first) {
		q.proto = p.next()
	}
	q.dir = p.direction()
	switch p.peek() {
	case "host", "net", "port", "portrange":
		q.kind = p.next()
	}
	if q.kind == "" && q.dir == "" {
		if q.proto != "" {
			return leaf(test{kind: "proto", qualifiers: q}), nil
		}
		q = p.last // "port 80 or 443"
	}
	if q.kind == "" {
		q.kind = "host"
	}
	p.last = q
	return p.value(q)
}

// direction reads src, dst, "src or dst" and "src and dst".
func (p *parser) direction() string {
	dir := p.peek()
	if dir != "src" && dir != "dst" {
		return ""
	}
	p.next()
	if len(p.words) > 1 && (p.words[0] == "or" || p.words[0] == "and") && (p.words[1] == "src" || p.words[1] == "dst") && p.words[1] != dir {
		op := p.next()
		p.next()
		if op == "or" {
			return ""
		}
		return "and"
	}
	return dir
}

func leaf(t test) *expr { return &expr{op: "test", t: t} }

func (p *parser) value(q qualifiers) (*expr, error) {
	w := p.next()
	switch w {
	case "", ")", "(", "and", "or", "not", "!", "&&", "||":
		return nil, bad("%s needs a value", q.kind)
	}
	t := test{qualifiers: q, kind: q.kind}
	var err error
	switch q.kind {
	case "host":
		t.kind = "host"
		t.prefixes, err = p.hosts(w)
	case "net":
		t.kind = "host"
		t.prefixes, err = nets(w)
	case "port", "portrange":
		t.kind = "port"
		t.low, t.hi, err = ports(q, w)
	}
	if err != nil {
		return nil, err
	}
	return leaf(t), fits(t)
}

// fits refuses what no packet can be.
func fits(t test) error {
	switch {
	case t.kind == "port" && t.proto != "" && !slices.Contains([]string{"ip", "ip6", "tcp", "udp", "sctp"}, t.proto):
		return bad("%s has no ports", t.proto)
	case t.kind == "host" && !slices.Contains([]string{"", "ip", "ip6", "arp"}, t.proto):
		return bad("%s has no addresses: write \"%s and host …\"", t.proto, t.proto)
	}
	for _, a := range t.prefixes {
		if t.proto == "ip6" && a.Addr().Is4() || (t.proto == "ip" || t.proto == "arp") && a.Addr().Is6() {
			return bad("%s has no address %s", t.proto, a)
		}
	}
	return nil
}

func (p *parser) hosts(w string) (list []netip.Prefix, err error) {
	if a, err := netip.ParseAddr(w); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return []netip.Prefix{netip.PrefixFrom(a, a.BitLen())}, nil
	}
	var found []netip.Addr
	if p.resolve != nil {
		found = p.resolve(w)
	}
	if len(found) == 0 {
		return nil, bad("%q is neither a word of the filter language that is supported here, nor an address, nor a container on these networks", w)
	}
	for _, a := range found {
		list = append(list, netip.PrefixFrom(a, a.BitLen()))
	}
	return list, nil
}

func nets(w string) ([]netip.Prefix, error) {
	n, err := netip.ParsePrefix(w)
	if err != nil {
		a, err := netip.ParseAddr(w)
		if err != nil {
			return nil, bad("%q is no net: write it as 10.0.0.0/8", w)
		}
		n = netip.PrefixFrom(a, a.BitLen())
	}
	if n.Masked() != n {
		return nil, bad("net %s has bits beyond its mask: write %s", w, n.Masked())
	}
	return []netip.Prefix{n}, nil
}

func ports(q qualifiers, w string) (low, hi uint32, err error) {
	from, to, isRange := strings.Cut(w, "-")
	if q.kind == "portrange" && !isRange {
		return 0, 0, bad("portrange needs FIRST-LAST")
	}
	a, err := number(q.proto, from)
	if err != nil {
		// A service whose name has a dash.
		if a, err = number(q.proto, w); err != nil || q.kind == "portrange" {
			return 0, 0, bad("%q is no port", w)
		}
		return a, a, nil
	}
	if !isRange {
		return a, a, nil
	}
	b, err := number(q.proto, to)
	if q.kind != "portrange" || err != nil || b < a {
		return 0, 0, bad("%q is no %s", w, q.kind)
	}
	return a, b, nil
}

func number(proto, w string) (uint32, error) {
	if n, err := strconv.ParseUint(w, 10, 16); err == nil {
		return uint32(n), nil
	}
	if proto != "udp" {
		proto = "tcp"
	}
	n, err := net.LookupPort(proto, w)
	return uint32(n), err
}
