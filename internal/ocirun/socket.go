package ocirun

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"muelle/internal/shimapi"
)

func sendFrame(fd int, t shimapi.Type, m shimapi.Message, fds []int) error {
	b := shimapi.AppendFrame(nil, t, 0, len(fds), m)
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	for len(b) > 0 {
		n, err := unix.SendmsgN(fd, b, oob, nil, unix.MSG_NOSIGNAL)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b, oob = b[n:], nil
	}
	return nil
}

// receiveFrame reads one frame; the peer sends no second one unasked.
func receiveFrame(fd int) (h shimapi.Header, payload []byte, fds []int, err error) {
	var in []byte
	buf, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4*4))
	for {
		n, oobn, _, _, err := unix.Recvmsg(fd, buf, oob, unix.MSG_CMSG_CLOEXEC)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return h, nil, nil, err
		case n == 0:
			return h, nil, nil, errEnded
		}
		messages, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil {
			return h, nil, nil, err
		}
		for i := range messages {
			if got, err := unix.ParseUnixRights(&messages[i]); err == nil {
				fds = append(fds, got...)
			}
		}
		in = append(in, buf[:n]...)
		if len(in) < shimapi.HeaderSize {
			continue
		}
		h, ok := shimapi.ParseHeader(in)
		if !ok {
			return h, nil, nil, shimapi.ErrMalformed
		}
		if end := shimapi.HeaderSize + int(h.Length); len(in) >= end {
			return h, in[shimapi.HeaderSize:end], fds, nil
		}
	}
}

var errEnded = fmt.Errorf("without a word")

// listenIn makes the socket at which a stage waits for its start, named by the
// folder's descriptor because a socket's path may have 107 bytes only.
func listenIn(dir string) (int, error) {
	d, err := os.Open(dir)
	if err != nil {
		return -1, err
	}
	defer d.Close()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	path := "/proc/self/fd/" + strconv.Itoa(int(d.Fd())) + "/" + startSocket
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err == nil {
		if err = os.Chmod(filepath.Join(dir, startSocket), 0o600); err == nil {
			err = unix.Listen(fd, 1)
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("make the start's socket: %w", err)
	}
	return fd, nil
}

// connect dials a socket by a path of any length.
func connect(path string) (int, error) {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return -1, err
	}
	defer d.Close()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	name := "/proc/self/fd/" + strconv.Itoa(int(d.Fd())) + "/" + filepath.Base(path)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: name}); err != nil {
		unix.Close(fd)
		return -1, &os.PathError{Op: "connect", Path: path, Err: err}
	}
	return fd, nil
}

// awaitExec lets a stage go on and returns when it has executed the program.
func awaitExec(dir string) error {
	fd, err := connect(filepath.Join(dir, startSocket))
	if err != nil {
		return fmt.Errorf("reach the container's first process: %w", err)
	}
	defer unix.Close(fd)
	h, payload, _, err := receiveFrame(fd)
	if err == errEnded || err == unix.ECONNRESET {
		return nil // closed by exec
	}
	if err != nil {
		return err
	}
	return replied(h, payload)
}

// dialConsole connects to the socket that takes the terminal, -1 where none does.
func dialConsole(path string) (int, error) {
	if path == "" {
		return -1, nil
	}
	fd, err := connect(path)
	if err != nil {
		return -1, fmt.Errorf("console socket: %w", err)
	}
	return fd, nil
}

// sendConsole passes a terminal's master side, with a name as other runtimes do.
func sendConsole(console, master int) error {
	if console < 0 {
		return nil
	}
	if err := unix.Sendmsg(console, []byte("/dev/ptmx"), unix.UnixRights(master), nil, unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("send terminal: %w", err)
	}
	return nil
}
