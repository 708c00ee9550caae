package remote

import (
	"time"

	"golang.org/x/sys/unix"

	"muelle/internal/logdriver"
)

// stream tells whether the socket carries bytes rather than messages.
func (w *Writer) stream() bool {
	return w.cfg.Network == "tcp" || w.cfg.Network == "unix" || w.helping()
}

func (w *Writer) helping() bool { return len(w.cfg.Helper) > 0 }

// address gives the service's address and its family.
func (w *Writer) address() (unix.Sockaddr, int, error) {
	a := w.cfg.Addr
	switch {
	case w.cfg.Path != "":
		return &unix.SockaddrUnix{Name: w.cfg.Path}, unix.AF_UNIX, nil
	case len(a) == 4:
		return &unix.SockaddrInet4{Port: int(w.cfg.Port), Addr: [4]byte(a)}, unix.AF_INET, nil
	case len(a) == 16:
		return &unix.SockaddrInet6{Port: int(w.cfg.Port), Addr: [16]byte(a), ZoneId: w.cfg.Zone}, unix.AF_INET6, nil
	}
	return nil, 0, unix.EINVAL
}

// dial begins to connect.
func (w *Writer) dial() error {
	if w.helping() {
		w.begun = time.Now()
		fd, err := w.helper(w.cfg.Helper)
		if err == nil {
			w.fd, w.connecting, w.greeting = fd, true, true
		}
		return err
	}
	addr, family, err := w.address()
	if err != nil {
		return err
	}
	kind := unix.SOCK_DGRAM
	if w.stream() {
		kind = unix.SOCK_STREAM
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	err = unix.Connect(fd, addr)
	if err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return err
	}
	w.fd, w.connecting = fd, err == unix.EINPROGRESS
	return nil
}

// await waits for a connection that is being made.
func (w *Writer) await(patience time.Duration) error {
	deadline := time.Now().Add(patience)
	for w.connecting {
		left := time.Until(deadline)
		if left <= 0 {
			return unix.ETIMEDOUT
		}
		events := int16(unix.POLLOUT)
		if w.greeting {
			events = unix.POLLIN
		}
		p := []unix.PollFd{{Fd: int32(w.fd), Events: events}}
		if _, err := unix.Poll(p, int(left.Milliseconds())+1); err != nil && err != unix.EINTR {
			return err
		}
		if err := w.settle(); err != nil {
			return err
		}
	}
	return nil
}

// settle asks how a connection that is being made stands.
func (w *Writer) settle() error {
	if w.greeting {
		return w.greet()
	}
	p := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLOUT}}
	if n, err := unix.Poll(p, 0); err != nil || n == 0 {
		return nil // not yet
	}
	e, err := unix.GetsockoptInt(w.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if e != 0 {
		return unix.Errno(e)
	}
	w.connecting = false
	return nil
}

// refusal is why a helper could not connect.
type refusal string

func (r refusal) Error() string { return string(r) }

// greet hears how a helper fared.
func (w *Writer) greet() error {
	var b [logdriver.HelperWords]byte
	n, err := unix.Read(w.fd, b[:])
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return nil // not yet
	case err != nil:
		return err
	case n == 0:
		return refusal(w.cfg.Helper[0] + " ended without a word")
	case b[0] != logdriver.HelperReady:
		return refusal(b[:n])
	}
	w.connecting, w.greeting = false, false
	return nil
}

// connected tells whether messages can be sent, and sees to it where it is time.
func (w *Writer) connected() bool {
	if w.fd < 0 {
		if time.Now().Before(w.next) {
			return false
		}
		if w.dial() != nil {
			w.later()
			return false
		}
	}
	if w.connecting && w.settle() != nil {
		w.disconnect()
		w.later()
	}
	return w.fd >= 0 && !w.connecting
}

// later puts the next attempt off.
func (w *Writer) later() {
	w.retry = min(max(firstRetry, 2*w.retry), lastRetry)
	w.next = time.Now().Add(w.retry)
}

func (w *Writer) disconnect() {
	if w.fd >= 0 {
		if w.Closing != nil {
			w.Closing(w.fd)
		}
		unix.Close(w.fd)
	}
	// What a stream has taken of a message is taken again: half of one is none.
	w.fd, w.connecting, w.greeting, w.sent = -1, false, false, 0
}

// send passes messages on until the service takes no more.
func (w *Writer) send() error {
	if w.stream() {
		return w.sendStream()
	}
	start, done := 0, 0
	defer func() { w.taken(done) }()
	for _, end := range w.ends {
		err := w.sendMessage(w.queue[start:end])
		if err != nil {
			return err
		}
		start = end
		done++
	}
	return nil
}

func (w *Writer) sendStream() error {
	n, err := unix.SendmsgN(w.fd, w.queue[w.sent:], nil, nil, unix.MSG_NOSIGNAL)
	if err == unix.EINTR {
		return nil
	}
	if err != nil {
		return err
	}
	w.sent += n
	done := 0
	for done < len(w.ends) && w.ends[done] <= w.sent {
		done++
	}
	w.taken(done)
	return nil
}

// sendMessage sends a datagram. One that is too large for the socket goes to the
// journal in a sealed file; any other service does not get it.
func (w *Writer) sendMessage(m []byte) error {
	for {
		_, err := unix.SendmsgN(w.fd, m, nil, nil, unix.MSG_NOSIGNAL)
		switch err {
		case unix.EINTR:
			continue
		case unix.EMSGSIZE, unix.ENOBUFS:
			if w.cfg.Kind == "journald" {
				return w.sendFile(m)
			}
			if err == unix.EMSGSIZE {
				w.lost++
				return nil
			}
		}
		return err
	}
}

// sendFile passes an entry as the descriptor of a sealed memory file, as the
// journal's native protocol has it for large ones.
func (w *Writer) sendFile(m []byte) error {
	fd, err := unix.MemfdCreate("log", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for len(m) > 0 {
		n, err := unix.Write(fd, m)
		if err != nil {
			return err
		}
		m = m[n:]
	}
	const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return err
	}
	return unix.Sendmsg(w.fd, nil, unix.UnixRights(fd), nil, unix.MSG_NOSIGNAL)
}
