package native

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"muelle/internal/linux/cgroup"
	"muelle/internal/runtime"
	"muelle/internal/shimapi"
)

// codeLost is the exit status of a container whose shim was killed, as Docker's.
const codeLost = 255

// task is one container of this runtime.
type task struct {
	r      *Runtime
	id     string
	dir    string
	group  *cgroup.Group
	client *client // nil where the container had ended before this daemon started
	shim   *launched
	ended  chan struct{}

	mu      sync.Mutex
	state   shimapi.State
	exit    *runtime.Exit
	execs   map[string]*process
	deleted bool
}

var _ runtime.Task = (*task)(nil)

// newTask begins to listen to a shim that this daemon started.
func (r *Runtime) newTask(id, dir string, g *cgroup.Group, l *launched) *task {
	t := &task{r: r, id: id, dir: dir, group: g, shim: l, ended: make(chan struct{}), execs: map[string]*process{}}
	t.serve(l.conn)
	return t
}

// serve begins to listen on a connection.
func (t *task) serve(conn *net.UnixConn) {
	t.client = newClient(conn, t.exited)
	t.r.mu.Lock()
	t.r.tasks[t] = struct{}{}
	t.r.mu.Unlock()
	t.r.served.Go(t.listen)
}

// listen owns the connection; after it, whatever ran has ended for this daemon.
func (t *task) listen() {
	t.client.read()
	t.r.mu.Lock()
	closing := t.r.closing && !t.isDeleted()
	delete(t.r.tasks, t)
	t.r.mu.Unlock()
	if closing {
		return // the container stays
	}
	if t.shim != nil && t.shim.pid > 0 {
		reap(t.shim.pid)
		unix.Close(t.shim.pidfd)
	}
	t.lost()
}

// exited is told by the shim.
func (t *task) exited(m *shimapi.Exited) {
	e := exitOf(m)
	if m.Process == "" {
		t.end(e)
		return
	}
	t.mu.Lock()
	p := t.execs[m.Process]
	delete(t.execs, m.Process)
	t.mu.Unlock()
	if p != nil {
		p.end(e)
	}
}

func exitOf(m *shimapi.Exited) runtime.Exit {
	return runtime.Exit{Code: m.Code, Signal: syscall.Signal(m.Signal), At: time.Unix(0, m.At), OOMKilled: m.OOMKilled, Logged: runtime.Logged(m.Logged)}
}

func (t *task) end(e runtime.Exit) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.exit == nil {
		t.exit = &e
		close(t.ended)
	}
}

// lost: the connection ended. The exit file tells how the container ended; without
// one the shim was killed, and what ran below it must not go on unwatched.
func (t *task) lost() {
	t.mu.Lock()
	started, over := t.state.Pid > 0, t.exit != nil
	execs := t.execs
	t.execs = map[string]*process{}
	t.mu.Unlock()
	e := runtime.Exit{Code: codeLost, At: time.Now()}
	if started && !over {
		if m, err := readExit(t.dir); err == nil {
			t.exited(m)
		} else {
			t.r.log.Error("the shim has ended without its container", "container", t.id)
			if err := t.group.Kill(10 * time.Second); err != nil {
				t.r.log.Error("kill container without shim", "container", t.id, "err", err)
			}
		}
	}
	t.end(e)
	for _, p := range execs {
		p.end(e)
	}
}

func (t *task) setState(s *shimapi.State) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.state = *s
}

// Discard implements runtime.Prepared: it ends a shim whose container did not start, and
// removes what there is of that.
func (t *task) Discard() error {
	unix.PidfdSendSignal(t.shim.pidfd, unix.SIGKILL, nil, 0)
	<-t.client.done
	t.client.conn.Close()
	<-t.ended
	return t.remove()
}

// ID implements runtime.Task.
func (t *task) ID() string { return t.id }

// Pid implements runtime.Task.
func (t *task) Pid() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.exit != nil {
		return 0
	}
	return t.state.Pid
}

// StartedAt implements runtime.Task.
func (t *task) StartedAt() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Unix(0, t.state.StartedAt)
}

// Wait implements runtime.Task.
func (t *task) Wait(ctx context.Context) (runtime.Exit, error) {
	select {
	case <-t.ended:
		t.mu.Lock()
		defer t.mu.Unlock()
		e := *t.exit
		e.Pid = t.state.Pid
		return e, nil
	case <-ctx.Done():
		return runtime.Exit{}, ctx.Err()
	}
}

// running gives the client of a container that runs.
func (t *task) running() (*client, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.exit != nil || t.client == nil {
		return nil, errdefs.ErrFailedPrecondition.WithMessage("container " + t.id + " is not running")
	}
	return t.client, nil
}

func (t *task) do(ctx context.Context, kind shimapi.Type, m shimapi.Message, fds []int) (*answer, error) {
	c, err := t.running()
	if err != nil {
		return nil, err
	}
	return c.call(ctx, kind, m, fds)
}

