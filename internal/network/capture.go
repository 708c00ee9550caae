package network

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"muelle/api"
	"muelle/internal/linux/capture"
	"muelle/internal/linux/capture/filter"
	"muelle/internal/linux/capture/pcap"
	"muelle/internal/linux/netns"
	"muelle/internal/linux/rtnl"
)

// The bound that clients know is the compiler's.
var _ = [1]struct{}{}[api.CaptureFilterMost-filter.MaxLength]

// CaptureOptions say what to capture.
type CaptureOptions struct {
	// Interface is one inside the container, or a network that it is on; empty: all but
	// the loopback.
	Interface string
	// Filter is in tcpdump's language; container names stand for their addresses on the
	// networks that the captured one is on.
	Filter string
	// SnapLen is how many bytes of each packet are kept; 0: all.
	SnapLen int
	// Count ends the capture after so many packets; 0: none.
	Count int
	// Host: a container in the host's namespace shows the host's interfaces.
	Host bool
}

// Capture writes the packets of a container's interfaces to what begin gives, as a
// file of package pcap, until ctx is done, and says how many there were. begin is told the
// names of addresses, and is called once the capture has begun. A reader that is too slow
// makes the kernel drop packets; nothing is kept here. ns is the container's namespace,
// which Capture does not close.
func (s *Service) Capture(ctx context.Context, containerID string, ns *os.File, o CaptureOptions, begin func(names map[netip.Addr]string) io.Writer) (api.CaptureSummary, error) {
	var sum api.CaptureSummary
	if o.SnapLen <= 0 || o.SnapLen > pcap.MaxSnapLen {
		o.SnapLen = pcap.MaxSnapLen
	}
	names, networks := s.captureNames(containerID)
	prog, err := filter.Compile(o.Filter, func(name string) (list []netip.Addr) {
		for a, n := range names {
			if n == name {
				list = append(list, a)
			}
		}
		slices.SortFunc(list, netip.Addr.Compare)
		return list
	})
	if err != nil {
		return sum, err
	}
	var c *capture.Capture
	err = netns.Do(ns, func() error {
		index, err := captureInterface(o.Interface, networks)
		if err != nil {
			return err
		}
		c, err = capture.Open(capture.Options{Interface: index, Filter: prog, SnapLen: o.SnapLen})
		return err
	})
	if err != nil {
		return sum, err
	}
	defer c.Close()
	err = copyPackets(ctx, c, begin(names), o, &sum)
	sum.Dropped = c.Dropped()
	return sum, err
}

// copyPackets writes at once what is there, and then waits for more.
func copyPackets(ctx context.Context, c *capture.Capture, w io.Writer, o CaptureOptions, sum *api.CaptureSummary) error {
	out := bufio.NewWriterSize(w, 64<<10)
	if _, err := out.Write(pcap.Header(o.SnapLen)); err != nil {
		return err
	}
	var record []byte
	for o.Count == 0 || sum.Packets < o.Count {
		p, ready, err := c.Ready()
		if err == nil && !ready {
			if err := out.Flush(); err != nil {
				return err
			}
			p, err = c.Read(ctx)
		}
		switch {
		case err != nil && ctx.Err() != nil:
			return out.Flush()
		case err != nil:
			return fmt.Errorf("read packets: %w", err)
		}
		sum.Packets++
		record = pcap.Append(record[:0], p.At, p.Length, p.Data)
		if _, err := out.Write(record); err != nil {
			return err
		}
	}
	return out.Flush()
}

// captureNames gives the names of the addresses on a container's networks, and its
// hardware address by network name and id.
func (s *Service) captureNames(containerID string) (names map[netip.Addr]string, macs map[string]string) {
	names, macs = map[netip.Addr]string{}, map[string]string{}
	all := s.Snapshot()
	on := map[string]bool{}
	for _, sb := range all.Sandboxes {
		for _, e := range sb.Endpoints {
			if sb.ID == containerID {
				on[e.Network], macs[e.Network] = true, e.MAC
			}
		}
	}
	for _, sb := range all.Sandboxes {
		for _, e := range sb.Endpoints {
			for _, a := range e.Addresses {
				if on[e.Network] {
					names[a.Addr()] = sb.Name
				}
			}
		}
	}
	for _, n := range all.Networks {
		if !on[n.ID] {
			continue
		}
		macs[n.Name] = macs[n.ID]
		for _, sub := range n.Subnets {
			if sub.Gateway.IsValid() {
				names[sub.Gateway] = "host"
			}
		}
	}
	return names, macs
}

// captureInterface finds an interface of the calling thread's namespace by its name, or
// by the network that it is on.
func captureInterface(asked string, networks map[string]string) (index int, err error) {
	if asked == "" {
		return 0, nil
	}
	list, err := rtnl.Interfaces()
	if err != nil {
		return 0, err
	}
	mac := networks[asked]
	var there []string
	for _, l := range list {
		if l.Name == asked || mac != "" && strings.EqualFold(l.MAC, mac) {
			return l.Index, nil
		}
		there = append(there, l.Name)
	}
	return 0, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("the container has no interface, and is on no network, %q: it has %s", asked, strings.Join(there, ", ")))
}

// ErrHostInterfaces: the container is in the host's namespace.
var ErrHostInterfaces = errdefs.ErrInvalidArgument.WithMessage("the container uses the host's network: --host-interfaces captures what passes the host's interfaces, of everybody")
