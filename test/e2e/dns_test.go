//go:build root

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"muelle/api"
	"muelle/internal/linux/netns"
)

// lookupsOf reads a container's lookups with muelle dns log.
func lookupsOf(t *testing.T, c client, name string) (list []api.DNSQuery) {
	t.Helper()
	for d := json.NewDecoder(strings.NewReader(c.must(t, "dns", "log", "--json", name))); ; {
		var q api.DNSQuery
		if err := d.Decode(&q); err == io.EOF {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, q)
	}
}

func TestLookupsAreRecorded(t *testing.T) {
	c := ours(world.daemon)
	network := c.unique(t, "n")
	c.must(t, "network", "create", network)
	t.Cleanup(func() { c.try(t, "network", "rm", network) })
	server, asker := c.unique(t, "server"), c.unique(t, "asker")
	c.must(t, "run", "-d", "--name", server, "--network", network, "--label", "io.muelle.ports=web=80/tcp", "busybox", "sleep", "1000")
	c.remove(t, server)
	c.must(t, "run", "-d", "--name", asker, "--network", network, "busybox", "sleep", "1000")
	c.remove(t, asker)
	address := c.must(t, "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", server)
	gateway := c.must(t, "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}", server)
	for _, name := range []string{server, "www.example.test", "nobody.example.test", "host.docker.internal"} {
		c.try(t, "exec", asker, "nslookup", "-type=a", name)
	}
	got := map[string]api.DNSQuery{}
	for _, q := range lookupsOf(t, c, asker) {
		got[q.Name+" "+q.Type] = q
	}
	for _, tc := range []struct{ name, code, answer, from, reason string }{
		{server, "NOERROR", address, "network " + network, ""},
		{"www.example.test", "NOERROR", outsideAddr, outsideAddr, ""},
		{"nobody.example.test", "NXDOMAIN", "", outsideAddr, "name server " + outsideAddr + " knows no such name"},
		{"host.docker.internal", "NOERROR", gateway, "host", ""},
	} {
		q := got[tc.name+" A"]
		if q.Code != tc.code || strings.Join(q.Answer, " ") != tc.answer || q.From != tc.from || !strings.HasSuffix(q.Reason, tc.reason) || q.Took <= 0 {
			t.Errorf("%s: %+v, want %+v", tc.name, q, tc)
		}
	}
	if out := c.must(t, "exec", asker, "nslookup", "-type=srv", "_web._tcp."+server); !strings.Contains(out, " 80 "+server+"."+network) {
		t.Errorf("the port by its name: %s", out)
	}
	text := c.must(t, "dns", "log", "--failed", asker)
	if !strings.Contains(text, "nobody.example.test  NXDOMAIN") || strings.Contains(text, server) {
		t.Errorf("the failed ones: %s", text)
	}
	// Following ends with the container; what it asked is known afterwards too.
	follow := make(chan string)
	go func() { follow <- c.try(t, "dns", "log", "-f", asker).out }()
	c.must(t, "exec", asker, "nslookup", "-type=a", "localhost")
	c.must(t, "kill", asker)
	select {
	case out := <-follow:
		if !strings.Contains(out, "www.example.test") {
			t.Errorf("following gave %q", out)
		}
	case <-time.After(20 * time.Second):
		t.Error("following does not end with the container")
	}
	if list := lookupsOf(t, c, asker); len(list) < 4 {
		t.Errorf("%d lookups are known after the end", len(list))
	}
	if r := c.try(t, "dns", "log", "no-such-container"); r.code != 1 || !strings.Contains(r.err, "No such container") {
		t.Errorf("got %+v", r)
	}
}

// Lookups that the daemon asks a name server for when it is killed, or ends, are answered
// as soon as that says something, though it is asked once only and the program too; and
// so are those of a TCP connection from before.
func TestLookupOutlivesTheDaemon(t *testing.T) {
	d := own(t)
	c := ours(d)
	network, asker := c.unique(t, "n"), c.unique(t, "asker")
	c.must(t, "network", "create", network)
	t.Cleanup(func() { c.try(t, "network", "rm", network) })
	c.must(t, "run", "-d", "--name", asker, "--network", network, "busybox", "sleep", "1000")
	c.remove(t, asker)
	ns, err := os.Open("/proc/" + c.must(t, "inspect", "-f", "{{.State.Pid}}", asker) + "/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	conns := map[string]*dns.Conn{}
	for _, proto := range []string{"udp", "tcp"} {
		if err := netns.Do(ns, func() (err error) {
			conns[proto], err = dns.Dial(proto, "127.0.0.11:53")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		defer conns[proto].Close()
	}
	for _, end := range []struct {
		name string
		do   func(*testing.T)
	}{{"killed", d.kill}, {"ended", d.leave}} {
		var answers []chan struct{}
		for proto, conn := range conns {
			if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if err := conn.WriteMsg(new(dns.Msg).SetQuestion(fmt.Sprintf("%s-%s-%d.held.example.test.", end.name, proto, time.Now().UnixNano()), dns.TypeA)); err != nil {
				t.Fatal(end.name, proto, err)
			}
			answers = append(answers, <-held.asked)
		}
		end.do(t)
		if err := d.start(); err != nil {
			t.Fatal(err)
		}
		for _, answer := range answers {
			close(answer)
		}
		for proto, conn := range conns {
			if r, err := conn.ReadMsg(); err != nil || len(r.Answer) != 1 {
				t.Errorf("%s, %s: got %v, %v", end.name, proto, r, err)
			}
		}
	}
}

// A container without a resolver of ours, on the default bridge, finds the host too.
func TestHostIsFoundByName(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		for _, name := range []string{"host.docker.internal", "host.muelle.internal"} {
			out := c.must(t, "run", "--rm", "busybox", "sh", "-c", fmt.Sprintf("ping -c1 -W2 %s | head -1; ip route", name))
			_, gateway, _ := strings.Cut(out, "default via ")
			gateway, _, _ = strings.Cut(gateway, " ")
			if gateway == "" || !strings.Contains(out, "PING "+name+" ("+gateway+")") {
				t.Errorf("%s: %s", name, out)
			}
		}
	})
}
