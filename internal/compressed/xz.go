package compressed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/containerd/errdefs"
)

// memory is what xz may take: a header can ask for 4 GiB, `xz -9` needs 65 MiB.
const memory = "256MiB"

// unxz reads xz with the program of that name, as Docker does: in a process of its
// own a sender's header cannot take the engine's memory.
type unxz struct {
	cmd    *exec.Cmd
	cancel context.CancelFunc
	out    io.ReadCloser
	source *source
	words  words
	done   bool
	end    error // when done
}

func openXZ(r io.Reader) (io.ReadCloser, error) {
	path, err := exec.LookPath("xz")
	if err != nil {
		return nil, errdefs.ErrNotImplemented.WithMessage("unsupported compression: xz, for which the program xz is missing on the engine's machine (hint: install xz-utils, or send it uncompressed: xz -dc FILE | …)")
	}
	ctx, cancel := context.WithCancel(context.Background())
	u := &unxz{cmd: exec.CommandContext(ctx, path, "--decompress", "--stdout", "--quiet", "--memlimit-decompress="+memory), cancel: cancel, source: &source{r: r}}
	u.cmd.Stderr, u.cmd.Env, u.cmd.Dir = &u.words, []string{"LC_ALL=C"}, "/"
	in, err := u.cmd.StdinPipe()
	if err == nil {
		u.out, err = u.cmd.StdoutPipe()
	}
	if err == nil {
		err = u.cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("start xz: %w", err)
	}
	// Not as the command's input: its end would be waited for with a sender that is silent.
	go func() {
		_, _ = io.Copy(in, u.source) // what is wrong with it the process tells, or source
		_ = in.Close()
	}()
	return u, nil
}

func (u *unxz) Read(p []byte) (int, error) {
	n, err := u.out.Read(p)
	if err == nil || n > 0 {
		return n, nil
	}
	if err := u.wait(); err != nil {
		return 0, err
	}
	return 0, err
}

// wait ends the process, once, and says what was wrong.
func (u *unxz) wait() error {
	if u.done {
		return u.end
	}
	u.done = true
	defer u.cancel()
	err := u.cmd.Wait()
	failed := new(exec.ExitError)
	switch {
	case u.source.err.Load() != nil:
		u.end = fmt.Errorf("read archive: %w", *u.source.err.Load())
	case errors.As(err, &failed):
		u.end = errdefs.ErrInvalidArgument.WithMessage("read archive: " + u.words.String())
	case err != nil:
		u.end = fmt.Errorf("read archive: xz: %w", err)
	}
	return u.end
}

// Close ends the process, also in the middle.
func (u *unxz) Close() error {
	u.cancel()
	_ = u.wait()
	return nil
}

// words is the beginning of what xz complains of.
type words struct {
	mu   sync.Mutex
	text []byte
}

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, p[:min(len(p), 512-len(w.text))]...)
	return len(p), nil
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.TrimSpace(string(w.text))
}

// source remembers what was wrong with the sender, of which xz only sees the end.
type source struct {
	r   io.Reader
	err atomic.Pointer[error]
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err.Store(&err)
	}
	return n, err
}
