//go:build root

package e2e

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

const mendRounds = 12

// TestKilledWhileChanging: a daemon that is killed at any moment of a connect,
// disconnect or change of ports leaves a container that has what inspect says.
func TestKilledWhileChanging(t *testing.T) {
	d := own(t)
	c := ours(d)
	nets := []string{c.unique(t, "a"), c.unique(t, "b"), c.unique(t, "c")}
	for _, n := range nets {
		c.must(t, "network", "create", n)
		t.Cleanup(func() { c.try(t, "network", "rm", n) })
	}
	name := c.unique(t, "app")
	c.must(t, append([]string{"run", "-d", "--name", name, "--network", nets[1], "-p", "18330:80"}, httpd...)...)
	c.remove(t, name)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range mendRounds {
		was := strings.Fields(c.must(t, "inspect", "-f", "{{range $n, $_ := .NetworkSettings.Networks}}{{$n}} {{end}}", name))
		n := nets[random.IntN(len(nets))]
		args := []string{"network", "connect", n, name}
		if slices.Contains(was, n) {
			args[1] = "disconnect"
		}
		if p := 18331 + random.IntN(2); random.IntN(2) == 0 {
			args = []string{"update", "--publish-add", fmt.Sprintf("%d:80", p), name}
			if strings.Contains(c.must(t, "port", name), fmt.Sprint(p)) {
				args[1] = "--publish-rm"
			}
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.try(t, args...)
		}()
		time.Sleep(time.Duration(random.IntN(12000)) * time.Microsecond)
		d.kill(t)
		<-done
		if err := d.start(); err != nil {
			t.Fatal(err)
		}
		asInspected(t, c, name)
		if t.Failed() {
			t.Fatalf("after %v", args)
		}
	}
}

// asInspected compares interfaces, addresses and ports with what inspect says.
func asInspected(t *testing.T, c client, name string) {
	t.Helper()
	var want []string
	for f := range strings.FieldsSeq(c.must(t, "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}/{{.IPPrefixLen}} {{end}}", name)) {
		want = append(want, f)
	}
	var have []string
	fields := strings.Fields(c.must(t, "exec", name, "ip", "-4", "-o", "addr", "show"))
	for i, f := range fields {
		if f == "inet" && fields[i+1] != "127.0.0.1/8" {
			have = append(have, fields[i+1])
		}
	}
	slices.Sort(want)
	slices.Sort(have)
	if !slices.Equal(want, have) {
		t.Errorf("addresses %v, inspect says %v", have, want)
	}
	route := c.must(t, "exec", name, "ip", "route", "show", "default")
	if (route != "") != (len(want) > 0) {
		t.Errorf("default route %q with addresses %v", route, want)
	}
	shown, asked := c.must(t, "port", name), c.must(t, "inspect", "-f", "{{json .HostConfig.PortBindings}}", name)
	for p := 18330; p <= 18332; p++ {
		_, err := get(fmt.Sprintf("http://127.0.0.1:%d", p))
		wanted := strings.Contains(asked, fmt.Sprint(p)) && len(want) > 0
		if published := strings.Contains(shown, fmt.Sprint(p)); published != wanted || (err == nil) != wanted {
			t.Errorf("port %d: asked for %v, shown %v, answers %v", p, wanted, published, err)
		}
	}
}
