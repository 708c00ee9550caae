package zone

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"muelle/api"
	"muelle/internal/linux/netns"
	"muelle/internal/netdriver"
	"muelle/internal/network"
	"muelle/internal/policy"
)

const (
	// attempts at a time: each holds a thread while it waits.
	attempts = 96
	// short is how long what should not be reached may be silent; long is for what
	// should, when it was silent at first: the machine may be busy.
	short, long = 400 * time.Millisecond, 4 * time.Second
	// pause is between attempts that were refused.
	pause = 50 * time.Millisecond
)

// verification is one Report with real attempts.
type verification struct {
	sc *scene
	ns map[string]*os.File // by the container's name
	// listeners hear what arrives at containers, by name.
	listeners map[string]*listener
}

// verify tries every way of every cell.
func (s *Service) verify(ctx context.Context, sc *scene, r *api.ZoneReport) error {
	v := &verification{sc: sc, ns: map[string]*os.File{}, listeners: map[string]*listener{}}
	defer v.close()
	for _, list := range sc.containers {
		for _, sb := range list {
			if sb.Host {
				continue
			}
			ns, err := s.networks.NetNS(sb.ID)
			if err != nil {
				return fmt.Errorf("verify zones: container %s ended meanwhile: %w", sb.Name, err)
			}
			v.ns[sb.Name] = ns
			if v.listeners[sb.Name], err = listen(ns); err != nil {
				return fmt.Errorf("verify zones: listen at container %s: %w", sb.Name, err)
			}
		}
	}
	slots := make(chan struct{}, attempts)
	var wg sync.WaitGroup
	for i := range r.Cells {
		for j := range r.Cells[i].Tries {
			cell, try := &r.Cells[i], &r.Cells[i].Tries[j]
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				if ctx.Err() == nil {
					v.try(cell, try)
				}
			})
		}
	}
	wg.Wait()
	return ctx.Err()
}

func (v *verification) close() {
	for _, l := range v.listeners {
		if l != nil {
			l.close()
		}
	}
	for _, ns := range v.ns {
		ns.Close()
	}
}

// try makes one attempt, and another where the first went otherwise than expected.
func (v *verification) try(cell *api.ZoneCell, t *api.ZoneTry) {
	outside := cell.From == policy.LAN || cell.From == policy.Internet
	switch {
	case t.Result == api.ZoneUnproved:
		return
	case outside:
		t.Result = v.byRules(cell, t)
		t.Differs = t.Result == api.ZonePasses && !t.Expected || t.Result == api.ZoneBlocked && t.Expected
		return
	case cell.Port != 0 && cell.Protocol != "tcp" && v.listeners[t.To] == nil:
		t.Result = api.ZoneUnproved // nobody can look at what arrives on this host alone
		return
	}
	if !v.differs(cell, t, short) {
		return
	}
	// A program that takes one connection at a time refuses all others meanwhile.
	for end := time.Now().Add(long); v.differs(cell, t, time.Until(end)) && t.Result == api.ZoneRefused && time.Until(end) > pause; {
		time.Sleep(pause)
	}
}

// differs makes an attempt, and tells whether another may go as expected.
func (v *verification) differs(cell *api.ZoneCell, t *api.ZoneTry, patience time.Duration) bool {
	t.Result = v.once(cell, t, patience)
	reached := t.Result == api.ZoneOpen || t.Result == api.ZoneRefused
	// Somebody listens there, but it was another who refused.
	if t.Result == api.ZoneRefused && cell.Protocol != "udp" && v.listening(cell, t) {
		reached = false
	}
	t.Differs = t.Result != api.ZoneUnproved && reached != t.Expected
	return t.Differs && !reached
}

// listening tells whether a program waits where the try leads to.
func (v *verification) listening(cell *api.ZoneCell, t *api.ZoneTry) bool {
	return slices.ContainsFunc(v.sc.containers[cell.To], func(sb network.SandboxView) bool {
		at := t.Address
		if t.Published {
			if at = leadsTo(sb, cell.Protocol, t.Address); !at.IsValid() {
				return false
			}
		}
		return (t.Published || sb.Name == t.To) && v.sc.hears(sb.ID, cell.Protocol, at)
	})
}

