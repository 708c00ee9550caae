package resolver

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// thinking is a directory that takes its time.
type thinking struct {
	fake
	asked, answer chan struct{}
}

func (d thinking) Lookup(asker, name string) Answer {
	close(d.asked)
	<-d.answer
	return d.fake.Lookup(asker, name)
}

// A lookup that the server was still thinking about when it let go of the socket is the
// next server's: it has not been taken.
func TestUnansweredLookupIsTheNextServers(t *testing.T) {
	own, at, _ := sockets(t)
	next := again(t, own)
	dir := thinking{asked: make(chan struct{}), answer: make(chan struct{})}
	s := New(dir, "", slog.New(slog.DiscardHandler))
	s.Serve()
	if err := s.Add("asker", own); err != nil {
		t.Fatal(err)
	}
	conn := dialed(t, "udp4", at)
	if err := conn.WriteMsg(new(dns.Msg).SetQuestion("web.", dns.TypeA)); err != nil {
		t.Fatal(err)
	}
	<-dir.asked
	s.Remove("asker") // as Close does
	close(dir.answer)
	s.Close()
	n := New(fake{}, "", slog.New(slog.DiscardHandler))
	defer n.Close()
	if err := n.Add("asker", next); err != nil {
		t.Fatal(err)
	}
	n.Serve()
	answered(t, conn, 2)
}

// A lookup that an upstream was asked for when the daemon was killed is asked again by
// the next, once.
func TestForwardedLookupSurvives(t *testing.T) {
	heard := make(chan struct{}, 8)
	deaf := server(t, func(dns.ResponseWriter, *dns.Msg) { heard <- struct{}{} })
	path := filepath.Join(t.TempDir(), "lookups")
	own, at, _ := sockets(t)
	next := again(t, own)
	s := New(&upstreams{servers: []Forwarder{deaf}}, path, slog.New(slog.DiscardHandler))
	s.Serve()
	if err := s.Add("asker", own); err != nil {
		t.Fatal(err)
	}
	conn := dialed(t, "udp4", at)
	if err := conn.WriteMsg(new(dns.Msg).SetQuestion("example.org.", dns.TypeA)); err != nil {
		t.Fatal(err)
	}
	<-heard
	s.Close()
	left, err := os.ReadFile(path)
	if err != nil || len(parseWaiters(left, time.Now())) != 1 {
		t.Fatalf("%x, %v: the lookup is not kept", left, err)
	}
	n := New(&upstreams{servers: []Forwarder{server(t, says("192.0.2.1"))}}, path, slog.New(slog.DiscardHandler))
	if err := n.Add("asker", next); err != nil {
		t.Fatal(err)
	}
	n.Serve()
	answered(t, conn, 1)
	n.Close()
	if left, err := os.ReadFile(path); err != nil || len(parseWaiters(left, time.Now())) != 0 {
		t.Errorf("%x, %v: what was answered is kept", left, err)
	}
}

// Until all names are known nothing is answered.
func TestNothingIsAnsweredTooEarly(t *testing.T) {
	own, at, _ := sockets(t)
	asked := make(chan struct{})
	dir := thinking{asked: asked, answer: make(chan struct{})}
	close(dir.answer)
	s := New(dir, "", slog.New(slog.DiscardHandler))
	defer s.Close()
	conn := dialed(t, "udp4", at)
	if err := conn.WriteMsg(new(dns.Msg).SetQuestion("web.", dns.TypeA)); err != nil {
		t.Fatal(err)
	}
	if err := s.Add("asker", own); err != nil {
		t.Fatal(err)
	}
	select {
	case <-asked:
		t.Error("the directory was asked before it knew all names")
	default:
	}
	s.Serve()
	<-asked
	answered(t, conn, 2)
}

func TestParseWaiters(t *testing.T) {
	p := pending{path: filepath.Join(t.TempDir(), "lookups")}
	from := &unix.SockaddrInet4{Port: 40000, Addr: [4]byte{127, 0, 0, 1}}
	first, second := p.put(7, from, []byte("one")), p.put(8, from, []byte("two"))
	if first.slot != 0 || second.slot != 1 {
		t.Fatalf("tickets %v and %v", first, second)
	}
	p.drop(first)
	if got := p.put(9, from, make([]byte, slotSize)); got != untold {
		t.Errorf("a lookup that is too long has the ticket %v", got)
	}
	data, err := os.ReadFile(p.path)
	if err != nil {
		t.Fatal(err)
	}
	got := parseWaiters(data, time.Now())
	if len(got) != 1 || got[0].ticket != second || got[0].inode != 8 || string(got[0].data) != "two" || got[0].from.String() != "127.0.0.1:40000" {
		t.Errorf("got %+v", got)
	}
	if got := parseWaiters(data, time.Now().Add(time.Minute)); len(got) != 0 {
		t.Errorf("nobody waits for %+v any more", got)
	}
	for range mostPending {
		p.put(1, from, nil)
	}
	if got := p.put(1, from, nil); got != untold {
		t.Errorf("%v though all places are taken", got)
	}
}

func FuzzParseWaiters(f *testing.F) {
	f.Add(make([]byte, slotSize+slotHead+1))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, w := range parseWaiters(data, time.Now()) {
			if len(w.data) == 0 || len(w.data) > slotSize-slotHead {
				t.Errorf("%d bytes", len(w.data))
			}
		}
	})
}

// again is the same sockets once more, as the shim holds them for the next daemon.
func again(t *testing.T, own Sockets) (next Sockets) {
	t.Helper()
	for i, f := range own {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		next[i] = rawFile(fd)
	}
	return next
}

func answered(t *testing.T, conn *dns.Conn, records int) {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if r, err := conn.ReadMsg(); err != nil || len(r.Answer) != records {
		t.Errorf("got %v, %v", r, err)
	}
}
