package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/term"
	"golang.org/x/sys/unix"

	"muelle/client"
	"muelle/internal/console"
)

// checkTTY refuses a terminal for the container where our input is none.
func (a *app) checkTTY(attachStdin, tty bool) error {
	if tty && attachStdin && !console.IsTerminal(a.In) {
		return errors.New("the input device is not a TTY")
	}
	return nil
}

// pump carries the streams of a container or process over a connection.
type pump struct {
	conn                  *client.Conn
	tty                   bool
	stdin, stdout, stderr bool
	detachKeys            string
	resize                func(ctx context.Context, width, height uint) error
	// frames reads the output instead of the two usual ways.
	frames func(out, err io.Writer) error
	// started says that there is something to resize already.
	started <-chan struct{}
}

// errDetached is the end of a stream by the detach keys.
var errDetached = errors.New("read escape sequence")

// copyStreams runs until the output ends, the detach keys are typed, or the context
// ends.
func (a *app) copyStreams(ctx context.Context, p pump) error {
	restore := func() {}
	if p.tty && p.stdin {
		r, err := console.Raw(a.In, a.Out)
		if err != nil {
			return fmt.Errorf("set the terminal to raw mode: %w", err)
		}
		restore = r
	}
	defer restore()
	if p.tty && console.IsTerminal(a.Out) {
		defer a.followSize(ctx, p)()
	}
	output := make(chan error, 1)
	if p.stdout || p.stderr {
		go func() { output <- a.copyOutput(p) }()
	}
	// Reading from our own standard input cannot be given up: this goroutine lives
	// as long as the program.
	input := make(chan error, 1)
	go func() { input <- a.copyInput(p) }()
	for {
		select {
		case err := <-output:
			return err
		case err := <-input:
			if errors.Is(err, errDetached) || !p.stdout && !p.stderr {
				return err
			}
			input = nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (a *app) copyOutput(p pump) error {
	out, errOut := a.Out, a.Err
	if !p.stdout {
		out = io.Discard
	}
	if !p.stderr {
		errOut = io.Discard
	}
	var err error
	switch {
	case p.frames != nil:
		err = p.frames(out, errOut)
	case p.tty:
		_, err = io.Copy(out, p.conn)
	default:
		_, err = stdcopy.StdCopy(out, errOut, p.conn)
	}
	if errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	return err
}

func (a *app) copyInput(p pump) error {
	if p.stdin {
		in := a.In
		if p.tty {
			keys := []byte{16, 17}
			if p.detachKeys != "" {
				custom, err := term.ToBytes(p.detachKeys)
				if err != nil {
					return fmt.Errorf("invalid detach keys: %w", err)
				}
				keys = custom
			}
			in = term.NewEscapeProxy(in, keys)
		}
		if _, err := io.Copy(p.conn.Conn, in); errors.As(err, new(term.EscapeError)) {
			return errDetached
		}
		// Another failure shows on the output's side too.
	}
	_ = p.conn.CloseWrite()
	return nil
}

// followSize tells the other side our terminal's size, now and when it changes.
func (a *app) followSize(ctx context.Context, p pump) (stop func()) {
	if p.resize == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	first := make(chan struct{})
	go func() {
		defer close(first)
		if p.started != nil {
			select {
			case <-p.started:
			case <-ctx.Done():
				return
			}
		}
		if w, h := console.Size(a.Out); w > 0 || h > 0 {
			_ = p.resize(ctx, w, h)
		}
	}()
	// A size that cannot be set, because the process has just ended, is no error.
	end := console.OnResize(ctx, a.Out, func(ctx context.Context, w, h uint) { _ = p.resize(ctx, w, h) })
	return func() {
		cancel()
		end()
		<-first
	}
}

// startAttached starts a container whose streams are attached, and gives its exit
// code.
func (a *app) startAttached(ctx context.Context, api *client.Client, id string, autoRemove bool, verb string, p pump) error {
	cond := container.WaitConditionNextExit
	if autoRemove {
		cond = container.WaitConditionRemoved
	}
	end, err := api.Containers.Wait(ctx, id, cond)
	if err != nil {
		return err
	}
	started := make(chan struct{})
	p.started = started
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	streams := make(chan error, 1)
	go func() { streams <- a.copyStreams(ctx, p) }()
	if err := api.Containers.Start(ctx, id); err != nil {
		cancel()
		<-streams
		if autoRemove {
			// It is gone when the wait ends; how it ended does not matter.
			_, _ = end()
		}
		if verb == "run" {
			return a.failed(err)
		}
		return err
	}
	close(started)
	type result struct {
		container.WaitResponse
		err error
	}
	ended := make(chan result, 1)
	go func() {
		r, err := end()
		ended <- result{r, err}
	}()
	var r result
	select {
	case err := <-streams:
		if errors.Is(err, errDetached) {
			return nil
		}
		if err != nil {
			return err
		}
		r = <-ended
	case r = <-ended:
		if !p.stdout && !p.stderr {
			cancel()
		}
		<-streams
	}
	if r.err != nil {
		return statusError{125, "error waiting for container: " + r.err.Error()}
	}
	return exitStatus(r.WaitResponse)
}

func exitStatus(r container.WaitResponse) error {
	if r.Error != nil && r.Error.Message != "" {
		return statusError{125, "Error waiting for container: " + r.Error.Message}
	}
	if r.StatusCode != 0 {
		return statusError{int(r.StatusCode), ""}
	}
	return nil
}

// forwardSignals sends every signal that we get to a container, until the returned
// function is called, which waits for one that is being sent. After it the program is
// about to end: that the signals stay caught until then saves the millisecond that
// giving all 65 back takes. Those that end the program are watched apart.
func (a *app) forwardSignals(api *client.Client, id string) (stop func()) {
	ch := make(chan os.Signal, 128)
	signal.Notify(ch)
	var sending sync.Mutex
	over := false
	go func() {
		for s := range ch {
			n, ok := s.(syscall.Signal)
			// SIGURG is the Go runtime's own.
			if !ok || n == syscall.SIGCHLD || n == syscall.SIGPIPE || n == syscall.SIGURG || n == syscall.SIGWINCH {
				continue
			}
			name := strings.TrimPrefix(unix.SignalName(n), "SIG")
			if name == "" {
				name = strconv.Itoa(int(n))
			}
			sending.Lock()
			if !over {
				// The container may have ended meanwhile.
				_ = api.Containers.Kill(context.Background(), id, name)
			}
			sending.Unlock()
		}
	}()
	return func() {
		sending.Lock()
		over = true
		sending.Unlock()
	}
}
