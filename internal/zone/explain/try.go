package explain

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"muelle/internal/linux/rtnl"
	"muelle/internal/network/hostfile"
	"muelle/internal/probe"
	"muelle/internal/probe/check"
)

const (
	// answerPatience is for one connection, lookupPatience for one question.
	answerPatience = 2 * time.Second
	lookupPatience = 5 * time.Second
	udpPatience    = 300 * time.Millisecond
	// mostFromHosts lines of /etc/hosts count.
	mostFromHosts = 8
)

var embedded = hostfile.Embedded

// lookUp asks for the target's name as a program in the source does: /etc/hosts first,
// then the first name server of /etc/resolv.conf.
func (f *facts) lookUp(ctx context.Context, ns *os.File) {
	l := &lookup{name: f.Target.DNSName}
	f.lookup = l
	if l.addrs = fromHosts(f.Source.Hosts, l.name); len(l.addrs) > 0 {
		l.from = "/etc/hosts"
		return
	}
	var servers []netip.Addr
	switch {
	case f.Source.Resolv != nil:
		servers = hostfile.ParseResolv(f.Source.Resolv).Servers
	case f.src != nil && !f.src.Host:
		servers = []netip.Addr{embedded}
	}
	if len(servers) == 0 || ns != nil && f.hasOnlyLoopback() {
		l.without = true
		return
	}
	l.from = servers[0].String()
	begun := time.Now()
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		var reply *dns.Msg
		if reply, l.err = question(ctx, ns, servers[0], l.name, kind); l.err != nil {
			break
		}
		if l.code == "" || l.code != "NOERROR" {
			l.code = dns.RcodeToString[reply.Rcode]
		}
		for _, rr := range reply.Answer {
			switch rr := rr.(type) {
			case *dns.A:
				l.addrs = append(l.addrs, netip.AddrFrom4([4]byte(rr.A.To4())))
			case *dns.AAAA:
				l.addrs = append(l.addrs, netip.AddrFrom16([16]byte(rr.AAAA.To16())))
			}
		}
	}
	if len(l.addrs) > 0 {
		l.err = nil
	}
	l.took = time.Since(begun)
}

// hasOnlyLoopback tells whether the source is on no network at all.
func (f *facts) hasOnlyLoopback() bool {
	if f.src == nil || f.src.Host {
		return false
	}
	for _, e := range f.src.Endpoints {
		if len(e.Addresses) > 0 {
			return false
		}
	}
	return true
}

func question(ctx context.Context, ns *os.File, server netip.Addr, name string, kind uint16) (*dns.Msg, error) {
	var conn net.Conn
	err := in(ns, func() (err error) {
		conn, err = net.Dial("udp", netip.AddrPortFrom(server, 53).String())
		return err
	})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	c := dns.Client{Timeout: lookupPatience}
	reply, _, err := c.ExchangeWithConnContext(ctx, new(dns.Msg).SetQuestion(dns.Fqdn(name), kind).SetEdns0(4096, false), &dns.Conn{Conn: conn})
	return reply, err
}

// fromHosts finds a name in a hosts file.
func fromHosts(data []byte, name string) (addrs []netip.Addr) {
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		text, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) < 2 {
			continue
		}
		a, err := netip.ParseAddr(fields[0])
		if err != nil {
			continue
		}
		for _, n := range fields[1:] {
			if strings.EqualFold(n, name) {
				addrs = append(addrs, a.Unmap())
				break
			}
		}
		if len(addrs) == mostFromHosts {
			break // the file is the container's
		}
	}
	return addrs
}

// routeTo asks the kernel, inside a namespace, which way an address lies.
func routeTo(ns *os.File, to netip.Addr) *route {
	r := &route{}
	r.err = in(ns, func() error {
		list, err := netlink.RouteGet(to.AsSlice())
		if err != nil || len(list) == 0 {
			return errors.Join(err, errIf(err == nil, unix.ENETUNREACH))
		}
		if via, ok := netip.AddrFromSlice(list[0].Gw); ok {
			r.via = via.Unmap()
		}
		link, err := netlink.LinkByIndex(list[0].LinkIndex)
		if err != nil {
			return err
		}
		r.iface = link.Attrs().Name
		return nil
	})
	return r
}

func errIf(is bool, err error) error {
	if is {
		return err
	}
	return nil
}

// try connects to one address after the other until one answers.
func (f *facts) try(ctx context.Context, ns *os.File) *attempt {
	a := &attempt{}
	for _, to := range f.to {
		if a.to.IsValid() {
			a.failed = append(a.failed, a.to)
		}
		a.to = netip.AddrPortFrom(to, f.toPort)
		begun := time.Now()
		switch f.Proto {
		case "udp":
			a.unheard, a.err = tryUDP(ns, a.to)
		case "sctp":
			a.err = trySCTP(ns, a.to)
		default:
			a.err = tryTCP(ctx, ns, a.to)
		}
		if a.took = time.Since(begun); a.err == nil {
			return a
		}
	}
	return a
}

// tryFromHere connects, for somebody outside whom nobody can ask to try, from this host
// to its own published port: that proves translation, listener and answer, and not what
// zones and firewalls do with strangers.
func (f *facts) tryFromHere(ctx context.Context) {
	if f.mapping == nil || f.mapping.missed {
		return
	}
	at := f.mapping.host.Addr()
	if at.IsUnspecified() {
		at = uplinkAddress(at.Is6())
	}
	if at.IsValid() {
		f.to = []netip.Addr{at}
		f.attempt = f.try(ctx, nil)
	}
}

// uplinkAddress is the host's address of a family by which outside lies.
func uplinkAddress(six bool) netip.Addr {
	names, err := rtnl.DefaultInterfaces()
	if err != nil {
		return netip.Addr{}
	}
	for _, name := range names {
		link, err := net.InterfaceByName(name)
		if err != nil {
			continue
		}
		list, err := link.Addrs()
		if err != nil {
			continue
		}
		for _, a := range list {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().IsGlobalUnicast() && p.Addr().Is6() == six {
				return p.Addr()
			}
		}
	}
	return netip.Addr{}
}

func tryTCP(ctx context.Context, ns *os.File, to netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	_, err := check.Run(ctx, &probe.Config{Kind: probe.TCP, Addr: to.Addr(), Port: to.Port()}, check.Place{NetNS: ns})
	return err
}

// trySCTP makes an association, which a kernel without SCTP cannot.
func trySCTP(ns *os.File, to netip.AddrPort) error {
	var fd int
	var sa unix.Sockaddr = &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())}
	domain := unix.AF_INET6
	if to.Addr().Is4() {
		sa, domain = &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}, unix.AF_INET
	}
	err := in(ns, func() (err error) {
		fd, err = unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
		return err
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	patience := unix.NsecToTimeval(answerPatience.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &patience); err != nil {
		return err
	}
	if err := unix.Connect(fd, sa); err != nil {
		if err == unix.EINPROGRESS || err == unix.EAGAIN { // the patience is over
			return unix.ETIMEDOUT
		}
		return err
	}
	return nil
}

// tryUDP sends an empty datagram: a port where nobody listens refuses it.
func tryUDP(ns *os.File, to netip.AddrPort) (unheard bool, err error) {
	var conn net.Conn
	err = in(ns, func() (err error) {
		conn, err = net.Dial("udp", to.String())
		return err
	})
	if err != nil {
		return false, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(udpPatience)); err != nil {
		return false, err
	}
	if _, err := conn.Write(nil); err != nil {
		return false, err
	}
	_, err = conn.Read(make([]byte, 1))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return true, nil
	}
	return false, err
}
