package explain

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	mobynet "github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"muelle/api"
	"muelle/internal/linux/ruleset"
	"muelle/internal/linux/socket"
	"muelle/internal/netdriver"
	"muelle/internal/network"
)

var (
	appAddr, clientAddr = netip.MustParseAddr("172.19.0.3"), netip.MustParseAddr("172.19.0.2")
	aloneAddr           = netip.MustParseAddr("172.20.0.2")
)

func view(id, key string, change ...func(*network.NetworkView)) network.NetworkView {
	n := network.NetworkView{ID: id, Name: "zones_" + key, Project: "zones", Key: key, Driver: "bridge", Between: true, Up: true,
		Subnets: []netdriver.Subnet{{Prefix: netip.MustParsePrefix("172.19.0.0/16"), Gateway: netip.MustParseAddr("172.19.0.1")}}}
	for _, f := range change {
		f(&n)
	}
	return n
}

func at(net string, a netip.Addr, gateway bool) network.EndpointView {
	return network.EndpointView{Network: net, Addresses: []netip.Prefix{netip.PrefixFrom(a, 16)}, Gateway: gateway, Names: []string{"zones-app-1", "app"}}
}

func container(service string) Party {
	return Party{Kind: Container, Text: service, DNSName: service, ID: service, Name: "zones-" + service + "-1", Project: "zones", Service: service,
		State: "running", Mode: "zones_public", ComposeFile: "/p/compose.yaml"}
}

// world is a project: client and app on public, app and mongo on the internal backend,
// alone on default. The client reaches app:5000, unless something is changed.
func world() *scene {
	snapshot := network.Snapshot{
		Networks: []network.NetworkView{
			view("pub", "public"), view("def", "default"), view("back", "backend", func(n *network.NetworkView) { n.Internal = true }),
			{ID: "bridge", Name: "bridge", Driver: "bridge", Predefined: true, Between: true}, {ID: "none", Name: "none", Driver: "null", Predefined: true},
		},
		Sandboxes: []network.SandboxView{
			{ID: "app", Name: "zones-app-1", Project: "zones", Service: "app", Endpoints: []network.EndpointView{at("pub", appAddr, true), at("back", netip.MustParseAddr("172.21.0.3"), false)},
				Ports:    mobynet.PortMap{mobynet.MustParsePort("5000/tcp"): nil},
				Mappings: []netdriver.Mapping{{Protocol: "tcp", Host: netip.MustParseAddrPort("0.0.0.0:15000"), Targets: []netip.AddrPort{netip.AddrPortFrom(appAddr, 5000)}}}},
			{ID: "client", Name: "zones-client-1", Project: "zones", Service: "client", Endpoints: []network.EndpointView{at("pub", clientAddr, true)}},
			{ID: "alone", Name: "zones-alone-1", Project: "zones", Service: "alone", Endpoints: []network.EndpointView{at("def", aloneAddr, true)}},
			{ID: "mongo", Name: "zones-mongo-1", Project: "zones", Service: "mongo", Endpoints: []network.EndpointView{at("back", netip.MustParseAddr("172.21.0.2"), false)}},
		},
	}
	return &scene{facts: &facts{
		Question: Question{Source: container("client"), Target: container("app"), Port: 5000, Proto: "tcp"}, all: snapshot, toPort: 5000, serving: 5000,
		lookup: &lookup{name: "app", from: "127.0.0.11", addrs: []netip.Addr{appAddr}, code: "NOERROR"}, to: []netip.Addr{appAddr},
		route: &route{iface: "eth0"}, listened: true, listeners: []socket.Listener{{Proto: "tcp", Addr: netip.MustParseAddrPort("[::]:5000"), Inode: 1}},
		attempt: &attempt{to: netip.AddrPortFrom(appAddr, 5000), took: time.Millisecond},
	}}
}

// scene are facts, and what is to be done to them after the ports were found.
type scene struct {
	*facts
	deaf bool // the further replica's sockets are read, and there are none
}

// shared2 makes mongo a further replica behind app's port.
func (f *scene) shared2() {
	m := f.all.Sandboxes[0].Mappings[0]
	m.Targets = []netip.AddrPort{netip.MustParseAddrPort("172.21.0.2:5000")}
	f.all.Sandboxes[3].Mappings = []netdriver.Mapping{m}
}

