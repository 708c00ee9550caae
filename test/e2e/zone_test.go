//go:build root

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"muelle/api"
)

// zonedShop is a project of eight services on five zones. Of those that publish to the
// LAN only, one has IPv6, where the kernel guards it, and one has not, where the relay does.
const zonedShop = `
x-expect:
  - web -> api:7001
  - web !-> db
  - host !-> db:7003
  - host -> admin:7002
  - lan -> web:7000
  - internet !-> api:7001
  - internet -> web:7000/udp
  - worker !-> internet
  - mail -> 192.0.2.2
  - mail !-> internet
  - alone !-> together
  - admin -> db:7003/udp
x-base: &base {image: busybox, volumes: ['ECHO:/echo'], stop_grace_period: 0s}
services:
  web:      {<<: *base, command: [/echo, '7000'], networks: [front], ports: ['17000:7000', '17000:7000/udp']}
  api:      {<<: *base, command: [/echo, '7001'], networks: {front: , middle: {gw_priority: 1}}, ports: ['17001:7001', '17001:7001/udp']}
  admin:    {<<: *base, command: [/echo, '7002'], networks: [back], ports: ['17002:7002', '17002:7002/udp']}
  db:       {<<: *base, command: [/echo, '7003'], networks: [store, back]}
  worker:   {<<: *base, command: [/echo, '7004'], networks: [store]}
  mail:     {<<: *base, command: [/echo, '7005'], networks: [middle], ports: ['127.0.0.1:17005:7005']}
  alone:    {<<: *base, command: [/echo, '7006'], networks: [apart], ports: ['17006:7006', '17006:7006/udp']}
  together: {<<: *base, command: [/echo, '7007'], networks: [apart]}
networks:
  front:  {enable_ipv6: true, x-zone: {publish: any}}
  middle: {enable_ipv6: true, x-zone: {publish: lan, egress: [192.0.2.0/24, '*.example.test']}}
  back:   {enable_ipv6: true, internal: true, x-zone: {publish: host}}
  store:  {x-zone: {publish: none, egress: none}}
  apart:  {x-zone: {between: deny, publish: lan}}
`

// zoneMatrix asks for the matrix with every way tried.
func zoneMatrix(t *testing.T, c client, project string) (r api.ZoneReport, code int) {
	t.Helper()
	got := c.try(t, "zones", "--verify", "--format", "json", project)
	if err := json.Unmarshal([]byte(got.out), &r); err != nil {
		t.Fatalf("%v: %+v", err, got)
	}
	return r, got.code
}

// proved holds every cell against the kernel: by muelle itself inside, from the LAN and
// from beyond it by the test.
func proved(t *testing.T, c client, at spots, when string) api.ZoneReport {
	t.Helper()
	settled(t, c)
	r, code := zoneMatrix(t, c, "shop")
	for _, cell := range r.Cells {
		for _, try := range cell.Tries {
			// From the LAN and beyond the rules are followed; what is this host's own, none needs to drop.
			if try.Differs || try.Result == api.ZoneUnproved && !try.Address.Addr().IsLoopback() {
				t.Errorf("%s: %s -> %s:%d/%s: %+v", when, cell.From, cell.To, cell.Port, cell.Protocol, try)
			}
		}
	}
	seen := at.probe(t, r, when)
	for _, from := range []string{"lan", "internet"} {
		for _, rest := range strings.Fields("tcp/4/true/true tcp/4/true/false tcp/4/false/false udp/4/true/true udp/4/true/false udp/4/false/false " +
			"tcp/6/true/true tcp/6/true/false tcp/6/false/false udp/6/true/true udp/6/true/false udp/6/false/false") {
			if !seen[from+"/"+rest] {
				t.Errorf("%s: nothing was tried that is (from, protocol, IP, published, allowed): %s/%s", when, from, rest)
			}
		}
	}
	for _, e := range r.Expect {
		if !e.Holds {
			t.Errorf("%s: %s: %s", when, e.Sentence, e.Why)
		}
	}
	if code != 0 || r.Violations != 0 {
		t.Errorf("%s: exit status %d, %d violations", when, code, r.Violations)
	}
	if len(r.Zones) != 5 || len(r.Members) != 8 {
		t.Errorf("%s: %d zones, %d members", when, len(r.Zones), len(r.Members))
	}
	return r
}

