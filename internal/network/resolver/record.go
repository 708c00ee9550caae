package resolver

import (
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"muelle/api"
)

const (
	// remembered is how many lookups of one container are kept, and shown how many
	// records of an answer are.
	remembered = 256
	shown      = 8
	// past is how many containers that have ended are remembered, each with keptOfPast
	// lookups: why asks for them.
	past       = 64
	keptOfPast = 64
)

// record is a lookup in the ring. Text is made of it when somebody asks.
type record struct {
	at     time.Time
	took   time.Duration
	name   string
	kind   uint16
	code   int // -1: no answer was given
	tcp    bool
	addrs  []netip.Addr
	data   []string
	from   string
	reason string
}

// ring keeps a container's last lookups.
type ring struct {
	mu      sync.Mutex
	list    []record
	count   uint64 // of all that ever were
	changed chan struct{}
	served  bool
}

func (r *ring) add(e record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.list) < remembered {
		r.list = append(r.list, e)
	} else {
		r.list[r.count%remembered] = e
	}
	r.count++
	r.wake()
}

func (r *ring) wake() {
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// since gives the lookups after the first n, as far as they are kept, the number to
// go on from, and a channel that is closed when there are more; nil: there will be none.
func (r *ring) since(n uint64) (list []api.DNSQuery, next uint64, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if kept := uint64(len(r.list)); n+kept < r.count {
		n = r.count - kept
	}
	for ; n < r.count; n++ {
		list = append(list, r.list[r.place(n)].view())
	}
	if !r.served {
		return list, r.count, nil
	}
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	return list, r.count, r.changed
}

// place is where the n-th lookup lies.
func (r *ring) place(n uint64) uint64 {
	if len(r.list) < remembered {
		return n - (r.count - uint64(len(r.list)))
	}
	return n % remembered
}

// end is called when the container has ended: all but the last lookups are forgotten.
func (r *ring) end() (kept uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.served = false
	defer r.wake()
	kept = uint64(min(len(r.list), keptOfPast))
	list := make([]record, 0, kept)
	for n := r.count - kept; n < r.count; n++ {
		list = append(list, r.list[r.place(n)])
	}
	// Counted anew: whoever followed is told to stop.
	r.list, r.count = list, kept
	return kept
}

func (r *ring) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.served = true
}

func (e record) view() api.DNSQuery {
	q := api.DNSQuery{
		At: e.at, Name: e.name, Type: dns.TypeToString[e.kind], Proto: "udp", From: e.from, Took: e.took, Reason: e.reason,
		Answer: e.data,
	}
	if q.Type == "" {
		q.Type = dns.Type(e.kind).String()
	}
	if e.tcp {
		q.Proto = "tcp"
	}
	if e.code >= 0 {
		if q.Code = dns.RcodeToString[e.code]; q.Code == "" {
			q.Code = "RCODE" + dns.Type(e.code).String()[len("TYPE"):]
		}
	}
	for _, a := range e.addrs[:min(len(e.addrs), shown)] {
		q.Answer = append(q.Answer, a.String())
	}
	return q
}

// dataOf shows the records of an answer of somebody else.
func dataOf(m *dns.Msg) (list []string) {
	for _, rr := range m.Answer[:min(len(m.Answer), shown)] {
		text := strings.TrimPrefix(rr.String(), rr.Header().String())
		if rr.Header().Rrtype == dns.TypeCNAME {
			text = "CNAME " + text
		}
		list = append(list, text[:min(len(text), 255)])
	}
	return list
}