// byRules follows the packets of somebody outside through the rules that are in the kernel,
// this engine's and all others': from there nothing can be sent.
func (v *verification) byRules(cell *api.ZoneCell, t *api.ZoneTry) string {
	to := v.sc.world.Member(cell.To)
	if slices.ContainsFunc(to.Networks, func(key string) bool {
		return v.sc.networks[key].Interface == "" && !t.Published && v.sc.holds(key, t.Address.Addr())
	}) {
		return api.ZoneUnproved // what comes by a link of its own meets no rule of this host's
	}
	w := policy.Way{From: cell.From, To: cell.To, Six: t.Address.Addr().Is6(), Protocol: cell.Protocol, Port: cell.Port}
	if t.Published {
		w.Host = t.Address
	}
	target := v.sc.target(w)
	for _, key := range to.Networks {
		own, lead := !t.Published && v.sc.holds(key, t.Address.Addr()), t.Published && v.sc.holds(key, target.To.Addr())
		if own {
			target.To = t.Address
		}
		if own || lead {
			target.Bridge = v.sc.networks[key].Interface
		}
	}
	switch fate := v.sc.filters.Outside(cell.From == policy.Internet, true, target); {
	case fate.Certain():
		return api.ZoneBlocked
	case fate.Passes && !fate.Dropped:
		return api.ZonePasses
	}
	return api.ZoneUnproved // no such link, or it depends on who asks
}

// holds tells whether an address is in a network.
func (sc *scene) holds(key string, a netip.Addr) bool {
	return a.IsValid() && slices.ContainsFunc(sc.networks[key].Subnets, func(s netdriver.Subnet) bool { return s.Prefix.Contains(a) })
}

func (v *verification) once(cell *api.ZoneCell, t *api.ZoneTry, patience time.Duration) string {
	from := t.From
	if cell.From == policy.Host {
		from = "" // a container may have that name
	}
	switch {
	case cell.To == policy.Internet:
		return v.outside(from, t)
	case cell.Protocol == "udp":
		return v.arrives(cell, t, patience, func(m mark) (int, error) {
			fd, err := v.begin(from, t.Address, unix.SOCK_DGRAM, 0)
			if err == nil {
				err = ignoring(unix.Send(fd, m[:], 0), unix.EPERM)
			}
			return fd, err
		})
	case cell.Protocol == "sctp" && t.Published && t.Address.Addr().Is6():
		// A relay asks for another association, without the mark.
		return v.connect(from, t, unix.IPPROTO_SCTP, patience)
	case cell.Protocol == "sctp":
		return v.arrives(cell, t, patience, func(m mark) (int, error) { return v.associate(from, t.Address, m) })
	}
	return v.connect(from, t, unix.IPPROTO_TCP, patience)
}

// within runs f in the container's namespace, or on the host, which has no name here.
func (v *verification) within(name string, f func() error) error {
	if ns := v.ns[name]; ns != nil {
		return netns.Do(ns, f)
	}
	return f()
}

func sockaddr(to netip.AddrPort) (unix.Sockaddr, int) {
	if to.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}, unix.AF_INET
	}
	return &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}, unix.AF_INET6
}

