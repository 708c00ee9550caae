//go:build root

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// exposedPort is what the test reads of muelle exposure.
type exposedPort struct {
	Container, Address, Reach, Protocol string
	Port                                uint16
	Partly, RouterDecides               bool
}

// exposureOf gives what is told of a port on an address.
func exposureOf(t *testing.T, c client, address string, port uint16) exposedPort {
	t.Helper()
	return exposed(t, c, "tcp", address, port)
}

func exposed(t *testing.T, c client, protocol, address string, port uint16) exposedPort {
	t.Helper()
	var report struct{ Ports []exposedPort }
	r := c.try(t, "exposure", "--format", "json")
	if err := json.Unmarshal([]byte(r.out), &report); err != nil {
		t.Fatalf("%v: %+v", err, r)
	}
	for _, p := range report.Ports {
		if p.Address == address && p.Port == port && p.Protocol == protocol {
			return p
		}
	}
	t.Fatalf("no port %d of %s: %s", port, address, r.out)
	return exposedPort{}
}

// TestExposure: the words are held against connections from each circle.
func TestExposure(t *testing.T) {
	const publicHost, publicOther = "8.8.4.2", "45.33.32.156"
	c := ours(world.daemon)
	name := c.unique(t, "exposed")
	c.must(t, append([]string{"run", "-d", "--name", name, "-p", "18110:80", "-p", "127.0.0.1:18111:80"}, httpd...)...)
	c.remove(t, name)
	zone := c.unique(t, "zone")
	c.must(t, "network", "create", "--zone", "publish=host", zone)
	t.Cleanup(func() { c.try(t, "network", "rm", zone) })
	c.must(t, append([]string{"run", "-d", "--name", zone, "--network", zone, "-p", "18112:80"}, httpd...)...)
	c.remove(t, zone)
	for _, port := range []string{":18110", ":18112"} {
		if err := eventually(20*time.Second, func() error { return answered("", hostAddr+port, true) }); err != nil {
			t.Fatal(err)
		}
	}
	// Nobody else's ports are touched.
	rules := func(hook, rule string) string {
		return "table inet test { chain " + hook + " { type filter hook " + hook + " priority 5\n" + rule + "\n}\n}"
	}
	const published = " ct status dnat meta l4proto tcp ct original proto-dst 18110 drop"
	for _, tt := range []struct {
		name, rules string
		public      bool
		port        uint16
		address     string
		reach       string
		partly      bool
		// Who really gets through.
		host, lan, world bool
	}{
		{name: "open", port: 18110, reach: "lan", host: true, lan: true},
		{name: "on loopback", port: 18111, address: "127.0.0.1", reach: "host", host: true},
		{name: "zone", port: 18112, reach: "host", host: true},
		{name: "public address", public: true, port: 18110, reach: "everyone", host: true, lan: true, world: true},
		{name: "public address, zone", public: true, port: 18112, reach: "host", host: true},
		{name: "public address, LAN only", public: true, rules: rules("forward", "ct state new ip saddr != 192.0.2.0/24"+published), port: 18110, reach: "lan", host: true, lan: true},
		{name: "answers dropped", rules: rules("forward", "oifname \"uplink\""+published), port: 18110, reach: "host", host: true},
		{name: "dropped", rules: rules("forward", "iifname \"uplink\""+published), port: 18110, reach: "host", host: true},
		{name: "one neighbour dropped", rules: rules("forward", "ip saddr "+outsideAddr+published), port: 18110, reach: "lan", partly: true, host: true},
		{name: "before translation", rules: "table inet test { chain pre { type filter hook prerouting priority -250\niifname \"uplink\" tcp dport 18110 drop\n}\n}", port: 18110, reach: "host", host: true},
		{name: "nobody", rules: rules("forward", strings.TrimSpace(published)) + "\n" + rules("postrouting", strings.TrimSpace(published)), port: 18110, reach: "nobody"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.rules != "" {
				loadRules(t, tt.rules)
			}
			if tt.public {
				addAddress(t, "uplink", publicHost+"/24")
				addAddressOutside(t, "lan", publicOther+"/32")
				if err := outside(func() error {
					_, to, _ := net.ParseCIDR(publicHost + "/32")
					return netlink.RouteReplace(&netlink.Route{Dst: to, Gw: net.ParseIP(hostAddr)})
				}); err != nil {
					t.Fatal(err)
				}
			}
			address := tt.address
			if address == "" {
				address = "0.0.0.0"
			}
			got := exposureOf(t, c, address, tt.port)
			if got.Reach != tt.reach || got.Partly != tt.partly {
				t.Errorf("told: %+v", got)
			}
			at := fmt.Sprintf("%s:%d", hostAddr, tt.port)
			home := at
			if tt.address != "" {
				home = fmt.Sprintf("%s:%d", tt.address, tt.port)
			}
			for _, circle := range []struct {
				name string
				want bool
				try  func() error
			}{
				{"this host", tt.host, func() error { return answered("", home, tt.host) }},
				{"LAN", tt.lan, func() error { return outside(func() error { return answered(outsideAddr, at, tt.lan) }) }},
				{"world", tt.world, func() error {
					if !tt.public {
						return errors.New("there is no way")
					}
					return outside(func() error { return answered(publicOther, fmt.Sprintf("%s:%d", publicHost, tt.port), tt.world) })
				}},
			} {
				if err := circle.try(); (err == nil) != circle.want {
					t.Errorf("from %s: %v, told %q", circle.name, err, got.Reach)
				}
			}
		})
	}
	if out := c.must(t, "ps", "--filter", "name="+name); !strings.Contains(out, "EXPOSURE") || !strings.Contains(out, "18110 LAN, 18111 this host") {
		t.Errorf("ps: %s", out)
	}
	if out := c.must(t, "ps", "--filter", "name="+zone, "--format", "{{.Exposure}}"); out != "this host" {
		t.Errorf("ps: %s\n%s", out, c.try(t, "exposure", "--format", "json").out)
	}
}

