package zone

import (
	"crypto/rand"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"muelle/internal/linux/netns"
)

// mark is the content of a datagram that tells it from all others.
type mark [8]byte

func newMark() (m mark) {
	_, _ = rand.Read(m[:]) // never fails
	return m
}

// listener hears all packets of a network namespace.
type listener struct {
	file *os.File
	wg   sync.WaitGroup

	mu      sync.Mutex
	pending map[mark]chan<- struct{}
}

// listen begins to hear.
func listen(ns *os.File) (*listener, error) {
	l := &listener{pending: map[mark]chan<- struct{}{}}
	err := netns.Do(ns, func() error {
		all := uint16(unix.ETH_P_ALL)
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(all<<8|all>>8))
		if err != nil {
			return fmt.Errorf("open packet socket: %w", err)
		}
		l.file = os.NewFile(uintptr(fd), "packets")
		return nil
	})
	if err != nil {
		return nil, err
	}
	l.wg.Go(l.hear)
	return l, nil
}

func (l *listener) hear() {
	buf := make([]byte, 1<<16)
	for {
		n, err := l.file.Read(buf)
		if err != nil {
			return
		}
		if n < 8 {
			continue
		}
		m := mark(buf[n-8 : n])
		l.mu.Lock()
		if c, ok := l.pending[m]; ok {
			delete(l.pending, m)
			c <- struct{}{}
		}
		l.mu.Unlock()
	}
}

// expect sends once when the mark arrives; c has room for it.
func (l *listener) expect(m mark, c chan<- struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending[m] = c
}

func (l *listener) forget(m mark) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pending, m)
}

func (l *listener) close() {
	l.file.Close()
	l.wg.Wait()
}