// begin makes a socket of the source's namespace that is connected, or about to be.
func (v *verification) begin(from string, to netip.AddrPort, kind, proto int) (fd int, err error) {
	fd = -1
	err = v.within(from, func() error {
		sa, domain := sockaddr(to)
		fd, err = unix.Socket(domain, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
		if err != nil {
			return err
		}
		if err := unix.Connect(fd, sa); err != nil && err != unix.EINPROGRESS {
			unix.Close(fd)
			fd = -1
			return err
		}
		return nil
	})
	return fd, err
}

// connect tries TCP or SCTP.
func (v *verification) connect(from string, t *api.ZoneTry, proto int, patience time.Duration) string {
	fd, err := v.begin(from, t.Address, unix.SOCK_STREAM, proto)
	if err != nil {
		return outcome(err)
	}
	defer unix.Close(fd)
	for end := time.Now().Add(patience); ; {
		left := time.Until(end)
		if left <= 0 {
			return api.ZoneDropped
		}
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		n, err := unix.Poll(poll, int(left.Milliseconds())+1)
		if err == unix.EINTR || err == nil && n == 0 {
			continue
		}
		code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && code != 0 {
			err = unix.Errno(code)
		}
		return outcome(err)
	}
}

func outcome(err error) string {
	switch {
	case err == nil, errors.Is(err, unix.ECONNRESET): // accepted first
		return api.ZoneOpen
	case errors.Is(err, unix.ECONNREFUSED):
		return api.ZoneRefused
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EADDRNOTAVAIL):
		return api.ZoneNoRoute
	}
	return api.ZoneDropped
}

func ignoring(err, what error) error {
	if errors.Is(err, what) {
		return nil
	}
	return err
}

// arrives sends a mark, and looks whether it comes to a container's interface: a program
// need not answer. ICMP's "unreachable" comes from a container that was reached, and where
// nobody listens, or, where the mark did not arrive, from somebody on the way.
func (v *verification) arrives(cell *api.ZoneCell, t *api.ZoneTry, patience time.Duration, send func(mark) (int, error)) string {
	m := newMark()
	heard := make(chan struct{}, len(v.sc.containers[cell.To]))
	for _, sb := range v.sc.containers[cell.To] {
		if l := v.listeners[sb.Name]; l != nil {
			l.expect(m, heard)
			defer l.forget(m)
		}
	}
	fd, err := send(m)
	if fd >= 0 {
		defer unix.Close(fd)
	}
	if err != nil {
		return outcome(err)
	}
	select {
	case <-heard:
		if cell.Protocol == "udp" && !v.listening(cell, t) && refused(fd, unreachableWithin) {
			return api.ZoneRefused
		}
		return api.ZoneOpen
	case <-time.After(patience):
		if cell.Protocol == "udp" && refused(fd, 0) {
			return api.ZoneRejected
		}
		return api.ZoneDropped
	}
}

// unreachableWithin is how long a kernel may take to say that nobody listens, which
// changes a word of the result only.
const unreachableWithin = 50 * time.Millisecond

// refused tells whether ICMP answered a connected UDP socket that nobody listens, or that
// somebody on the way lets nothing through.
func refused(fd int, patience time.Duration) bool {
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd)}}, int(patience.Milliseconds()))
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	return err == nil && code != 0
}

// outside sends a datagram to nobody's address, and asks the kernel whether it left
// this host: only then its connection is tracked.
func (v *verification) outside(from string, t *api.ZoneTry) string {
	if _, err := netlink.RouteGet(t.Address.Addr().AsSlice()); err != nil {
		return api.ZoneUnproved // this host has no way out itself
	}
	fd, err := v.begin(from, t.Address, unix.SOCK_DGRAM, 0)
	if err != nil {
		return outcome(err)
	}
	defer unix.Close(fd)
	mark := newMark()
	if err := unix.Send(fd, mark[:], 0); err != nil {
		return outcome(err)
	}
	source := localAddr(fd)
	family := netlink.InetFamily(unix.AF_INET)
	if t.Address.Addr().Is6() {
		family = unix.AF_INET6
	}
	flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, family)
	if err != nil {
		return api.ZoneUnproved
	}
	for _, f := range flows {
		// Other containers' flows have the same ports at times.
		by, _ := netip.AddrFromSlice(f.Forward.SrcIP)
		to, _ := netip.AddrFromSlice(f.Forward.DstIP)
		if f.Forward.Protocol == unix.IPPROTO_UDP && netip.AddrPortFrom(by.Unmap(), f.Forward.SrcPort) == source && netip.AddrPortFrom(to.Unmap(), f.Forward.DstPort) == t.Address {
			return api.ZoneOpen
		}
	}
	return api.ZoneDropped
}

func localAddr(fd int) netip.AddrPort {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}
