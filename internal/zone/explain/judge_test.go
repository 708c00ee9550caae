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
func world() *facts {
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
	return &facts{
		Question: Question{Source: container("client"), Target: container("app"), Port: 5000, Proto: "tcp"}, all: snapshot, toPort: 5000, serving: 5000,
		lookup: &lookup{name: "app", from: "127.0.0.11", addrs: []netip.Addr{appAddr}, code: "NOERROR"}, to: []netip.Addr{appAddr},
		route: &route{iface: "eth0"}, listened: true, listeners: []socket.Listener{{Proto: "tcp", Addr: netip.MustParseAddrPort("[::]:5000"), Inode: 1}},
		attempt: &attempt{to: netip.AddrPortFrom(appAddr, 5000), took: time.Millisecond},
	}
}

func (f *facts) unresolved(code string) {
	f.lookup.addrs, f.lookup.code, f.to, f.route, f.attempt = nil, code, nil, nil, nil
}

func (f *facts) refuses(err error) { f.attempt.err = err }

// drops is a firewall that drops everything at a hook.
func (f *facts) drops(h ruleset.Hook) {
	f.all.Networks[0].Interface = "mueb0"
	f.filters = &filters{uplink: "eth0", rules: &ruleset.Ruleset{Chains: []*ruleset.Chain{{Family: ruleset.IP, Table: "filter", Name: "X", Base: true, Hook: h, Type: "filter", Drops: true}}}}
}

// beyond is a connection to somebody elsewhere that is not answered, with that firewall.
func (f *facts) beyond(addr string, h ruleset.Hook) {
	f.drops(h)
	a := netip.MustParseAddr(addr)
	f.Target, f.dst, f.shared, f.lookup = Party{Kind: Outside, Text: addr, Addr: a}, nil, nil, nil
	f.to, f.attempt.to = []netip.Addr{a}, netip.AddrPortFrom(a, 5000)
	f.refuses(context.DeadlineExceeded)
}

func (f *facts) listens(at ...string) {
	f.listeners = nil
	for _, a := range at {
		f.listeners = append(f.listeners, socket.Listener{Proto: "tcp", Addr: netip.MustParseAddrPort(a), Inode: 1})
	}
}

