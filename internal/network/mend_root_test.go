//go:build root

package network_test

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	mobynet "github.com/moby/moby/api/types/network"

	"muelle/internal/linux/netns"
	"muelle/internal/linux/rtnl"
	"muelle/internal/network"
	"muelle/internal/runtime"
)

// shim holds sockets as a container's shim does.
type shim struct {
	w  *world
	sb *network.Sandbox
}

func (s shim) Hold(_ context.Context, more []runtime.Held) error {
	for _, h := range more {
		s.sb.Held = append(s.sb.Held, runtime.Held{Name: h.Name, File: s.w.dup(h.File)})
	}
	return nil
}

func (s shim) LetGo(_ context.Context, names []string) error {
	s.sb.Held = slices.DeleteFunc(s.sb.Held, func(h runtime.Held) bool {
		gone := slices.Contains(names, h.Name)
		if gone {
			h.File.Close()
		}
		return gone
	})
	return nil
}

func (s shim) Held(context.Context) (map[string]*os.File, error) {
	m := map[string]*os.File{}
	for _, h := range s.sb.Held {
		m[h.Name] = s.w.dup(h.File)
	}
	return m, nil
}

func (s shim) holds(port string) bool {
	return slices.ContainsFunc(s.sb.Held, func(h runtime.Held) bool { return strings.Contains(h.Name, port) })
}

// eths are the names and addresses of the interfaces inside, without the loopback.
func (w *world) eths(ns *os.File) (list []string) {
	w.Helper()
	must(w.TB, netns.Do(ns, func() error {
		all, err := rtnl.Interfaces()
		for _, l := range all {
			if l.Name != "lo" {
				list = append(list, l.Name)
			}
		}
		return err
	}))
	return list
}

// A daemon is killed after it has plugged a container in, moved the default route and
// published a port, and before any of that was recorded: the next leaves nothing of it.
func TestMendAfterConnect(t *testing.T) {
	w := newWorld(t)
	w.network("z") // the way to the world before, the last by name
	w.network("a")
	s := spec("app", "z")
	port := mobynet.MustParsePort("80/tcp")
	s.Ports = mobynet.PortMap{port: {{HostPort: "18080"}}}
	sb := w.start(s)
	k := shim{w, sb}
	w.serve(sb.NetNS, "tcp", ":80", "app")
	ch, err := w.Connect(context.Background(), "a", sb.ID, nil, k)
	must(t, err)
	_, err = w.ChangePorts(context.Background(), sb.ID, mobynet.PortMap{port: {{HostPort: "18081"}}}, nil, k)
	must(t, err)
	if !k.holds("18081") || len(w.eths(sb.NetNS)) != 2 {
		t.Fatalf("held: %v, interfaces %v", sb.Held, w.eths(sb.NetNS))
	}
	w.reaches(w.lan, "tcp", hostOnLAN+":18081", "app")

	w.kill()
	w.open()
	w.adopt(s, sb)
	must(t, w.Adopted(context.Background()))
	if eths := w.eths(sb.NetNS); len(eths) != 1 {
		t.Errorf("interfaces after a crash: %v", eths)
	}
	mended, err := w.Mend(context.Background(), sb.ID, map[string]*mobynet.EndpointSettings{"a": ch.Endpoints["a"]}, k)
	must(t, err)
	if len(mended.Endpoints) != 1 || len(mended.Ports[port]) != len(sb.Ports[port]) {
		t.Errorf("%+v", mended)
	}
	if !strings.Contains(string(mended.DropHosts), ch.Endpoints["a"].IPAddress.String()) {
		t.Errorf("lines to drop: %q", mended.DropHosts)
	}
	if k.holds("18081") || !k.holds("18080") {
		t.Errorf("held: %v", sb.Held)
	}
	w.reaches(w.lan, "tcp", hostOnLAN+":18080", "app") // so the default route leads through z again
	w.cannotReach(w.lan, "tcp", hostOnLAN+":18081")
	// The address is free, and nobody else has it.
	other := w.start(spec("other", "a"))
	if got := netip.MustParseAddr(w.address(other, "a")); got != ch.Endpoints["a"].IPAddress {
		t.Logf("another address is given next: %v", got)
	}
	w.serve(other.NetNS, "tcp", ":80", "other")
	third := w.start(spec("third", "a"))
	w.reaches(third.NetNS, "tcp", w.address(other, "a")+":80", "other")
}

// A daemon is killed after it has unplugged a container and taken a port back, and
// before any of that was recorded: the next puts them back.
func TestMendAfterDisconnect(t *testing.T) {
	w := newWorld(t)
	w.network("a")
	w.network("z")
	s := spec("app", "a", "z")
	port := mobynet.MustParsePort("80/tcp")
	s.Ports = mobynet.PortMap{port: {{HostPort: "18080"}, {HostPort: "18081"}}}
	sb := w.start(s)
	k := shim{w, sb}
	w.serve(sb.NetNS, "tcp", ":80", "app")
	drop := mobynet.PortMap{}
	for _, b := range sb.Ports[port] {
		if b.HostPort == "18081" {
			drop[port] = append(drop[port], b)
		}
	}
	_, err := w.ChangePorts(context.Background(), sb.ID, nil, drop, k)
	must(t, err)
	_, err = w.Disconnect(context.Background(), "a", sb.ID, k)
	must(t, err)

	w.kill()
	w.open()
	w.adopt(s, sb) // as it was before
	must(t, w.Adopted(context.Background()))
	mended, err := w.Mend(context.Background(), sb.ID, nil, k)
	must(t, err)
	if eths := w.eths(sb.NetNS); len(eths) != 2 || len(mended.Endpoints) != 2 {
		t.Errorf("interfaces %v, endpoints %v", eths, mended.Endpoints)
	}
	for _, p := range []string{"18080", "18081"} {
		if !k.holds(p) {
			t.Errorf("%s is not held", p)
		}
		w.reaches(w.lan, "tcp", hostOnLAN+":"+p, "app")
	}
	peer := w.start(spec("peer", "a"))
	w.reaches(peer.NetNS, "tcp", sb.Endpoints["a"].IPAddress.String()+":80", "app")
}

// Interfaces of containers that could not be adopted stay.
func TestSpare(t *testing.T) {
	w := newWorld(t)
	w.network("a")
	s := spec("app", "a")
	sb := w.start(s)
	other := spec("other", "a")
	keep := w.start(other)
	w.kill()
	w.open()
	w.adopt(other, keep)
	w.Spare(sb.Endpoints)
	must(t, w.Adopted(context.Background()))
	if eths := w.eths(sb.NetNS); len(eths) != 1 {
		t.Errorf("interfaces: %v", eths)
	}
	w.adopt(s, sb) // so that the test's end finds it
}