// Signal implements runtime.Task.
func (t *task) Signal(ctx context.Context, sig syscall.Signal) error {
	_, err := t.do(ctx, shimapi.TypeSignal, &shimapi.Signal{Signal: int(sig)}, nil)
	return err
}

// Resize implements runtime.Task.
func (t *task) Resize(ctx context.Context, width, height uint16) error {
	_, err := t.do(ctx, shimapi.TypeResize, &shimapi.Resize{Width: width, Height: height}, nil)
	return err
}

// Pause implements runtime.Task.
func (t *task) Pause(context.Context) error {
	if _, err := t.running(); err != nil {
		return err
	}
	if err := t.group.Freeze(); err != nil {
		return fmt.Errorf("freeze container: %w", err)
	}
	return nil
}

// Resume implements runtime.Task.
func (t *task) Resume(context.Context) error {
	if _, err := t.running(); err != nil {
		return err
	}
	return t.group.Thaw()
}

// Attach implements runtime.Task.
func (t *task) Attach(ctx context.Context, s *runtime.Streams) error {
	c, err := t.running()
	if err != nil {
		return err
	}
	a, err := newAttachment(s)
	if err != nil {
		return err
	}
	m := a.message("")
	if _, err := c.call(ctx, shimapi.TypeAttach, &m, a.remote()); err != nil {
		a.cancel()
		return err
	}
	a.run(ctx, t.ended)
	return nil
}

// Pids implements runtime.Task.
func (t *task) Pids(context.Context) ([]int, error) { return t.group.Pids() }

// Update implements runtime.Task.
func (t *task) Update(_ context.Context, r *specs.LinuxResources) error {
	if err := t.r.grant(t.group, r); err != nil {
		return err
	}
	return t.group.Update(r)
}

// Held implements runtime.Task.
func (t *task) Held(ctx context.Context) (map[string]*os.File, error) {
	a, err := t.do(ctx, shimapi.TypeHeld, &shimapi.Empty{}, nil)
	if err != nil {
		return nil, err
	}
	if len(a.files) != len(a.reply.Names) {
		closeFiles(a.files)
		return nil, shimapi.ErrMalformed
	}
	m := make(map[string]*os.File, len(a.files))
	for i, name := range a.reply.Names {
		m[name] = a.files[i]
	}
	return m, nil
}

// Logged implements runtime.Task. A shim older than the counts gives none.
func (t *task) Logged(ctx context.Context) (runtime.Logged, error) {
	a, err := t.do(ctx, shimapi.TypeLogged, &shimapi.Empty{}, nil)
	if err != nil && strings.Contains(err.Error(), shimapi.UnknownRequest) {
		return runtime.Logged{}, nil
	} else if err != nil {
		return runtime.Logged{}, err
	}
	return runtime.Logged(a.reply.Logged), nil
}

// Hold implements runtime.Task.
func (t *task) Hold(ctx context.Context, more []runtime.Held) error {
	m, fds, err := holdMessage(more)
	if err != nil {
		return err
	}
	_, err = t.do(ctx, shimapi.TypeHold, &m, fds)
	return err
}

// LetGo implements runtime.Task.
func (t *task) LetGo(ctx context.Context, names []string) error {
	_, err := t.do(ctx, shimapi.TypeLetGo, &shimapi.LetGo{Names: names}, nil)
	return err
}

// NetNS implements runtime.Task.
func (t *task) NetNS(ctx context.Context) (*os.File, error) {
	a, err := t.do(ctx, shimapi.TypeNetNS, &shimapi.Empty{}, nil)
	if err != nil {
		return nil, err
	}
	if len(a.files) != 1 {
		closeFiles(a.files)
		return nil, shimapi.ErrMalformed
	}
	return a.files[0], nil
}

// Delete implements runtime.Task.
func (t *task) Delete(ctx context.Context) error {
	t.mu.Lock()
	if t.deleted {
		t.mu.Unlock()
		return nil
	}
	t.mu.Unlock()
	if t.client != nil {
		// A frozen process does not die.
		if err := t.group.Thaw(); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		_, err := t.client.call(ctx, shimapi.TypeShutdown, &shimapi.Empty{}, nil)
		if err != nil && !errors.Is(err, errConnection) {
			return fmt.Errorf("end shim: %w", err)
		}
		select {
		case <-t.ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := t.remove(); err != nil {
		return err
	}
	t.mu.Lock()
	t.deleted = true
	t.mu.Unlock()
	return nil
}

func (t *task) isDeleted() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.deleted
}

func (t *task) hasEnded() bool {
	select {
	case <-t.ended:
		return true
	default:
		return false
	}
}

// remove takes away what is left of an ended container.
func (t *task) remove() error {
	var errs []error
	if err := t.group.RemoveQuick(); err != nil {
		// Something of it still runs: an exec that was being started, or processes of a
		// shared pid namespace.
		if err := t.group.Kill(10 * time.Second); err != nil {
			errs = append(errs, err)
		}
		if err := t.group.Remove(); err != nil {
			errs = append(errs, err)
		}
	}
	t.r.stopped(t.id, t.dir)
	return errors.Join(append(errs, t.r.clearDir(t.dir))...)
}
