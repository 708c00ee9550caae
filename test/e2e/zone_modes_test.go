//go:build root

package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"muelle/api"
)

// modesShop is on every kind of network that there is beside the usual one.
const modesShop = `
x-base: &base {image: busybox, volumes: ['ECHO:/echo'], stop_grace_period: 0s}
services:
  routed:  {<<: *base, command: [/echo, '7100'], networks: [routed], ports: ['17100:7100', '17100:7100/udp']}
  beside:  {<<: *base, command: [/echo, '7101'], networks: [routed]}
  open:    {<<: *base, command: [/echo, '7102'], networks: [open], ports: ['17102:7102']}
  closed:  {<<: *base, command: [/echo, '7103'], networks: [closed]}
  alone:   {<<: *base, command: [/echo, '7104'], networks: [alone]}
  also:    {<<: *base, command: [/echo, '7105'], networks: [alone], expose: ['7999/sctp']}
  link:    {<<: *base, command: [/echo, '7106'], networks: [link]}
  linked:  {<<: *base, command: [/echo, '7107'], networks: [link]}
  machine: {<<: *base, command: [/echo, '7108'], network_mode: host}
  nowhere: {<<: *base, command: [/echo, '7109'], network_mode: none}
  trusted: {<<: *base, command: [/echo, '7110'], networks: [trusting], ports: ['17110:7110']}
networks:
  routed:   {enable_ipv6: true, driver_opts: {MODE4: routed, MODE6: routed}}
  open:     {enable_ipv6: true, driver_opts: {MODE4: nat-unprotected, MODE6: nat-unprotected}}
  closed:   {driver_opts: {MODE4: nat-unprotected}, x-zone: {publish: lan, egress: none}}
  alone:    {internal: true, driver_opts: {MODE4: isolated}}
  link:     {driver: macvlan, driver_opts: {parent: uplink}, ipam: {config: [{subnet: 192.0.2.0/24, ip_range: 192.0.2.192/27, gateway: 192.0.2.2}]}}
  trusting: {driver_opts: {com.docker.network.bridge.trusted_host_interfaces: uplink}}
x-expect:
  - lan -> routed:7100
  - lan !-> beside
  - internet -> open:7102
  - lan -> closed:7103
  - internet !-> closed
  - host !-> alone
  - alone -> also:7105
  - alone !-> host
  - host !-> link
  - lan -> link
  - link -> linked:7107
  - machine -> open:7102
  - closed !-> machine
  - lan -> machine:7108
  - nowhere !-> internet
  - link -> internet
  - '* !-> nowhere'
`

// What the model says of networks without translation, of links of their own, of this
// host's and of no network holds in the kernel, from inside and from the LAN.
func TestZonesOfOtherNetworks(t *testing.T) {
	d := own(t)
	c := ours(d)
	near.settle(t)
	file := filepath.Join(t.TempDir(), "compose.yaml")
	text := strings.NewReplacer("ECHO", world.echo, "MODE4", "com.docker.network.bridge.gateway_mode_ipv4", "MODE6", "com.docker.network.bridge.gateway_mode_ipv6").Replace(modesShop)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	c.must(t, "compose", "-p", "shop", "-f", file, "config", "-q")
	c.must(t, "compose", "-p", "shop", "-f", file, "up", "-d")
	t.Cleanup(func() { c.must(t, "compose", "-p", "shop", "-f", file, "down") })
	listening(t, c, 11)

	near.hold(t, c, 0)
	r, _ := zoneMatrix(t, c, "shop")
	for cell, want := range map[string]string{
		"lan routed:7100/tcp": "true", "internet routed:7100/udp": "true", "lan beside:7101/tcp": "false", "lan open:7102/udp": "true", "lan closed:7103/udp": "true",
		"internet closed:7103/udp": "false", "host closed:7103/tcp": "false", "host alone:7104/tcp": "false", "alone also:7105/udp": "true", "alone also:7999/sctp": "true",
		"open also:7999/sctp": "false", "link linked:7107/udp": "true", "host link:7106/tcp": "false", "open link:7106/tcp": "false", "lan link:7106/tcp": "true",
		"open machine:7108/tcp": "true", "closed machine:7108/tcp": "false", "link machine:7108/tcp": "false", "lan machine:7108/udp": "true", "host nowhere:7109/tcp": "false",
		"lan trusted:7110/tcp": "true", "lan trusted:7110/udp": "false", "open trusted:7110/tcp": "true by host", "open routed:7100/tcp": "false",
	} {
		if got := cellOf(r, cell); got != want {
			t.Errorf("%s: %s, want %s", cell, got, want)
		}
	}

	// Another firewall, as ufw's are shaped, that lets nothing in.
	const theirs = `table inet filter {
		chain ufw-user-input { }
		chain input { type filter hook input priority 0; policy drop; iifname "lo" accept; ct state established,related accept; jump ufw-user-input; }
		chain forward { type filter hook forward priority 0; policy drop; ct state established,related accept; iifname "mue*" accept; }
	}`
	nft := exec.Command("nft", "-f", "-")
	nft.Stdin = strings.NewReader(theirs)
	if out, err := nft.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("nft", "delete", "table", "inet", "filter").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	// Four sentences do not hold any more, and nothing goes otherwise than the model says.
	near.hold(t, c, 4)
	r, code := zoneMatrix(t, c, "shop")
	for cell, want := range map[string]string{
		"lan routed:7100/tcp": "false policy of inet filter forward (ufw)", "internet open:7102/tcp": "false policy of inet filter forward (ufw)",
		"lan machine:7108/tcp": "false policy of inet filter input (ufw)", "open machine:7108/tcp": "false policy of inet filter input (ufw)", "lan link:7106/tcp": "true",
		"host open:7102/tcp": "true", "routed beside:7101/tcp": "true", "lan beside:7101/tcp": "false",
	} {
		if got := cellOf(r, cell); got != want {
			t.Errorf("with another firewall: %s: %s, want %s", cell, got, want)
		}
	}
	if code != 1 {
		t.Errorf("exit status %d", code)
	}
	for _, e := range r.Expect {
		if broken := strings.Contains("lan -> routed:7100, internet -> open:7102, lan -> closed:7103, lan -> machine:7108", e.Sentence); e.Holds == broken || broken && !strings.Contains(e.Why, "(ufw)") {
			t.Errorf("%+v", e)
		}
	}
	if text := c.try(t, "zones", "shop"); text.code != 1 || !strings.Contains(text.out, "another firewall on this host drops it:\n    policy of inet filter") {
		t.Errorf("%+v", text)
	}
}

