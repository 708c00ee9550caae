//go:build root

package network_test

import (
	"context"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	mobynet "github.com/moby/moby/api/types/network"

	"muelle/internal/linux/netns"
	"muelle/internal/network"
)

// lookup asks 127.0.0.11 in a container.
func lookup(t *testing.T, ns *os.File, proto, name string, kind uint16) (*dns.Msg, error) {
	t.Helper()
	var reply *dns.Msg
	err := netns.Do(ns, func() error {
		q := new(dns.Msg)
		q.SetQuestion(dns.Fqdn(name), kind)
		conn, err := net.DialTimeout(proto, "127.0.0.11:53", slow)
		if err != nil {
			return err
		}
		defer conn.Close()
		c := dns.Client{Net: proto, Timeout: 20 * time.Second}
		reply, _, err = c.ExchangeWithConn(q, &dns.Conn{Conn: conn})
		return err
	})
	return reply, err
}

// resolve gives the sorted data of the answer, or the name of the failure.
func resolve(t *testing.T, ns *os.File, proto, name string, kind uint16) string {
	t.Helper()
	reply, err := lookup(t, ns, proto, name, kind)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return ""
	}
	if reply.Rcode != dns.RcodeSuccess {
		return dns.RcodeToString[reply.Rcode]
	}
	var list []string
	for _, rr := range reply.Answer {
		list = append(list, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// upstream is a name server that knows example.org and a long text, in ns.
func (w *world) upstream(ns *os.File, addr string) {
	w.Helper()
	handler := dns.HandlerFunc(func(rw dns.ResponseWriter, q *dns.Msg) {
		r := new(dns.Msg)
		r.SetReply(q)
		header := dns.RR_Header{Name: q.Question[0].Name, Rrtype: q.Question[0].Qtype, Class: dns.ClassINET}
		switch name := q.Question[0].Name; {
		case name == "example.org." && q.Question[0].Qtype == dns.TypeA:
			r.Answer = []dns.RR{&dns.A{Hdr: header, A: net.IPv4(198, 51, 100, 1)}}
		case name == "long.example.org.":
			for range 40 {
				r.Answer = append(r.Answer, &dns.TXT{Hdr: header, Txt: []string{strings.Repeat("x", 100)}})
			}
		default:
			r.Rcode = dns.RcodeNameError
		}
		if _, udp := rw.RemoteAddr().(*net.UDPAddr); udp {
			r.Truncate(dns.MinMsgSize)
		}
		_ = rw.WriteMsg(r)
	})
	must(w.TB, in(ns, func() error {
		pc, err := net.ListenPacket("udp4", addr)
		must(w.TB, err)
		l, err := net.Listen("tcp4", addr)
		must(w.TB, err)
		for _, s := range []*dns.Server{{PacketConn: pc, Handler: handler}, {Listener: l, Handler: handler}} {
			started := make(chan struct{})
			s.NotifyStartedFunc = func() { close(started) }
			go func() { _ = s.ActivateAndServe() }()
			<-started
			w.Cleanup(func() { _ = s.Shutdown() })
		}
		return nil
	}))
}

func service(s network.SandboxSpec, project, service string, aliases ...string) network.SandboxSpec {
	s.Project, s.Service = project, service
	for i := range s.Endpoints {
		s.Endpoints[i].Settings = &mobynet.EndpointSettings{Aliases: append([]string{service}, aliases...)}
	}
	return s
}

func exposing(s network.SandboxSpec, ports ...string) network.SandboxSpec {
	s.Exposed = mobynet.PortSet{}
	for _, p := range ports {
		s.Exposed[mobynet.MustParsePort(p)] = struct{}{}
	}
	return s
}

func gateway(w *world, name string) string {
	w.Helper()
	n, err := w.Get(name)
	must(w.TB, err)
	return n.IPAM.Config[0].Gateway.String()
}

func TestNames(t *testing.T) {
	w := newWorld(t)
	w.upstream(nil, "127.0.0.1:53")
	w.network("front")
	w.network("back", internal)
	client := w.start(service(spec("zones-client-1", "front"), "zones", "client"))
	app := w.start(exposing(service(spec("zones-app-1", "front", "back"), "zones", "app", "API"), "5000/tcp", "80/tcp"))
	app2 := w.start(exposing(service(spec("zones-app-2", "front"), "zones", "app"), "5000/tcp"))
	named := exposing(service(spec("zones-db-1", "front"), "zones", "db"), "5432/tcp")
	named.PortNames = map[string][]uint16{"sql/tcp": {5432}, "http/tcp": {8080}, "peers/udp": {7000, 7001}}
	w.start(named)
	mongo := w.start(service(spec("zones-mongo-1", "back"), "zones", "mongo"))
	other := w.start(service(spec("other-app-1", "front"), "other", "app"))
	both := strings.Join(sorted(w.address(app, "front"), w.address(app2, "front")), " ")
	linkedSpec := service(spec("zones-linked-1", "front"), "zones", "linked")
	linkedSpec.Endpoints[0].Settings.Links = []string{"app:Server", "zones-app-1:one", "zones-app-1:two", "zones-app-2:two", "mongo:far"}
	linked := w.start(linkedSpec)
	for _, tc := range []struct {
		name  string
		from  *network.Sandbox
		query string
		kind  uint16
		want  string
	}{
		{"container", client, "zones-app-1", dns.TypeA, w.address(app, "front")},
		{"in capitals", client, "ZONES-app-1", dns.TypeA, w.address(app, "front")},
		{"short id", client, app.ID[:12], dns.TypeA, w.address(app, "front")},
		{"alias", client, "api", dns.TypeA, w.address(app, "front")},
		{"with the network", client, "zones-app-1.front", dns.TypeA, w.address(app, "front")},
		{"service of the own project", client, "app", dns.TypeA, both},
		{"service of the other project", other, "app", dns.TypeA, w.address(other, "front")},
		{"alias of a link to a service, of its own project", linked, "server", dns.TypeA, both},
		{"alias of a link to a container", linked, "one", dns.TypeA, w.address(app, "front")},
		{"alias of several links", linked, "two", dns.TypeA, both},
		{"alias of a link across networks", linked, "far", dns.TypeA, "NXDOMAIN"},
		{"another's link", client, "server", dns.TypeA, "NXDOMAIN"},
		{"itself", client, "client", dns.TypeA, w.address(client, "front")},
		{"no IPv6 address", client, "app", dns.TypeAAAA, ""},
		{"no network in common", client, "mongo", dns.TypeA, "NXDOMAIN"},
		{"no network in common, again", client, "mongo", dns.TypeAAAA, "NXDOMAIN"},
		{"internal network", app, "mongo", dns.TypeA, w.address(mongo, "back")},
		{"from the internal network", mongo, "app", dns.TypeA, w.address(app, "back")},
		{"address", client, reverse(t, w.address(app, "front")), dns.TypePTR, "zones-app-1.front."},
		{"address that is not shared", client, reverse(t, w.address(mongo, "back")), dns.TypePTR, "NXDOMAIN"},
		{"upstream", client, "example.org", dns.TypeA, "198.51.100.1"},
		{"unknown upstream", client, "nobody.example.org", dns.TypeA, "NXDOMAIN"},
		{"unknown single label", client, "nobody", dns.TypeA, "NXDOMAIN"},
		{"no way out", mongo, "example.org", dns.TypeA, "SERVFAIL"},
		{"by the project's name of the network", client, "app.front", dns.TypeA, both},
		{"the host", client, "host.docker.internal", dns.TypeA, gateway(w, "front")},
		{"the host, from an internal network", mongo, "Host.Muelle.Internal", dns.TypeA, gateway(w, "back")},
		{"the host's gateway", client, "gateway.docker.internal", dns.TypeA, gateway(w, "front")},
		{"the host's IPv6 address", client, "host.docker.internal", dns.TypeAAAA, ""},
		{"the host's name", client, reverse(t, gateway(w, "front")), dns.TypePTR, "host.muelle.internal."},
		{"another type", client, "app", dns.TypeTXT, ""},
		{"an exposed port", client, "_5000._tcp.app", dns.TypeSRV, "0 1 5000 zones-app-1.front. 0 1 5000 zones-app-2.front."},
		{"a port by its name", client, "_http._tcp.app", dns.TypeSRV, "0 1 80 zones-app-1.front."},
		{"another port", client, "_5001._tcp.app", dns.TypeSRV, "NXDOMAIN"},
		{"a port by the container's name for it", client, "_SQL._tcp.db", dns.TypeSRV, "0 1 5432 zones-db-1.front."},
		{"the container's name for a port goes first", client, "_http._tcp.db", dns.TypeSRV, "0 1 8080 zones-db-1.front."},
		{"two ports of one name", client, "_peers._udp.db", dns.TypeSRV, "0 1 7000 zones-db-1.front. 0 1 7001 zones-db-1.front."},
		{"the name of another protocol's port", client, "_sql._udp.db", dns.TypeSRV, "NXDOMAIN"},
		{"a port on no network in common", client, "_27017._tcp.mongo", dns.TypeSRV, "NXDOMAIN"},
	} {
		for _, proto := range []string{"udp", "tcp"} {
			t.Run(tc.name+" "+proto, func(t *testing.T) {
				if diff := cmp.Diff(tc.want, resolve(t, tc.from.NetNS, proto, tc.query, tc.kind)); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
	if n := strings.Count(w.log.String(), "no network in common"); n != 1 {
		t.Errorf("the reason is logged %d times:\n%s", n, w.log)
	}
	var reasons []string
	for _, q := range w.Queries(client.ID) {
		if q.Name == "mongo" && q.Proto == "udp" && q.Type == "A" {
			reasons = append(reasons, q.Code+": "+q.Reason)
		}
	}
	if diff := cmp.Diff([]string{"NXDOMAIN: zones-mongo-1 is on network back, zones-client-1 on network front: they share no network"}, reasons); diff != "" {
		t.Error(diff)
	}
	w.Renamed(app.ID, "/renamed")
	if got := resolve(t, client.NetNS, "udp", "renamed", dns.TypeA); got != w.address(app, "front") {
		t.Errorf("got %q for the new name", got)
	}
	if got := resolve(t, client.NetNS, "udp", "zones-app-1", dns.TypeA); got != "NXDOMAIN" {
		t.Errorf("got %q for the old name", got)
	}
	w.stop(app2.ID)
	if got := resolve(t, client.NetNS, "udp", "app", dns.TypeA); got != w.address(app, "front") {
		t.Errorf("got %q after one of two has ended", got)
	}
}

// A service's name means its replicas that are in service; to each other they are known
// in any state.
func TestNamesMeanHealthyReplicas(t *testing.T) {
	w := newWorld(t)
	w.network("front")
	client := w.start(service(spec("zones-client-1", "front"), "zones", "client"))
	one, two := w.start(service(spec("zones-app-1", "front"), "zones", "app")), w.start(service(spec("zones-app-2", "front"), "zones", "app"))
	a, b := w.address(one, "front"), w.address(two, "front")
	both := strings.Join(sorted(a, b), " ")
	want := func(what, addrs string) {
		t.Helper()
		if got := resolve(t, client.NetNS, "udp", "app", dns.TypeA); got != addrs {
			t.Errorf("%s: got %q, want %q", what, got, addrs)
		}
	}
	want("neither is ready yet", both)
	must(t, w.SetReady(one.ID, true))
	want("one is, the other is being started", a)
	must(t, w.SetReady(two.ID, true))
	want("both", both)
	must(t, w.SetReady(one.ID, false))
	want("one is unhealthy", b)
	if got := resolve(t, client.NetNS, "udp", "zones-app-1", dns.TypeA); got != a {
		t.Errorf("by its own name the unhealthy one is %q", got)
	}
	if got := resolve(t, two.NetNS, "udp", "app", dns.TypeA); got != both {
		t.Errorf("among themselves: %q", got)
	}
	must(t, w.SetReady(two.ID, false))
	want("none is healthy", both)
	must(t, w.SetReady(one.ID, true))
	want("one is healthy", a)
	must(t, w.SetReady(two.ID, true))
	must(t, w.Drain(one.ID))
	want("one is about to be stopped", b)
}

func TestLongAnswers(t *testing.T) {
	w := newWorld(t)
	w.upstream(nil, "127.0.0.1:53")
	w.network("front")
	c := w.start(spec("c", "front"))
	if reply, err := lookup(t, c.NetNS, "udp", "long.example.org", dns.TypeTXT); err != nil || !reply.Truncated {
		t.Errorf("got %v, %v; want a truncated answer", reply, err)
	}
	if reply, err := lookup(t, c.NetNS, "tcp", "long.example.org", dns.TypeTXT); err != nil || len(reply.Answer) != 40 {
		t.Errorf("got %v, %v; want everything", reply, err)
	}
}

func TestResolversOfAContainer(t *testing.T) {
	w := newWorld(t)
	w.upstream(w.lan, neighbourOnLAN+":53")
	w.network("front")
	s := spec("c", "front")
	s.DNS, s.DNSSearch, s.DNSOptions = []netip.Addr{netip.MustParseAddr(neighbourOnLAN)}, []string{"a.example"}, []string{"ndots:2"}
	c := w.start(s)
	if got := resolve(t, c.NetNS, "udp", "example.org", dns.TypeA); got != "198.51.100.1" {
		t.Errorf("got %q from the container's own name server", got)
	}
	if got := resolve(t, c.NetNS, "udp", "single", dns.TypeA); got != "NXDOMAIN" {
		t.Errorf("got %q", got)
	}
	if diff := cmp.Diff("nameserver 127.0.0.11\nsearch a.example\noptions ndots:2\n", string(c.ResolvConf)); diff != "" {
		t.Error(diff)
	}
	s = spec("d", "bridge")
	s.Hostname, s.Domain, s.ExtraHosts = "web", "example.net", []string{"up:host-gateway"}
	d := w.start(s)
	if diff := cmp.Diff("nameserver 8.8.8.8\nnameserver 8.8.4.4\nsearch example.org\n", string(d.ResolvConf)); diff != "" {
		t.Error(diff)
	}
	if want := "ff02::2\tip6-allrouters\n172.17.0.1\tup\n172.17.0.1\thost.docker.internal host.muelle.internal gateway.docker.internal\n172.17.0.2\tweb.example.net web\n"; !strings.HasSuffix(string(d.Hosts), want) {
		t.Errorf("got %q", d.Hosts)
	}
}

// A container may bind port 53 on all addresses, and be asked there by others.
func TestContainerBindsPort53(t *testing.T) {
	w := newWorld(t)
	w.network("front")
	server, client := w.start(spec("server", "front")), w.start(spec("client", "front"))
	w.upstream(server.NetNS, "0.0.0.0:53")
	var reply *dns.Msg
	must(t, netns.Do(client.NetNS, func() (err error) {
		q := new(dns.Msg)
		q.SetQuestion("example.org.", dns.TypeA)
		reply, err = dns.Exchange(q, w.address(server, "front")+":53")
		return err
	}))
	if len(reply.Answer) != 1 {
		t.Errorf("got %v from the container's server", reply)
	}
	if got := resolve(t, server.NetNS, "udp", "client", dns.TypeA); got != w.address(client, "front") {
		t.Errorf("got %q beside the container's server", got)
	}
}

func sorted(list ...string) []string { slices.Sort(list); return list }

func reverse(t *testing.T, addr string) string {
	t.Helper()
	name, err := dns.ReverseAddr(addr)
	must(t, err)
	return name
}

// The daemon is killed and comes back: addresses, ports and names stay, and what was
// asked meanwhile is answered.
func TestAdopt(t *testing.T) {
	w := newWorld(t)
	w.upstream(nil, "127.0.0.1:53")
	w.network("front")
	fixed := w.network("fixed", func(r *mobynet.CreateRequest) {
		r.IPAM = &mobynet.IPAM{Config: []mobynet.IPAMConfig{{Subnet: netip.MustParsePrefix("10.9.0.0/24")}}}
	})
	spec1 := published(spec("web", "front", "fixed"), "8080->80/tcp", "127.0.0.1:8081->80/tcp", "5353->53/udp")
	spec2 := spec("client", "front")
	web, client := w.start(spec1), w.start(spec2)
	w.serve(web.NetNS, "tcp", ":80", "web")
	w.serve(web.NetNS, "udp", ":53", "udp")
	w.serve(nil, "tcp", ":90", "host")
	before, _ := w.Sandbox(web.ID)

	w.kill()
	w.reaches(w.lan, "tcp4", hostOnLAN+":8080", "web")
	type answer struct {
		text string
	}
	answers := make(chan answer, 2)
	for _, proto := range []string{"udp", "tcp"} {
		go func() { answers <- answer{resolve(t, client.NetNS, proto, "web", dns.TypeA)} }()
	}
	w.open()
	w.adopt(spec1, web)
	w.adopt(spec2, client)
	must(t, w.Adopted(context.Background()))
	for range 2 {
		if got := <-answers; got.text != w.address(web, "front") {
			t.Errorf("got %q for what was asked while the daemon was away", got.text)
		}
	}
	after, _ := w.Sandbox(web.ID)
	equal := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	if diff := cmp.Diff(before.Endpoints, after.Endpoints, equal); diff != "" {
		t.Error(diff)
	}
	for _, p := range []string{"80/tcp", "53/udp"} {
		if got := after.Ports[mobynet.MustParsePort(p)]; len(got) != len(before.Ports[mobynet.MustParsePort(p)]) {
			t.Errorf("got %v of port %s", got, p)
		}
	}
	w.reaches(w.lan, "tcp4", hostOnLAN+":8080", "web")
	w.reaches(nil, "tcp4", "127.0.0.1:8081", "web")
	w.reaches(w.lan, "udp4", hostOnLAN+":5353", "udp")
	w.reaches(client.NetNS, "tcp4", w.address(web, "front")+":80", "web")
	third := w.start(spec("third", "front"))
	if a := w.address(third, "front"); a == w.address(web, "front") || a == w.address(client, "front") {
		t.Errorf("the address %s was given twice", a)
	}
	w.reaches(third.NetNS, "tcp4", w.address(web, "front")+":80", "web")
	if err := w.Remove(context.Background(), fixed); err == nil {
		t.Error("a network in use was removed")
	}
	if _, err := w.Prepare(context.Background(), published(spec("second", "front"), "8080->80/tcp")); err == nil || !strings.Contains(err.Error(), "by container web") {
		t.Errorf("got %v for a port of an adopted container", err)
	}
}

// A container on several networks finds each other container by the network that it
// prefers, and then by the others that they share; one that is called the same on
// another network is somebody else.
func TestNamesOnSeveralNetworks(t *testing.T) {
	w := newWorld(t)
	w.network("a")
	w.network("b")
	w.network("c", func(r *mobynet.CreateRequest) { yes := true; r.EnableIPv6 = &yes })
	one := w.start(service(spec("one", "a", "b"), "p", "app"))
	two := w.start(service(spec("two", "b"), "p", "app"))
	stranger := w.start(service(spec("stranger", "c"), "q", "app"))
	asker := w.start(spec("asker", "a", "b", "c"))
	preferring := spec("preferring", "a", "b", "c")
	preferring.Endpoints[1].Settings = &mobynet.EndpointSettings{GwPriority: 5}
	other := w.start(preferring)
	in := func(sb *network.Sandbox, name string, kind uint16) (list []string) {
		reply, err := lookup(t, sb.NetNS, "udp", name, kind)
		must(t, err)
		for _, rr := range reply.Answer {
			list = append(list, strings.TrimPrefix(rr.String(), rr.Header().String()))
		}
		return list
	}
	if diff := cmp.Diff([]string{w.address(one, "a"), w.address(one, "b")}, in(asker, "one", dns.TypeA)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{w.address(one, "b"), w.address(one, "a")}, in(other, "one", dns.TypeA)); diff != "" {
		t.Error(diff)
	}
	got := in(asker, "app", dns.TypeA)
	if slices.Sort(got[:2]); len(got) != 3 || !slices.Equal(got, append(sorted(w.address(one, "a"), w.address(two, "b")), w.address(one, "b"))) {
		t.Errorf("got %v: want one address of each replica first, none of %s", got, w.address(stranger, "c"))
	}
	if got := in(asker, "stranger", dns.TypeA); !slices.Equal(got, []string{w.address(stranger, "c")}) {
		t.Errorf("got %v", got)
	}
	six := stranger.Endpoints["c"].GlobalIPv6Address
	if got := in(asker, "stranger", dns.TypeAAAA); !slices.Equal(got, []string{six.String()}) {
		t.Errorf("got %v, want %s", got, six)
	}
	if got := in(asker, reverse(t, six.String()), dns.TypePTR); !slices.Equal(got, []string{"stranger.c."}) {
		t.Errorf("got %v", got)
	}
	if got := in(asker, "host.docker.internal", dns.TypeAAAA); len(got) != 1 {
		t.Errorf("got %v for the host's IPv6 address", got)
	}
	if got := in(one, reverse(t, w.address(stranger, "c")), dns.TypePTR); len(got) != 0 {
		t.Errorf("got %v for an address on a network that is not shared", got)
	}
}

// When the host's resolv.conf changes, the next lookup knows, also where the new file
// is as old and as long as the one that it replaces.
func TestResolvConfOfTheHostChanges(t *testing.T) {
	w := newWorld(t)
	w.network("front")
	c := w.start(spec("c", "front"))
	w.upstream(nil, "127.0.0.1:53")
	if got := resolve(t, c.NetNS, "udp", "example.org", dns.TypeA); got != "198.51.100.1" {
		t.Fatalf("got %q", got)
	}
	path := w.options.ResolvConf
	info, err := os.Stat(path)
	must(t, err)
	must(t, os.WriteFile(path+".new", []byte("nameserver 127.0.0.9\nsearch example.org\n"), 0o600))
	must(t, os.Chtimes(path+".new", info.ModTime(), info.ModTime()))
	must(t, os.Rename(path+".new", path))
	if got := resolve(t, c.NetNS, "udp", "example.org", dns.TypeA); got != "SERVFAIL" {
		t.Errorf("got %q of a name server that is not there", got)
	}
	w.upstream(nil, "127.0.0.9:53")
	if got := resolve(t, c.NetNS, "udp", "example.org", dns.TypeA); got != "198.51.100.1" {
		t.Errorf("got %q", got)
	}
	must(t, os.WriteFile(path, []byte("search example.org\n"), 0o600))
	if got := resolve(t, c.NetNS, "udp", "example.org", dns.TypeA); got != "SERVFAIL" {
		t.Errorf("got %q without any name server", got)
	}
	if list := w.Queries(c.ID); !strings.Contains(list[len(list)-1].Reason, "names no name server") {
		t.Errorf("got %+v", list[len(list)-1])
	}
}
