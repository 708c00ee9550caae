package resolver

import (
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"
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

// A lookup that was taken from the socket is answered, though the socket is let go of
// meanwhile: the next daemon cannot know of it.
func TestTakenLookupIsAnswered(t *testing.T) {
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	defer tcp.Close()
	uf, err := udp.File()
	if err != nil {
		t.Fatal(err)
	}
	tf, err := tcp.File()
	if err != nil {
		t.Fatal(err)
	}
	dir := thinking{asked: make(chan struct{}), answer: make(chan struct{})}
	s := New(dir, slog.New(slog.DiscardHandler))
	if err := s.Add("asker", uf, tf); err != nil {
		t.Fatal(err)
	}
	conn, err := dns.Dial("udp4", udp.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.WriteMsg(new(dns.Msg).SetQuestion("web.", dns.TypeA)); err != nil {
		t.Fatal(err)
	}
	<-dir.asked
	s.Remove("asker") // as Close does
	close(dir.answer)
	defer s.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if r, err := conn.ReadMsg(); err != nil || len(r.Answer) != 2 {
		t.Errorf("got %v, %v", r, err)
	}
}
