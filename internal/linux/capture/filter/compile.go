package filter

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// most is what the kernel takes (BPF_MAXINSNS).
const most = 4096

// Compile makes a program of a filter; nil of an empty one. Errors are
// errdefs.ErrInvalidArgument.
func Compile(text string, resolve Resolve) ([]bpf.RawInstruction, error) {
	prog, err := instructions(text, resolve)
	if err != nil || prog == nil {
		return nil, err
	}
	raw, err := bpf.Assemble(prog)
	if err != nil {
		return nil, bad("%v", err)
	}
	return raw, nil
}

func instructions(text string, resolve Resolve) ([]bpf.Instruction, error) {
	e, err := parse(text, resolve)
	if err != nil || e == nil {
		return nil, err
	}
	c := &compiler{at: map[label]int{}}
	yes, no := c.label(), c.label()
	c.expr(e, yes, no)
	c.place(yes)
	c.add(bpf.RetConstant{Val: 262144})
	c.place(no)
	c.add(bpf.RetConstant{Val: 0})
	if len(c.out) > most {
		return nil, bad("it is too long for the kernel")
	}
	for from, to := range c.jumps {
		c.out[from] = bpf.Jump{Skip: uint32(c.at[to] - from - 1)}
	}
	return c.out, nil
}

type label int

// compiler writes instructions whose jumps, all forward, are filled in at the end. A
// conditional jump reaches two unconditional ones, which reach any distance.
type compiler struct {
	out   []bpf.Instruction
	jumps map[int]label
	at    map[label]int
	next  label
}

func (c *compiler) label() label { c.next++; return c.next }

func (c *compiler) place(l label) { c.at[l] = len(c.out) }

func (c *compiler) add(i bpf.Instruction) { c.out = append(c.out, i) }

func (c *compiler) jump(to label) {
	if c.jumps == nil {
		c.jumps = map[int]label{}
	}
	c.jumps[len(c.out)] = to
	c.add(bpf.Jump{})
}

func (c *compiler) when(cond bpf.JumpTest, val uint32, yes, no label) {
	c.add(bpf.JumpIf{Cond: cond, Val: val, SkipFalse: 1})
	c.jump(yes)
	c.jump(no)
}

func (c *compiler) expr(e *expr, yes, no label) {
	switch e.op {
	case "not":
		c.expr(e.a, no, yes)
	case "and":
		mid := c.label()
		c.expr(e.a, mid, no)
		c.place(mid)
		c.expr(e.b, yes, no)
	case "or":
		mid := c.label()
		c.expr(e.a, yes, mid)
		c.place(mid)
		c.expr(e.b, yes, no)
	default:
		c.test(&e.t, yes, no)
	}
}

// Offsets in an Ethernet frame.
const (
	etherType = 12
	payload   = 14
	proto4    = payload + 9
	frag4     = payload + 6
	src4      = payload + 12
	dst4      = payload + 16
	proto6    = payload + 6
	src6      = payload + 8
	dst6      = payload + 24
	ports6    = payload + 40
	srcARP    = payload + 14
	dstARP    = payload + 24
)

func (c *compiler) load(off uint32, size int) { c.add(bpf.LoadAbsolute{Off: off, Size: size}) }

// ether goes on at yes where the frame carries the protocol.
func (c *compiler) ether(kind uint32, yes, no label) {
	c.load(etherType, 2)
	c.when(bpf.JumpEqual, kind, yes, no)
}

// either tries one branch after the other.
func (c *compiler) either(yes, no label, branches ...func(yes, no label)) {
	for i, b := range branches {
		other := no
		if i < len(branches)-1 {
			other = c.label()
		}
		b(yes, other)
		if other != no {
			c.place(other)
		}
	}
}

// both wants all of them.
func (c *compiler) both(yes, no label, parts ...func(yes, no label)) {
	for i, p := range parts {
		then := yes
		if i < len(parts)-1 {
			then = c.label()
		}
		p(then, no)
		if then != yes {
			c.place(then)
		}
	}
}

func (c *compiler) test(t *test, yes, no label) {
	switch t.kind {
	case "proto":
		c.proto(t.proto, yes, no)
	case "host":
		c.hosts(t, yes, no)
	case "port":
		c.port(t, yes, no)
	case "broadcast":
		c.load(0, 4)
		mid := c.label()
		c.when(bpf.JumpEqual, 0xffffffff, mid, no)
		c.place(mid)
		c.load(4, 2)
		c.when(bpf.JumpEqual, 0xffff, yes, no)
	case "multicast":
		c.load(0, 1)
		c.when(bpf.JumpBitsSet, 1, yes, no)
	case "less":
		c.add(bpf.LoadExtension{Num: bpf.ExtLen})
		c.when(bpf.JumpLessOrEqual, t.low, yes, no)
	case "greater":
		c.add(bpf.LoadExtension{Num: bpf.ExtLen})
		c.when(bpf.JumpGreaterOrEqual, t.low, yes, no)
	}
}

var transports = map[string]uint32{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP}

