package build

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/executor"
	resourcestypes "github.com/moby/buildkit/executor/resources/types"
	gatewayapi "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/identity"
	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/internal/id"
	"muelle/internal/runtime"
)

// stepExecutor runs RUN steps on the engine's own runtime and networks.
type stepExecutor struct {
	o Options

	mu      sync.Mutex
	running map[string]*runningStep // by BuildKit's id
	closed  bool
	steps   sync.WaitGroup
}

// runningStep is what Exec needs to know of a Run in progress.
type runningStep struct {
	ready  chan struct{} // closed when task is set, or Run has ended
	task   runtime.Task
	spec   *specs.Spec
	rootfs string
}

func newExecutor(o Options) *stepExecutor {
	return &stepExecutor{o: o, running: map[string]*runningStep{}}
}

// close refuses further steps and gives a channel that is closed when those under
// way, which were cancelled, have ended: BuildKit does not wait for them.
func (x *stepExecutor) close() <-chan struct{} {
	x.mu.Lock()
	x.closed = true
	x.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		x.steps.Wait()
	}()
	return ended
}

// Run runs one process in a container of its own and waits for it. started is
// closed once the process runs, or will not.
func (x *stepExecutor) Run(ctx context.Context, buildID string, root executor.Mount, mounts []executor.Mount, process executor.ProcessInfo, started chan<- struct{}) (_ resourcestypes.Recorder, err error) {
	if buildID == "" {
		buildID = identity.NewID()
	}
	if err := executor.ValidContainerID(buildID); err != nil {
		return nil, err
	}
	if process.Meta.Proxy != nil {
		return nil, errdefs.ErrNotImplemented.WithMessage("the build proxy is not supported")
	}
	if len(process.Meta.CDIDevices) > 0 {
		return nil, errdefs.ErrNotImplemented.WithMessage("CDI devices are not supported in builds")
	}
	step := &runningStep{ready: make(chan struct{})}
	x.mu.Lock()
	if x.closed {
		x.mu.Unlock()
		return nil, errClosing
	}
	x.running[buildID] = step
	x.steps.Add(1)
	x.mu.Unlock()
	defer x.steps.Done()
	tell := sync.OnceFunc(func() {
		close(step.ready)
		if started != nil {
			close(started)
		}
	})
	defer func() {
		x.mu.Lock()
		delete(x.running, buildID)
		x.mu.Unlock()
		tell()
	}()

	b := &bundle{o: x.o, id: id.New()}
	defer func() { err = errors.Join(err, b.release()) }()
	if err := b.prepare(ctx, root, mounts, process.Meta); err != nil {
		return nil, err
	}
	streams, ended := attach(process)
	task, err := b.start(ctx, process, streams)
	if err != nil {
		return nil, startFailure(err, process.Meta.ValidExitCodes)
	}
	step.task, step.spec, step.rootfs = task, b.spec, b.rootfs
	if b.user != nil { // its root file system is where it runs only
		step.rootfs = fmt.Sprintf("/proc/%d/root", task.Pid())
	}
	tell()

	stop := forward(ctx, process, task)
	defer stop()
	exit, err := waitStep(ctx, task, ended)
	if err != nil {
		return nil, err
	}
	return nil, exitFailure(ctx, exit, process.Meta.ValidExitCodes)
}

