package shim

import (
	"math/bits"

	"golang.org/x/sys/unix"
)

// What comes by UDP over IPv6 is read by whichever of the replicas' shims is quickest,
// since they share the socket. So that a client keeps its replica all the same, each of
// them sends it on from the same address: one of 127.0.0.0/8 that is a hash of the
// client's, with the client's port. The kernel chooses the replica by these, and tracks
// one flow. The hash's key is one that the shims have in common and other machines do
// not know, or they could look for a client whose answers they would get.

// connectAs gives a socket to the relay's target for a client, and where it sends from; or
// one as any, where that address is not to be had.
func (u *udpRelay) connectAs(key clientKey) (fd int, source address4, err error) {
	to, ok := u.to.(*unix.SockaddrInet4)
	if ok && to.Addr[0] == 127 && !u.keyed {
		u.key, u.keyed = bootKey()
	}
	if u.keyed {
		source = u.key.source(key)
		if !u.sends(source) {
			if fd := connectFrom(source, to); fd >= 0 {
				return fd, source, nil
			}
		}
	}
	fd, err = dial(u.to, unix.SOCK_DGRAM)
	return fd, address4{}, err
}

// sends tells whether another client's datagrams are sent on from there.
func (u *udpRelay) sends(source address4) bool {
	for _, c := range u.clients {
		if c.source == source {
			return true
		}
	}
	return false
}

// address4 is an address of IPv4 and a port.
type address4 struct {
	addr [4]byte
	port int
}

// connectFrom gives -1 where that fails. Another shim may have sent from there before.
func connectFrom(source address4, to *unix.SockaddrInet4) int {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) == nil &&
		unix.Bind(fd, &unix.SockaddrInet4{Port: source.port, Addr: source.addr}) == nil && unix.Connect(fd, to) == nil {
		return fd
	}
	unix.Close(fd)
	return -1
}

type sipKey [2]uint64

// bootKey is the boot's random id.
func bootKey() (k sipKey, ok bool) {
	fd, err := unix.Open("/proc/sys/kernel/random/boot_id", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return k, false
	}
	defer unix.Close(fd)
	var text [36]byte
	if n, err := unix.Read(fd, text[:]); n != len(text) || err != nil {
		return k, false
	}
	// Thirty-two digits of four bits each.
	digits := 0
	for _, c := range text {
		v := uint64(c - '0')
		switch {
		case c == '-':
			continue
		case c >= 'a':
			v = uint64(c-'a') + 10
		}
		k[digits/16] = k[digits/16]<<4 | v&15
		digits++
	}
	return k, digits == 32
}

// source is where a client's datagrams are sent on from: 127.128.0.0/9, where nobody has
// a server by habit, and the client's port.
func (k sipKey) source(c clientKey) address4 {
	words := [3]uint64{2: uint64(c.port)<<32 | uint64(c.zone)}
	for i, b := range c.addr {
		words[i/8] = words[i/8]<<8 | uint64(b)
	}
	h := k.sum(words)
	return address4{[4]byte{127, byte(h>>16) | 0x80, byte(h >> 8), byte(h)}, c.port}
}

// sum is SipHash-2-4 of three words.
func (k sipKey) sum(words [3]uint64) uint64 {
	v := [4]uint64{k[0] ^ 0x736f6d6570736575, k[1] ^ 0x646f72616e646f6d, k[0] ^ 0x6c7967656e657261, k[1] ^ 0x7465646279746573}
	round := func() {
		v[0] += v[1]
		v[1] = bits.RotateLeft64(v[1], 13) ^ v[0]
		v[0] = bits.RotateLeft64(v[0], 32)
		v[2] += v[3]
		v[3] = bits.RotateLeft64(v[3], 16) ^ v[2]
		v[0] += v[3]
		v[3] = bits.RotateLeft64(v[3], 21) ^ v[0]
		v[2] += v[1]
		v[1] = bits.RotateLeft64(v[1], 17) ^ v[2]
		v[2] = bits.RotateLeft64(v[2], 32)
	}
	for _, w := range append(words[:], uint64(len(words)*8)<<56) {
		v[3] ^= w
		round()
		round()
		v[0] ^= w
	}
	v[2] ^= 0xff
	for range 4 {
		round()
	}
	return v[0] ^ v[1] ^ v[2] ^ v[3]
}
