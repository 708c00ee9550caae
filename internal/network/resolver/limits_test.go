package resolver

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// sockets are those of one asker, on loopback.
func sockets(t *testing.T) (own Sockets, udpAddr, tcpAddr string) {
	t.Helper()
	u, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if own[0], err = u.File(); err != nil {
		t.Fatal(err)
	}
	if own[1], err = l.File(); err != nil {
		t.Fatal(err)
	}
	if own[2], own[3], err = newSafe(); err != nil {
		t.Fatal(err)
	}
	return own, u.LocalAddr().String(), l.Addr().String()
}

func dialed(t *testing.T, proto, to string) *dns.Conn {
	t.Helper()
	conn, err := dns.Dial(proto, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// lookup asks by a connection that there is.
func lookup(conn *dns.Conn, name string) error {
	if err := conn.WriteMsg(new(dns.Msg).SetQuestion(name, dns.TypeA)); err != nil {
		return err
	}
	_, err := conn.ReadMsg()
	return err
}

// Connections are counted by container: one that holds as many as it may hinders
// neither another's nor its own lookups by UDP.
func TestConnectionsAreBounded(t *testing.T) {
	u := &upstreams{servers: []Forwarder{server(t, says("192.0.2.7"))}}
	s := New(u, "", slog.New(slog.DiscardHandler))
	s.Serve()
	defer s.Close()
	ask := map[string][2]string{}
	for _, asker := range []string{"greedy", "other"} {
		own, ua, ta := sockets(t)
		if err := s.Add(asker, own); err != nil {
			t.Fatal(err)
		}
		ask[asker] = [2]string{ua, ta}
	}
	var held []*dns.Conn
	for range streams {
		conn := dialed(t, "tcp4", ask["greedy"][1])
		if err := lookup(conn, "example.org."); err != nil {
			t.Fatal(err)
		}
		held = append(held, conn)
	}
	if err := lookup(dialed(t, "tcp4", ask["greedy"][1]), "example.org."); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("one connection too many: %v", err)
	}
	list, _, _ := s.Queries("greedy", streams)
	if len(list) != 1 || list[0].Reason != tooMany {
		t.Errorf("on record: %+v", list)
	}
	for _, to := range []struct{ proto, at string }{{"udp4", ask["greedy"][0]}, {"tcp4", ask["other"][1]}, {"udp4", ask["other"][0]}} {
		if err := lookup(dialed(t, to.proto, to.at), "example.org."); err != nil {
			t.Errorf("%+v: %v", to, err)
		}
	}
	for _, conn := range held {
		if err := lookup(conn, "example.org."); err != nil {
			t.Errorf("a connection that was there first: %v", err)
		}
		conn.Close()
	}
	deadline := time.Now().Add(20 * time.Second)
	for lookup(dialed(t, "tcp4", ask["greedy"][1]), "example.org.") != nil {
		if time.Now().After(deadline) {
			t.Fatal("no place becomes free")
		}
	}
}

// ordered is a directory that holds up the first lookup, and counts those of the
// flooding asker until the other's comes.
type ordered struct {
	fake
	begun, goOn chan struct{}
	once        sync.Once
	mu          sync.Mutex
	before      int
	heard       chan int
}

func (d *ordered) Lookup(asker, name string) Answer {
	d.once.Do(func() { close(d.begun); <-d.goOn })
	d.mu.Lock()
	defer d.mu.Unlock()
	if asker == "quiet" {
		d.heard <- d.before
	}
	d.before++
	return d.fake.Lookup(asker, name)
}

// What waits in one container's socket does not go before another's.
func TestFloodIsServedInTurns(t *testing.T) {
	dir := &ordered{begun: make(chan struct{}), goOn: make(chan struct{}), heard: make(chan int, 1)}
	s := New(dir, "", slog.New(slog.DiscardHandler))
	s.Serve()
	defer s.Close()
	fill := func(asker string, n int) {
		own, ua, _ := sockets(t)
		conn := dialed(t, "udp4", ua)
		for range n {
			if err := conn.WriteMsg(new(dns.Msg).SetQuestion("web.", dns.TypeA)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Add(asker, own); err != nil {
			t.Fatal(err)
		}
	}
	fill("flood", 4*turn)
	<-dir.begun
	fill("quiet", 1)
	close(dir.goOn)
	// The flood's own turn, and one more at most.
	if n := <-dir.heard; n > 2*turn {
		t.Errorf("%d lookups of another container went before", n)
	}
}

// Lookups that wait for a silent name server are counted by container too.
func TestWaitingLookupsAreBounded(t *testing.T) {
	deaf := server(t, nil)
	dir := &byAsker{upstreams: upstreams{servers: []Forwarder{deaf}}, other: []Forwarder{server(t, says("192.0.2.7"))}}
	s := New(dir, "", slog.New(slog.DiscardHandler))
	s.Serve()
	defer s.Close()
	own, flood, _ := sockets(t)
	if err := s.Add("flood", own); err != nil {
		t.Fatal(err)
	}
	others, quiet, _ := sockets(t)
	if err := s.Add("quiet", others); err != nil {
		t.Fatal(err)
	}
	conn := dialed(t, "udp4", flood)
	refused := func() bool {
		list, _, _ := s.Queries("flood", 0)
		for _, q := range list {
			if q.Reason == busy {
				return true
			}
		}
		return false
	}
	for end := time.Now().Add(30 * time.Second); !refused(); {
		if time.Now().After(end) {
			t.Fatal("nothing is refused")
		}
		if err := conn.WriteMsg(new(dns.Msg).SetQuestion("example.org.", dns.TypeA)); err != nil {
			t.Fatal(err)
		}
	}
	if err := lookup(dialed(t, "udp4", quiet), "example.org."); err != nil {
		t.Errorf("the other container: %v", err)
	}
}

// byAsker gives the flooding container a silent name server, and others one that answers.
type byAsker struct {
	upstreams
	other []Forwarder
}

func (d *byAsker) Upstream(asker string) Upstream {
	if asker == "flood" {
		return d.upstreams.Upstream(asker)
	}
	return Upstream{Servers: d.other}
}
