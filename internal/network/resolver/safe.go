package resolver

import (
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Names are what the shim holds an asker's sockets by, in their order in Sockets.
var Names = [...]string{"dns-udp", "dns-tcp", "dns-safe-in", "dns-safe-out"}

// Sockets are one asker's: the one for datagrams, the one that listens, and the two ends
// of its safe, which containers that an older daemon started have not.
type Sockets [len(Names)]*os.File

// SocketsOf takes an asker's sockets out of what the shim holds; false: it has none.
func SocketsOf(held map[string]*os.File) (s Sockets, ok bool) {
	for i, name := range Names {
		s[i] = held[name]
		delete(held, name)
	}
	if s[0] != nil && s[1] != nil {
		return s, true
	}
	s.Close()
	return Sockets{}, false
}

// Close closes all that there are; others may hold them still.
func (s Sockets) Close() {
	for _, f := range s {
		if f != nil {
			f.Close()
		}
	}
}

// roomOfSafe is enough for each lookup and connection that an asker may have under way:
// the kernel counts some 800 bytes for one.
const roomOfSafe = 1 << 20

// newSafe makes the two ends of a safe.
func newSafe() (in, out *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	// In a user namespace it stays as large as usual: a few hundred.
	_ = unix.SetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, roomOfSafe)
	return rawFile(fds[0]), rawFile(fds[1]), nil
}

// maxNote is the longest note on what a socket in a safe is.
const maxNote = 128

// safe keeps sockets beyond the daemon's life, however it ends: copies of them lie in the
// queue of a pair of sockets which the shim holds open, and the next daemon takes them
// from there. Putting one in costs a system call, and the shim is not asked. A nil safe
// keeps nothing.
type safe struct {
	mu      sync.Mutex
	in, out *os.File
	queue   []*kept // what lies in the socket, in its order
	gone    int     // of which nobody needs any more
}

// kept is one socket in a safe.
type kept struct {
	fd   int
	what []byte
	gone bool
}

// keep puts a socket into the safe with a note of what it is, until release, which must
// come before it is closed. When the safe is full it is not kept.
func (s *safe) keep(fd int, what []byte) *kept {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := &kept{fd: fd, what: what}
	if s.in == nil || !s.put(k) {
		return nil
	}
	return k
}

func (s *safe) put(k *kept) bool {
	if unix.Sendmsg(int(s.in.Fd()), k.what, unix.UnixRights(k.fd), nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL) != nil {
		return false
	}
	s.queue = append(s.queue, k)
	return true
}

// release takes a socket out of the safe.
func (s *safe) release(k *kept) {
	if s == nil || k == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.in == nil || k.gone {
		return
	}
	k.gone = true
	s.gone++
	if live := len(s.queue) - s.gone; live == 0 || s.gone > max(live, 16) {
		s.tidy()
	}
}

// tidy empties the queue of what is gone. What is not gets in line again before its first
// copy is dropped: at no time it is out of the safe.
func (s *safe) tidy() {
	var note [maxNote]byte
	for range s.queue {
		if k := s.queue[0]; !k.gone && !s.put(k) {
			return
		}
		// Without room for descriptors the kernel closes them.
		if _, _, err := unix.Recvfrom(int(s.out.Fd()), note[:], unix.MSG_DONTWAIT); err != nil {
			return
		}
		if s.queue[0].gone {
			s.gone--
		}
		s.queue = s.queue[1:]
	}
	s.queue = slices.Clip(s.queue)
}

// found is a socket that the daemon before left.
type found struct {
	file *os.File
	what []byte
}

// take empties the safe of what the daemon before put into it; each socket once.
func (s *safe) take() (list []found) {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := map[uint64]bool{}
	for s.in != nil {
		var note [maxNote]byte
		var rights [64]byte
		n, oob, _, _, err := unix.Recvmsg(int(s.out.Fd()), note[:], rights[:], unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		if err != nil || n == 0 {
			break
		}
		for _, fd := range descriptors(rights[:oob]) {
			if inode := inodeOf(fd); seen[inode] {
				unix.Close(fd)
			} else {
				seen[inode] = true
				list = append(list, found{file: os.NewFile(uintptr(fd), "lookup"), what: slices.Clone(note[:n])})
			}
		}
	}
	return list
}

func descriptors(control []byte) (fds []int) {
	list, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil
	}
	for i := range list {
		more, err := unix.ParseUnixRights(&list[i])
		if err == nil {
			fds = append(fds, more...)
		}
	}
	return fds
}

// inodeOf is the kernel's number of a socket, whoever has it open.
func inodeOf(fd int) uint64 {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return 0
	}
	return st.Ino
}

// close leaves everything in the safe to the next daemon.
func (s *safe) close() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.in != nil {
		s.in.Close()
		s.out.Close()
		s.in, s.out, s.queue = nil, nil, nil
	}
}
