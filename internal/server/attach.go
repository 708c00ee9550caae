package server

import (
	"context"
	"errors"

	"muelle/internal/container"
)

// attachContainer connects the client to a container's streams. The connection is
// taken over when the service has found the container; an error before that is an
// ordinary answer, one after it ends the stream.
func (s *Server) attachContainer(w *reply, r *request) error {
	q := r.URL.Query()
	keys, err := detachKeys(q.Get("detachKeys"))
	if err != nil {
		return err
	}
	stdin, stdout, stderr := boolOf(q, "stdin"), boolOf(q, "stdout"), boolOf(q, "stderr")
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	var st *stream
	defer func() {
		if st != nil {
			st.close()
		}
	}()
	err = s.o.Containers.Attach(ctx, r.name, container.AttachOptions{
		Logs: boolOf(q, "logs"), Stream: boolOf(q, "stream"), DetachKeys: q.Get("detachKeys"),
		Open: func(tty bool) (container.Streams, error) {
			var err error
			if st, err = s.takeOver(w, r); err != nil {
				return container.Streams{}, err
			}
			if err := st.upgrade(r.Request, streamType(r, tty)); err != nil {
				return container.Streams{}, err
			}
			return st.streams(cancel, tty, keys, stdin, stdout, stderr), nil
		},
	})
	if ended(ctx, err) {
		return nil
	}
	return err
}

// ended tells that err is only what remains of a stream that the client ended.
func ended(ctx context.Context, err error) bool {
	cause := context.Cause(ctx)
	return err != nil && (errors.Is(cause, errDetached) || errors.Is(cause, errGone))
}

// streamType is the content type of a taken-over connection.
func streamType(r *request, tty bool) string {
	if !tty && r.version >= 42 && r.Header.Get("Upgrade") != "" {
		return multiplexedStream
	}
	return rawStream
}

// streams connects a process to the stream. Whoever asked for it is told by cancel
// when the client has gone or typed the detach keys, which only a terminal has.
func (st *stream) streams(cancel context.CancelCauseFunc, tty bool, keys []byte, stdin, stdout, stderr bool) container.Streams {
	var c container.Streams
	if in := st.input(cancel, stdin); in != nil {
		c.Stdin = in
		if tty {
			c.Stdin = newDetachable(in, keys, cancel)
		}
	}
	out, errout := (&framer{w: st.Conn, raw: tty, before: st.settle}).outputs()
	if stdout {
		c.Stdout = out
	}
	if stderr && !tty {
		c.Stderr = errout
	}
	if tty && stderr && !stdout {
		c.Stdout = out // a terminal has one output
	}
	return c
}
