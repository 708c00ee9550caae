//go:build root

package network_test

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	mobynet "github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"
)

// crowd starts n containers, each on a network of its own and with five ports.
func (w *world) crowd(n int) {
	w.Helper()
	for i := range n {
		name := fmt.Sprint("n", i)
		w.network(name)
		s := spec("c"+name, name)
		s.Ports = mobynet.PortMap{}
		for j := range 5 {
			p, _ := mobynet.PortFrom(uint16(80+j), mobynet.TCP)
			s.Ports[p] = []mobynet.PortBinding{{HostPort: fmt.Sprint(20000 + 5*i + j)}}
		}
		w.start(s)
	}
}

// manyRules are rules of others that concern nobody here.
func manyRules(n int) string {
	var b strings.Builder
	b.WriteString("table ip others {\nchain lots {\n")
	for i := range n {
		fmt.Fprintf(&b, "ip saddr 10.%d.%d.0/24 tcp dport %d counter accept\n", i/250%250, i%250, 1+i%60000)
	}
	b.WriteString("}\nchain through { type filter hook forward priority 0; policy accept; jump lots; }\n}\n")
	return b.String()
}

// TestBusyNeighbour: while another program changes its rules all the time, ours come back,
// and what it did last is seen.
func TestBusyNeighbour(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent")
	w := newWorld(t)
	t.Cleanup(func() { run(t, "nft", "flush ruleset") })
	w.crowd(4)
	// The middle of a change, which a look finds, is not worth a line in the log.
	run(t, "iptables", "-P", "FORWARD", "DROP")
	if list := w.Warnings(); len(list) != 1 || !strings.Contains(list[0], "policy of ip filter FORWARD") {
		t.Errorf("in the middle of a change: %q", list)
	}
	run(t, "iptables", "-P", "FORWARD", "ACCEPT")
	busy := exec.Command("sh", "-ec", "while :; do iptables -A FORWARD -s 10.9.8.7 -j DROP; iptables -D FORWARD -s 10.9.8.7 -j DROP; done")
	must(t, busy.Start())
	const ours = "inet muelle-1a2b3c4d"
	for _, command := range []string{"delete table " + ours, "flush chain " + ours + " forward", "delete element " + ours + " ports { tcp . 20001 }"} {
		before := run(t, "nft", "-s", "list", "table", "inet", "muelle-1a2b3c4d")
		run(t, "nft", command)
		w.eventually(func() error {
			if after, err := exec.Command("nft", "-s", "list", "table", "inet", "muelle-1a2b3c4d").Output(); err != nil || len(after) != len(before) {
				return fmt.Errorf("after %q:\n%s\nnot\n%s", command, after, before)
			}
			return nil
		})
	}
	if strings.Contains(w.log.String(), "drops the containers' traffic") {
		t.Errorf("it warns before there is anything:\n%s", w.log)
	}
	run(t, "iptables", "-P", "FORWARD", "DROP")
	w.eventually(func() error {
		if !strings.Contains(w.log.String(), `policy of ip filter FORWARD`) {
			return fmt.Errorf("the policy is not seen:\n%s", w.log)
		}
		return nil
	})
	must(t, busy.Process.Kill())
	_ = busy.Wait()
	// The last change, after many.
	run(t, "iptables", "-P", "FORWARD", "ACCEPT")
	run(t, "nft", "table ip last { chain through { type filter hook forward priority 5; policy drop; }; }")
	w.eventually(func() error {
		if !strings.Contains(w.log.String(), `policy of ip last through`) {
			return fmt.Errorf("the last change is not seen:\n%s", w.log)
		}
		return nil
	})
}

// BenchmarkBusyNeighbour is what another program costs us that adds and deletes a rule
// all the time: CPU of this process per second, beside two hundred networks.
func BenchmarkBusyNeighbour(b *testing.B) {
	for _, rules := range []int{0, 5000} {
		b.Run(fmt.Sprintf("%d foreign rules", rules), func(b *testing.B) {
			w := newWorld(b)
			w.crowd(200)
			b.Cleanup(func() { run(b, "nft", "flush ruleset") })
			if rules > 0 {
				w.nft(manyRules(rules))
			}
			time.Sleep(2 * time.Second)
			before, start := cpu(b), time.Now()
			// By a shell: starting programs would be this process's work.
			run(b, "sh", "-ec", "for i in $(seq 100); do iptables -A FORWARD -s 10.9.8.7 -j DROP; iptables -D FORWARD -s 10.9.8.7 -j DROP; done")
			used, wall := cpu(b)-before, time.Since(start)
			b.ReportMetric(100*used.Seconds()/wall.Seconds(), "%cpu")
			b.ReportMetric(float64(used.Milliseconds()), "ms-cpu")
			b.ReportMetric(float64(wall.Milliseconds()), "ms-wall")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func cpu(b *testing.B) time.Duration {
	var u unix.Rusage
	must(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkFlush is how long two hundred networks with a thousand ports are without their
// rules when somebody takes all, or one element.
func BenchmarkFlush(b *testing.B) {
	w := newWorld(b)
	w.crowd(200)
	for _, command := range []string{"flush ruleset", "delete element inet muelle-1a2b3c4d ports { tcp . 20001 }"} {
		full := len(run(b, "nft", "-s", "list", "ruleset"))
		start := time.Now()
		run(b, "nft", command)
		for len(run(b, "nft", "-s", "list", "ruleset")) != full {
			if time.Since(start) > time.Minute {
				b.Fatalf("rules are not back after %q", command)
			}
		}
		b.ReportMetric(float64(time.Since(start).Milliseconds()), "ms-"+strings.Fields(command)[0])
	}
	b.ReportMetric(0, "ns/op")
}
