//go:build root

package network_test

import (
	"os"
	"testing"

	"muelle/internal/network/frametest"
)

// wire is a raw socket on an interface of a test's world.
type wire struct {
	*frametest.Wire
	mac []byte
}

func (w *wire) send(frame []byte) error { return w.Send(frame) }

func (w *wire) sees(text, last string) (bool, error) { return w.Sees(text, last) }

func tap(t testing.TB, ns *os.File, name string) *wire {
	t.Helper()
	w := &wire{}
	must(t, in(ns, func() (err error) { w.Wire, err = frametest.Open(name); return err }))
	w.mac = w.MAC
	t.Cleanup(func() { w.Close() })
	return w
}

// The headers of a frame.
var (
	ethernet, ipv4, ipv6 = frametest.Ethernet, frametest.IPv4, frametest.IPv6
	udp, icmpv6, addr    = frametest.UDP, frametest.ICMPv6, frametest.Addr
	checksum             = frametest.Checksum
)
