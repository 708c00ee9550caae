package native

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"muelle/internal/runtime"
	"muelle/internal/shimapi"
)

// attachment connects one Streams with pipes to the shim.
type attachment struct {
	s        *runtime.Streams
	local    [3]*os.File // our ends: we write to the first and read the others
	remoteFD [3]int
}

func newAttachment(s *runtime.Streams) (*attachment, error) {
	a := &attachment{s: s, remoteFD: [3]int{-1, -1, -1}}
	for i, want := range []bool{s.Stdin != nil, s.Stdout != nil, s.Stderr != nil} {
		if !want {
			continue
		}
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
			a.cancel()
			return nil, fmt.Errorf("make pipe: %w", err)
		}
		mine, theirs := p[0], p[1]
		if i == 0 {
			mine, theirs = p[1], p[0]
		}
		a.local[i] = os.NewFile(uintptr(mine), "stream")
		a.remoteFD[i] = theirs
	}
	return a, nil
}

func (a *attachment) message(process string) shimapi.Attach {
	return shimapi.Attach{Process: process, Stdin: a.local[0] != nil, Stdout: a.local[1] != nil, Stderr: a.local[2] != nil}
}

func (a *attachment) remote() (fds []int) {
	for _, fd := range a.remoteFD {
		if fd >= 0 {
			fds = append(fds, fd)
		}
	}
	return fds
}

func (a *attachment) closeRemote() {
	for i, fd := range a.remoteFD {
		if fd >= 0 {
			unix.Close(fd)
			a.remoteFD[i] = -1
		}
	}
}

// cancel gives up an attachment that never ran.
func (a *attachment) cancel() {
	a.closeRemote()
	a.closeLocal()
}

func cancelAll(all []*attachment) {
	for _, a := range all {
		a.cancel()
	}
}

func (a *attachment) closeLocal() {
	for _, f := range a.local {
		if f != nil {
			f.Close()
		}
	}
}

// run copies until the process's outputs end, ctx ends or a copy fails, and then
// tells Done. ended is for an attachment without outputs.
func (a *attachment) run(ctx context.Context, ended <-chan struct{}) {
	a.closeRemote()
	stop := context.AfterFunc(ctx, a.closeLocal)
	if a.local[0] != nil {
		go a.feed()
	}
	go func() {
		var wg sync.WaitGroup
		var errs [2]error
		for i, w := range []io.Writer{a.s.Stdout, a.s.Stderr} {
			if a.local[i+1] == nil {
				continue
			}
			wg.Go(func() {
				_, err := io.Copy(w, a.local[i+1])
				if err != nil && !errors.Is(err, os.ErrClosed) {
					errs[i] = err
					// The other output goes with it: its reader has gone.
					a.closeLocal()
				}
			})
		}
		wg.Wait()
		if a.local[1] == nil && a.local[2] == nil {
			select {
			case <-ended:
			case <-ctx.Done():
			}
		}
		stop()
		a.closeLocal()
		if a.s.Done != nil {
			a.s.Done(errors.Join(errs[0], errs[1], ctx.Err()))
		}
	}()
}

// feed copies input until either side ends. It may outlast the attachment, until
// the reader returns: Go cannot interrupt it.
func (a *attachment) feed() {
	// The process may close its input at any time: that is no failure.
	io.Copy(a.local[0], a.s.Stdin)
	a.local[0].Close()
}