// cellOf words a cell of "FROM TO:PORT/PROTOCOL".
func cellOf(r api.ZoneReport, name string) string {
	for _, cell := range r.Cells {
		if fmt.Sprintf("%s %s:%d/%s", cell.From, cell.To, cell.Port, cell.Protocol) == name {
			word := fmt.Sprint(cell.Reached)
			if cell.ByHost {
				word += " by host"
			}
			return strings.TrimSpace(word + " " + cell.Firewall)
		}
	}
	return "no such cell"
}

// hold checks that nothing goes otherwise than the model says: inside, which muelle tries
// itself, and from the LAN and beyond, where the rules that it followed are held against
// real connections too.
func (s spots) hold(t *testing.T, c client, violations int) {
	t.Helper()
	r, _ := zoneMatrix(t, c, "shop")
	if r.Violations != violations {
		t.Errorf("%d violations, not %d", r.Violations, violations)
	}
	s.leadIn(t, r)
	var all sync.WaitGroup
	defer all.Wait()
	for _, cell := range r.Cells {
		for _, try := range cell.Tries {
			if try.Differs {
				t.Errorf("%s -> %s:%d/%s: %+v", cell.From, cell.To, cell.Port, cell.Protocol, try)
			}
			if cell.From != "lan" && cell.From != "internet" || cell.Protocol == "sctp" {
				continue
			}
			// What comes by a link of its own meets no rule.
			if link := strings.HasPrefix(cell.To, "link"); link != (try.Result == api.ZoneUnproved) {
				t.Errorf("%s -> %s:%d/%s: %+v", cell.From, cell.To, cell.Port, cell.Protocol, try)
			}
			f := s[0]
			if try.Address.Addr().Is6() {
				f = s[1]
			}
			at := try.Address.String()
			if try.Published || try.Address.Addr().IsUnspecified() {
				at = net.JoinHostPort(f.host, fmt.Sprint(try.Address.Port()))
			}
			source := f.lan
			if cell.From == "internet" {
				source = f.far
			}
			all.Go(func() {
				err := outside(func() error { return echoesFrom(cell.Protocol, source, at, try.Expected) })
				if (err == nil) != try.Expected {
					t.Errorf("%s (%s) -> %s by %s/%s: %v; the model: %s; by the rules %s", cell.From, source, cell.To, at, cell.Protocol, err, try.Why, try.Result)
				}
			})
		}
	}
}

// listening waits until so many members do.
func listening(t *testing.T, c client, n int) {
	t.Helper()
	settle(t, c, func(r api.ZoneReport) error {
		var waiting []string
		for _, m := range r.Members {
			for _, p := range m.Ports {
				if p.Listening {
					waiting = append(waiting, m.Name)
					break
				}
			}
		}
		if len(waiting) < n {
			return fmt.Errorf("only %v listen", waiting)
		}
		return nil
	})
}
