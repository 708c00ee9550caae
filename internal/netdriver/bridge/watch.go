package bridge

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"math/bits"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"muelle/internal/linux/nft"
	"muelle/internal/linux/rtnl"
	"muelle/internal/linux/ruleset"
)

// calm is how long rules must have been left alone before they are looked at, unless
// that takes longest.
const (
	calm    = 100 * time.Millisecond
	longest = 500 * time.Millisecond
)

// watch listens to changes of nftables while a bridge is up: other firewalls come
// and go, and somebody may flush all tables. What was changed of ours is mended at
// once; what others do among themselves is looked at now and then.
type watch struct {
	fw  *firewall
	log *slog.Logger

	mu     sync.Mutex
	conn   *netlink.Conn
	closed bool
	// seen is what happened since it was last reacted to.
	seen news
	done chan struct{}
	wg   sync.WaitGroup
}

// news are whose rules changed.
type news struct{ ours, others bool }

func (n *news) add(m news) { n.ours, n.others = n.ours || m.ours, n.others || m.others }

func newWatch(fw *firewall, log *slog.Logger) *watch {
	return &watch{fw: fw, log: log, done: make(chan struct{})}
}

// start begins to listen, if it has not begun. Failing is no reason to refuse a container.
func (w *watch) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn != nil || w.closed {
		return
	}
	own, err := w.fw.spoof.sender()
	var conn *netlink.Conn
	if err == nil {
		conn, err = listen(own)
	}
	if err != nil {
		w.log.Warn("changes of the firewall are not followed", "err", err)
		return
	}
	w.conn = conn
	w.fw.translators.follow(true)
	changed := make(chan struct{}, 1)
	w.wg.Go(func() { w.receive(conn, changed) })
	w.wg.Go(func() { w.react(changed) })
	w.wg.Go(w.links)
	w.wg.Go(func() { w.legacy(changed) })
}

// roomForNews is how much may wait to be read: a program that writes all of its rules
// again tells of each.
const roomForNews = 4 << 20

func listen(own uint32) (*netlink.Conn, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{Groups: 1 << (unix.NFNLGRP_NFTABLES - 1)})
	if err != nil {
		return nil, err
	}
	filter, err := bpf.Assemble(notFrom(own))
	if err == nil {
		err = conn.SetBPF(filter)
	}
	if err == nil {
		err = conn.SetReadBuffer(roomForNews)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// notFrom drops, in the kernel, the news of what the port own did: every container that
// comes or goes would wake the daemon. The port is at offset 12, in the host's order,
// which is little-endian on amd64 and arm64.
func notFrom(own uint32) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: bits.ReverseBytes32(own), SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 18},
		bpf.RetConstant{Val: 0},
	}
}

// whose tells whose rules a message is about. The first attribute of all but the one
// that ends a transaction is the table's name.
func (w *watch) whose(m netlink.Message) news {
	if len(m.Data) < 4 || m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES {
		return news{}
	}
	var table string
	nft.EachAttribute(m.Data[4:], func(kind uint16, value []byte) {
		if kind == tableName && table == "" {
			table = cString(value)
		}
	})
	switch {
	case table == w.fw.name:
		return news{ours: true}
	case isOurs(table): // another daemon's, which looks after them
		return news{}
	}
	return news{others: true}
}

// tableName is NFTA_TABLE_NAME, NFTA_CHAIN_TABLE and so on, of linux/netfilter/nf_tables.h.
const tableName = 1

// byOurselves tells the generations that a thread of this process made. The name
// beside the number tells it apart from a process of another pid namespace.
func byOurselves(m netlink.Message) bool {
	if len(m.Data) < 4 {
		return false
	}
	a := nft.Body(m)
	pid := a[unix.NFTA_GEN_PROC_PID]
	if len(pid) != 4 {
		return false
	}
	comm, err := os.ReadFile("/proc/self/task/" + strconv.Itoa(int(binary.BigEndian.Uint32(pid))) + "/comm")
	return err == nil && strings.TrimSuffix(string(comm), "\n") == cString(a[unix.NFTA_GEN_PROC_NAME])
}