func (f *scene) unresolved(code string) {
	f.lookup.addrs, f.lookup.code, f.to, f.route, f.attempt = nil, code, nil, nil, nil
}

func (f *scene) refuses(err error) { f.attempt.err = err }

// drops is a firewall that drops everything at a hook.
func (f *scene) drops(h ruleset.Hook) {
	f.all.Networks[0].Interface = "mueb0"
	f.filters = &filters{uplink: "eth0", rules: &ruleset.Ruleset{Chains: []*ruleset.Chain{{Family: ruleset.IP, Table: "filter", Name: "X", Base: true, Hook: h, Type: "filter", Drops: true}}}}
}

// beyond is a connection to somebody elsewhere that is not answered, with that firewall.
func (f *scene) beyond(addr string, h ruleset.Hook) {
	f.drops(h)
	a := netip.MustParseAddr(addr)
	f.Target, f.dst, f.shared, f.lookup = Party{Kind: Outside, Text: addr, Addr: a}, nil, nil, nil
	f.to, f.attempt.to = []netip.Addr{a}, netip.AddrPortFrom(a, 5000)
	f.refuses(context.DeadlineExceeded)
}

// toHost is somebody outside who asks for a port at an address of this host's.
func (f *scene) toHost(addr string, port uint16) {
	a := netip.MustParseAddr(addr)
	f.Source, f.lookup, f.route, f.attempt = Party{Kind: World, Text: "outside"}, nil, nil, nil
	f.Target, f.to, f.Port, f.toPort, f.serving = Party{Kind: Host, Text: addr, Addr: a}, []netip.Addr{a}, port, port, port
}

func (f *scene) listens(at ...string) {
	f.listeners = nil
	for _, a := range at {
		f.listeners = append(f.listeners, socket.Listener{Proto: "tcp", Addr: netip.MustParseAddrPort(a), Inode: 1})
	}
}

