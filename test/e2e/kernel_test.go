//go:build root

package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"muelle/api"
)

// TestInspectKernel: what is told is what the container sees itself, and what the
// host has.
//
//muelle:ring
func TestInspectKernel(t *testing.T) {
	muelle := clients(t, world.daemon)[1]
	name := muelle.unique(t, "k")
	muelle.must(t, "run", "-d", "--name", name, "-m", "64m", "--cap-add", "NET_ADMIN", "--cap-drop", "CHOWN",
		"--security-opt", "no-new-privileges", "-u", "7:8", "-p", "127.0.0.1:18310:80", "busybox", "sleep", "1000")
	muelle.remove(t, name)
	friend := name + "-friend"
	muelle.must(t, "run", "-d", "--name", friend, "--network", "container:"+name, "busybox", "sleep", "1000")
	muelle.remove(t, friend)
	var k api.Kernel
	read := func(of string) {
		t.Helper()
		var list []api.Kernel
		if err := json.Unmarshal([]byte(muelle.must(t, "inspect", "--kernel", "--format", "json", of)), &list); err != nil || len(list) != 1 {
			t.Fatalf("%d documents, %v", len(list), err)
		}
		k = list[0]
	}
	read(name)
	inside := muelle.must(t, "exec", name, "sh", "-c", "cd /proc/self/ns; for n in net mnt pid user; do readlink $n; done")
	for line := range strings.Lines(inside) {
		kind, inode, _ := strings.Cut(strings.TrimSpace(line), ":")
		i := slices.IndexFunc(k.Namespaces, func(n api.KernelNamespace) bool { return n.Type == kind })
		if i < 0 || fmt.Sprintf("[%d]", k.Namespaces[i].Inode) != inode || k.Namespaces[i].Host { // NET_ADMIN has a user namespace of its own
			t.Errorf("namespace %s is %s inside, told as %+v", kind, inode, k.Namespaces)
		}
		if kind == "net" && !slices.Equal(k.Namespaces[i].SharedWith, []string{friend}) {
			t.Errorf("shared with %v", k.Namespaces[i].SharedWith)
		}
	}
	p := k.Process
	if p.UIDs[0] != 7 || p.GIDs[0] != 8 || !p.NoNewPrivileges || p.Seccomp != "filter" || len(p.Effective) != 0 {
		t.Errorf("process: %+v", p)
	}
	if slices.Contains(p.Bounding, "CAP_CHOWN") || !slices.Contains(p.Bounding, "CAP_NET_ADMIN") {
		t.Errorf("bounding set: %v", p.Bounding)
	}
	limit := func(f api.KernelFile) bool {
		return (f.Name == "memory.max" || f.Name == "memory.limit_in_bytes") && f.Value == "67108864"
	}
	if !slices.ContainsFunc(k.Cgroups, func(g api.KernelCgroup) bool { return slices.ContainsFunc(g.Files, limit) }) {
		t.Errorf("no limit of 64 MiB in %+v", k.Cgroups)
	}
	if !slices.ContainsFunc(k.Mounts, func(m api.KernelMount) bool { return m.Target == "/" && m.Type == "overlay" }) {
		t.Errorf("mounts: %+v", k.Mounts)
	}
	i := slices.IndexFunc(k.Network.Interfaces, func(i api.KernelInterface) bool { return i.Name == "eth0" })
	if i < 0 {
		t.Fatalf("interfaces: %+v", k.Network.Interfaces)
	}
	eth := k.Network.Interfaces[i]
	if l, err := net.InterfaceByName(eth.Peer); err != nil || l.Index != eth.PeerIndex || eth.Network != "bridge" {
		t.Errorf("eth0: %+v, %v", eth, err)
	}
	address := muelle.must(t, "inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", name)
	if want := "address_ports: 127.0.0.1 . tcp . 18310 : " + address + " . 80"; !slices.Contains(k.Network.Elements, want) {
		t.Errorf("no %q among %v", want, k.Network.Elements)
	}
	for _, prefix := range []string{`guarded: "` + eth.Peer + `"`, `ipv4: "` + eth.Peer + `" . ` + eth.MAC + " . " + address, `same: "` + eth.Bridge + `"`, "self: " + address} {
		if !slices.ContainsFunc(k.Network.Elements, func(e string) bool { return strings.HasPrefix(e, prefix) }) {
			t.Errorf("no %q among %v", prefix, k.Network.Elements)
		}
	}
	if !slices.Contains(k.Network.Frames, "ingress: iifname . ether saddr != @macs drop") {
		t.Errorf("rules for frames: %v", k.Network.Frames)
	}
	if !slices.Contains(k.Network.Rules, "forward: iifname . oifname @same accept") {
		t.Errorf("rules: %v", k.Network.Rules)
	}
	read(friend)
	if !slices.ContainsFunc(k.Network.Interfaces, func(i api.KernelInterface) bool { return i.Peer == eth.Peer }) {
		t.Errorf("the friend's interfaces: %+v", k.Network.Interfaces)
	}
	page := muelle.must(t, "inspect", "--kernel", name)
	for _, want := range []string{"shared with " + friend, "net_admin", "pids.max", "Rules of the host that its packets pass", "⇄ " + eth.Peer} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	muelle.must(t, "stop", "-t", "0", name)
	if r := muelle.try(t, "inspect", "--kernel", name); r.code != 1 || !strings.Contains(r.err, "is not running") {
		t.Errorf("of a stopped container: %+v", r)
	}
}