// Exec starts a further process in a container that Run started, and waits for it.
func (x *stepExecutor) Exec(ctx context.Context, buildID string, process executor.ProcessInfo) error {
	x.mu.Lock()
	step := x.running[buildID]
	x.mu.Unlock()
	if step == nil {
		return fmt.Errorf("container %s not found", buildID)
	}
	select {
	case <-step.ready:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if step.task == nil {
		return fmt.Errorf("container %s has exited", buildID)
	}
	p, err := execProcess(step, process.Meta)
	if err != nil {
		return err
	}
	streams, ended := attach(process)
	proc, err := step.task.Exec(ctx, p, runtime.ExecOptions{ID: identity.NewID(), OpenStdin: process.Stdin != nil, Streams: streams})
	if err != nil {
		return startFailure(err, process.Meta.ValidExitCodes)
	}
	stop := forward(ctx, process, proc)
	defer stop()
	exit, err := waitStep(ctx, proc, ended)
	if err != nil {
		return err
	}
	return exitFailure(ctx, exit, process.Meta.ValidExitCodes)
}

// attach connects a process's streams; the channel gets how that ended.
func attach(process executor.ProcessInfo) (*runtime.Streams, <-chan error) {
	ended := make(chan error, 1)
	s := &runtime.Streams{Done: func(err error) { ended <- err }}
	// Assigned one by one: a nil *T in an interface is not nil.
	if process.Stdin != nil {
		s.Stdin = process.Stdin
	}
	if process.Stdout != nil {
		s.Stdout = process.Stdout
	}
	if process.Stderr != nil {
		s.Stderr = process.Stderr
	}
	return s, ended
}

// A controllable is a task or one of its further processes.
type controllable interface {
	Wait(ctx context.Context) (runtime.Exit, error)
	Signal(ctx context.Context, sig syscall.Signal) error
	Resize(ctx context.Context, width, height uint16) error
}

// forward passes signals and window sizes on; stop ends that and waits for it.
func forward(ctx context.Context, process executor.ProcessInfo, p controllable) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		resize, signal := process.Resize, process.Signal
		for {
			select {
			case <-ctx.Done():
				return
			case size, ok := <-resize:
				if !ok {
					resize = nil
					continue
				}
				// A process that has just ended cannot be resized; its end is reported elsewhere.
				_ = p.Resize(ctx, uint16(size.Cols), uint16(size.Rows))
			case sig, ok := <-signal:
				if !ok {
					signal = nil
					continue
				}
				_ = p.Signal(ctx, sig)
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

// killPatience bounds the wait for a killed process; one in uninterruptible sleep
// must not hold a cancelled build for ever.
const killPatience = 10 * time.Second

// waitStep waits for the process and for the last of its output. When ctx ends it
// kills the process first.
func waitStep(ctx context.Context, p controllable, ended <-chan error) (runtime.Exit, error) {
	exit, err := p.Wait(ctx)
	if err != nil && ctx.Err() != nil {
		kill, cancel := context.WithTimeout(context.WithoutCancel(ctx), killPatience)
		defer cancel()
		if serr := p.Signal(kill, syscall.SIGKILL); serr != nil && !errdefs.IsFailedPrecondition(serr) && !errdefs.IsNotFound(serr) {
			return exit, fmt.Errorf("kill a cancelled build step: %w", serr)
		}
		exit, err = p.Wait(kill)
	}
	if err != nil {
		return exit, fmt.Errorf("wait for a build step: %w", err)
	}
	select {
	case err = <-ended:
		if err != nil {
			return exit, fmt.Errorf("read the output of a build step: %w", err)
		}
	case <-ctx.Done():
	}
	return exit, nil
}

// exitFailure words an exit as BuildKit expects it.
func exitFailure(ctx context.Context, exit runtime.Exit, valid []int) error {
	if accepted(exit.Code, valid) {
		return nil
	}
	failure := &gatewayapi.ExitError{ExitCode: uint32(exit.Code)}
	if exit.OOMKilled {
		failure.Err = syscall.ENOMEM
	}
	if ctx.Err() != nil {
		failure.Err = fmt.Errorf("%s: %w", failure.Error(), context.Cause(ctx))
	}
	return failure
}

// startFailure words a process that could not be started.
func startFailure(err error, valid []int) error {
	var start *runtime.StartError
	if !errors.As(err, &start) {
		return err
	}
	if valid != nil && slices.Contains(valid, start.Code) {
		return nil
	}
	return &gatewayapi.ExitError{ExitCode: uint32(start.Code), Err: err}
}

func accepted(code int, valid []int) bool {
	if valid == nil {
		return code == 0
	}
	return slices.Contains(valid, code)
}
