package volume

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"muelle/internal/linux/spawn"
)

// mountPatience is how long a server may take to answer a mount, as mount.nfs waits in
// the foreground. The option retry= says otherwise, in minutes; 0 is once.
const (
	mountPatience = 2 * time.Minute
	oncePatience  = 5 * time.Second
)

// errSilent: a server has not answered within the patience.
var errSilent = errors.New("no answer")

func (m *mounting) retry(minutes string) error {
	n, err := strconv.Atoi(minutes)
	if err != nil || n < 0 || n > 10000 {
		return fmt.Errorf("invalid mount option \"retry=%s\": it is a number of minutes", minutes)
	}
	m.patience = time.Duration(n) * time.Minute
	if n == 0 {
		m.patience = oncePatience
	}
	return nil
}

// createRemote makes the file system of a context that asks a server. The kernel waits
// for one that does not answer as long as the file system's own options say, a hard NFS
// mount for ever, and lets only a signal end that: so a process of its own makes the
// call, which can be killed and takes no thread of the daemon's with it.
func (m *mounting) createRemote(ctx context.Context, fs int) error {
	patience := m.patience
	if patience == 0 {
		patience = mountPatience
	}
	p, err := spawn.Waiting()
	if err != nil {
		return fmt.Errorf("prepare mount: %w", err)
	}
	p.Pause("wait")
	p.Do("mount", unix.SYS_FSCONFIG, spawn.Int(fs), spawn.Int(unix.FSCONFIG_CMD_CREATE), spawn.Int(0), spawn.Int(0), spawn.Int(0))
	p.End()
	child, err := spawn.Begin(p, spawn.Options{Cgroup: -1})
	if err != nil {
		return fmt.Errorf("prepare mount: %w", err)
	}
	pidfd, err := unix.FcntlInt(uintptr(child.PidFD), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		child.Kill()
		return fmt.Errorf("prepare mount: %w", err)
	}
	defer unix.Close(pidfd)
	unix.Close(child.PidFD)
	child.PidFD = -1
	done := make(chan error, 1)
	go func() { done <- child.Resume() }()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case err := <-done:
		var e *spawn.Error
		if errors.As(err, &e) {
			return e.Errno
		}
		return err
	case <-ctx.Done():
		err = ctx.Err()
	case <-limit.C:
		err = fmt.Errorf("%w within %v", errSilent, patience)
	}
	// The process ends as soon as the kernel lets it, which is not waited for.
	return errors.Join(err, unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0))
}