// TestExposureByFamily: IPv4 and IPv6 have rules of their own, and so have TCP and UDP; what
// is told of each is held against connections.
func TestExposureByFamily(t *testing.T) {
	const host6, other6 = "fd00:7::1", "fd00:7::2"
	c := ours(world.daemon)
	addAddress(t, "uplink", host6+"/64")
	addAddressOutside(t, "lan", other6+"/64")
	six := c.unique(t, "six")
	c.must(t, "network", "create", "--ipv6", six)
	t.Cleanup(func() { c.try(t, "network", "rm", six) })
	// With an address of IPv6 the kernel leads there, without one the relay of the host.
	relayed := c.unique(t, "relayed")
	for name, run := range map[string][]string{
		six:     {"--network", six, "-p", "18116:7000/tcp", "-p", "18116:7000/udp"},
		relayed: {"-p", "18117:7000/tcp", "-p", "18117:7000/udp"},
	} {
		c.must(t, slices.Concat([]string{"run", "-d", "--name", name, "-v", world.echo + ":/echo:ro"}, run, []string{"busybox", "/echo", "7000"})...)
		c.remove(t, name)
	}
	rules := func(hook, rule string) string {
		return "table inet test { chain " + hook + " { type filter hook " + hook + " priority -250\n" + rule + "\n}\n}"
	}
	const original = " meta l4proto { tcp, udp } ct original proto-dst 18116 drop"
	link6, err := linkLocal("uplink")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, rules string
		port        uint16
		closed      string // to the LAN, of tcp4 udp4 tcp6 udp6
		ps          string
	}{
		{"open", "", 18116, "", "LAN"},
		{"IPv6 closed", rules("prerouting", "iifname \"uplink\" meta nfproto ipv6 meta l4proto { tcp, udp } th dport 18116 drop"), 18116, "tcp6 udp6", "LAN (IPv6: this host)"},
		{"IPv4 closed", rules("forward", "iifname \"uplink\" meta nfproto ipv4"+original), 18116, "tcp4 udp4", "LAN (IPv4: this host)"},
		{"UDP closed", rules("prerouting", "iifname \"uplink\" udp dport 18116 drop"), 18116, "udp4 udp6", "18116 LAN, 18116/udp this host"},
		{"TCP of IPv6 closed", rules("prerouting", "iifname \"uplink\" meta nfproto ipv6 tcp dport 18116 drop"), 18116, "tcp6", "18116 LAN (IPv6: this host), 18116/udp LAN"},
		// What comes to the link's own address is taken by the host, which relays it.
		{"IPv6 closed where it is forwarded", rules("forward", "iifname \"uplink\" meta nfproto ipv6"+original), 18116, "", "LAN"},
		{"relayed", "", 18117, "", "LAN"},
		{"relayed, the host guarded", rules("input", "iifname \"uplink\" meta l4proto { tcp, udp } th dport 18117 drop"), 18117, "tcp6 udp6", "LAN (IPv6: this host)"},
		{"the old iptables: before translation", "ip6tables-legacy -t raw -A PREROUTING -i uplink -p tcp --dport 18116 -j DROP", 18116, "tcp6", "18116 LAN (IPv6: this host), 18116/udp LAN"},
		{"the old iptables: relayed, the host guarded", "ip6tables-legacy -A INPUT -i uplink -p udp -m multiport --dports 18116:18118 -j DROP", 18117, "udp6", "18117 LAN, 18117/udp LAN (IPv6: this host)"},
		{"relayed, forwarding guarded", rules("forward", "iifname \"uplink\" meta l4proto { tcp, udp } ct original proto-dst 18117 drop"), 18117, "tcp4 udp4", "LAN (IPv4: this host)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			switch {
			case strings.Contains(tt.rules, "tables-legacy"):
				oldRule(t, strings.Fields(tt.rules))
			case tt.rules != "":
				loadRules(t, tt.rules)
			}
			for _, proto := range []string{"tcp4", "udp4", "tcp6", "udp6"} {
				address, home := "0.0.0.0", hostAddr
				if strings.HasSuffix(proto, "6") {
					address, home = "::", host6
				}
				want := "lan"
				if strings.Contains(tt.closed, proto) {
					want = "host"
				}
				if got := exposed(t, c, proto[:3], address, tt.port); got.Reach != want {
					t.Errorf("%s: told %+v, want %s", proto, got, want)
				}
				at := func(a string) string { return net.JoinHostPort(a, fmt.Sprint(tt.port)) }
				if err := eventually(20*time.Second, func() error { return echoes(proto, "", at(home), time.Second) }); err != nil {
					t.Errorf("%s: from this host: %v", proto, err)
				}
				open := false
				for _, source := range []string{"lan", outsideAddr, other6} {
					if source != "lan" && strings.Contains(source, ":") != strings.Contains(home, ":") {
						continue
					}
					told := explained(t, c, source, at(home)+"/"+proto[:3])
					really := 1
					if outside(func() error { return echoesFrom(proto, "", at(home), told == 0) }) == nil {
						really, open = 0, true
					}
					if told != really {
						t.Errorf("%s: explain %s %s ends with %d, and connections with %d", proto, source, at(home), told, really)
					}
				}
				// Who is on the LAN may take the address of the link as well.
				if !open && home == host6 {
					open = outside(func() error { return echoesFrom(proto, "", at(link6+"%lan"), want == "lan") }) == nil
				}
				if open != (want == "lan") {
					t.Errorf("%s: from the LAN: %v, told %s", proto, open, want)
				}
			}
			name := six
			if tt.port == 18117 {
				name = relayed
			}
			if got := c.must(t, "ps", "--filter", "name="+name, "--format", "{{.Exposure}}"); got != tt.ps {
				t.Errorf("ps says %q, want %q", got, tt.ps)
			}
		})
	}
}

