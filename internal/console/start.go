package console

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"muelle/api"
	"muelle/client"
)

const startPatience = 20 * time.Second

// ensureDaemon starts the daemon of the default socket when nothing answers there
// and starting it is ours to do; otherwise it leaves the error to the caller.
func ensureDaemon(ctx context.Context, o *Options) error {
	err := knock(ctx)
	if err == nil {
		return nil
	}
	refused := errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED)
	muelled, ok := startable(o)
	if !refused || !ok {
		return &client.UnreachableError{Host: "unix://" + api.DefaultSocket, Err: err}
	}
	lock, err := os.OpenFile("/run/muelle-start.lock", os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("start muelled: %w", err)
	}
	defer func() { _ = lock.Close() }()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("start muelled: lock %s: %w", lock.Name(), err)
	}
	if knock(ctx) == nil {
		return nil
	}
	if systemdUnit() {
		return startBySystemd(ctx, o)
	}
	return startBySelf(ctx, o, muelled)
}

func knock(ctx context.Context) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", api.DefaultSocket)
	if err != nil {
		return err
	}
	return c.Close()
}

// startable checks everything but the socket, and returns the daemon's path.
func startable(o *Options) (string, bool) {
	if os.Geteuid() != 0 || o.getenv("MUELLE_AUTOSTART") == "0" || inContainer() {
		return "", false
	}
	path, err := Beside("muelled")
	if err != nil {
		return "", false
	}
	return path, trusted(path)
}

// trusted says that a file belongs to root and nobody else may write it.
func trusted(path string) bool {
	fi, err := os.Stat(path)
	if err != nil || !fi.Mode().IsRegular() || fi.Mode().Perm()&0o022 != 0 {
		return false
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && st.Uid == 0
}

// Beside returns the path of a program of ours that lies in this one's folder.
func Beside(name string) (string, error) {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return "", fmt.Errorf("find %s: %w", name, err)
	}
	path := filepath.Join(filepath.Dir(self), name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s is missing beside %s", name, self)
	}
	return path, nil
}

// initialPIDNamespace is the inode number of the kernel's first one
// (PROC_PID_INIT_INO), the same on every machine.
const initialPIDNamespace = "pid:[4026531836]"

// inContainer asks the kernel, not for files that engines leave: an image made into
// a machine's disk has those too. A container that shares the host's processes still
// has another root; where that cannot be compared, an overlay for a root tells.
func inContainer() bool {
	ns, err := os.Readlink("/proc/self/ns/pid")
	if err != nil || ns != initialPIDNamespace {
		return true
	}
	init, err := os.Stat("/proc/1/root/")
	if errors.Is(err, os.ErrPermission) {
		var st unix.Statfs_t
		return unix.Statfs("/", &st) != nil || st.Type == unix.OVERLAYFS_SUPER_MAGIC
	}
	if err != nil {
		return true
	}
	own, err := os.Stat("/")
	return err != nil || !os.SameFile(init, own)
}

func systemdUnit() bool {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return false
	}
	for _, dir := range []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"} {
		if _, err := os.Stat(filepath.Join(dir, "muelle.service")); err == nil {
			return true
		}
	}
	return false
}

func startBySystemd(ctx context.Context, o *Options) error {
	systemctl := "/usr/bin/systemctl"
	if _, err := os.Stat(systemctl); err != nil {
		systemctl = "/bin/systemctl"
	}
	if out, err := exec.CommandContext(ctx, systemctl, "start", "muelle.service").CombinedOutput(); err != nil {
		return fmt.Errorf("systemctl start muelle: %w: %s", err, bytes.TrimSpace(out))
	}
	if err := awaitSocket(ctx, nil); err != nil {
		return err
	}
	o.say("muelle: started muelled (systemctl status muelle)")
	return nil
}

func startBySelf(ctx context.Context, o *Options, muelled string) error {
	if err := os.MkdirAll(api.DefaultDataRoot, 0o710); err != nil {
		return fmt.Errorf("start muelled: %w", err)
	}
	logPath := filepath.Join(api.DefaultDataRoot, "muelled.log")
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("start muelled: %w", err)
	}
	defer func() { _ = log.Close() }()
	before, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("start muelled: %w", err)
	}
	cmd := exec.Command(muelled)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := keepDescriptors(); err != nil {
		return fmt.Errorf("start muelled: %w", err)
	}
	if err := startWithDefaults(cmd); err != nil {
		return fmt.Errorf("start muelled: %w", err)
	}
	leaveCgroup(cmd.Process.Pid)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if err := awaitSocket(ctx, ended); err != nil {
		return fmt.Errorf("%w%s", err, logTail(logPath, before))
	}
	o.say("muelle: started muelled (log: " + logPath + ")")
	return nil
}

// keepDescriptors keeps from the daemon what this process was given open: a lock
// that a script holds would be held for ever, a pipe never end.
func keepDescriptors() error {
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range open {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// startWithDefaults starts cmd with umask 022 and a login's limits, whatever this
// process was given; both are this process's for a moment.
func startWithDefaults(cmd *exec.Cmd) error {
	mask := unix.Umask(0o022)
	defer unix.Umask(mask)
	const infinity = unix.RLIM_INFINITY
	for res, want := range map[int]unix.Rlimit{
		unix.RLIMIT_CORE:   {Cur: 0, Max: infinity},
		unix.RLIMIT_CPU:    {Cur: infinity, Max: infinity},
		unix.RLIMIT_DATA:   {Cur: infinity, Max: infinity},
		unix.RLIMIT_FSIZE:  {Cur: infinity, Max: infinity},
		unix.RLIMIT_AS:     {Cur: infinity, Max: infinity},
		unix.RLIMIT_NPROC:  {Cur: infinity, Max: infinity},
		unix.RLIMIT_STACK:  {Cur: 8 << 20, Max: infinity},
		unix.RLIMIT_NOFILE: {Cur: 1024, Max: 524288},
	} {
		var old unix.Rlimit
		if err := unix.Getrlimit(res, &old); err != nil {
			return fmt.Errorf("read limit %d: %w", res, err)
		}
		// Without CAP_SYS_RESOURCE a hard limit cannot be raised: then what is allowed.
		if unix.Setrlimit(res, &want) != nil {
			want.Max = old.Max
			want.Cur = min(want.Cur, old.Max)
			if err := unix.Setrlimit(res, &want); err != nil {
				return fmt.Errorf("set limit %d: %w", res, err)
			}
		}
		defer func() { _ = unix.Setrlimit(res, &old) }()
	}
	return cmd.Start()
}

func awaitSocket(ctx context.Context, ended <-chan error) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if knock(ctx) == nil {
			return nil
		}
		select {
		case err := <-ended:
			if err == nil {
				err = errors.New("it exited with status 0")
			}
			return fmt.Errorf("start muelled: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("start muelled: it does not answer at %s: %w", api.DefaultSocket, ctx.Err())
		case <-tick.C:
		}
	}
}

func logTail(path string, from int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return ""
	}
	b, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil || len(bytes.TrimSpace(b)) == 0 {
		return ""
	}
	return "\n" + strings.TrimSpace(string(b))
}

func (o *Options) say(line string) {
	w := o.Stderr
	if w == nil {
		w = os.Stderr
	}
	_, _ = fmt.Fprintln(w, line)
}
