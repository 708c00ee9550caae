package console

import (
	"context"
	"io"
	"os"
	"os/signal"

	"github.com/moby/moby/client/pkg/jsonmessage"
	"github.com/moby/term"
	"golang.org/x/sys/unix"
)

// FD returns a stream's file descriptor, and whether it is a terminal.
func FD(stream any) (uintptr, bool) { return term.GetFdInfo(stream) }

// IsTerminal says whether a stream is one.
func IsTerminal(stream any) bool {
	_, ok := term.GetFdInfo(stream)
	return ok
}

// Size is the terminal's size in columns and rows; zeroes if stream is none.
func Size(stream any) (width, height uint) {
	fd, ok := term.GetFdInfo(stream)
	if !ok {
		return 0, 0
	}
	ws, err := term.GetWinsize(fd)
	if err != nil || ws == nil {
		return 0, 0
	}
	return uint(ws.Width), uint(ws.Height)
}

// Raw puts the terminals of in and out into raw mode and returns what undoes it,
// safe to be called more than once.
func Raw(in io.Reader, out io.Writer) (restore func(), err error) {
	type saved struct {
		fd    uintptr
		state *term.State
	}
	var all []saved
	restore = func() {
		for _, s := range all {
			_ = term.RestoreTerminal(s.fd, s.state)
		}
		all = nil
	}
	if fd, ok := term.GetFdInfo(in); ok {
		st, err := term.SetRawTerminal(fd)
		if err != nil {
			return restore, err
		}
		all = append(all, saved{fd, st})
	}
	if fd, ok := term.GetFdInfo(out); ok {
		st, err := term.SetRawTerminalOutput(fd)
		if err != nil {
			restore()
			return restore, err
		}
		all = append(all, saved{fd, st})
	}
	return restore, nil
}

// OnResize calls f with the size of out's terminal whenever it changes, until the
// returned function is called, which waits for the last call.
func OnResize(ctx context.Context, out any, f func(ctx context.Context, width, height uint)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, unix.SIGWINCH)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-ch:
				if w, h := Size(out); w > 0 || h > 0 {
					f(ctx, w, h)
				}
			}
		}
	}()
	return func() {
		signal.Stop(ch)
		cancel()
		<-done
	}
}

// DisplayProgress shows a stream of jsonstream messages (pull, push, load) as
// Docker does, and returns the error that the stream carries.
func DisplayProgress(in io.Reader, out io.Writer) error {
	return jsonmessage.DisplayStream(in, out)
}
