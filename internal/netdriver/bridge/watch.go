package bridge

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// calm is how long rules must have been left alone before they are looked at.
const calm = 200 * time.Millisecond

// watch listens to changes of nftables while a bridge is up: other firewalls come
// and go, and somebody may flush all tables.
type watch struct {
	fw  *firewall
	log *slog.Logger

	mu     sync.Mutex
	conn   *netlink.Conn
	closed bool
	wg     sync.WaitGroup
}

func newWatch(fw *firewall, log *slog.Logger) *watch { return &watch{fw: fw, log: log} }

// start begins to listen, if it has not begun. Failing is no reason to refuse a container.
func (w *watch) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn != nil || w.closed {
		return
	}
	conn, err := listen()
	if err != nil {
		w.log.Warn("changes of the firewall are not followed", "err", err)
		return
	}
	w.conn = conn
	changed := make(chan struct{}, 1)
	w.wg.Go(func() { w.receive(conn, changed) })
	w.wg.Go(func() { w.react(changed) })
}

func listen() (*netlink.Conn, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{Groups: 1 << (unix.NFNLGRP_NFTABLES - 1)})
	if err != nil {
		return nil, err
	}
	filter, err := bpf.Assemble(withoutElements())
	if err == nil {
		err = conn.SetBPF(filter)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// withoutElements drops, in the kernel, the news of elements, which are mostly our
// own ports. A message's type is at offset 4, in the host's order: its low byte is
// the event on little-endian machines, which amd64 and arm64 are.
func withoutElements() []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: 4, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.NFT_MSG_NEWSETELEM, SkipTrue: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.NFT_MSG_DELSETELEM, SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 18},
		bpf.RetConstant{Val: 0},
	}
}

func (w *watch) receive(conn *netlink.Conn, changed chan<- struct{}) {
	defer close(changed)
	for {
		// Too many news at once (ENOBUFS) are news too.
		_, err := conn.Receive()
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			w.mu.Lock()
			closed := w.closed
			w.mu.Unlock()
			if !closed {
				w.log.Warn("changes of the firewall are no longer followed", "err", err)
			}
			return
		}
		select {
		case changed <- struct{}{}:
		default:
		}
	}
}

func (w *watch) react(changed <-chan struct{}) {
	for range changed {
		for quiet := false; !quiet; {
			select {
			case _, ok := <-changed:
				if !ok {
					return
				}
			case <-time.After(calm):
				quiet = true
			}
		}
		w.fw.restore()
	}
}

func (w *watch) close() {
	w.mu.Lock()
	w.closed = true
	if w.conn != nil {
		w.conn.Close()
	}
	w.mu.Unlock()
	w.wg.Wait()
}
