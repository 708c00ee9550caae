package shim

import (
	"bytes"
	"strconv"

	"golang.org/x/sys/unix"

	"muelle/internal/linux/spawn"
	"muelle/internal/shimapi"
)

// outsideEnv is what another runtime gets: not the shim's own settings of Go.
var outsideEnv = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}

// run calls the runtime and waits for its end.
func run(c *shimapi.Command, stdio [3]int, further int) error {
	child, err := call(c, stdio, further)
	if err != nil {
		return err
	}
	defer unix.Close(child.PidFD)
	return outcome(c, child.Pid, 0)
}

// call starts a command of the runtime; streams that are -1 are the null device. A
// further descriptor, unless -1, is passed as number 3.
func call(c *shimapi.Command, stdio [3]int, further int) (*spawn.Child, error) {
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, wrap("open /dev/null", err)
	}
	defer unix.Close(null)
	for i, fd := range stdio {
		if fd < 0 {
			stdio[i] = null
		}
	}
	p := &spawn.Program{}
	fds := stdio[:]
	if further >= 0 {
		fds = append(fds[:3:3], further)
	}
	p.Move(fds...)
	p.CloseOnExec(len(fds))
	p.Do("set umask", unix.SYS_UMASK, spawn.Int(0o022))
	p.ResetSignals()
	p.Exec(-1, c.Path, c.Args, outsideEnv)
	child, err := spawn.Start(p, spawn.Options{Cgroup: -1})
	if err != nil {
		return nil, wrap("execute runtime "+c.Path, err)
	}
	return child, nil
}

// outcome reaps a command; a failure is told by the end of its log, which the daemon
// words.
func outcome(c *shimapi.Command, pid, flags int) error {
	var status unix.WaitStatus
	for {
		got, err := unix.Wait4(pid, &status, flags, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return wrap("wait for runtime", err)
		}
		if got == pid {
			break
		}
	}
	if status.Exited() && status.ExitStatus() == 0 {
		return nil
	}
	const most = 8 << 10
	data, err := readFile(c.Log)
	if err != nil || len(bytes.TrimSpace(data)) == 0 {
		return &failure{code: codeOther, text: "runtime " + c.Path + " failed without a word"}
	}
	return &failure{code: codeOther, text: string(data[max(0, len(data)-most):])}
}

// created gives the process that a command has left running.
func created(c *shimapi.Command) (pid, pidfd int, err error) {
	data, err := readFile(c.PidFile)
	if err != nil {
		return 0, -1, wrap("read pid file", err)
	}
	if pid, err = strconv.Atoi(string(bytes.TrimSpace(data))); err != nil || pid <= 1 {
		return 0, -1, &failure{code: codeOther, text: "the runtime's pid file has no pid"}
	}
	// It may have ended already; it stays ours until it is reaped.
	if pidfd, err = unix.PidfdOpen(pid, 0); err != nil {
		return 0, -1, wrap("reach the runtime's process", err)
	}
	return pid, pidfd, nil
}

// consoleSocket listens in the container's folder for a terminal; -1 where none comes.
func consoleSocket(name string) (int, error) {
	if name == "" {
		return -1, nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, wrap("make console socket", err)
	}
	if err = unix.Unlinkat(shimapi.DirFD, name, 0); err == nil || err == unix.ENOENT {
		if err = unix.Bind(fd, &unix.SockaddrUnix{Name: descriptorPath(shimapi.DirFD) + "/" + name}); err == nil {
			err = unix.Listen(fd, 1)
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, wrap("make console socket", err)
	}
	return fd, nil
}

// receiveTerminal takes what the runtime has sent before it ended.
func receiveTerminal(sock int) (*terminal, error) {
	c, _, err := unix.Accept4(sock, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	if err != nil {
		return nil, wrap("the runtime sent no terminal", err)
	}
	defer unix.Close(c)
	buf, oob := make([]byte, 256), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(c, buf, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, wrap("receive terminal", err)
	}
	in := conn{}
	in.takeFDs(oob[:n])
	if len(in.fds) != 1 {
		closeAll(in.fds)
		return nil, &failure{code: codeOther, text: "the runtime sent no terminal"}
	}
	master := in.fds[0]
	slave, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		unix.Close(master)
		return nil, wrap("open terminal", errno)
	}
	return &terminal{master: master, slave: int(slave)}, nil
}
