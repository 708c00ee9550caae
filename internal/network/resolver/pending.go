package resolver

import (
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// slotSize is one lookup in the file: state and length, the socket's inode, the time,
	// the client's port and address, and the query, which is hardly ever longer than a
	// name of 255 bytes.
	slotSize    = 512
	slotHead    = 32
	mostPending = 512
	// tooOld is a lookup that nobody waits for any more.
	tooOld = 10 * time.Second
)

// ticket is a lookup's place in the file, and the time that tells it from the one which
// was there before. The place is -1 if it is not kept.
type ticket struct {
	slot int
	at   int64
}

var untold = ticket{slot: -1}

// pending keeps the lookups that an upstream is being asked for in a file: they have
// been taken from their socket, and if the daemon is killed nobody else knows of them.
// The next one asks again. A write of some hundred bytes to a file in memory is nothing
// beside asking somebody else.
type pending struct {
	path string

	mu   sync.Mutex
	file *os.File // opened with the first lookup
	used [mostPending]bool
	next int
}

// waiter is a lookup of the daemon before.
type waiter struct {
	ticket
	inode uint64
	from  netip.AddrPort
	data  []byte
}

// put keeps a lookup; the ticket is for drop.
func (p *pending) put(inode uint64, from unix.Sockaddr, data []byte) ticket {
	sa, ok := from.(*unix.SockaddrInet4)
	if !ok || p.path == "" || len(data) > slotSize-slotHead {
		return untold
	}
	at := time.Now().UnixNano()
	var b [slotSize]byte
	binary.LittleEndian.PutUint32(b[:], uint32(len(data)))
	binary.LittleEndian.PutUint64(b[8:], inode)
	binary.LittleEndian.PutUint64(b[16:], uint64(at))
	binary.LittleEndian.PutUint16(b[24:], uint16(sa.Port))
	copy(b[26:], sa.Addr[:])
	n := slotHead + copy(b[slotHead:], data)
	p.mu.Lock()
	defer p.mu.Unlock()
	slot := p.free()
	if slot < 0 || p.open() != nil {
		return untold
	}
	if _, err := p.file.WriteAt(b[:n], int64(slot)*slotSize); err != nil {
		return untold // the disk is full: as if there were no file
	}
	p.used[slot] = true
	return ticket{slot, at}
}

// free finds an empty slot, beginning behind the last one that was taken.
func (p *pending) free() int {
	for i := range mostPending {
		if n := (p.next + i) % mostPending; !p.used[n] {
			p.next = n + 1
			return n
		}
	}
	return -1
}

func (p *pending) open() (err error) {
	if p.file == nil {
		p.file, err = os.OpenFile(p.path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	}
	return err
}

// drop forgets a lookup that was answered.
func (p *pending) drop(t ticket) {
	if t.slot < 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used[t.slot] = false
	if p.file != nil {
		// Left behind, it would be asked for once more, to no harm.
		_, _ = p.file.WriteAt(make([]byte, 4), int64(t.slot)*slotSize)
	}
}

// take gives what the daemon before left, and empties the file.
func (p *pending) take() ([]waiter, error) {
	if p.path == "" {
		return nil, nil
	}
	f, err := os.OpenFile(p.path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, mostPending*slotSize))
	if err == nil {
		err = f.Truncate(0)
	}
	return parseWaiters(data, time.Now()), err
}

// parseWaiters reads the file; what is no lookup, or too old, is passed over.
func parseWaiters(data []byte, now time.Time) (out []waiter) {
	for n := 0; len(data) > slotHead; n++ {
		slot := data[:min(slotSize, len(data))]
		data = data[len(slot):]
		size := binary.LittleEndian.Uint32(slot)
		w := waiter{
			ticket: ticket{n, int64(binary.LittleEndian.Uint64(slot[16:]))}, inode: binary.LittleEndian.Uint64(slot[8:]),
			from: netip.AddrPortFrom(netip.AddrFrom4([4]byte(slot[26:30])), binary.LittleEndian.Uint16(slot[24:])),
		}
		if age := now.Sub(time.Unix(0, w.at)); size == 0 || int64(size) > int64(len(slot)-slotHead) || age < 0 || age > tooOld {
			continue
		}
		w.data = slot[slotHead:][:size]
		out = append(out, w)
	}
	return out
}

func (p *pending) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file != nil {
		p.file.Close()
		p.file, p.path = nil, ""
	}
}