// settled waits until every service listens by TCP and UDP: before, the matrix has no such cells.
func settled(t *testing.T, c client) {
	t.Helper()
	settle(t, c, func(r api.ZoneReport) error {
		for _, m := range r.Members {
			if len(m.Ports) != 2 || !m.Ports[0].Listening || !m.Ports[1].Listening {
				return fmt.Errorf("%s: %+v", m.Name, m.Ports)
			}
		}
		return nil
	})
}

// settle waits until the project shop is as it should be.
func settle(t *testing.T, c client, is func(api.ZoneReport) error) {
	t.Helper()
	if err := eventually(30*time.Second, func() error {
		var r api.ZoneReport
		// Its status may be that of a violation.
		if err := json.Unmarshal([]byte(c.try(t, "zones", "--format", "json", "shop").out), &r); err != nil {
			return err
		}
		return is(r)
	}); err != nil {
		t.Fatal(err)
	}
}

// echoesFrom sends a word and waits for it: long if it is to come.
func echoesFrom(proto, from, to string, expected bool) error {
	return echoes(proto, from, to, patience(expected))
}

func TestZoneMatrix(t *testing.T) {
	d := own(t)
	c := ours(d)
	at := near
	at.settle(t)
	file := filepath.Join(t.TempDir(), "compose.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "ECHO", world.echo)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	up := func() result { return c.try(t, "compose", "-p", "shop", "-f", file, "up", "-d") }
	write(zonedShop)
	if r := up(); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	t.Cleanup(func() { c.must(t, "compose", "-p", "shop", "-f", file, "down") })

	r := proved(t, c, at, "at first")
	seen := map[string]bool{}
	for _, cell := range r.Cells {
		for _, try := range cell.Tries {
			seen[fmt.Sprint(cell.Protocol, " ", try.Address.Addr().Is4(), " ", try.Published, " ", try.Expected)] = true
		}
	}
	for _, want := range []string{"tcp true true true", "tcp true true false", "tcp true false true", "tcp true false false", "udp true false true", "udp true false false",
		"udp true true true", "udp true true false", "tcp false false true", "tcp false false false", "udp false false true", "udp false false false",
		"tcp false true true", "tcp false true false", "udp false true true", "udp false true false"} {
		if !seen[want] {
			t.Errorf("nothing was tried that is (protocol, IPv4, published, allowed): %s", want)
		}
	}
	byHost(t, r, at[0].host, true)
	for _, format := range []string{"text", "dot", "svg"} {
		if got := c.try(t, "zones", "--format", format, "shop"); got.code != 0 || !strings.Contains(got.out, "together") {
			t.Errorf("%s: %+v", format, got)
		}
	}

	// Without a name it is the project of the folder.
	here := c.command(t.Context(), "zones")
	here.Dir = filepath.Dir(file)
	if out, err := here.Output(); err != nil || !strings.Contains(string(out), "expected  ") {
		t.Errorf("in the project's folder: %v\n%s", err, out)
	}

	c.must(t, "network", "connect", "shop_store", "shop-web-1")
	// The kernel does what the model says, which is not what the project expects.
	cells, code := zoneMatrix(t, c, "shop")
	if broken := cells.Violations; code != 1 || broken != 1 || !slices.ContainsFunc(cells.Expect, func(e api.ZoneExpectation) bool {
		return !e.Holds && e.Sentence == "web !-> db"
	}) {
		t.Errorf("web on the store's network breaks an expectation: exit status %d, %d violations", code, broken)
	}
	at.probe(t, cells, "while connected")
	c.must(t, "network", "disconnect", "shop_store", "shop-web-1")
	proved(t, c, at, "after connect and disconnect")

	ids := c.must(t, "ps", "-q", "--no-trunc")
	d.kill(t)
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	proved(t, c, at, "after kill -9")
	d.leave(t)
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	proved(t, c, at, "after a restart of the daemon")
	if now := c.must(t, "ps", "-q", "--no-trunc"); sorted(now) != sorted(ids) {
		t.Error("a restart of the daemon cost containers")
	}
	c.must(t, append([]string{"restart", "-t", "0"}, strings.Fields(ids)...)...)
	proved(t, c, at, "after a restart of the containers")
	if out, err := exec.Command("nft", "flush", "ruleset").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := eventually(30*time.Second, func() error {
		out, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
		if err == nil && !strings.Contains(string(out), "zone-egress") {
			err = fmt.Errorf("the rules are not back")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	proved(t, c, at, "after a flush")

	at = at.move(t, moved)
	byHost(t, proved(t, c, at, "with other addresses of the host"), at[0].host, false)
	at = at.move(t, near)

	// A changed zone is applied to the network that there is.
	write(strings.Replace(strings.Replace(zonedShop, "x-zone: {publish: lan,", "x-zone: {publish: host,", 1), "lan -> web:7000", "lan !-> api:7001", 1))
	if r := up(); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	proved(t, c, at, "after a changed zone")
	if now := c.must(t, "ps", "-q", "--no-trunc"); sorted(now) != sorted(ids) {
		t.Error("a changed zone made containers anew")
	}
	write(strings.Replace(zonedShop, "web !-> db", "web -> db", 1))
	if r := up(); r.code == 0 || !strings.Contains(r.err, "web -> db: must be reached and is not: no network in common") {
		t.Errorf("up against an expectation: %+v", r)
	}
}

// byHost checks that mail asks for web's port by an address of the host, and is answered
// where its zone lists that.
func byHost(t *testing.T, r api.ZoneReport, host string, want bool) {
	t.Helper()
	for _, cell := range r.Cells {
		for _, try := range cell.Tries {
			if cell.From == "mail" && cell.To == "web" && try.Address.String() == host+":17000" {
				if try.Expected != want || cell.Reached != want {
					t.Errorf("mail asks web by %s: %+v", host, cell)
				}
				return
			}
		}
	}
	t.Errorf("mail did not ask web by %s", host)
}

func sorted(lines string) string {
	list := strings.Fields(lines)
	slices.Sort(list)
	return strings.Join(list, " ")
}

// The same zones by the command line of muelle and by Docker's.
func TestZoneOfNetworkCreate(t *testing.T) {
	d := world.daemon
	forEach(t, func(t *testing.T, c client) {
		name := c.unique(t, "z")
		args := []string{"--zone", "publish=host", "--zone", "egress=none,example.org"}
		good := []string{"--zone", "publish=host", "--zone", "egress=example.org, 10.0.0.0/8"}
		if c.name != "muelle" {
			args = []string{"--opt", "io.muelle.zone.publish=hots"}
			good = []string{"--opt", "io.muelle.zone.publish=host", "--opt", "io.muelle.zone.egress=example.org,10.0.0.0/8"}
		}
		if r := c.try(t, append(append([]string{"network", "create"}, args...), name)...); r.code != 1 {
			t.Errorf("a wrong zone: %+v", r)
		}
		c.must(t, append(append([]string{"network", "create"}, good...), name)...)
		t.Cleanup(func() { c.must(t, "network", "rm", name) })
		got := c.must(t, "network", "inspect", "-f", `{{index .Options "io.muelle.zone.publish"}} {{index .Options "io.muelle.zone.egress"}}`, name)
		if got != "host example.org,10.0.0.0/8" {
			t.Errorf("got %s", got)
		}
		if r := ours(d).try(t, "zones", "--format", "xml"); r.code != 2 {
			t.Errorf("an unknown format: %+v", r)
		}
	})
}
