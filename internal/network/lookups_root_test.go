//go:build root

package network_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"muelle/internal/linux/netns"
)

// Ten thousand lookups of two hundred containers, by UDP and TCP, of names on the
// network and of the world: nothing stays behind.
func TestLookupsLeaveNothing(t *testing.T) {
	w := newWorld(t)
	w.network("front")
	w.upstream(nil, "127.0.0.1:53")
	const containers, each = 200, 50
	w.stop(w.start(spec("first", "front")).ID) // what watches the host's network stays from then on
	before := held(t)
	var all []*os.File
	for i := range containers {
		sb := w.start(spec(fmt.Sprint("c", i), "front"))
		all = append(all, sb.NetNS)
	}
	var wg sync.WaitGroup
	wrong := make(chan error, containers)
	for i, ns := range all {
		wg.Go(func() {
			if err := askMany(ns, i, each); err != nil {
				wrong <- err
			}
		})
	}
	wg.Wait()
	close(wrong)
	for err := range wrong {
		t.Error(err)
	}
	for id := range w.shims {
		w.stop(id)
	}
	w.eventually(func() error {
		if after := held(t); after.goroutines > before.goroutines+8 || after.files > before.files+8 {
			return fmt.Errorf("before %+v, after %+v", before, after)
		}
		return nil
	})
}

func askMany(ns *os.File, i, each int) error {
	for k := range each {
		proto, name := "udp", fmt.Sprintf("c%d.", (i+k)%200)
		if k%2 > 0 {
			name = "example.org."
		}
		if k%10 > 7 {
			proto = "tcp"
		}
		var conn net.Conn
		err := netns.Do(ns, func() (err error) {
			conn, err = net.Dial(proto, "127.0.0.11:53")
			return err
		})
		if err != nil {
			return err
		}
		q := new(dns.Msg)
		q.SetQuestion(name, dns.TypeA)
		c := dns.Client{Net: proto, Timeout: 20 * time.Second}
		reply, _, err := c.ExchangeWithConn(q, &dns.Conn{Conn: conn})
		err = errors.Join(err, conn.Close())
		if err == nil && (reply.Rcode != dns.RcodeSuccess || len(reply.Answer) != 1) {
			err = fmt.Errorf("%s %s: %v", proto, name, reply)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

type holdings struct{ goroutines, files int }

func held(t *testing.T) holdings {
	t.Helper()
	runtime.GC()
	files, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return holdings{runtime.NumGoroutine(), len(files)}
}

// Lookups that wait for a dead name server hold no thread each.
func TestDeadServerHoldsNoThreads(t *testing.T) {
	w := newWorld(t)
	w.network("front")
	s := spec("a", "front")
	s.DNS = []netip.Addr{netip.MustParseAddr("192.0.2.99")} // nobody: no answer to ARP
	sb := w.start(s)
	threads := func() int {
		list, err := os.ReadDir("/proc/self/task")
		must(t, err)
		return len(list)
	}
	before := threads()
	var conns []net.Conn
	for range 60 { // as many as one container may have, nearly
		must(t, netns.Do(sb.NetNS, func() error {
			conn, err := net.Dial("tcp", "127.0.0.11:53")
			conns = append(conns, conn)
			return err
		}))
	}
	query := new(dns.Msg)
	query.SetQuestion("example.org.", dns.TypeA)
	data, err := query.Pack()
	must(t, err)
	for _, conn := range conns {
		_, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(data))), data...))
		must(t, err)
	}
	most := 0
	for _, conn := range conns {
		most = max(most, threads())
		answer := make([]byte, 512)
		n, err := conn.Read(answer)
		must(t, err)
		if reply := new(dns.Msg); reply.Unpack(answer[2:n]) != nil || reply.Rcode != dns.RcodeServerFailure {
			t.Fatalf("got %v", reply)
		}
		must(t, conn.Close())
	}
	if most > before+30 {
		t.Errorf("%d threads before, %d while the server was waited for", before, most)
	}
}