func TestJudge(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*facts)
		hop    string // the first that is broken; empty: reachable
		want   []string
	}{
		{"reachable", func(*facts) {}, "", []string{"answers after 1ms", "Both are on zones_public", "172.19.0.3 is zones-app-1"}},
		{"no network in common", func(f *facts) { f.Source = container("alone"); f.unresolved("NXDOMAIN") }, "name",
			[]string{"alone cannot resolve app: they share no network", "  alone:\n    networks: [public]\n", "muelle network connect zones_public zones-alone-1", "File: /p/compose.yaml"}},
		{"no network in common, with company", func(f *facts) {
			f.Source = container("alone")
			f.all.Sandboxes[3].Endpoints = append(f.all.Sandboxes[3].Endpoints, at("def", netip.MustParseAddr("172.20.0.9"), false))
			f.unresolved("NXDOMAIN")
		}, "name", []string{"    networks: [default, public]\n"}},
		{"the database is apart", func(f *facts) { f.Target = container("mongo"); f.unresolved("NXDOMAIN") }, "name",
			[]string{"share no network", "[public, backend]", "also on it: app"}},
		{"no network at all", func(f *facts) {
			f.Source = container("alone")
			f.Source.Mode = "none"
			f.all.Sandboxes[2].Endpoints = []network.EndpointView{{Network: "none"}}
			f.unresolved("")
			f.lookup.without = true
		}, "name", []string{"it is on no network", "take network_mode of alone away", "[public]"}},
		{"a plain container", func(f *facts) {
			f.Source = Party{Kind: Container, Text: "web", ID: "alone", Name: "web", State: "running", Mode: "bridge"}
			f.all.Sandboxes[2] = network.SandboxView{ID: "alone", Name: "web", Endpoints: []network.EndpointView{at("bridge", aloneAddr, true)}}
			f.unresolved("NXDOMAIN")
			f.lookup.from = "8.8.8.8"
		}, "name", []string{"share no network", "bridge (the default one)", "muelle network connect zones_public web"}},
		{"both on the default bridge", func(f *facts) {
			for i := range 2 {
				f.all.Sandboxes[i].Endpoints = []network.EndpointView{at("bridge", appAddr, true)}
			}
			f.Source.Service, f.Source.Project = "", ""
			f.unresolved("NXDOMAIN")
			f.lookup.from = "8.8.8.8"
		}, "name", []string{"on the default bridge containers have no names", "muelle network create NET && muelle network connect NET zones-client-1"}},
		{"a changed resolv.conf", func(f *facts) { f.unresolved("NXDOMAIN"); f.lookup.from = "8.8.8.8" }, "name", []string{"8.8.8.8, and not Muelle's at 127.0.0.11", "--dns"}},
		{"another project's", func(f *facts) {
			f.Source = container("alone")
			f.Source.Project, f.all.Sandboxes[2].Project = "shop", "shop"
			f.unresolved("NXDOMAIN")
		}, "name", []string{"networks: [zones_public]", "zones_public:\n    external: true"}},
		{"another name on a shared network", func(f *facts) { f.lookup.name = "api"; f.unresolved("NXDOMAIN") }, "name", []string{"not called api there", "Ask for zones-app-1"}},
		{"a hosts file of its own", func(f *facts) {
			f.lookup.from, f.lookup.addrs = "/etc/hosts", []netip.Addr{netip.MustParseAddr("10.0.0.9")}
			f.to = f.lookup.addrs
			f.refuses(context.DeadlineExceeded)
		}, "address", []string{"10.0.0.9 is no container's", "extra_hosts"}},
		{"stopped", func(f *facts) {
			f.Target.State, f.Target.ID = "exited", "gone"
			f.unresolved("NXDOMAIN")
			f.listened = false
		}, "target",
			[]string{"exit code 0", "muelle start zones-app-1"}},
		{"crashed", func(f *facts) {
			f.Target.State, f.Target.ExitCode, f.Target.ID = "exited", 3, "gone"
			f.unresolved("NXDOMAIN")
			f.listened = false
		}, "target", []string{"exit code 3", "muelle why zones-app-1"}},
		{"crashing", func(f *facts) { f.Target.State, f.Target.ExitCode = "restarting", 3 }, "target", []string{"again and again", "muelle why"}},
		{"the source is stopped", func(f *facts) { f.Source.State = "exited"; f.attempt = nil }, "source", []string{"client does not run"}},
		{"no container yet", func(f *facts) { f.Target.State, f.Target.ID = "", "" }, "target", []string{"has no container", "muelle compose up -d app"}},
		{"unhealthy", func(f *facts) { f.Target.Health = "unhealthy" }, "", []string{"app is unhealthy", "muelle why zones-app-1"}},
		{"listens on loopback", func(f *facts) { f.listens("127.0.0.1:5000"); f.refuses(unix.ECONNREFUSED) }, "listener", []string{"127.0.0.1:5000 only", "0.0.0.0:5000"}},
		{"listens elsewhere", func(f *facts) { f.listens("172.21.0.3:5000"); f.refuses(unix.ECONNREFUSED) }, "listener", []string{"at 172.21.0.3:5000, and not at 172.19.0.3"}},
		{"another port", func(f *facts) { f.listens("0.0.0.0:8080", "127.0.0.11:10053"); f.refuses(unix.ECONNREFUSED) }, "listener",
			[]string{"Nothing listens on port 5000 of app", "it listens at 0.0.0.0:8080\n", "Ask for app:8080"}},
		{"the host's port", func(f *facts) { f.Port, f.toPort, f.serving = 15000, 15000, 15000; f.refuses(unix.ECONNREFUSED) }, "listener",
			[]string{"15000 is the port of this host", "Ask for app:5000"}},
		{"nothing listens", func(f *facts) { f.listens(); f.refuses(unix.ECONNREFUSED) }, "listener", []string{"no other port either", "muelle logs"}},
		{"IPv6 only", func(f *facts) { f.refuses(unix.ECONNREFUSED) }, "listener", []string{"IPv6 only", "enable_ipv6"}},
		{"refused all the same", func(f *facts) { f.listens("0.0.0.0:5000"); f.refuses(unix.ECONNREFUSED) }, "answer", []string{"refuses the connection"}},
		{"a foreign firewall", func(f *facts) { f.refuses(context.DeadlineExceeded); f.warnings = []string{"table x drops"} }, "answer", []string{"drops the packets", "table x drops"}},
		{"a foreign policy", func(f *facts) {
			f.beyond("203.0.113.7", ruleset.Forward)
			f.warnings = []string{`the firewall chain "ip filter X" drops the containers' traffic (to the world; policy); to allow it: ufw route allow`}
		}, "policy", []string{"Another firewall on this host drops it", "policy of ip filter X", "ufw route allow"}},
		{"a foreign policy without a word of ours", func(f *facts) { f.beyond("203.0.113.7", ruleset.Forward) }, "policy", []string{"nft -a list chain ip filter X"}},
		{"a foreign policy for the host itself", func(f *facts) { f.beyond("203.0.113.7", ruleset.Input); f.refuses(nil) }, "", nil},
		{"a foreign policy that lets it through all the same", func(f *facts) { f.beyond("203.0.113.7", ruleset.Forward); f.refuses(nil) }, "", []string{"drops it"}},
		{"a foreign firewall, from outside", func(f *facts) {
			f.drops(ruleset.Forward)
			f.Source = Party{Kind: World, Text: "outside"}
			f.src, f.attempt, f.lookup, f.to, f.route, f.toPort = nil, nil, nil, nil, nil, 15000
			f.mapping = &mapping{host: netip.MustParseAddrPort("0.0.0.0:15000"), target: netip.AddrPortFrom(appAddr, 5000), sandbox: &f.all.Sandboxes[0]}
		}, "policy", []string{"policy of ip filter X"}},
		{"between: deny", func(f *facts) {
			f.all.Networks[0].Between, f.all.Networks[0].Zone.Between = false, "deny"
			f.refuses(context.DeadlineExceeded)
		}, "policy", []string{"do not reach each other", "networks:\n  public:\n    x-zone:\n      between: allow"}},
		{"icc=false", func(f *facts) { f.all.Networks[0].Between = false; f.refuses(context.DeadlineExceeded) }, "policy", []string{"enable_icc=false"}},
		{"forbidden, and works", func(f *facts) { f.all.Networks[0].Between = false }, "", []string{"do not reach each other"}},
		{"no route", func(f *facts) { f.route.err = unix.ENETUNREACH; f.refuses(unix.ENETUNREACH) }, "route", []string{"no route to 172.19.0.3"}},
		{"localhost", func(f *facts) {
			f.Target, f.lookup = Party{Kind: Itself, Text: "localhost"}, nil
			f.to = []netip.Addr{netip.IPv6Loopback()}
			f.listens()
			f.refuses(unix.ECONNREFUSED)
		}, "listener", []string{"localhost inside client is client itself", "If app is meant: app:5000", "host.docker.internal:5000"}},
		{"internal to outside", func(f *facts) {
			f.Source, f.Target = container("mongo"), Party{Kind: Outside, Text: "example.org", DNSName: "example.org"}
			f.lookup.name = "example.org"
			f.unresolved("SERVFAIL")
			f.lookup.reason = "it is on internal networks only"
		}, "name", []string{"internal networks only", "networks: [backend, outward]"}},
		{"outside by address, internal", func(f *facts) {
			f.Source, f.Target, f.lookup = container("mongo"), Party{Kind: Outside, Text: "1.2.3.4", Addr: netip.MustParseAddr("1.2.3.4")}, nil
			f.to, f.attempt.err = []netip.Addr{netip.MustParseAddr("1.2.3.4")}, unix.ENETUNREACH
		}, "network", []string{"on no network that leads out", "zones_backend (internal)"}},
		{"egress: none", func(f *facts) {
			f.Target, f.lookup = Party{Kind: Outside, Text: "1.2.3.4", Addr: netip.MustParseAddr("1.2.3.4")}, nil
			f.to, f.all.Networks[0].Zone.Egress = []netip.Addr{netip.MustParseAddr("1.2.3.4")}, []string{"none"}
			f.refuses(context.DeadlineExceeded)
		}, "policy", []string{"no way out", "egress: [1.2.3.4]"}},
		{"not listed", func(f *facts) {
			f.Target = Party{Kind: Outside, Text: "a.example", DNSName: "a.example"}
			f.lookup.name, f.all.Networks[0].Zone.Egress = "a.example", []string{"b.example", "10.0.0.0/8"}
			f.refuses(context.DeadlineExceeded)
		}, "policy", []string{"does not list a.example", "egress: [b.example, 10.0.0.0/8, a.example]"}},
		{"not listed, so not asked for", func(f *facts) {
			f.Target = Party{Kind: Outside, Text: "a.example", DNSName: "a.example"}
			f.lookup.name, f.all.Networks[0].Zone.Egress = "a.example", []string{"b.example"}
			f.unresolved("NXDOMAIN")
			f.lookup.reason = "the zone does not list it"
		}, "name", []string{"NXDOMAIN: the zone does not list it", "egress: [b.example, a.example]"}},
		{"from outside, internal", func(f *facts) {
			f.Source, f.Target, f.lookup, f.to, f.route, f.attempt = Party{Kind: World, Text: "outside"}, container("mongo"), nil, nil, nil, nil
			f.Port, f.serving = 27017, 27017
		}, "port", []string{"does not publish port 27017", "None of its networks leads out"}},
		{"listed", func(f *facts) {
			f.Target = Party{Kind: Outside, Text: "a.example", DNSName: "a.example"}
			f.lookup.name, f.all.Networks[0].Zone.Egress = "a.example", []string{"*.example"}
		}, "", []string{"lists a.example"}},
		{"a name that nobody has", func(f *facts) {
			f.Target = Party{Kind: Outside, Text: "appp", DNSName: "appp"}
			f.lookup.name = "appp"
			f.unresolved("NXDOMAIN")
		}, "name", []string{"appp cannot be resolved by client", "there are: app"}},
		{"from outside", func(f *facts) {
			f.Source, f.lookup, f.to, f.route, f.attempt = Party{Kind: World, Text: "outside"}, nil, nil, nil, nil
		}, "", []string{"Port 15000 of this host leads to zones-app-1, port 5000", "what the rules say"}},
		{"from outside, for this host only", func(f *facts) {
			f.Source, f.lookup, f.to, f.route, f.attempt = Party{Kind: World, Text: "outside"}, nil, nil, nil, nil
			f.all.Sandboxes[0].Mappings[0].Host = netip.MustParseAddrPort("127.0.0.1:15000")
		}, "port", []string{"for this host only", "-p 15000:5000"}},
		{"from outside, not published", func(f *facts) {
			f.Source, f.lookup, f.to, f.route, f.attempt = Party{Kind: World, Text: "outside"}, nil, nil, nil, nil
			f.all.Sandboxes[0].Mappings = nil
		}, "port", []string{"app does not publish port 5000", "ports: [\"5000:5000\"]", "--publish-add 5000:5000 zones-app-1"}},
		{"from outside, zone for the host", func(f *facts) {
			f.Source, f.lookup, f.to, f.route, f.attempt = Party{Kind: World, Text: "outside"}, nil, nil, nil, nil
			f.all.Networks[0].Zone.Publish = "host"
		}, "policy", []string{"does not publish to the outside", "publish: any"}},
		{"from the host, a zone says", func(f *facts) {
			f.Source, f.lookup = Party{Kind: Host, Text: "host"}, nil
			f.all.Networks[0].Zone.Publish = "host"
			f.refuses(context.DeadlineExceeded)
		}, "policy", []string{"published ports only", "127.0.0.1:15000"}},
		{"from the host, macvlan", func(f *facts) {
			f.Source, f.lookup = Party{Kind: Host, Text: "host"}, nil
			f.all.Networks[0].Driver, f.all.Sandboxes[0].Endpoints = "macvlan", f.all.Sandboxes[0].Endpoints[:1]
			f.refuses(unix.EHOSTUNREACH)
		}, "policy", []string{"apart", "driver macvlan"}},
		{"to the host", func(f *facts) {
			f.Target, f.lookup, f.Port, f.toPort = Party{Kind: Host, Text: "host"}, nil, 15000, 15000
			f.to = []netip.Addr{netip.MustParseAddr("172.19.0.1")}
		}, "", []string{"Port 15000 of this host leads to zones-app-1"}},
		{"to the host, a port of replicas", func(f *facts) {
			f.Target, f.lookup, f.Port, f.toPort = Party{Kind: Host, Text: "host"}, nil, 15000, 15000
			f.to = []netip.Addr{netip.MustParseAddr("172.19.0.1")}
			m := &f.all.Sandboxes[0].Mappings[0]
			m.Targets = append(m.Targets, netip.MustParseAddrPort("172.19.0.9:5000"))
		}, "", []string{"leads to zones-app-1, port 5000 (and 1 more that share it)"}},
		{"to the host, closed", func(f *facts) {
			f.Target, f.lookup, f.Port, f.toPort, f.serving = Party{Kind: Host, Text: "host"}, nil, 22, 22, 22
			f.to, f.all.Networks[0].Zone.Egress = []netip.Addr{netip.MustParseAddr("172.19.0.1")}, []string{"none"}
			f.listens("0.0.0.0:22")
			f.refuses(context.DeadlineExceeded)
		}, "policy", []string{"closed towards this host", "egress: [172.19.0.1]"}},
		{"not listed, without a project", func(f *facts) {
			f.Target, f.lookup = Party{Kind: Outside, Text: "1.2.3.4", Addr: netip.MustParseAddr("1.2.3.4")}, nil
			f.to, f.all.Networks[0].Zone.Egress, f.all.Networks[0].Key = []netip.Addr{netip.MustParseAddr("1.2.3.4")}, []string{"b.example", "10.0.0.0/8"}, ""
			f.refuses(context.DeadlineExceeded)
		}, "policy", []string{"--zone egress=b.example,10.0.0.0/8,1.2.3.4"}},
		{"UDP", func(f *facts) { f.Proto, f.attempt.unheard = "udp", true; f.listeners[0].Proto = "udp" }, "", []string{"UDP tells no more"}},
		{"UDP, nobody", func(f *facts) { f.Proto = "udp"; f.refuses(unix.ECONNREFUSED) }, "listener", []string{"port 5000/udp"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := world()
			tc.change(f)
			f.model()
			f.findMapping()
			e := judge(f)
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
