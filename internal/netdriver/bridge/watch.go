package bridge

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"math/bits"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"muelle/internal/linux/nft"
	"muelle/internal/linux/rtnl"
)

// calm is how long rules must have been left alone before they are looked at, unless
// that takes longest.
const (
	calm    = 100 * time.Millisecond
	longest = 500 * time.Millisecond
)

// watch listens to changes of nftables while a bridge is up: other firewalls come
// and go, and somebody may flush all tables.
type watch struct {
	fw  *firewall
	log *slog.Logger

	mu     sync.Mutex
	conn   *netlink.Conn
	closed bool
	done   chan struct{}
	wg     sync.WaitGroup
}

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
	changed := make(chan struct{}, 1)
	w.wg.Go(func() { w.receive(conn, changed) })
	w.wg.Go(func() { w.react(changed) })
	w.wg.Go(w.links)
}

func listen(own uint32) (*netlink.Conn, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{Groups: 1 << (unix.NFNLGRP_NFTABLES - 1)})
	if err != nil {
		return nil, err
	}
	filter, err := bpf.Assemble(generationsOnly(own))
	if err == nil {
		err = conn.SetBPF(filter)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// generationsOnly drops, in the kernel, all news but the last of each transaction,
// which tells who made it, and all of those that the port own made: every container that
// comes or goes would wake the daemon. A message's type is at offset 4, the port at
// offset 12, in the host's order, which is little-endian on amd64 and arm64.
func generationsOnly(own uint32) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: 4, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.NFT_MSG_NEWGEN, SkipFalse: 3},
		bpf.LoadAbsolute{Off: 12, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: bits.ReverseBytes32(own), SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 18},
		bpf.RetConstant{Val: 0},
	}
}

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
	defer close(changed)
	for {
		// Too many news at once (ENOBUFS) are news too.
		list, err := conn.Receive()
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			w.mu.Lock()
			closed := w.closed
			w.mu.Unlock()
			if !closed {
				w.log.Warn("changes of the firewall are no longer followed", "err", err)
			}
			return
		}
		if err == nil && !slices.ContainsFunc(list, func(m netlink.Message) bool { return !byOurselves(m) }) {
			continue
		}
		select {
		case changed <- struct{}{}:
		default:
		}
	}
}

func (w *watch) react(changed <-chan struct{}) {
	for range changed {
		if !settled(changed) {
			return
		}
		w.fw.restore()
	}
}

// settled waits until nothing has changed for a moment, but not for long; false: the
// watch has ended.
func settled(changed <-chan struct{}) bool {
	enough := time.After(longest)
	for {
		select {
		case _, ok := <-changed:
			if !ok {
				return false
			}
		case <-enough:
			return true
		case <-time.After(calm):
			return true
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