func TestJudge(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*scene)
		hop    string // the first that is broken; empty: reachable
		want   []string
	}{
		{"reachable", func(*scene) {}, "", []string{"answers after 1ms", "Both are on zones_public", "172.19.0.3 is zones-app-1"}},
		{"no network in common", func(f *scene) { f.Source = container("alone"); f.unresolved("NXDOMAIN") }, "name",
			[]string{"alone cannot resolve app: they share no network", "  alone:\n    networks: [public]\n", "muelle network connect zones_public zones-alone-1", "File: /p/compose.yaml"}},
		{"no network in common, with company", func(f *scene) {
			f.Source = container("alone")
			f.all.Sandboxes[3].Endpoints = append(f.all.Sandboxes[3].Endpoints, at("def", netip.MustParseAddr("172.20.0.9"), false))
			f.unresolved("NXDOMAIN")
		}, "name", []string{"    networks: [default, public]\n"}},
		{"the database is apart", func(f *scene) { f.Target = container("mongo"); f.unresolved("NXDOMAIN") }, "name",
			[]string{"share no network", "[public, backend]", "also on it: app"}},
		{"no network at all", func(f *scene) {
			f.Source = container("alone")
			f.Source.Mode = "none"
			f.all.Sandboxes[2].Endpoints = []network.EndpointView{{Network: "none"}}
			f.unresolved("")
			f.lookup.without = true
		}, "name", []string{"it is on no network", "take network_mode of alone away", "[public]"}},
		{"a plain container", func(f *scene) {
			f.Source = Party{Kind: Container, Text: "web", ID: "alone", Name: "web", State: "running", Mode: "bridge"}
			f.all.Sandboxes[2] = network.SandboxView{ID: "alone", Name: "web", Endpoints: []network.EndpointView{at("bridge", aloneAddr, true)}}
			f.unresolved("NXDOMAIN")
			f.lookup.from = "8.8.8.8"
		}, "name", []string{"share no network", "bridge (the default one)", "muelle network connect zones_public web"}},
		{"both on the default bridge", func(f *scene) {
			for i := range 2 {
				f.all.Sandboxes[i].Endpoints = []network.EndpointView{at("bridge", appAddr, true)}
			}
			f.Source.Service, f.Source.Project = "", ""
			f.unresolved("NXDOMAIN")
			f.lookup.from = "8.8.8.8"
		}, "name", []string{"on the default bridge containers have no names", "muelle network create NET && muelle network connect NET zones-client-1"}},
		{"a changed resolv.conf", func(f *scene) { f.unresolved("NXDOMAIN"); f.lookup.from = "8.8.8.8" }, "name", []string{"8.8.8.8, and not Muelle's at 127.0.0.11", "--dns"}},
		{"another project's", func(f *scene) {
			f.Source = container("alone")
			f.Source.Project, f.all.Sandboxes[2].Project = "shop", "shop"
			f.unresolved("NXDOMAIN")
		}, "name", []string{"networks: [zones_public]", "zones_public:\n    external: true"}},
		{"another name on a shared network", func(f *scene) { f.lookup.name = "api"; f.unresolved("NXDOMAIN") }, "name", []string{"not called api there", "Ask for zones-app-1"}},
		{"a hosts file of its own", func(f *scene) {
			f.lookup.from, f.lookup.addrs = "/etc/hosts", []netip.Addr{netip.MustParseAddr("10.0.0.9")}
			f.to = f.lookup.addrs
			f.refuses(context.DeadlineExceeded)
		}, "address", []string{"10.0.0.9 is no container's", "extra_hosts"}},
		{"stopped", func(f *scene) {
			f.Target.State, f.Target.ID = "exited", "gone"
			f.unresolved("NXDOMAIN")
			f.listened = false
		}, "target",
			[]string{"exit code 0", "muelle start zones-app-1"}},
		{"crashed", func(f *scene) {
			f.Target.State, f.Target.ExitCode, f.Target.ID = "exited", 3, "gone"
			f.unresolved("NXDOMAIN")
			f.listened = false
		}, "target", []string{"exit code 3", "muelle why zones-app-1"}},
		{"its start failed", func(f *scene) { f.Target.State, f.Target.ExitCode = "created", 128 }, "target", []string{"its start failed", "muelle why zones-app-1"}},
		{"crashing", func(f *scene) { f.Target.State, f.Target.ExitCode = "restarting", 3 }, "target", []string{"again and again", "muelle why"}},
		{"the source is stopped", func(f *scene) { f.Source.State = "exited"; f.attempt = nil }, "source", []string{"client does not run"}},
		{"no container yet", func(f *scene) { f.Target.State, f.Target.ID = "", "" }, "target", []string{"has no container", "muelle compose up -d app"}},
		{"unhealthy", func(f *scene) { f.Target.Health = "unhealthy" }, "", []string{"app is unhealthy", "muelle why zones-app-1"}},
		{"listens on loopback", func(f *scene) { f.listens("127.0.0.1:5000"); f.refuses(unix.ECONNREFUSED) }, "listener", []string{"127.0.0.1:5000 only", "0.0.0.0:5000"}},
		{"listens elsewhere", func(f *scene) { f.listens("172.21.0.3:5000"); f.refuses(unix.ECONNREFUSED) }, "listener", []string{"at 172.21.0.3:5000, and not at 172.19.0.3"}},
		{"another port", func(f *scene) { f.listens("0.0.0.0:8080", "127.0.0.11:10053"); f.refuses(unix.ECONNREFUSED) }, "listener",
			[]string{"Nothing listens on port 5000 of app", "it listens at 0.0.0.0:8080\n", "Ask for app:8080"}},
		{"the other protocol", func(f *scene) { f.listens("0.0.0.0:5000"); f.Proto = "udp"; f.refuses(unix.ECONNREFUSED) }, "listener",
			[]string{"it listens on port 5000 by TCP", "here that is app:5000/tcp"}},
		{"another port of UDP", func(f *scene) {
			f.listens("0.0.0.0:53")
			f.listeners[0].Proto, f.Proto = "udp", "udp"
			f.refuses(unix.ECONNREFUSED)
		}, "listener", []string{"Ask for app:53/udp"}},
		{"the host's port", func(f *scene) { f.Port, f.toPort, f.serving = 15000, 15000, 15000; f.refuses(unix.ECONNREFUSED) }, "listener",
			[]string{"15000 is the port of this host", "Ask for app:5000"}},
		{"nothing listens", func(f *scene) { f.listens(); f.refuses(unix.ECONNREFUSED) }, "listener", []string{"no other port either", "muelle logs"}},
		{"IPv6 only", func(f *scene) { f.refuses(unix.ECONNREFUSED) }, "listener", []string{"IPv6 only", "enable_ipv6"}},
		{"refused all the same", func(f *scene) { f.listens("0.0.0.0:5000"); f.refuses(unix.ECONNREFUSED) }, "answer", []string{"refuses the connection"}},
		{"a route of the host's in the way", func(f *scene) {
			f.refuses(context.DeadlineExceeded)
			f.astray = &astray{to: appAddr, network: "zones_public", iface: "vpn0"}
			f.warnings = []string{"network zones_public: its subnet overlaps; make it again elsewhere (x; y)"}
		}, "route", []string{"sends what is for 172.19.0.3 on zones_public to vpn0", "its subnet overlaps\n", "make it again elsewhere (x; y)"}},
		{"a foreign firewall", func(f *scene) { f.refuses(context.DeadlineExceeded); f.warnings = []string{"table x drops"} }, "answer", []string{"drops the packets", "table x drops"}},
		{"a foreign policy", func(f *scene) {
			f.beyond("203.0.113.7", ruleset.Forward)
			f.warnings = []string{`the firewall chain "ip filter X" drops the containers' traffic (to the world; policy); to allow it: ufw route allow`}
		}, "policy", []string{"Another firewall on this host drops it", "policy of ip filter X", "ufw route allow"}},
		{"a foreign policy without a word of ours", func(f *scene) { f.beyond("203.0.113.7", ruleset.Forward) }, "policy", []string{"nft -a list chain ip filter X"}},
		{"a foreign policy for the host itself", func(f *scene) { f.beyond("203.0.113.7", ruleset.Input); f.refuses(nil) }, "", nil},
		{"a foreign policy that lets it through all the same", func(f *scene) { f.beyond("203.0.113.7", ruleset.Forward); f.refuses(nil) }, "", []string{"drops it"}},
		{"a foreign firewall, from outside", func(f *scene) {
			f.drops(ruleset.Forward)
			f.Source = Party{Kind: World, Text: "outside"}
			f.src, f.attempt, f.lookup, f.to, f.route, f.toPort = nil, nil, nil, nil, nil, 15000
			f.mapping = &mapping{host: netip.MustParseAddrPort("0.0.0.0:15000"), target: netip.AddrPortFrom(appAddr, 5000), sandbox: &f.all.Sandboxes[0]}
		}, "policy", []string{"policy of ip filter X"}},
		{"between: deny", func(f *scene) {
			f.all.Networks[0].Between, f.all.Networks[0].Zone.Between = false, "deny"
			f.refuses(context.DeadlineExceeded)
		}, "policy", []string{"do not reach each other", "networks:\n  public:\n    x-zone:\n      between: allow"}},
		{"icc=false", func(f *scene) { f.all.Networks[0].Between = false; f.refuses(context.DeadlineExceeded) }, "policy", []string{"enable_icc=false"}},
		{"forbidden, and works", func(f *scene) { f.all.Networks[0].Between = false }, "", []string{"do not reach each other"}},
		{"no route", func(f *scene) { f.route.err = unix.ENETUNREACH; f.refuses(unix.ENETUNREACH) }, "route", []string{"no route to 172.19.0.3"}},
		{"localhost", func(f *scene) {
			f.Target, f.lookup = Party{Kind: Itself, Text: "localhost"}, nil
			f.to = []netip.Addr{netip.IPv6Loopback()}
			f.listens()
			f.refuses(unix.ECONNREFUSED)
		}, "listener", []string{"localhost inside client is client itself", "If app is meant: app:5000", "host.docker.internal:5000"}},
		{"internal to outside", func(f *scene) {
			f.Source, f.Target = container("mongo"), Party{Kind: Outside, Text: "example.org", DNSName: "example.org"}
			f.lookup.name = "example.org"
			f.unresolved("SERVFAIL")
			f.lookup.reason = "it is on internal networks only"
		}, "name", []string{"internal networks only", "networks: [backend, outward]"}},
		{"outside by address, internal", func(f *scene) {
			f.Source, f.Target, f.lookup = container("mongo"), Party{Kind: Outside, Text: "1.2.3.4", Addr: netip.MustParseAddr("1.2.3.4")}, nil
			f.to, f.attempt.err = []netip.Addr{netip.MustParseAddr("1.2.3.4")}, unix.ENETUNREACH
		}, "network", []string{"on no network that leads out", "zones_backend (internal)"}},
		{"egress: none", func(f *scene) {
			f.Target, f.lookup = Party{Kind: Outside, Text: "1.2.3.4", Addr: netip.MustParseAddr("1.2.3.4")}, nil
			f.to, f.all.Networks[0].Zone.Egress = []netip.Addr{netip.MustParseAddr("1.2.3.4")}, []string{"none"}
			f.refuses(context.DeadlineExceeded)
		}, "policy", []string{"no way out", "egress: [1.2.3.4]"}},
		{"not listed", func(f *scene) {
			f.Target = Party{Kind: Outside, Text: "a.example", DNSName: "a.example"}
			f.lookup.name, f.all.Networks[0].Zone.Egress = "a.example", []string{"b.example", "10.0.0.0/8"}
			f.refuses(context.DeadlineExceeded)
		}, "policy", []string{"does not list a.example", "egress: [b.example, 10.0.0.0/8, a.example]"}},
		{"not listed, so not asked for", func(f *scene) {
			f.Target = Party{Kind: Outside, Text: "a.example", DNSName: "a.example"}
			f.lookup.name, f.all.Networks[0].Zone.Egress = "a.example", []string{"b.example"}
			f.unresolved("NXDOMAIN")
			f.lookup.reason = "the zone does not list it"
		}, "name", []string{"NXDOMAIN: the zone does not list it", "egress: [b.example, a.example]"}},
		{"from outside, internal", func(f *scene) {
			f.Source, f.Target, f.lookup, f.to, f.route, f.attempt = Party{Kind: World, Text: "outside"}, container("mongo"), nil, nil, nil, nil
			f.Port, f.serving = 27017, 27017
		}, "port", []string{"does not publish port 27017", "None of its networks leads out"}},
		{"listed", func(f *scene) {
			f.Target = Party{Kind: Outside, Text: "a.example", DNSName: "a.example"}
			f.lookup.name, f.all.Networks[0].Zone.Egress = "a.example", []string{"*.example"}
		}, "", []string{"lists a.example"}},
		{"a name that nobody has", func(f *scene) {
			f.Target = Party{Kind: Outside, Text: "appp", DNSName: "appp"}
			f.lookup.name = "appp"
			f.unresolved("NXDOMAIN")
		}, "name", []string{"appp cannot be resolved by client", "there are: app"}},
		{"from outside", func(f *scene) {
			f.Source, f.lookup, f.to, f.route, f.attempt = Party{Kind: World, Text: "outside"}, nil, nil, nil, nil
		}, "", []string{"Port 15000 of this host leads to zones-app-1, port 5000", "what the rules say"}},
		{"from outside, for this host only", func(f *scene) {
			f.Source, f.lookup, f.to, f.route, f.attempt = Party{Kind: World, Text: "outside"}, nil, nil, nil, nil
			f.all.Sandboxes[0].Mappings[0].Host = netip.MustParseAddrPort("127.0.0.1:15000")
		}, "port", []string{"for this host only", "-p 15000:5000"}},
		{"from outside, not published", func(f *scene) {
			f.Source, f.lookup, f.to, f.route, f.attempt = Party{Kind: World, Text: "outside"}, nil, nil, nil, nil
			f.all.Sandboxes[0].Mappings = nil
		}, "port", []string{"app does not publish port 5000", "ports: [\"5000:5000\"]", "--publish-add 5000:5000 zones-app-1"}},
		{"from outside, zone for the host", func(f *scene) {
			f.Source, f.lookup, f.to, f.route, f.attempt = Party{Kind: World, Text: "outside"}, nil, nil, nil, nil
			f.all.Networks[0].Zone.Publish = "host"
		}, "policy", []string{"does not publish to the outside", "publish: any"}},
		{"from the host, a zone says", func(f *scene) {
			f.Source, f.lookup = Party{Kind: Host, Text: "host"}, nil
			f.all.Networks[0].Zone.Publish = "host"
			f.refuses(context.DeadlineExceeded)
		}, "policy", []string{"published ports only", "127.0.0.1:15000"}},
		{"from the host, zones that publish nothing", func(f *scene) {
			f.Source, f.lookup = Party{Kind: Host, Text: "host"}, nil
			f.all.Networks[0].Zone.Publish, f.all.Sandboxes[0].Mappings = "none", nil
			f.refuses(context.DeadlineExceeded)
		}, "policy", []string{"published ports only", "x-zone:\n      publish: host", "-p 127.0.0.1:5000:5000"}},
		{"from the host, macvlan", func(f *scene) {
			f.Source, f.lookup = Party{Kind: Host, Text: "host"}, nil
			f.all.Networks[0].Driver, f.all.Sandboxes[0].Endpoints = "macvlan", f.all.Sandboxes[0].Endpoints[:1]
			f.refuses(unix.EHOSTUNREACH)
		}, "policy", []string{"apart", "driver macvlan"}},
		{"to the host", func(f *scene) {
			f.Target, f.lookup, f.Port, f.toPort = Party{Kind: Host, Text: "host"}, nil, 15000, 15000
			f.to = []netip.Addr{netip.MustParseAddr("172.19.0.1")}
		}, "", []string{"Port 15000 of this host leads to zones-app-1"}},
		{"to the host, a port of replicas", func(f *scene) {
			f.Target, f.lookup, f.Port, f.toPort = Party{Kind: Host, Text: "host"}, nil, 15000, 15000
			f.to = []netip.Addr{netip.MustParseAddr("172.19.0.1")}
			f.shared2()
		}, "", []string{"leads to zones-app-1, port 5000 (and 1 more that share it)"}},
		{"to the host, a port of replicas, one of which is deaf", func(f *scene) {
			f.Target, f.lookup, f.Port, f.toPort = Party{Kind: Host, Text: "host"}, nil, 15000, 15000
			f.to = []netip.Addr{netip.MustParseAddr("172.19.0.1")}
			f.shared2()
			f.deaf = true
		}, "listener", []string{"Nothing listens at 172.21.0.2:5000 of zones-mongo-1, one of 2 containers", "x-health: {tcp: 5000}"}},
		{"to the host, refused by the replica that is deaf", func(f *scene) {
			f.Target, f.lookup, f.Port, f.toPort = Party{Kind: Host, Text: "host"}, nil, 15000, 15000
			f.to = []netip.Addr{netip.MustParseAddr("172.19.0.1")}
			f.shared2()
			f.deaf = true
			f.refuses(unix.ECONNREFUSED)
		}, "listener", []string{"172.21.0.2:5000 of zones-mongo-1, one of 2 containers"}},
		{"to the host, at an address that the port is not published at", func(f *scene) {
			f.Target, f.lookup, f.Port, f.toPort = Party{Kind: Host, Text: "host", Project: "zones", ComposeFile: "/p/compose.yaml"}, nil, 15000, 15000
			f.to = []netip.Addr{netip.MustParseAddr("172.19.0.1")}
			f.all.Sandboxes[0].Mappings[0].Host = netip.MustParseAddrPort("127.0.0.1:15000")
			f.refuses(unix.ECONNREFUSED)
		}, "port", []string{"for this host only", "client asks at 172.19.0.1", "ask for app:5000", "ports: [\"15000:5000\"]"}},
		{"from outside to the host, at an address", func(f *scene) {
			f.toHost("192.0.2.1", 15000)
		}, "", []string{"Port 15000 of this host leads to zones-app-1", "what the rules say"}},
		{"from outside to the host, by the family that is not published", func(f *scene) {
			f.toHost("2001:db8::1", 15000)
		}, "port", []string{"0.0.0.0:15000 leads to zones-app-1"}},
		{"from outside to the host, a port of nobody's", func(f *scene) {
			f.toHost("192.0.2.1", 15001)
			f.listeners = nil
		}, "listener", []string{"Nothing listens on port 15001 of this host"}},
		{"from outside to the host, guarded", func(f *scene) {
			f.toHost("192.0.2.1", 15001)
			f.listens("0.0.0.0:15001")
			f.drops(ruleset.Input)
		}, "policy", []string{"policy of ip filter X"}},
		{"from outside to a published port, dropped before the translation", func(f *scene) {
			f.toHost("192.0.2.1", 15000)
			f.drops(ruleset.Prerouting)
		}, "policy", []string{"policy of ip filter X"}},
		{"from outside to a published port, by the other family's relay", func(f *scene) {
			f.toHost("2001:db8::1", 15000)
			f.all.Sandboxes[0].Mappings[0].Host = netip.MustParseAddrPort("[::]:15000")
			f.drops(ruleset.Forward)
			f.filters.rules.Chains[0].Family = ruleset.Inet
		}, "", []string{"leads to zones-app-1"}},
		{"from outside to a published port, by a relay on a guarded host", func(f *scene) {
			f.toHost("2001:db8::1", 15000)
			f.all.Sandboxes[0].Mappings[0].Host = netip.MustParseAddrPort("[::]:15000")
			f.drops(ruleset.Input)
			f.filters.rules.Chains[0].Family = ruleset.IP6
		}, "policy", []string{"policy of ip6 filter X"}},
		{"from outside to the host, sent on by others", func(f *scene) {
			f.toHost("192.0.2.1", 15001)
			f.listeners = nil
			f.sentOn = &ruleset.Translation{Rule: "rule 3 of ip nat DOCKER", To: netip.MustParseAddrPort("172.17.0.2:80")}
		}, "", []string{"send port 15001 of this host on to 172.17.0.2:80", "what the rules say"}},
		{"from the LAN into a zone for the LAN", func(f *scene) {
			f.Source, f.lookup, f.to, f.route, f.attempt = Party{Kind: World, Text: "lan"}, nil, nil, nil, nil
			f.all.Networks[0].Zone.Publish = "lan"
		}, "", []string{"open to machines on the links", "publish: lan"}},
		{"from the internet into a zone for the LAN", func(f *scene) {
			f.Source, f.lookup, f.to, f.route, f.attempt = Party{Kind: World, Text: "internet"}, nil, nil, nil, nil
			f.all.Networks[0].Zone.Publish = "lan"
		}, "policy", []string{"does not publish to the outside", "publish: any"}},
		{"a port of this host that another zone keeps for it", func(f *scene) {
			f.Source = container("alone")
			f.all.Networks[0].Zone.Publish = "host"
			f.Target, f.Port, f.toPort, f.lookup = Party{Kind: Host, Text: "host.docker.internal"}, 15000, 15000, nil
			f.to = []netip.Addr{netip.MustParseAddr("172.20.0.1")}
			f.refuses(context.DeadlineExceeded)
		}, "policy", []string{"publishes to this host only, and alone is on another network", "publish: any", "muelle network connect zones_public zones-alone-1"}},
		{"from outside, tried from here", func(f *scene) {
			f.Source, f.lookup, f.route = Party{Kind: World, Text: "outside"}, nil, nil
		}, "", []string{"unknown answer: From outside nothing can be tried", "answers this host itself after 1ms"}},
		{"from outside, refused here", func(f *scene) {
			f.Source, f.lookup, f.route = Party{Kind: World, Text: "outside"}, nil, nil
			f.refuses(context.DeadlineExceeded)
		}, "answer", []string{"tried from this host itself"}},
		{"from outside, a zone says no though this host is answered", func(f *scene) {
			f.Source, f.lookup, f.route = Party{Kind: World, Text: "outside"}, nil, nil
			f.all.Networks[0].Zone.Publish = "host"
		}, "policy", []string{"does not publish to the outside"}},
		{"a guest in another's namespace", func(f *scene) {
			f.Target = container("side")
			f.Target.Sandbox, f.Target.Mode = "app", "container:app"
			f.lookup.name = "side"
			f.unresolved("NXDOMAIN")
		}, "name", []string{"side has no name of its own: it is in the network namespace of app", "Ask for app:5000"}},
		{"from the host's network", func(f *scene) {
			f.all.Sandboxes[1].Host, f.all.Sandboxes[1].Endpoints, f.Source.Mode = true, nil, "host"
			f.unresolved("NXDOMAIN")
		}, "name", []string{"uses the host's network, where containers have no names", "Ask for localhost:15000, where it is published", "can join no other network"}},
		{"a slip of the pen", func(f *scene) {
			f.Target = Party{Kind: Outside, Text: "ap", DNSName: "ap"}
			f.lookup.name = "ap"
			f.unresolved("NXDOMAIN")
		}, "name", []string{"Did you mean app:5000?"}},
		{"a slip of the pen, of somebody apart", func(f *scene) {
			f.Target = Party{Kind: Outside, Text: "mongoo", DNSName: "mongoo"}
			f.lookup.name = "mongoo"
			f.unresolved("NXDOMAIN")
		}, "name", []string{"Did you mean mongo, which is on no network of client?"}},
		{"a name server of the world that is dead", func(f *scene) {
			f.Target = Party{Kind: Outside, Text: "a.example", DNSName: "a.example"}
			f.lookup.name = "a.example"
			f.unresolved("SERVFAIL")
			f.lookup.reason = "name server 10.0.0.9: no answer"
		}, "name", []string{"name server 10.0.0.9: no answer", "--dns"}},
		{"IPv6 from where there is none", func(f *scene) {
			f.Target = Party{Kind: Outside, Text: "a.example", DNSName: "a.example"}
			f.lookup.addrs = []netip.Addr{netip.MustParseAddr("fd99::1")}
			f.to, f.route.err = f.lookup.addrs, unix.ENETUNREACH
			f.refuses(unix.ENETUNREACH)
		}, "route", []string{"client has no address of IPv6", "networks:\n  public:\n    enable_ipv6: true"}},
		{"another name server, from a zone that lists", func(f *scene) {
			f.Target, f.lookup = Party{Kind: Outside, Text: "1.2.3.4", Addr: netip.MustParseAddr("1.2.3.4")}, nil
			f.to, f.all.Networks[0].Zone.Egress, f.Port = []netip.Addr{netip.MustParseAddr("1.2.3.4")}, []string{"1.2.3.4"}, 53
			f.refuses(context.DeadlineExceeded)
		}, "policy", []string{"nobody but Muelle's resolver asks name servers", "Ask 127.0.0.11"}},
		{"to the host, closed", func(f *scene) {
			f.Target, f.lookup, f.Port, f.toPort, f.serving = Party{Kind: Host, Text: "host"}, nil, 22, 22, 22
			f.to, f.all.Networks[0].Zone.Egress = []netip.Addr{netip.MustParseAddr("172.19.0.1")}, []string{"none"}
			f.listens("0.0.0.0:22")
			f.refuses(context.DeadlineExceeded)
		}, "policy", []string{"closed towards this host", "egress: [172.19.0.1]"}},
		{"not listed, without a project", func(f *scene) {
			f.Target, f.lookup = Party{Kind: Outside, Text: "1.2.3.4", Addr: netip.MustParseAddr("1.2.3.4")}, nil
			f.to, f.all.Networks[0].Zone.Egress, f.all.Networks[0].Key = []netip.Addr{netip.MustParseAddr("1.2.3.4")}, []string{"b.example", "10.0.0.0/8"}, ""
			f.refuses(context.DeadlineExceeded)
		}, "policy", []string{"--zone egress=b.example,10.0.0.0/8,1.2.3.4"}},
		{"UDP", func(f *scene) { f.Proto, f.attempt.unheard = "udp", true; f.listeners[0].Proto = "udp" }, "", []string{"UDP tells no more"}},
		{"UDP, nobody", func(f *scene) { f.Proto = "udp"; f.refuses(unix.ECONNREFUSED) }, "listener", []string{"port 5000/udp"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := world()
			tc.change(f)
			f.model()
			f.findMapping()
			if f.deaf {
				f.mapping.others[0].read = true
			}
			e := judge(f.facts)
			got := ""
			if b := e.Broken(); b != nil {
				got = b.Hop
			}
			text := flat(e)
			if got != tc.hop || e.Reachable != (tc.hop == "") {
				t.Errorf("broken at %q, reachable %v; want %q\n%s", got, e.Reachable, tc.hop, text)
			}
			for _, w := range tc.want {
				if !strings.Contains(text, w) {
					t.Errorf("%q is missing in\n%s", w, text)
				}
			}
		})
	}
}

func flat(e *api.Explanation) string {
	var b strings.Builder
	for _, h := range e.Hops {
		b.WriteString(h.State + " " + h.Hop + ": " + h.What + "\n")
		for _, v := range h.Evidence {
			b.WriteString("  " + v.Source + ": " + v.Text + "\n")
		}
		if h.YAML != "" {
			b.WriteString("  File: " + h.File + "\n" + h.YAML)
		}
		for _, d := range h.Do {
			b.WriteString("  - " + d + "\n")
		}
	}
	return b.String()
}

func TestFromHosts(t *testing.T) {
	data := []byte("127.0.0.1 localhost\n10.0.0.1 a App # b\n# 10.0.0.2 app\nbad app\n::ffff:10.0.0.3\tapp\n10.0.0.4\n")
	if got := join(fromHosts(data, "app")); got != "10.0.0.1, 10.0.0.3" {
		t.Errorf("got %s", got)
	}
}

func FuzzFromHosts(f *testing.F) {
	f.Add([]byte("10.0.0.1 a b\n"), "a")
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		for _, a := range fromHosts(data, name) {
			if !a.IsValid() {
				t.Error("an address that is none")
			}
		}
	})
}
