// Package port reserves ports of the host with bound sockets. The sockets carry no
// traffic (the firewall translates it before it would reach them); they keep others
// from taking the port, and are found taken when others have it.
package port

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"
)

// Docker's range for ports that nobody asked for by number.
const (
	firstDynamic = 32768
	lastDynamic  = 60999
)

// Request asks for one published port.
type Request struct {
	Container network.Port
	// Host is the address asked for, or the zero value: any.
	Host netip.Addr
	// Start and End are the range to choose from; both zero: any port.
	Start, End uint16
}

// Parse reads a binding of the API. Addresses of IPv6 other than ::1 are not
// supported: only the relay on [::1] is there.
func Parse(container network.Port, b network.PortBinding) (Request, error) {
	r := Request{Container: container, Host: b.HostIP}
	if proto := container.Proto(); proto != network.TCP && proto != network.UDP {
		return r, notSupported("publishing %s ports is not supported", strings.ToUpper(string(proto)))
	}
	if b.HostIP.IsValid() && b.HostIP.Is6() && !b.HostIP.Is4In6() && !b.HostIP.IsLoopback() {
		return r, notSupported("publishing on the IPv6 address %s is not supported (only [::1] is)", b.HostIP)
	}
	r.Host = b.HostIP.Unmap()
	if b.HostPort == "" || b.HostPort == "0" {
		return r, nil
	}
	first, second, isRange := strings.Cut(b.HostPort, "-")
	start, err := strconv.ParseUint(first, 10, 16)
	end := start
	if err == nil && isRange {
		end, err = strconv.ParseUint(second, 10, 16)
	}
	if err != nil || start == 0 || end < start {
		return r, invalid("invalid port specification: %q", b.HostPort)
	}
	r.Start, r.End = uint16(start), uint16(end)
	return r, nil
}

// Binding is a reserved port.
type Binding struct {
	Container network.Port
	// Host is 0.0.0.0, an address of the host, or ::1.
	Host netip.AddrPort
	// File is the socket; on ::1 it listens (TCP) or is bound (UDP) for a relay.
	File *os.File
}

// Name is the binding as text, parsed by ParseName.
func (b Binding) Name() string {
	name := b.Host.AppendTo([]byte("port "))
	name = strconv.AppendUint(append(name, ' '), uint64(b.Container.Num()), 10)
	return string(append(append(name, '/'), b.Container.Proto()...))
}

// ParseName reads what Name wrote; false if it is something else.
func ParseName(s string) (Binding, bool) {
	fields := strings.Fields(s)
	if len(fields) != 3 || fields[0] != "port" {
		return Binding{}, false
	}
	host, err := netip.ParseAddrPort(fields[1])
	if err != nil {
		return Binding{}, false
	}
	container, err := network.ParsePort(fields[2])
	return Binding{Container: container, Host: host}, err == nil
}

// TakenError tells that a port is in use.
type TakenError struct {
	Host  netip.AddrPort
	Proto network.IPProtocol
}

func (e *TakenError) Error() string {
	return fmt.Sprintf("%s/%s: address already in use", e.Host, e.Proto)
}

// Book reserves ports. It is safe for concurrent use.
type Book struct {
	mu   sync.Mutex
	next map[network.IPProtocol]int
}

// NewBook makes an empty book: the kernel knows what is taken.
func NewBook() *Book { return &Book{next: map[network.IPProtocol]int{}} }

// Reserve binds the port on every address that the request means: the one asked
// for, or dflt, and with dflt 0.0.0.0 also ::1 where the host has it.
func (b *Book) Reserve(r Request, dflt netip.Addr) ([]Binding, error) {
	addrs := []netip.Addr{r.Host}
	if !r.Host.IsValid() {
		addrs[0] = dflt
		if dflt.IsUnspecified() {
			addrs = append(addrs, netip.IPv6Loopback())
		}
	}
	if r.Start != 0 && r.Start == r.End {
		return bindAll(r.Container, addrs, r.Start)
	}
	var err error
	for _, p := range b.candidates(r) {
		var bound []Binding
		bound, err = bindAll(r.Container, addrs, p)
		var taken *TakenError
		if err == nil || !errors.As(err, &taken) {
			return bound, err
		}
	}
	if r.Start != 0 {
		return nil, err
	}
	return nil, errors.New("all ports are allocated")
}

// candidates are the ports to try. A dynamic port is not handed out again soon.
func (b *Book) candidates(r Request) []uint16 {
	var list []uint16
	if r.Start != 0 {
		for p := int(r.Start); p <= int(r.End); p++ {
			list = append(list, uint16(p))
		}
		return list
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	const size, tries = lastDynamic - firstDynamic + 1, 256
	proto := r.Container.Proto()
	for i := range tries {
		list = append(list, uint16(firstDynamic+(b.next[proto]+i)%size))
	}
	b.next[proto] = (b.next[proto] + 1) % size
	return list
}

func bindAll(container network.Port, addrs []netip.Addr, p uint16) ([]Binding, error) {
	var bound []Binding
	for _, a := range addrs {
		at := netip.AddrPortFrom(a, p)
		f, err := bind(at, container.Proto())
		if err != nil && len(addrs) > 1 && a.Is6() && (errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EAFNOSUPPORT)) {
			continue // a host without IPv6
		}
		if err != nil {
			Close(bound)
			if errors.Is(err, unix.EADDRINUSE) {
				return nil, &TakenError{Host: at, Proto: container.Proto()}
			}
			return nil, fmt.Errorf("bind host port %s/%s: %w", at, container.Proto(), err)
		}
		bound = append(bound, Binding{Container: container, Host: at, File: f})
	}
	return bound, nil
}

// Close closes the sockets of the bindings.
func Close(bound []Binding) {
	for _, b := range bound {
		b.File.Close()
	}
}