func (w *watch) receive(conn *netlink.Conn, changed chan<- struct{}) {
	var open news // of the transaction whose end has not come yet
	for {
		list, err := conn.Receive()
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			w.mu.Lock()
			closed := w.closed
			w.mu.Unlock()
			w.fw.translators.follow(false)
			if !closed {
				w.log.Warn("changes of the firewall are no longer followed", "err", err)
			}
			return
		}
		var done news
		if err != nil { // some news were lost, of whatever
			open, done = news{}, news{true, true}
		}
		done.add(w.transactions(list, &open))
		if done == (news{}) {
			continue
		}
		w.tell(done, changed)
	}
}

// transactions gives what those changed that others made and that have ended; open is
// what is known of the one that has not.
func (w *watch) transactions(list []netlink.Message, open *news) (done news) {
	for _, m := range list {
		if m.Header.Type != unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN {
			open.add(w.whose(m))
			continue
		}
		if *open != (news{}) && !byOurselves(m) {
			done.add(*open)
		}
		*open = news{}
	}
	return done
}

func (w *watch) tell(n news, changed chan<- struct{}) {
	w.mu.Lock()
	w.seen.add(n)
	w.mu.Unlock()
	if n.others {
		w.fw.translators.changed()
		w.fw.changed.Store(time.Now().UnixNano())
	}
	select {
	case changed <- struct{}{}:
	default:
	}
}

// legacyPause is how often the old iptables is looked at, which tells nobody that it
// changes; where it is not in use, that is two files of /proc.
const legacyPause = 5 * time.Second

// legacy compares the rules of the old iptables with those of before.
func (w *watch) legacy(changed chan<- struct{}) {
	before, err := ruleset.LegacyDigest()
	pause := legacyPause
	for {
		select {
		case <-w.done:
			return
		case <-time.After(pause):
		}
		start := time.Now()
		now, nowErr := ruleset.LegacyDigest()
		if nowErr != nil && err == nil {
			w.log.Warn("changes of the old iptables are not followed", "err", nowErr)
		}
		if now != before || nowErr == nil && err != nil {
			w.tell(news{others: true}, changed)
		}
		before, err = now, nowErr
		pause = max(legacyPause, rest(time.Since(start)))
	}
}

func (w *watch) take() news {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.seen
	w.seen = news{}
	return n
}

// react mends what is ours at once. Others' rules are looked at when a rest has passed
// that is many times what the last look took; however often they change, the last
// change is seen, and what may have been the middle of one is looked at again.
func (w *watch) react(changed <-chan struct{}) {
	var due, again <-chan time.Time
	var rested, early time.Time
	for {
		select {
		case <-w.done:
			return
		case <-changed:
			w.settle(changed)
			n := w.take()
			if n.ours {
				w.fw.restore()
			}
			if n.others && due == nil {
				due = time.After(time.Until(rested))
			}
		case <-w.fw.unsure:
			if again == nil {
				again = time.After(settled)
			}
		case <-again:
			again = nil
			// Where looking takes long, a few looks a minute need not wait for the rest.
			if time.Since(early) > time.Minute {
				early = time.Now()
			}
			if time.Since(early) < 2*persists {
				due = time.After(0)
			} else if due == nil {
				due = time.After(time.Until(rested))
			}
		case <-due:
			due = nil
			rested = time.Now().Add(rest(w.fw.inspect()))
		}
	}
}

// rest is how long others' rules are left alone after a look: it shall cost no more than
// a fiftieth of a processor, and nobody waits longer than half a minute to be noticed.
func rest(took time.Duration) time.Duration { return min(50*took, 30*time.Second) }

// settle waits until nothing has changed for a moment, but not for long.
func (w *watch) settle(changed <-chan struct{}) {
	enough := time.After(longest)
	for {
		select {
		case <-changed:
		case <-w.done:
			return
		case <-enough:
			return
		case <-time.After(calm):
			return
		}
	}
}

func (w *watch) close() {
	w.mu.Lock()
	if !w.closed {
		close(w.done)
	}
	w.closed = true
	if w.conn != nil {
		w.conn.Close()
	}
	w.mu.Unlock()
	w.wg.Wait()
}

// links follows the host's addresses and routes, which say what a zone's lan is.
func (w *watch) links() {
	if err := rtnl.WatchLinks(func(rtnl.Change) { w.fw.moved() }, w.done); err != nil {
		w.log.Warn("changes of the host's addresses are not followed", "err", err)
	}
}
