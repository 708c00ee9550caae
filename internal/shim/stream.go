package shim

import (
	"golang.org/x/sys/unix"

	"muelle/internal/logdriver"
)

// source is an output of a process: a pipe, or a terminal's master side.
type source struct {
	s       *shim
	fd      int
	stream  logdriver.Stream
	log     *output // nil for an exec
	sinks   []*sink
	blocked int    // sinks that still have something to take
	eof     bool   // nothing comes any more
	ended   func() // told once at the end
}

// sink is an attached reader.
type sink struct {
	src     *source
	fd      int
	pending backlog
}

func (src *source) begin() error { return src.s.loop.watch(src.fd, unix.EPOLLIN, src) }

func (src *source) ready(uint32) {
	for range 4 {
		if src.blocked > 0 || !src.read() {
			return
		}
	}
}

// read passes one piece on; false when nothing is there.
func (src *source) read() bool {
	n, err := unix.Read(src.fd, src.s.loop.scratch)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return false
	case err != nil || n == 0:
		if err != nil && err != unix.EIO && src.log != nil { // EIO: the terminal's last slave side was closed
			src.s.logged.Unread++
		}
		src.end()
		return false
	}
	src.deliver(src.s.loop.scratch[:n])
	return true
}

func (src *source) deliver(p []byte) {
	if src.log != nil {
		src.log.write(src.stream, p)
	}
	for i := 0; i < len(src.sinks); {
		k := src.sinks[i]
		k.write(p)
		if i < len(src.sinks) && src.sinks[i] == k {
			i++
		}
	}
}

// drain reads what the process left behind, however slow the attached readers
// are: a pipe holds little, and the log must be complete when the exit is told.
func (src *source) drain() {
	const most = 4 << 20
	for range most / len(src.s.loop.scratch) {
		if src.eof || !src.read() {
			return
		}
	}
}

// end closes the source; sinks follow as soon as they have everything.
func (src *source) end() {
	if src.eof {
		return
	}
	src.eof = true
	src.s.loop.close(src.fd)
	for _, k := range append([]*sink(nil), src.sinks...) {
		if len(k.pending.rest) == 0 {
			k.drop()
		}
	}
	if src.ended != nil {
		src.ended()
	}
}

// attach connects a pipe's writing end.
func (src *source) attach(fd int) {
	k := &sink{src: src, fd: fd}
	if src.eof || unix.SetNonblock(fd, true) != nil || src.s.loop.watch(fd, 0, k) != nil {
		unix.Close(fd)
		return
	}
	src.sinks = append(src.sinks, k)
}

func (k *sink) write(p []byte) {
	if len(k.pending.rest) > 0 {
		k.pending.add(k.src.s.loop, p)
		return
	}
	for len(p) > 0 {
		n, err := unix.Write(k.fd, p)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			k.pending.add(k.src.s.loop, p)
			k.src.block()
			if k.src.s.loop.watch(k.fd, unix.EPOLLOUT, k) != nil {
				k.drop()
			}
			return
		case err != nil:
			k.drop()
			return
		default:
			p = p[n:]
		}
	}
}

func (k *sink) ready(events uint32) {
	if events&unix.EPOLLERR != 0 { // the reader has gone
		k.drop()
		return
	}
	for len(k.pending.rest) > 0 {
		n, err := unix.Write(k.fd, k.pending.rest)
		if err == unix.EAGAIN {
			return
		}
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			k.drop()
			return
		}
		k.pending.took(n)
	}
	k.pending.clear(k.src.s.loop)
	if k.src.eof {
		k.drop()
		return
	}
	if k.src.s.loop.watch(k.fd, 0, k) != nil {
		k.drop()
		return
	}
	k.src.unblock()
}

func (k *sink) drop() {
	if k.fd < 0 {
		return
	}
	k.src.s.loop.close(k.fd)
	k.fd = -1
	for i, o := range k.src.sinks {
		if o == k {
			k.src.sinks = append(k.src.sinks[:i], k.src.sinks[i+1:]...)
			break
		}
	}
	waited := len(k.pending.rest) > 0
	k.pending.clear(k.src.s.loop)
	if waited {
		k.src.unblock()
	}
	k.src.s.maybeQuit()
}

// block stops reading from the process until its slowest reader has caught up.
func (src *source) block() {
	if src.blocked++; src.blocked == 1 && !src.eof {
		src.s.loop.ignore(src.fd)
	}
}

func (src *source) unblock() {
	src.blocked--
	if src.blocked == 0 && !src.eof {
		if err := src.begin(); err != nil {
			src.end()
		}
	}
}
