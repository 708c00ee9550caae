//go:build root

package network_test

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	mobynet "github.com/moby/moby/api/types/network"

	"muelle/internal/linux/rtnl"
	"muelle/internal/runtime"
)

func bridgeName(name string) func(*mobynet.CreateRequest) {
	return func(r *mobynet.CreateRequest) {
		r.Options = map[string]string{"com.docker.network.bridge.name": name}
	}
}

// A network that is given the name of somebody else's interface is refused before
// any rule mentions that interface.
func TestInterfaceOfOthers(t *testing.T) {
	w := newWorld(t)
	w.Cleanup(func() { run(t, "nft", "flush ruleset") })
	w.nft(docker)
	_, err := rtnl.AddBridge(rtnl.Bridge{Name: "docker0", Alias: "Docker's"})
	must(t, err)
	t.Cleanup(func() { must(t, rtnl.Delete("docker0")) })
	w.network("taken", bridgeName("docker0"))
	if _, err := w.Prepare(context.Background(), spec("a", "taken")); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("got %v", err)
	}
	if out := run(t, "nft", "list", "ruleset"); strings.Contains(out, "docker0") {
		t.Errorf("rules for somebody else's interface:\n%s", out)
	}
}

// The rules in DOCKER-USER for a bridge that was given a name go with the bridge.
func TestNamedBridgeLeavesDocker(t *testing.T) {
	w := newWorld(t)
	w.Cleanup(func() { run(t, "nft", "flush ruleset") })
	w.nft(docker)
	w.start(spec("a", "bridge"))
	w.network("named", bridgeName("given0"))
	b := w.start(spec("b", "named"))
	user := func() string { return run(t, "nft", "list", "chain", "ip", "filter", "DOCKER-USER") }
	if !strings.Contains(user(), "given0") {
		t.Errorf("no rules for given0:\n%s", user())
	}
	w.stop(b.ID)
	must(t, w.Remove(context.Background(), "named"))
	w.eventually(func() error {
		if out := user(); strings.Contains(out, "given0") {
			return errdefs.ErrUnknown.WithMessage("rules are left:\n" + out)
		}
		return nil
	})
}

// A bridge that follows another one of the same name is not removed in its place.
func TestBridgeNameUsedAgain(t *testing.T) {
	w := newWorld(t)
	for range 3 {
		w.network("named", bridgeName("mue-again"))
		a, b := w.start(spec("a", "named")), w.start(spec("b", "named"))
		w.serve(a.NetNS, "tcp", ":80", "a")
		w.reaches(b.NetNS, "tcp4", w.address(a, "named")+":80", "a")
		w.stop(a.ID)
		w.stop(b.ID)
		must(t, w.Remove(context.Background(), "named"))
	}
	w.network("named", bridgeName("mue-again"))
	w.start(spec("a", "named"))
	must(t, w.Service.Close(context.Background())) // what was to be removed later is removed now
	if !rtnl.Exists("mue-again") {
		t.Error("the new bridge was removed instead of the old one")
	}
	w.kill()
	w.open()
	must(t, w.Adopted(context.Background()))
	clear(w.shims)
}

// The table is flushed, and before that is noticed a container starts.
func TestStartAfterFlush(t *testing.T) {
	w := newWorld(t)
	w.network("front")
	w.start(spec("first", "front"))
	for _, flush := range []string{"delete table inet muelle-1a2b3c4d", "flush ruleset"} {
		w.nft(flush)
		a := w.start(published(spec("a", "front"), "8080->80/tcp"))
		w.serve(a.NetNS, "tcp", ":80", "a")
		w.reaches(w.lan, "tcp4", hostOnLAN+":8080", "a")
		w.stop(a.ID)
		w.nft(flush)
		w.network("back")
		b := w.start(spec("b", "back"))
		w.stop(b.ID)
		must(t, w.Remove(context.Background(), "back"))
	}
}

// A daemon was killed when its table was gone, its rules in DOCKER-USER not yet.
func TestRulesOfKilledDaemonGo(t *testing.T) {
	w := newWorld(t)
	w.Cleanup(func() { run(t, "nft", "flush ruleset") })
	w.nft(docker + `
add rule ip filter DOCKER-USER iifname "mue*" counter accept comment "added by muelle-1a2b3c4d: from mue*"`)
	must(t, w.Adopted(context.Background()))
	if out := run(t, "nft", "list", "ruleset"); strings.Contains(out, "muelle") {
		t.Errorf("rules are left:\n%s", out)
	}
}

// Many ports are bound at the same time: all or nothing, and the one that is taken
// is named.
func TestManyPortsAllOrNothing(t *testing.T) {
	w := newWorld(t)
	s := spec("many", "bridge")
	s.Ports = mobynet.PortMap{}
	for i := range 300 {
		p, _ := mobynet.PortFrom(uint16(1000+i), mobynet.TCP)
		s.Ports[p] = []mobynet.PortBinding{{HostPort: strconv.Itoa(10000 + i)}}
	}
	taken, err := net.Listen("tcp4", "0.0.0.0:10217")
	must(t, err)
	if _, err := w.Prepare(context.Background(), s); !errdefs.IsConflict(err) || !strings.Contains(err.Error(), ":10217") {
		t.Errorf("got %v", err)
	}
	must(t, taken.Close())
	gone := errors.New("the shim is gone")
	s.Hold = func(context.Context, []runtime.Held) error { return gone }
	if _, err := w.Prepare(context.Background(), s); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
	// Nothing is left of that: the same ports are to be had, and are handed over.
	ahead := 0
	s.Hold = func(_ context.Context, held []runtime.Held) error { ahead = len(held); return nil }
	a := w.start(s)
	for _, h := range a.Held {
		if strings.HasPrefix(h.Name, "port ") && !h.There {
			t.Errorf("%s is handed over twice", h.Name)
		}
	}
	if ahead != 300 {
		t.Errorf("%d sockets ahead", ahead)
	}
	if len(a.Held) != 300 { // of both families
		t.Errorf("%d sockets", len(a.Held))
	}
	if b := a.Ports[mobynet.MustParsePort("1217/tcp")]; len(b) != 2 || b[0].HostPort != "10217" || b[1].HostPort != "10217" {
		t.Errorf("shown as %v", b)
	}
}
