package native

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"muelle/internal/runtime"
	"muelle/internal/shimapi"
)

// client speaks with one shim. Its reader is the one goroutine per task.
type client struct {
	conn   *net.UnixConn
	hello  chan *shimapi.Hello
	exited func(*shimapi.Exited)
	done   chan struct{} // closed when the connection has ended

	mu     sync.Mutex
	seq    uint32
	calls  map[uint32]chan answer
	failed error

	write sync.Mutex
}

type answer struct {
	reply shimapi.Reply
	files []*os.File
}

var errConnection = errors.New("the connection to the shim has ended")

func newClient(conn *net.UnixConn, exited func(*shimapi.Exited)) *client {
	return &client{conn: conn, hello: make(chan *shimapi.Hello, 1), exited: exited,
		done: make(chan struct{}), calls: map[uint32]chan answer{}}
}

// read serves until the connection ends.
func (c *client) read() {
	defer close(c.done)
	err := c.serve()
	c.conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = fmt.Errorf("%w: %w", errConnection, err)
	for _, ch := range c.calls {
		close(ch)
	}
	c.calls = nil
}

func (c *client) serve() error {
	var in []byte
	var files []*os.File
	defer func() { closeFiles(files) }()
	buf := make([]byte, 4096)
	oob := make([]byte, unix.CmsgSpace(shimapi.MaxFDs*4))
	for {
		n, oobn, _, _, err := c.conn.ReadMsgUnix(buf, oob)
		if err != nil {
			return err
		}
		if n == 0 {
			return io.EOF
		}
		if oobn > 0 {
			got, err := received(oob[:oobn])
			if err != nil {
				return err
			}
			files = append(files, got...)
		}
		in = append(in, buf[:n]...)
		for len(in) >= shimapi.HeaderSize {
			h, ok := shimapi.ParseHeader(in)
			if !ok {
				return shimapi.ErrMalformed
			}
			end := shimapi.HeaderSize + int(h.Length)
			if len(in) < end || len(files) < int(h.FDs) {
				break
			}
			if err := c.take(h, in[shimapi.HeaderSize:end], files[:h.FDs:h.FDs]); err != nil {
				return err
			}
			files = files[h.FDs:]
			in = append([]byte(nil), in[end:]...)
		}
	}
}

func (c *client) take(h shimapi.Header, payload []byte, files []*os.File) error {
	switch h.Type {
	case shimapi.TypeHello:
		m := &shimapi.Hello{}
		if err := shimapi.Decode(payload, m); err != nil {
			return err
		}
		select {
		case c.hello <- m:
		default:
		}
	case shimapi.TypeExited:
		m := &shimapi.Exited{}
		if err := shimapi.Decode(payload, m); err != nil {
			return err
		}
		c.exited(m)
	case shimapi.TypeReply:
		var a answer
		if err := shimapi.Decode(payload, &a.reply); err != nil {
			return err
		}
		a.files = files
		c.mu.Lock()
		ch := c.calls[h.Seq]
		delete(c.calls, h.Seq)
		c.mu.Unlock()
		if ch == nil {
			closeFiles(files)
			return nil
		}
		ch <- a
		return nil
	}
	closeFiles(files)
	return nil
}

// received gives the descriptors of a control message as files.
func received(oob []byte) ([]*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			closeFiles(files)
			return nil, err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "held"))
		}
	}
	return files, nil
}

// call sends a request and waits for its answer. Descriptors stay the caller's.
func (c *client) call(ctx context.Context, t shimapi.Type, m shimapi.Message, fds []int) (*answer, error) {
	return c.callSent(ctx, t, m, fds, nil)
}

// callSent is call, with sent called once the descriptors are on their way.
func (c *client) callSent(ctx context.Context, t shimapi.Type, m shimapi.Message, fds []int, sent func()) (*answer, error) {
	ch := make(chan answer, 1)
	c.mu.Lock()
	if c.failed != nil {
		err := c.failed
		c.mu.Unlock()
		return nil, err
	}
	c.seq++
	seq := c.seq
	c.calls[seq] = ch
	c.mu.Unlock()

	if err := c.send(shimapi.AppendFrame(nil, t, seq, len(fds), m), fds); err != nil {
		c.forget(seq)
		return nil, fmt.Errorf("%w: %w", errConnection, err)
	}
	if sent != nil {
		sent()
	}
	select {
	case a, ok := <-ch:
		if !ok {
			return nil, errConnection
		}
		if err := failure(&a.reply); err != nil {
			closeFiles(a.files)
			return nil, err
		}
		return &a, nil
	case <-ctx.Done():
		c.forget(seq)
		return nil, ctx.Err()
	}
}

func (c *client) forget(seq uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ch, ok := c.calls[seq]; ok {
		delete(c.calls, seq)
		select {
		case a := <-ch:
			closeFiles(a.files)
		default:
		}
	}
}

// send writes a frame; more descriptors than one message carries go ahead with its
// first bytes.
func (c *client) send(b []byte, fds []int) error {
	c.write.Lock()
	defer c.write.Unlock()
	for len(fds) > shimapi.MaxFDs {
		if _, _, err := c.conn.WriteMsgUnix(b[:1], unix.UnixRights(fds[:shimapi.MaxFDs]...), nil); err != nil {
			return err
		}
		b, fds = b[1:], fds[shimapi.MaxFDs:]
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	n, _, err := c.conn.WriteMsgUnix(b, oob, nil)
	if err != nil {
		return err
	}
	if n < len(b) {
		_, err = c.conn.Write(b[n:])
	}
	return err
}

// failure turns an answer into an error, nil for success.
func failure(r *shimapi.Reply) error {
	switch r.Code {
	case 0:
		return nil
	case shimapi.CodeGone:
		return errdefs.ErrFailedPrecondition.WithMessage("container is not running")
	case shimapi.CodeLog:
		return fmt.Errorf("%w: %s", runtime.ErrLog, r.Error)
	case 125, 126, 127, 128:
		return &runtime.StartError{Code: r.Code, Err: errors.New(r.Error)}
	}
	return errors.New(r.Error)
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
