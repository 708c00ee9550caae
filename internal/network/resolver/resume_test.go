package resolver

import (
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// once is a name server that answers the first question only, when it is told to.
func once(t *testing.T) (f Forwarder, heard chan struct{}, answer func()) {
	heard = make(chan struct{}, 8)
	told := make(chan struct{})
	var asked atomic.Bool
	return server(t, func(w dns.ResponseWriter, q *dns.Msg) {
		first := asked.CompareAndSwap(false, true)
		heard <- struct{}{}
		if <-told; first {
			says("192.0.2.1")(w, q)
		}
	}), heard, func() { close(told) }
}

// The answer to a lookup that another was asked for arrives by the socket which the
// daemon before asked by: nobody waits longer than if it had never ended.
func TestAskedLookupGoesOn(t *testing.T) {
	for _, proto := range []string{"udp4", "tcp4"} {
		t.Run(proto, func(t *testing.T) {
			t.Parallel()
			up, heard, answer := once(t)
			path := filepath.Join(t.TempDir(), "lookups")
			own, udp, tcp := sockets(t)
			conn := dialed(t, proto, map[string]string{"udp4": udp, "tcp4": tcp}[proto])
			if err := conn.WriteMsg(new(dns.Msg).SetQuestion("example.org.", dns.TypeA)); err != nil {
				t.Fatal(err)
			}
			var s *Server
			for range 3 { // each asks too, and hears what the first is answered
				next := again(t, own)
				s = New(&upstreams{servers: []Forwarder{up}}, path, slog.New(slog.DiscardHandler))
				if err := s.Add("asker", own); err != nil {
					t.Fatal(err)
				}
				s.Serve()
				<-heard
				s.Close()
				own = next
			}
			s = New(&upstreams{servers: []Forwarder{up}}, path, slog.New(slog.DiscardHandler))
			defer s.Close()
			if err := s.Add("asker", own); err != nil {
				t.Fatal(err)
			}
			s.Serve()
			answer()
			answered(t, conn, 1)
			if n := s.queued("asker"); proto == "udp4" && n != 0 {
				t.Errorf("%d sockets are left in the safe", n)
			}
		})
	}
}

// queued waits until nothing is under way, and counts what lies in an asker's safe.
func (s *Server) queued(asker string) int {
	c := s.clients[asker]
	for range cap(c.slots) {
		c.slots <- struct{}{}
	}
	c.safe.mu.Lock()
	defer c.safe.mu.Unlock()
	return len(c.safe.queue)
}

// A TCP connection outlives the daemon: idle, with a part of a query, and with one.
func TestConnectionGoesOn(t *testing.T) {
	own, _, at := sockets(t)
	idle, partly := dialed(t, "tcp4", at), dialed(t, "tcp4", at)
	query, err := new(dns.Msg).SetQuestion("web.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	query = framed(query)
	if _, err := partly.Conn.Write(query[:9]); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		next := again(t, own)
		s := New(fake{}, "", slog.New(slog.DiscardHandler))
		if err := s.Add("asker", own); err != nil {
			t.Fatal(err)
		}
		s.Serve()
		if err := lookup(idle, "web."); err != nil {
			t.Fatal(err)
		}
		s.Close()
		own = next
	}
	s := New(fake{}, "", slog.New(slog.DiscardHandler))
	defer s.Close()
	s.Serve()
	if err := s.Add("asker", own); err != nil {
		t.Fatal(err)
	}
	if _, err := partly.Conn.Write(query[9:]); err != nil {
		t.Fatal(err)
	}
	answered(t, partly, 2)
	if err := lookup(idle, "web."); err != nil {
		t.Error(err)
	}
	// Both ends of a connection know when it is over.
	if err := partly.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := partly.Conn.Read(query); err != io.EOF {
		t.Errorf("after the end: %d, %v", n, err)
	}
}

// What a safe is full of, and what is taken from it, is what was put in and not released.
func TestSafe(t *testing.T) {
	in, out, err := newSafe()
	if err != nil {
		t.Fatal(err)
	}
	both := again(t, Sockets{in, out, in, out})
	s := &safe{in: in, out: out}
	held := map[byte]connection{}
	for i := range 200 {
		file, other, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		other.Close()
		held[byte(i)] = s.hold(file, []byte{byte(i)})
		for _, gone := range []int{i - 3, i - 90} { // some soon, some late
			if c := held[byte(gone)]; gone >= 0 && gone%3 == 0 && c != nil {
				c.Close()
				delete(held, byte(gone))
			}
		}
		if live := len(s.queue) - s.gone; live != len(held) || s.gone > max(live, 16) {
			t.Fatalf("%d are kept and %d gone, want %d", live, s.gone, len(held))
		}
	}
	s.close()
	for _, c := range held {
		c.Close()
	}
	want, got := map[byte]int{}, map[byte]int{}
	for i := range held {
		want[i] = 1
	}
	next := &safe{in: both[2], out: both[3]}
	for _, f := range next.take() {
		if got[f.what[0]]++; !isPipe(f.file) {
			t.Errorf("%d is something else", f.what[0])
		}
		f.file.Close()
	}
	for i := range got { // what was gone and not yet thrown out is known by its note
		if _, ok := want[i]; !ok {
			delete(got, i)
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	next.close()
	both.Close()
}

func isPipe(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeNamedPipe != 0
}

func TestNote(t *testing.T) {
	for _, a := range []asked{
		{proto: "udp", from: netip.MustParseAddrPort("192.0.2.1:53"), id: 0xbeef, ticket: ticket{511, time.Now().UnixNano()}},
		{proto: "tcp", from: netip.MustParseAddrPort("[fe80::1%a-long-name-eth0]:5353"), ticket: ticketOf(1 << 40)},
	} {
		note := a.note()
		got, ok := parseAsked(note)
		if !ok || got != a || len(note) > maxNote {
			t.Errorf("got %+v, %v, want %+v", got, ok, a)
		}
		for i := range note[:19] {
			if _, ok := parseAsked(note[:i]); ok {
				t.Errorf("%d bytes are a note", i)
			}
		}
	}
	if _, ok := parseAsked([]byte{streamNote}); ok {
		t.Error("a connection is a name server")
	}
}
