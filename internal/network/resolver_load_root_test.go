//go:build root

package network_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"muelle/internal/linux/netns"
	"muelle/internal/network"
)

// loadAsker in the environment makes the test binary a program that asks for names
// as fast as it can: its value is how many lookups it makes.
const loadAsker = "MUELLE_TEST_LOOKUPS"

// TestLoadAsker is not a test but that program; the benchmark starts it.
func TestLoadAsker(t *testing.T) {
	total, err := strconv.Atoi(os.Getenv(loadAsker))
	if err != nil {
		return // not called as the program
	}
	const window = 64
	conn, err := net.Dial("udp", "127.0.0.11:53")
	must(t, err)
	must(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	query, err := new(dns.Msg).SetQuestion("app.", dns.TypeA).Pack()
	must(t, err)
	var wrong atomic.Int64
	slots := make(chan struct{}, window)
	done := make(chan error, 1)
	go func() {
		buf := make([]byte, 512)
		for range total {
			n, err := conn.Read(buf)
			if err != nil {
				done <- err
				return
			}
			if n < 12 || buf[3]&0xf != 0 || binary.BigEndian.Uint16(buf[6:]) != 1 {
				wrong.Add(1)
			}
			<-slots
		}
		done <- nil
	}()
	for i := range total {
		slots <- struct{}{}
		binary.BigEndian.PutUint16(query, uint16(i))
		_, err := conn.Write(query)
		must(t, err)
	}
	must(t, <-done)
	if wrong.Load() > 0 {
		t.Errorf("%d answers are wrong", wrong.Load())
	}
}

// BenchmarkLookups measures answers over real sockets in a container's namespace:
// another process asks, and what counts is the processor time of this one.
func BenchmarkLookups(b *testing.B) {
	w := newWorld(b)
	w.network("front")
	app, client := spec("app", "front"), w.start(spec("client", "front"))
	w.start(app)
	self, err := os.Executable()
	must(b, err)
	total := max(b.N, 1000)
	b.ResetTimer()
	before := processorTime(b)
	begun := time.Now()
	must(b, netns.Do(client.NetNS, func() error {
		cmd := exec.Command(self, "-test.run=^TestLoadAsker$")
		cmd.Env = append(os.Environ(), loadAsker+"="+strconv.Itoa(total), "GOMAXPROCS=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}))
	used := processorTime(b) - before
	b.ReportMetric(float64(total)/used.Seconds(), "answers/cpu-s")
	b.ReportMetric(float64(total)/time.Since(begun).Seconds(), "answers/s")
}

func processorTime(b testing.TB) time.Duration {
	var u unix.Rusage
	must(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Lookups wait until all containers are known that ran when the daemon was killed.
func TestLookupsWaitForAllNames(t *testing.T) {
	w := newWorld(t)
	w.network("front")
	app, client := spec("app", "front"), spec("client", "front")
	running, asker := w.start(app), w.start(client)
	w.kill()
	conn, err := dialIn(asker.NetNS, "udp")
	must(t, err)
	defer conn.Close()
	data, err := new(dns.Msg).SetQuestion("app.", dns.TypeA).Pack()
	must(t, err)
	_, err = conn.Write(data)
	must(t, err)
	w.open()
	w.adopt(client, asker)
	must(t, conn.SetReadDeadline(soon()))
	if n, err := conn.Read(data); err == nil {
		t.Errorf("answered with %x before app was known", data[:n])
	}
	w.adopt(app, running)
	must(t, w.Adopted(context.Background()))
	must(t, conn.SetReadDeadline(time.Now().Add(slow)))
	answer := make([]byte, 512)
	n, err := conn.Read(answer)
	must(t, err)
	if reply := new(dns.Msg); reply.Unpack(answer[:n]) != nil || len(reply.Answer) != 1 {
		t.Errorf("got %v", reply)
	}
}

// A hundred askers ask on and on, for names on the network and of the world, while the
// daemon is killed and comes back, three times: every lookup is answered, and rightly,
// those by a TCP connection from before too.
func TestNoLookupIsLost(t *testing.T) {
	w := newWorld(t)
	w.network("front")
	w.upstream(nil, "127.0.0.1:53")
	specs := map[string]network.SandboxSpec{"app": spec("app", "front"), "client": spec("client", "front")}
	sandboxes := map[string]*network.Sandbox{}
	for name, s := range specs {
		sandboxes[name] = w.start(s)
	}
	var stop atomic.Bool
	var answered atomic.Int64
	thousand, all := make(chan struct{}, 1), make(chan struct{})
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			conn, err := dialIn(sandboxes["client"].NetNS, []string{"udp", "tcp"}[i%10/9])
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			for !stop.Load() {
				q := new(dns.Msg).SetQuestion([]string{"app.", "example.org."}[i/10%2], dns.TypeA)
				c := dns.Client{Timeout: 20 * time.Second}
				reply, _, err := c.ExchangeWithConn(q, &dns.Conn{Conn: conn})
				if err != nil || len(reply.Answer) != 1 {
					t.Errorf("got %v, %v", reply, err)
					return
				}
				if answered.Add(1)%1000 == 0 {
					select {
					case thousand <- struct{}{}:
					default:
					}
				}
			}
		})
	}
	go func() { wg.Wait(); close(all) }()
	for range 3 {
		select {
		case <-thousand:
		case <-all:
			t.Fatal("nobody asks any more")
		}
		w.kill()
		w.open()
		for name, s := range specs {
			w.adopt(s, sandboxes[name])
		}
		must(t, w.Adopted(context.Background()))
	}
	stop.Store(true)
	wg.Wait()
}

func dialIn(ns *os.File, proto string) (conn net.Conn, err error) {
	err = netns.Do(ns, func() error {
		conn, err = net.Dial(proto, "127.0.0.11:53")
		return err
	})
	return conn, err
}