func (c *compiler) proto(name string, yes, no label) {
	four := func(n uint32) func(yes, no label) {
		return func(yes, no label) { c.carries(unix.ETH_P_IP, proto4, yes, no, n) }
	}
	six := func(n uint32) func(yes, no label) {
		return func(yes, no label) { c.carries(unix.ETH_P_IPV6, proto6, yes, no, n) }
	}
	switch name {
	case "ip":
		c.ether(unix.ETH_P_IP, yes, no)
	case "ip6":
		c.ether(unix.ETH_P_IPV6, yes, no)
	case "arp":
		c.ether(unix.ETH_P_ARP, yes, no)
	case "icmp":
		four(unix.IPPROTO_ICMP)(yes, no)
	case "icmp6":
		six(unix.IPPROTO_ICMPV6)(yes, no)
	default:
		c.either(yes, no, four(transports[name]), six(transports[name]))
	}
}

// carries: a packet of the family whose byte at off is one of the protocols.
func (c *compiler) carries(family, off uint32, yes, no label, protos ...uint32) {
	mid := c.label()
	c.ether(family, mid, no)
	c.place(mid)
	c.load(off, 1)
	for i, n := range protos {
		if i == len(protos)-1 {
			c.when(bpf.JumpEqual, n, yes, no)
			return
		}
		other := c.label()
		c.when(bpf.JumpEqual, n, yes, other)
		c.place(other)
	}
}

func (c *compiler) hosts(t *test, yes, no label) {
	var branches []func(yes, no label)
	for _, p := range t.prefixes {
		if p.Addr().Is6() {
			branches = append(branches, func(yes, no label) { c.addresses(unix.ETH_P_IPV6, src6, dst6, t.dir, p, yes, no) })
			continue
		}
		if t.proto != "arp" {
			branches = append(branches, func(yes, no label) { c.addresses(unix.ETH_P_IP, src4, dst4, t.dir, p, yes, no) })
		}
		if t.proto != "ip" {
			branches = append(branches, func(yes, no label) { c.addresses(unix.ETH_P_ARP, srcARP, dstARP, t.dir, p, yes, no) })
		}
	}
	c.either(yes, no, branches...)
}

func (c *compiler) addresses(family, src, dst uint32, dir string, p netip.Prefix, yes, no label) {
	mid := c.label()
	c.ether(family, mid, no)
	c.place(mid)
	from := func(yes, no label) { c.address(src, p, yes, no) }
	to := func(yes, no label) { c.address(dst, p, yes, no) }
	c.direct(dir, from, to, yes, no)
}

func (c *compiler) direct(dir string, from, to func(yes, no label), yes, no label) {
	switch dir {
	case "src":
		from(yes, no)
	case "dst":
		to(yes, no)
	case "and":
		c.both(yes, no, from, to)
	default:
		c.either(yes, no, from, to)
	}
}

func (c *compiler) address(off uint32, p netip.Prefix, yes, no label) {
	var parts []func(yes, no label)
	raw := p.Addr().AsSlice()
	for i := 0; i < len(raw) && i*8 < p.Bits(); i += 4 {
		mask := ^uint32(0)
		if left := p.Bits() - i*8; left < 32 {
			mask <<= 32 - left
		}
		want := binary.BigEndian.Uint32(raw[i:])
		parts = append(parts, func(yes, no label) {
			c.load(off+uint32(i), 4)
			if mask != ^uint32(0) {
				c.add(bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask})
			}
			c.when(bpf.JumpEqual, want&mask, yes, no)
		})
	}
	if len(parts) == 0 { // 0.0.0.0/0
		c.jump(yes)
		return
	}
	c.both(yes, no, parts...)
}

func (c *compiler) port(t *test, yes, no label) {
	protos := []uint32{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP}
	if n, ok := transports[t.proto]; ok {
		protos = []uint32{n}
	}
	var branches []func(yes, no label)
	if t.proto != "ip6" {
		branches = append(branches, func(yes, no label) { c.port4(t, protos, yes, no) })
	}
	if t.proto != "ip" {
		branches = append(branches, func(yes, no label) { c.port6(t, protos, yes, no) })
	}
	c.either(yes, no, branches...)
}

func (c *compiler) port4(t *test, protos []uint32, yes, no label) {
	mid, whole := c.label(), c.label()
	c.carries(unix.ETH_P_IP, proto4, mid, no, protos...)
	c.place(mid)
	// Only a packet's first fragment has ports.
	c.load(frag4, 2)
	c.when(bpf.JumpBitsSet, 0x1fff, no, whole)
	c.place(whole)
	at := func(off uint32) func(yes, no label) {
		return func(yes, no label) {
			c.add(bpf.LoadMemShift{Off: payload})
			c.add(bpf.LoadIndirect{Off: payload + off, Size: 2})
			c.between(t, yes, no)
		}
	}
	c.direct(t.dir, at(0), at(2), yes, no)
}

func (c *compiler) port6(t *test, protos []uint32, yes, no label) {
	mid := c.label()
	c.carries(unix.ETH_P_IPV6, proto6, mid, no, protos...)
	c.place(mid)
	at := func(off uint32) func(yes, no label) {
		return func(yes, no label) {
			c.load(ports6+off, 2)
			c.between(t, yes, no)
		}
	}
	c.direct(t.dir, at(0), at(2), yes, no)
}

func (c *compiler) between(t *test, yes, no label) {
	if t.low == t.hi {
		c.when(bpf.JumpEqual, t.low, yes, no)
		return
	}
	mid := c.label()
	c.when(bpf.JumpGreaterOrEqual, t.low, mid, no)
	c.place(mid)
	c.when(bpf.JumpLessOrEqual, t.hi, yes, no)
}
