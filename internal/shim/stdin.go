package shim

import "golang.org/x/sys/unix"

// stdin is a process's standard input: a pipe's writing end, or a terminal's
// master side.
type stdin struct {
	s       *shim
	fd      int
	once    bool // the first writer that leaves closes it
	tty     bool
	closing bool
	pending backlog
	feeders []*feeder
}

// feeder is an attached writer.
type feeder struct {
	in *stdin
	fd int
}

func newStdin(s *shim, fd int, once, tty bool) (*stdin, error) {
	in := &stdin{s: s, fd: fd, once: once, tty: tty}
	return in, s.loop.watch(fd, 0, in)
}

// attach connects a pipe's reading end.
func (in *stdin) attach(fd int) {
	f := &feeder{in: in, fd: fd}
	if in.fd < 0 || in.closing || unix.SetNonblock(fd, true) != nil {
		unix.Close(fd)
		return
	}
	in.feeders = append(in.feeders, f)
	if len(in.pending.rest) == 0 && in.s.loop.watch(fd, unix.EPOLLIN, f) != nil {
		f.drop()
	}
}

func (f *feeder) ready(uint32) {
	n, err := unix.Read(f.fd, f.in.s.loop.scratch)
	if err == unix.EAGAIN || err == unix.EINTR {
		return
	}
	if err != nil || n == 0 {
		in := f.in
		f.drop()
		if in.once && !in.tty {
			in.finish()
		}
		return
	}
	f.in.write(f.in.s.loop.scratch[:n])
}

func (f *feeder) drop() {
	f.in.s.loop.close(f.fd)
	for i, o := range f.in.feeders {
		if o == f {
			f.in.feeders = append(f.in.feeders[:i], f.in.feeders[i+1:]...)
			break
		}
	}
}

// write passes on what a feeder said; what the process does not take yet makes
// every feeder wait.
func (in *stdin) write(p []byte) {
	for len(p) > 0 {
		n, err := unix.Write(in.fd, p)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			in.pending.add(in.s.loop, p)
			for _, f := range in.feeders {
				in.s.loop.ignore(f.fd)
			}
			if in.s.loop.watch(in.fd, unix.EPOLLOUT, in) != nil {
				in.close()
			}
			return
		case err != nil:
			in.close()
			return
		default:
			p = p[n:]
		}
	}
}

func (in *stdin) ready(events uint32) {
	if events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		if in.tty {
			// A terminal without a slave side may be opened again.
			in.s.loop.ignore(in.fd)
			return
		}
		in.close()
		return
	}
	for len(in.pending.rest) > 0 {
		n, err := unix.Write(in.fd, in.pending.rest)
		if err == unix.EAGAIN {
			return
		}
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			in.close()
			return
		}
		in.pending.took(n)
	}
	in.pending.clear(in.s.loop)
	if in.closing {
		in.close()
		return
	}
	if in.s.loop.watch(in.fd, 0, in) != nil {
		in.close()
		return
	}
	for _, f := range append([]*feeder(nil), in.feeders...) {
		if in.s.loop.watch(f.fd, unix.EPOLLIN, f) != nil {
			f.drop()
		}
	}
}

// finish closes it once everything was taken.
func (in *stdin) finish() {
	in.closing = true
	if len(in.pending.rest) == 0 {
		in.close()
	}
}

func (in *stdin) close() {
	if in.fd < 0 {
		return
	}
	in.s.loop.close(in.fd)
	in.fd = -1
	in.pending.clear(in.s.loop)
	for len(in.feeders) > 0 {
		in.feeders[0].drop()
	}
}
