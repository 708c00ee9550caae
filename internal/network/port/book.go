package port

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"

	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"
)

// Book reserves ports. It is safe for concurrent use.
type Book struct {
	mu   sync.Mutex
	next map[network.IPProtocol]int
	// shared are the sockets that further replicas may have a duplicate of.
	shared  map[sharedKey]*sharedSocket
	filters *filters
}

// sharedKey is a port of the host as it was asked for.
type sharedKey struct {
	proto network.IPProtocol
	host  netip.AddrPort
	both  bool
}

type sharedSocket struct {
	owner string
	file  *os.File
	users int
}

// NewBook makes an empty book: the kernel knows what is taken.
func NewBook() *Book {
	return &Book{next: map[network.IPProtocol]int{}, shared: map[sharedKey]*sharedSocket{}, filters: &filters{newDeaf(), newOnlyIPv6()}}
}

// place is what one socket is bound to.
type place struct {
	addr netip.Addr
	both bool
}

// Reserve binds the port on the address asked for, or on dflt; where that is 0.0.0.0
// and nobody asked for it, on all addresses of both families. What has an Owner is
// given back with Release.
func (b *Book) Reserve(r Request, dflt netip.Addr) (Binding, error) {
	at := place{addr: r.Host}
	if !r.Host.IsValid() {
		at.addr = dflt
		if dflt.IsUnspecified() {
			at = place{addr: netip.IPv6Unspecified(), both: true}
		}
	}
	if r.Start != 0 && r.Start == r.End {
		if r.Owner != "" {
			return b.reserveShared(r, at)
		}
		return b.bindPlace(r, at, r.Start)
	}
	first, last := int(r.Start), int(r.End)
	from := 0
	if r.Start == 0 {
		first, last = dynamicRange()
		from = b.turn(r.Container.Proto())
	}
	size := last - first + 1
	for i := range size {
		p := first + (from+i)%size
		bound, err := b.bindPlace(r, at, uint16(p))
		var taken *TakenError
		switch {
		case err == nil && r.Start == 0:
			b.after(r.Container.Proto(), (p-first+1)%size)
			return bound, nil
		case err == nil || !errors.As(err, &taken) || r.Start != 0 && i == size-1:
			return bound, err
		}
	}
	return Binding{}, errors.New("all ports are allocated")
}

// turn is where to begin: a port that was chosen is not chosen again soon.
func (b *Book) turn(proto network.IPProtocol) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next[proto]++
	return b.next[proto] - 1
}

func (b *Book) after(proto network.IPProtocol, next int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next[proto] = max(b.next[proto], next)
	if next == 0 {
		b.next[proto] = 0
	}
}

// reserveShared gives a duplicate where the same owner has the port already.
func (b *Book) reserveShared(r Request, at place) (Binding, error) {
	key := sharedKey{r.Container.Proto(), netip.AddrPortFrom(at.addr, r.Start), at.both}
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.shared[key]
	if s == nil && at.both {
		// A host without IPv6.
		s = b.shared[sharedKey{key.proto, netip.AddrPortFrom(netip.IPv4Unspecified(), r.Start), false}]
	}
	if s != nil && s.owner == r.Owner {
		f, err := duplicate(s.file)
		if err != nil {
			return Binding{}, err
		}
		s.users++
		return Binding{Container: r.Container, Host: key.host, Both: at.both, File: f}, nil
	}
	bound, err := b.bindPlace(r, at, r.Start)
	if err != nil {
		return bound, err
	}
	if err := b.share(bound, r.Owner); err != nil {
		bound.File.Close()
		return Binding{}, err
	}
	return bound, nil
}

func (b *Book) share(bound Binding, owner string) error {
	f, err := duplicate(bound.File)
	if err != nil {
		return err
	}
	b.shared[keyOf(bound)] = &sharedSocket{owner: owner, file: f, users: 1}
	return nil
}

func keyOf(b Binding) sharedKey { return sharedKey{b.Container.Proto(), b.Host, b.Both} }

// Adopt takes note of what a container of an owner has reserved since before the
// daemon's start. The file stays the caller's.
func (b *Book) Adopt(bound Binding, owner string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.shared[keyOf(bound)]; s != nil {
		if s.owner == owner {
			s.users++
		}
		return nil
	}
	return b.share(bound, owner)
}

// Release gives back what an owner's container had reserved: with the last one the
// port is free, as far as the book is concerned.
func (b *Book) Release(bound []Binding, owner string) {
	if owner == "" {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, one := range bound {
		s := b.shared[keyOf(one)]
		if s == nil || s.owner != owner {
			continue
		}
		if s.users--; s.users == 0 {
			s.file.Close()
			delete(b.shared, keyOf(one))
		}
	}
}

func duplicate(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("share a reserved port: %w", err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// dynamicRange is where ports are chosen that nobody asked for by number: the kernel's
// own range of the sort, as Docker does, or what is usual there.
func dynamicRange() (first, last int) {
	data, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err == nil {
		if n, _ := fmt.Sscan(string(data), &first, &last); n == 2 && 0 < first && first <= last && last < 1<<16 {
			return first, last
		}
	}
	return 32768, 60999
}

// bindPlace binds one port. A host without IPv6 has 0.0.0.0 only.
func (b *Book) bindPlace(r Request, at place, p uint16) (Binding, error) {
	one := Binding{Container: r.Container, Host: netip.AddrPortFrom(at.addr, p), Both: at.both}
	var err error
	one.File, err = bind(one, b.filters)
	if at.both && (errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EAFNOSUPPORT)) {
		one.Host, one.Both = netip.AddrPortFrom(netip.IPv4Unspecified(), p), false
		one.File, err = bind(one, b.filters)
	}
	switch {
	case err == nil:
		if err := r.elsewhere(one); err != nil {
			one.File.Close()
			return Binding{}, err
		}
		return one, nil
	case errors.Is(err, unix.EADDRINUSE):
		return Binding{}, b.taken(one)
	case r.Container.Proto() == network.SCTP && (errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ESOCKTNOSUPPORT)):
		return Binding{}, notSupported("host port %s/sctp cannot be reserved: this kernel does not speak SCTP (modprobe sctp loads it, where the kernel has it)", one.Hosts()[0])
	}
	return Binding{}, fmt.Errorf("bind host port %s/%s: %w", one.Hosts()[0], r.Container.Proto(), err)
}

func (r Request) elsewhere(one Binding) error {
	if r.Elsewhere == nil {
		return nil
	}
	for _, host := range one.Hosts() {
		if by := r.Elsewhere(string(r.Container.Proto()), host); by != "" {
			return &TakenError{Host: host, Proto: r.Container.Proto(), By: by}
		}
	}
	return nil
}

// taken tells which of the addresses is in use: those of IPv4 unless only the others are.
func (b *Book) taken(one Binding) error {
	e := &TakenError{Host: one.Hosts()[0], Proto: one.Container.Proto()}
	if one.Both {
		alone := one
		alone.Host, alone.Both = one.Hosts()[0], false
		if f, err := bind(alone, b.filters); err == nil {
			f.Close()
			e.Host = one.Host
		}
	}
	return e
}

// Close closes the sockets of the bindings.
func Close(bound []Binding) {
	for _, b := range bound {
		b.File.Close()
	}
}
