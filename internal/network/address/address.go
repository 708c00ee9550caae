// Package address manages addresses: subnets cut from pools so that they clash
// with nothing, and single addresses of a subnet.
package address

import (
	"fmt"
	"math"
	"net/netip"
	"slices"

	"github.com/containerd/errdefs"
)

// Pool is a range that subnets of Size bits are cut from.
type Pool struct {
	Base netip.Prefix
	Size int
}

// DefaultPools are Docker's, in Docker's order, whose 31 subnets are soon used up,
// and behind them one of 32,768 small ones.
func DefaultPools() []Pool {
	pools := make([]Pool, 0, 17)
	for second := byte(17); second < 32; second++ {
		pools = append(pools, Pool{Base: netip.PrefixFrom(netip.AddrFrom4([4]byte{172, second}), 16), Size: 16})
	}
	return append(pools,
		Pool{Base: netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168}), 16), Size: 20},
		Pool{Base: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 128}), 9), Size: 24})
}

// Choose gives the first subnet of the pools that overlaps with nothing taken.
func Choose(pools []Pool, taken []netip.Prefix) (netip.Prefix, error) {
	for _, p := range pools {
		for subnet, ok := netip.PrefixFrom(p.Base.Masked().Addr(), p.Size), true; ok && p.Base.Contains(subnet.Addr()); subnet, ok = next(subnet) {
			if !Overlaps(subnet, taken) {
				return subnet, nil
			}
		}
	}
	return netip.Prefix{}, errdefs.ErrInvalidArgument.WithMessage("all predefined address pools have been fully subnetted")
}

// Overlaps tells whether a subnet has addresses in common with any of the others.
func Overlaps(subnet netip.Prefix, others []netip.Prefix) bool {
	return slices.ContainsFunc(others, subnet.Overlaps)
}

// next is the subnet after p of the same size; false after the last address.
func next(p netip.Prefix) (netip.Prefix, bool) {
	b := p.Masked().Addr().AsSlice()
	bit := p.Bits() - 1
	if bit < 0 {
		return p, false
	}
	for i, carry := bit/8, 1<<(7-bit%8); carry > 0 && i >= 0; i-- {
		sum := int(b[i]) + carry
		b[i] = byte(sum)
		carry = sum >> 8
		if i == 0 && carry > 0 {
			return p, false
		}
	}
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(a, p.Bits()), true
}

// Subnet hands out the addresses of one subnet. It is not safe for concurrent use.
type Subnet struct {
	prefix, dynamic netip.Prefix
	used            map[netip.Addr]bool
	from            netip.Addr // no free address of dynamic lies before
}

// NewSubnet makes a subnet; addresses that nobody asks for by name come from
// ipRange, if that is valid.
func NewSubnet(prefix, ipRange netip.Prefix) (*Subnet, error) {
	s := &Subnet{prefix: prefix.Masked(), dynamic: prefix.Masked(), used: map[netip.Addr]bool{}}
	if ipRange.IsValid() {
		if !prefix.Contains(ipRange.Addr()) || ipRange.Bits() < prefix.Bits() {
			return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid network config:\ninvalid ip-range %s: parent subnet is %s", ipRange, prefix))
		}
		s.dynamic = ipRange.Masked()
	}
	s.from = s.dynamic.Addr()
	if prefix.Addr().BitLen()-prefix.Bits() > 1 {
		s.used[s.prefix.Addr()] = true
		if prefix.Addr().Is4() {
			s.used[last(s.prefix)] = true
		}
	}
	return s, nil
}

func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// Prefix is the whole subnet.
func (s *Subnet) Prefix() netip.Prefix { return s.prefix }

// Take reserves one address.
func (s *Subnet) Take(a netip.Addr) error {
	if !s.prefix.Contains(a) {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid address %s: It does not belong to any of this network's subnets", a))
	}
	if s.used[a] {
		return errdefs.ErrPermissionDenied.WithMessage("Address already in use")
	}
	s.used[a] = true
	return nil
}

// Next reserves the lowest free address.
func (s *Subnet) Next() (netip.Addr, error) {
	for a := s.from; s.dynamic.Contains(a); a = a.Next() {
		if !s.used[a] {
			s.used[a], s.from = true, a
			return a, nil
		}
	}
	return netip.Addr{}, errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("no available IPv%d addresses on this network's address pools: %s", map[bool]int{true: 4, false: 6}[s.prefix.Addr().Is4()], s.prefix))
}

// Free gives an address back.
func (s *Subnet) Free(a netip.Addr) {
	delete(s.used, a)
	if s.dynamic.Contains(a) && a.Less(s.from) {
		s.from = a
	}
}

// Usage counts the addresses in use or reserved, and those left for Next.
func (s *Subnet) Usage() (used, free uint64) {
	size := func(p netip.Prefix) uint64 {
		if host := p.Addr().BitLen() - p.Bits(); host < 64 {
			return 1 << host
		}
		return math.MaxUint64
	}
	free = size(s.dynamic)
	for a := range s.used {
		if s.dynamic.Contains(a) {
			free--
		}
	}
	return uint64(len(s.used)), free
}
