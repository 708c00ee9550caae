package ocirun

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"muelle/internal/console"
)

// attend stays with a process in the foreground: signals go to it, its terminal is
// ours, and its exit status becomes the command's.
func (a *App) attend(pid, master int) error {
	// They stay ours: giving 65 of them back takes more than a millisecond, and what comes
	// after the container is to be done whole.
	signals := make(chan os.Signal, 32)
	signal.Notify(signals)
	var copied <-chan struct{}
	if master >= 0 {
		tty := os.NewFile(uintptr(master), "terminal")
		defer tty.Close()
		restore, err := console.Raw(a.Stdin, a.Stdout)
		if err != nil {
			return err
		}
		defer restore()
		copied = a.bridge(tty)
		a.resize(master)
	}
	ended := make(chan int, 1)
	go func() { ended <- reapUntil(pid) }()
	for {
		select {
		case status := <-ended:
			if copied != nil {
				// Its last words lie in the terminal; who holds it open is not waited for.
				select {
				case <-copied:
				case <-time.After(time.Second):
				}
			}
			if status != 0 {
				return exitError(status)
			}
			return nil
		case s := <-signals:
			switch s {
			case unix.SIGWINCH:
				if master >= 0 {
					a.resize(master)
				}
			case unix.SIGCHLD, unix.SIGURG, unix.SIGPIPE:
			default:
				unix.Kill(pid, s.(syscall.Signal))
			}
		}
	}
}

// bridge copies between a terminal's master side and our streams.
func (a *App) bridge(tty *os.File) <-chan struct{} {
	done := make(chan struct{})
	go io.Copy(tty, a.Stdin)
	go func() {
		io.Copy(a.Stdout, tty)
		close(done)
	}()
	return done
}

func (a *App) resize(master int) {
	if size, err := unix.IoctlGetWinsize(int(a.Stdin.Fd()), unix.TIOCGWINSZ); err == nil {
		unix.IoctlSetWinsize(master, unix.TIOCSWINSZ, size)
	}
}

// reapUntil waits for a child, reaping others that are left to us.
func reapUntil(pid int) int {
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR || err == nil && got != pid:
		case err != nil:
			return 255
		case status.Signaled():
			return 128 + int(status.Signal())
		case status.Exited():
			return status.ExitStatus()
		}
	}
}

// run is create, start, and in the foreground wait and delete.
func (a *App) run(args []string) error {
	f := flags()
	c := &creation{}
	c.flags(f)
	var detach, keep, noSubreaper bool
	f.BoolVar(&detach, "detach", false, "")
	f.BoolVar(&detach, "d", false, "")
	f.BoolVar(&keep, "keep", false, "")
	f.BoolVar(&noSubreaper, "no-subreaper", false, "")
	if err := parse(f, args, 1, 1); err != nil {
		return err
	}
	var own *ownConsole
	_, spec, err := loadBundle(c.bundle)
	if err != nil {
		return err
	}
	if spec.Process.Terminal && c.console == "" && !detach {
		if own, err = newConsole(); err != nil {
			return err
		}
		defer own.close()
		c.console = own.path
	}
	if !detach && !noSubreaper {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return err
		}
	}
	r, err := a.make(f.Arg(0), c, [3]int{0, 1, 2})
	if err != nil {
		return err
	}
	if err := r.begin(); err != nil {
		return errors.Join(err, r.destroy(), r.lock.Close())
	}
	r.close()
	if detach {
		return nil
	}
	master := -1
	if own != nil {
		if master, err = own.receive(); err != nil {
			return err
		}
	}
	err = a.attend(r.Pid, master)
	if keep {
		return err
	}
	again, e := a.open(r.ID)
	if e != nil {
		return err // somebody else has deleted it
	}
	defer again.close()
	if e := again.destroy(); e != nil {
		a.say("warning", e.Error())
	}
	return err
}

// ownConsole takes the terminal of a container in the foreground.
type ownConsole struct {
	dir, path string
	fd        int
}

func newConsole() (*ownConsole, error) {
	dir, err := os.MkdirTemp("", "muelle-oci")
	if err != nil {
		return nil, err
	}
	o := &ownConsole{dir: dir, path: filepath.Join(dir, "tty.sock"), fd: -1}
	if o.fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err == nil {
		if err = unix.Bind(o.fd, &unix.SockaddrUnix{Name: o.path}); err == nil {
			err = unix.Listen(o.fd, 1)
		}
	}
	if err != nil {
		o.close()
		return nil, err
	}
	return o, nil
}

func (o *ownConsole) close() {
	closeFD(o.fd)
	os.RemoveAll(o.dir)
}

func (o *ownConsole) receive() (int, error) {
	c, _, err := unix.Accept4(o.fd, unix.SOCK_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(c)
	buf, oob := make([]byte, 64), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(c, buf, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) == 0 {
		return -1, errors.New("no terminal came")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) == 0 {
		return -1, errors.New("no terminal came")
	}
	return fds[0], nil
}