// explained is the exit status of muelle explain.
func explained(t *testing.T, c client, source, target string) int {
	t.Helper()
	r := c.try(t, "explain", "--json", source, target)
	if !strings.HasPrefix(r.out, "{") {
		t.Fatalf("explain %s %s: %+v", source, target, r)
	}
	return r.code
}

// TestExplainBySource: where rules tell sources apart, explain says that it depends, on
// whom, and is exact for an address.
func TestExplainBySource(t *testing.T) {
	const second, near6, far6 = "192.0.2.77", "fd00:7b::2", "fd00:7b::1"
	c := ours(world.daemon)
	addAddressOutside(t, "lan", second+"/24")
	addAddress(t, "uplink", far6+"/64")
	addAddressOutside(t, "lan", near6+"/64")
	name := c.unique(t, "sources")
	c.must(t, append([]string{"run", "-d", "--name", name, "-p", "18118:80"}, httpd...)...)
	c.remove(t, name)
	if err := eventually(20*time.Second, func() error { return answered("", hostAddr+":18118", true) }); err != nil {
		t.Fatal(err)
	}
	link6, err := linkLocal("uplink")
	if err != nil {
		t.Fatal(err)
	}
	if err := eventually(20*time.Second, func() error {
		return outside(func() error { return answered("", "["+link6+"%lan]:18118", true) })
	}); err != nil {
		t.Fatal(err)
	}
	inet := func(hook, rules string) string {
		return "table inet test { chain c { type filter hook " + hook + " priority -250\n" + rules + "\n}\n}"
	}
	const port = " tcp dport 18118 "
	for _, tt := range []struct {
		name, rules, ps string
		lan             int // explain lan
		says            string
	}{
		{"nobody apart", "", "LAN", 0, ""},
		{"one is dropped", inet("prerouting", "ip saddr "+second+port+"drop"), "LAN (IPv4: LAN (all but " + second + "))", 3, "dropped: " + second},
		{"one gets through", inet("prerouting", "ip saddr != "+second+port+"drop"), "LAN (IPv4: LAN (some: " + second + "))", 3, "gets through: " + second},
		{"by a set", "table inet test { set s { type ipv4_addr . inet_service; flags interval; elements = { 192.0.2.64/26 . 18118 }\n}\nchain c { type filter hook prerouting priority -250\nip saddr . tcp dport @s drop\n}\n}",
			"LAN (IPv4: LAN (all but 192.0.2.64/26))", 3, "dropped: 192.0.2.64/26"},
		{"the answer", inet("postrouting", "ip daddr "+second+" tcp sport 80 drop"), "LAN (IPv4: LAN (all but " + second + "))", 3, "dropped: " + second},
		{"one is not tracked", inet("prerouting", "ip saddr "+second+" tcp dport 18118 notrack"), "LAN (IPv4: LAN (all but " + second + "))", 3, "so that no address is translated"},
		{"the answer is not tracked", "iptables-legacy -t raw -A PREROUTING -p tcp --sport 80 -j CT --notrack", "LAN (IPv4: nobody)", 3, "gets through: fd00:7b::/64"},
		{"the source port", inet("prerouting", "tcp sport 1-1023"+port+"drop"), "LAN (depends on the source port)", 3, "depends on the source port"},
		{"the old iptables", "iptables-legacy -t raw -A PREROUTING ! -s 192.0.2.0/26 -p tcp --dport 18118 -j DROP", "LAN (IPv4: LAN (some: 192.0.2.0/26))", 3, "gets through: 192.0.2.0/26"},
		{"the old iptables, link-local only", "ip6tables-legacy -A INPUT ! -s fe80::/10 -p tcp --dport 18118 -j DROP", "LAN", 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			switch {
			case strings.Contains(tt.rules, "tables-legacy"):
				oldRule(t, strings.Fields(tt.rules))
			case tt.rules != "":
				loadRules(t, tt.rules)
			}
			if got := c.must(t, "ps", "--filter", "name="+name, "--format", "{{.Exposure}}"); got != tt.ps {
				t.Errorf("ps says %q, want %q", got, tt.ps)
			}
			r := c.try(t, "explain", "lan", name)
			if r.code != tt.lan || !strings.Contains(r.out, tt.says) || (r.code == 3) != strings.Contains(r.out, "It depends whether lan reaches") {
				t.Errorf("%+v", r)
			}
			for _, way := range []struct{ from, at string }{
				{outsideAddr, hostAddr}, {second, hostAddr}, {near6, far6}, {"", link6 + "%lan"},
			} {
				source := way.from
				if source == "" {
					source = "fe80::1%uplink"
				}
				got := explained(t, c, source, name)
				err := outside(func() error {
					d := net.Dialer{Timeout: patience(got == 0)}
					if way.from != "" {
						d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(way.from)}
					}
					conn, err := d.Dial("tcp", net.JoinHostPort(way.at, "18118"))
					if err == nil {
						conn.Close()
					}
					return err
				})
				if really := err != nil; got == 3 && tt.name != "the source port" || got < 2 && really != (got == 1) {
					t.Errorf("explain %s ends with %d, and a connection with %v", source, got, err)
				}
			}
		})
	}
}

