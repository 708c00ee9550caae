package native

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"muelle/internal/linux/cgroup"
	"muelle/internal/linux/spawn"
	"muelle/internal/shimapi"
)

// shimsGroup is the control group that all shims of a daemon are in, apart from the
// daemon's, so that a service manager that ends the daemon's group spares them.
type shimsGroup struct {
	path  string
	mu    sync.Mutex
	entry *cgroup.Entry
}

// enter opens the group, made on first use and again if somebody removed it.
func (s *shimsGroup) enter(again bool) (*cgroup.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entry != nil && !again {
		return s.entry, nil
	}
	g, err := cgroup.Open(s.path)
	if err != nil {
		return nil, err
	}
	if err := g.Create(nil); err != nil {
		return nil, err
	}
	s.entry, err = g.Entry()
	return s.entry, err
}

// close removes the group and its parent where nothing is left in them, whoever
// made them; what is about to end is waited for, as long as patience says.
func (s *shimsGroup) close(patience time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entry != nil {
		s.entry.Close()
		s.entry = nil
	}
	deadline := time.Now().Add(patience)
	for _, path := range []string{s.path, filepath.Dir(s.path)} {
		g, err := cgroup.Open(path)
		if err != nil {
			return err
		}
		g.RemoveEmpty(time.Until(deadline))
	}
	return nil
}

// launched is a shim that runs and has not been told anything yet.
type launched struct {
	pid   int
	pidfd int
	conn  *net.UnixConn
}

// launch starts a shim for the folder dir.
func (r *Runtime) launch(id, dir string, descriptors int) (*launched, error) {
	l, err := r.launchIn(id, dir, descriptors, false)
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) {
		// The shims' cgroup was removed by somebody else meanwhile.
		l, err = r.launchIn(id, dir, descriptors, true)
	}
	if err != nil {
		return nil, fmt.Errorf("start shim: %w%s", err, noDescriptors(err))
	}
	return l, nil
}

// fewDescriptors is how many a shim has room for anyway: the kernel's smallest table
// holds 64, of which its own and its streams take some.
const fewDescriptors = 40

// noDescriptors explains a failure that only kernels with TOMOYO know (Debian 11's): they
// look for what is executed by descriptor as /dev/fd/N.
func noDescriptors(err error) string {
	var e *spawn.Error
	if !errors.As(err, &e) || !e.Exec || e.Errno != unix.ENOENT {
		return ""
	}
	if _, err := os.Lstat("/dev/fd"); err == nil {
		return ""
	}
	return ": this kernel needs /dev/fd for it: ln -s /proc/self/fd /dev/fd"
}

func (r *Runtime) launchIn(id, dir string, descriptors int, again bool) (*launched, error) {
	entry, err := r.shims.enter(again)
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	theirs := pair[1]
	defer unix.Close(theirs)
	ours := os.NewFile(uintptr(pair[0]), "shim")
	defer ours.Close()
	dirfd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(dirfd)
	socket, err := listenIn(dirfd)
	if err != nil {
		return nil, err
	}
	defer unix.Close(socket)

	p := &spawn.Program{}
	zero := spawn.Pointer(p, &[1]byte{'0'})
	for _, f := range entry.Tasks {
		p.Do("enter cgroup", unix.SYS_WRITE, spawn.Int(f.Fd()), zero, spawn.Int(1))
	}
	p.Do("become session leader", unix.SYS_SETSID)
	p.Do("change directory", unix.SYS_CHDIR, p.String("/"))
	p.Do("set umask", unix.SYS_UMASK, spawn.Int(0o022))
	null := int(r.null.Fd())
	stderr := int(r.stderr.Fd())
	p.Move(null, null, stderr, theirs, socket, dirfd)
	p.CloseOnExec(shimapi.FirstFree)
	if descriptors > fewDescriptors {
		// A table of descriptors that threads share grows by waiting for a grace period of
		// RCU, each time that it doubles: the shim's has its size before there are threads.
		p.Do("make room for descriptors", unix.SYS_FCNTL, spawn.Int(0), spawn.Int(unix.F_DUPFD_CLOEXEC), spawn.Int(descriptors+fewDescriptors)).Optional()
	}
	p.ResetSignals()
	// An idle shim never collects garbage, one that serves health checks does when it rests:
	// this is for what comes all at once.
	p.Exec(int(r.binary.Fd()), "", []string{shimapi.BinaryName, id}, []string{"GOMAXPROCS=1", "GODEBUG=madvdontneed=1", "GOGC=50"})
	into := -1
	if entry.Into != nil {
		into = int(entry.Into.Fd())
	}
	child, err := spawn.Start(p, spawn.Options{Cgroup: into})
	if err != nil {
		return nil, err
	}
	conn, err := net.FileConn(ours)
	if err != nil {
		unix.Kill(child.Pid, unix.SIGKILL)
		reap(child.Pid)
		unix.Close(child.PidFD)
		return nil, err
	}
	return &launched{pid: child.Pid, pidfd: child.PidFD, conn: conn.(*net.UnixConn)}, nil
}

// listenIn makes the shim's socket in a folder, named by descriptor, because a
// socket's path may have 107 bytes only.
func listenIn(dirfd int) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	path := "/proc/self/fd/" + strconv.Itoa(dirfd) + "/" + shimapi.SocketFile
	if err = unix.Unlinkat(dirfd, shimapi.SocketFile, 0); err != nil && err != unix.ENOENT {
		unix.Close(fd)
		return -1, fmt.Errorf("remove old socket: %w", err)
	}
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err == nil {
		if err = unix.Fchmodat(dirfd, shimapi.SocketFile, 0o600, 0); err == nil {
			err = unix.Listen(fd, 16)
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("make the shim's socket: %w", err)
	}
	return fd, nil
}

// reap waits for a child that has ended or is about to.
func reap(pid int) {
	for {
		_, err := unix.Wait4(pid, nil, 0, nil)
		if err != unix.EINTR {
			return
		}
	}
}
