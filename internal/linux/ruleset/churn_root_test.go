//go:build root

package ruleset_test

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/nftables"

	"muelle/internal/linux/ruleset"
)

// TestReadWhileReplaced: who replaces a table in one transaction never leaves it without its
// rules or its sets' elements, and so it is read.
func TestReadWhileReplaced(t *testing.T) {
	var b strings.Builder
	b.WriteString("table inet mine\ndelete table inet mine\ntable inet mine { set shut { type ifname; elements = { \"mueb0\" } }\nset far { type ifname . ipv4_addr; flags interval; elements = { \"mueb0\" . 172.18.0.0/16 } }\n")
	b.WriteString("chain through { type filter hook forward priority 5\n")
	for i := range 300 {
		fmt.Fprintf(&b, "tcp dport %d drop\n", 10000+i)
	}
	b.WriteString("oifname @shut drop\niifname . ip saddr @far drop\n}\n}\n")
	load(t, b.String(), "nft", "-f", "-")
	stop, done := make(chan bool), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			cmd := exec.Command("nft", "-f", "-")
			cmd.Stdin = strings.NewReader(b.String())
			if out, err := cmd.CombinedOutput(); err != nil {
				done <- fmt.Errorf("%w: %s", err, out)
				return
			}
		}
	}()
	for i := range 250 {
		r, err := ruleset.Read(nil)
		if err != nil {
			t.Errorf("%d: %v", i, err)
			break
		}
		if f := r.Ask(published(), nil, ruleset.Forward); !f.Certain() {
			t.Errorf("%d: %+v", i, f)
		}
		if f := r.Ask(outward(), nil, ruleset.Forward); !f.Certain() {
			t.Errorf("%d: outward %+v", i, f)
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestGlance: somebody who changes rules all the time hides nothing.
func TestGlance(t *testing.T) {
	var b strings.Builder
	b.WriteString("table inet lots {\nchain many {\n")
	for i := range 3000 {
		fmt.Fprintf(&b, "tcp dport %d accept\n", 10000+i)
	}
	b.WriteString("}\nchain through { type filter hook forward priority 5; policy drop; jump many; }\n}\n")
	load(t, b.String(), "nft", "-f", "-")
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan bool), make(chan error, 1)
	go func() {
		var err error
		for err == nil {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			c.DelTable(c.AddTable(&nftables.Table{Name: "busy", Family: nftables.TableFamilyIPv4}))
			err = c.Flush()
		}
		done <- err
	}()
	for i := range 5 {
		r, err := ruleset.Glance(nil)
		if err != nil {
			t.Errorf("%d: %v", i, err)
		} else if f := r.Ask(published(), nil, ruleset.Forward); !f.Certain() {
			t.Errorf("%d: %+v", i, f)
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