// oldRule adds a rule of iptables-legacy, or ip6tables-legacy, for the length of a test.
func oldRule(t *testing.T, args []string) {
	t.Helper()
	do := func() {
		t.Helper()
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	do()
	i := slices.IndexFunc(args, func(a string) bool { return a == "-A" || a == "-I" })
	args = slices.Clone(args)
	args[i] = "-D"
	t.Cleanup(do)
}

// TestExposureOfHostNetwork: a socket that hears IPv4 and IPv6 is told of twice where a
// firewall makes them differ.
func TestExposureOfHostNetwork(t *testing.T) {
	const host6, other6 = "fd00:9::1", "fd00:9::2"
	addAddress(t, "uplink", host6+"/64")
	addAddressOutside(t, "lan", other6+"/64")
	c := ours(world.daemon)
	name := c.unique(t, "hostnet")
	c.must(t, "run", "-d", "--name", name, "--network", "host", "-v", world.echo+":/echo:ro", "busybox", "/echo", "18118")
	c.remove(t, name)
	if err := eventually(20*time.Second, func() error { return answered("", hostAddr+":18118", true) }); err != nil {
		t.Fatal(err)
	}
	ps := func(want string) {
		t.Helper()
		if got := c.must(t, "ps", "--filter", "name="+name, "--format", "{{.Exposure}}"); got != want {
			t.Errorf("ps: %q, want %q", got, want)
		}
	}
	ps("LAN")
	loadRules(t, "table inet test { chain input { type filter hook input priority 5\niifname \"uplink\" meta nfproto ipv4 meta l4proto { tcp, udp } th dport 18118 drop\n}\n}")
	for _, proto := range []string{"tcp", "udp"} {
		if got := exposed(t, c, proto, "0.0.0.0", 18118); got.Reach != "host" {
			t.Errorf("%s by IPv4: told %+v", proto, got)
		}
		if got := exposed(t, c, proto, "::", 18118); got.Reach != "lan" {
			t.Errorf("%s by IPv6: told %+v", proto, got)
		}
		if err := outside(func() error { return echoes(proto, "", hostAddr+":18118", 300*time.Millisecond) }); err == nil {
			t.Errorf("%s by IPv4 gets through", proto)
		}
		if err := outside(func() error { return echoes(proto, "", net.JoinHostPort(host6, "18118"), 5*time.Second) }); err != nil {
			t.Errorf("%s by IPv6: %v", proto, err)
		}
	}
	ps("LAN (IPv4: this host)")
}

// TestExposureOfAPI: the engine's own port, without certificates, is warned of, by both families.
func TestExposureOfAPI(t *testing.T) {
	const host6, other6 = "fd00:8::1", "fd00:8::2"
	addAddress(t, "uplink", host6+"/64")
	addAddressOutside(t, "lan", other6+"/64")
	for _, tt := range []struct {
		host string
		// What is told, by address, and who the warning names.
		reach map[string]string
		who   string
		lan   bool
	}{
		{"tcp://0.0.0.0:18119", map[string]string{"0.0.0.0": "lan", "::": "lan"}, "is open to the LAN", true},
		{"tcp://127.0.0.1:18119", map[string]string{"127.0.0.1": "host"}, "is open to this host's users and containers on its network", false},
	} {
		t.Run(tt.host, func(t *testing.T) {
			d := own(t, "-H", tt.host, "--allow-insecure-tcp")
			c := ours(d)
			for address, want := range tt.reach {
				if got := exposureOf(t, c, address, 18119); got.Reach != want || got.Container != "" {
					t.Errorf("%s: told %+v", address, got)
				}
			}
			for _, at := range []string{hostAddr, host6} {
				if err := outside(func() error { return answered("", net.JoinHostPort(at, "18119"), tt.lan) }); (err == nil) != tt.lan {
					t.Errorf("from the LAN by %s: %v", at, err)
				}
			}
			r := c.try(t, "exposure")
			if r.code != 1 || strings.Count(r.out, "warning: the engine's API on tcp://") != 1 || !strings.Contains(r.out, "asks for no certificate and "+tt.who) {
				t.Errorf("%+v", r)
			}
		})
	}
}

// linkLocal is the address of IPv6 that an interface has on its link alone.
func linkLocal(name string) (string, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return "", err
	}
	list, err := netlink.AddrList(link, netlink.FAMILY_V6)
	for _, a := range list {
		if a.IP.IsLinkLocalUnicast() {
			return a.IP.String(), nil
		}
	}
	return "", errors.Join(err, fmt.Errorf("%s has none: %v", name, list))
}

// TestExposureWarns: of a database that is open, and then it ends with status 1.
func TestExposureWarns(t *testing.T) {
	compose := project(t, `
services:
  db:
    image: busybox
    command: sleep 1000
    ports: ["18113:27017", "127.0.0.1:18114:5432"]
`)
	if r := compose("up", "-d"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	r := ours(world.daemon).try(t, "exposure")
	if r.code != 1 || strings.Count(r.out, "warning: MongoDB (port 18113)") != 1 || strings.Contains(r.out, "PostgreSQL") {
		t.Errorf("%+v", r)
	}
	if r := compose("ps"); !strings.Contains(r.out, "18113 LAN, 18114 this host") {
		t.Errorf("compose ps: %s", r.out)
	}
}
