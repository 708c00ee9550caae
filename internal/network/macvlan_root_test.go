//go:build root

package network_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"net/netip"

	mobynet "github.com/moby/moby/api/types/network"
)

// Containers on the host's link are neighbours of the machines there; names work
// among them, after connect and for a container on a bridge as well.
func TestMacvlan(t *testing.T) {
	w := newWorld(t)
	w.network("lan", func(r *mobynet.CreateRequest) {
		r.Driver, r.Options = "macvlan", map[string]string{"parent": "uplink"}
		r.IPAM = &mobynet.IPAM{Config: []mobynet.IPAMConfig{{
			Subnet: netip.MustParsePrefix("192.0.2.0/24"), IPRange: netip.MustParsePrefix("192.0.2.64/27"), Gateway: netip.MustParseAddr(neighbourOnLAN),
		}}}
	})
	w.network("front")
	specs := spec("one", "lan")
	one, two := w.start(specs), w.start(published(spec("two", "lan"), "8080->80/tcp"))
	w.serve(one.NetNS, "tcp", ":80", "one")
	w.serve(two.NetNS, "tcp", ":80", "two")
	w.serve(w.lan, "tcp", ":80", "lan")
	w.reaches(one.NetNS, "tcp4", w.address(two, "lan")+":80", "two")
	w.reaches(w.lan, "tcp4", w.address(one, "lan")+":80", "one")
	w.reaches(one.NetNS, "tcp4", neighbourOnLAN+":80", "lan")
	if len(two.Ports[mobynet.MustParsePort("80/tcp")]) != 0 {
		t.Errorf("published through macvlan: %v", two.Ports)
	}
	three := w.start(spec("three", "front", "lan"))
	w.reaches(three.NetNS, "tcp4", w.address(one, "lan")+":80", "one")

	// Another network may share the parent, and going it leaves it to the first.
	id := w.network("again", func(r *mobynet.CreateRequest) {
		r.Driver, r.Options = "macvlan", map[string]string{"parent": "uplink"}
	})
	must(t, w.Remove(t.Context(), id))
	w.reaches(w.lan, "tcp4", w.address(one, "lan")+":80", "one")
	for _, tt := range []struct{ driver, option, value, want string }{
		{"macvlan", "macvlan_mode", "passthru", "cannot use mode passthru, macvlan network lan is already using parent interface uplink"},
		{"ipvlan", "ipvlan_mode", "l2", "the macvlan network lan is already using parent interface uplink, which carries either macvlan or ipvlan"},
	} {
		_, err := w.Create(t.Context(), mobynet.CreateRequest{Name: "other", Driver: tt.driver, Options: map[string]string{"parent": "uplink", tt.option: tt.value}})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %s on the parent of another: %v", tt.driver, tt.value, err)
		}
	}
	_, err := w.Create(t.Context(), mobynet.CreateRequest{Name: "over", Driver: "overlay"})
	if err == nil || !strings.Contains(err.Error(), "use bridge on this machine") {
		t.Errorf("overlay: %v", err)
	}
	// A restart of the daemon changes nothing, and the addresses stay taken.
	w.stop(two.ID)
	w.stop(three.ID)
	w.kill()
	w.open()
	w.adopt(specs, one)
	must(t, w.Adopted(t.Context()))
	w.reaches(w.lan, "tcp4", w.address(one, "lan")+":80", "one")
	if four := w.start(spec("four", "lan")); w.address(four, "lan") == w.address(one, "lan") {
		t.Error("an address was given twice")
	}
}

// TestKernelLacks: a network of a kernel that had its driver is listed, inspected and
// removed on one that has not; its containers are told why they do not start.
func TestKernelLacks(t *testing.T) {
	w := newWorld(t)
	id := w.network("old", func(r *mobynet.CreateRequest) {
		r.Driver, r.Options = "macvlan", map[string]string{"parent": "uplink"}
	})
	w.kill()
	path := filepath.Join(w.options.Root, id+".json")
	record, err := os.ReadFile(path)
	must(t, err)
	// What an earlier daemon wrote on another machine: this one has neither module nor parent.
	text := strings.NewReplacer(`"Driver":"macvlan"`, `"Driver":"ipvlan"`, `"uplink"`, `"eth0.4000"`).Replace(string(record))
	if !strings.Contains(text, `"Driver":"ipvlan"`) || !strings.Contains(text, `"Interface":"eth0.4000"`) {
		t.Fatalf("the record looks otherwise: %s", record)
	}
	must(t, os.WriteFile(path, []byte(text), 0o600))
	w.open()
	must(t, w.Adopted(t.Context()))
	list, err := w.List(t.Context(), nil)
	must(t, err)
	if !slices.ContainsFunc(list, func(s mobynet.Summary) bool { return s.ID == id && s.Driver == "ipvlan" }) {
		t.Errorf("it is not listed: %v", list)
	}
	if in, err := w.Inspect(t.Context(), "old", true); err != nil || in.Options["parent"] != "eth0.4000" {
		t.Errorf("inspect: %v %v", in, err)
	}
	if _, err := w.Prepare(t.Context(), spec("one", "old")); err == nil || !strings.Contains(err.Error(), "eth0") {
		t.Errorf("a container on it: %v", err)
	}
	must(t, w.Remove(t.Context(), "old"))
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("its record: %v", err)
	}
	// One like it is not made.
	_, err = w.Create(t.Context(), mobynet.CreateRequest{Name: "new", Driver: "ipvlan", Options: map[string]string{"parent": "eth0.4000"}})
	if err == nil || !strings.Contains(err.Error(), "-o parent interface was not found on the host: eth0") {
		t.Errorf("without its parent: %v", err)
	}
}
