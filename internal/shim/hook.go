package shim

import (
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"muelle/internal/linux/spawn"
	"muelle/internal/shimapi"
)

// runHooks runs the hooks of one kind, in order, each with the container's state as
// standard input; the first that fails ends it.
func runHooks(kind string, hooks []shimapi.Hook, state []byte) error {
	for n := range hooks {
		if err := runHook(&hooks[n], state); err != nil {
			return wrap("run "+kind+" hook "+strconv.Itoa(n)+" ("+hooks[n].Path+")", err)
		}
	}
	return nil
}

func runHook(h *shimapi.Hook, state []byte) error {
	in, err := memory(state)
	if err != nil {
		return err
	}
	defer unix.Close(in)
	out, err := memory(nil)
	if err != nil {
		return err
	}
	defer unix.Close(out)
	args := h.Args
	if len(args) == 0 {
		args = []string{h.Path}
	}
	p := &spawn.Program{}
	p.Move(in, out, out)
	p.CloseOnExec(3)
	p.ResetSignals()
	p.Exec(-1, h.Path, args, h.Env)
	child, err := spawn.Start(p, spawn.Options{Cgroup: -1})
	if err != nil {
		return err
	}
	defer unix.Close(child.PidFD)
	late := !awaitEnd(child.PidFD, h.Timeout)
	if late {
		unix.PidfdSendSignal(child.PidFD, unix.SIGKILL, nil, 0)
	}
	var status unix.WaitStatus
	for {
		if _, err = unix.Wait4(child.Pid, &status, 0, nil); err != unix.EINTR {
			break
		}
	}
	switch {
	case err != nil:
		return err
	case late:
		return &failure{code: codeOther, text: "it took longer than " + strconv.Itoa(h.Timeout) + " s"}
	case status.Signaled():
		return &failure{code: codeOther, text: "it was ended by signal " + strconv.Itoa(int(status.Signal()))}
	case status.ExitStatus() != 0:
		return &failure{code: codeOther, text: "exit status " + strconv.Itoa(status.ExitStatus()) + lastWords(out)}
	}
	return nil
}

// memory makes an unnamed file: it may be of any size without anybody reading it.
func memory(content []byte) (int, error) {
	fd, err := unix.MemfdCreate("hook", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, err
	}
	if len(content) > 0 {
		if _, err = unix.Pwrite(fd, content, 0); err != nil {
			unix.Close(fd)
			return -1, err
		}
	}
	return fd, nil
}

// lastWords is what a hook has printed, up to a line's length.
func lastWords(fd int) string {
	b := make([]byte, 512)
	n, err := unix.Pread(fd, b, 0)
	if err != nil || n == 0 {
		return ""
	}
	return ": " + strings.TrimSpace(string(b[:n]))
}

// awaitEnd waits for a process; false says that the time was up.
func awaitEnd(pidfd, seconds int) bool {
	deadline := time.Now().Add(time.Duration(seconds) * time.Second)
	for {
		wait := -1
		if seconds > 0 {
			wait = int(max(0, time.Until(deadline).Milliseconds()))
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, wait)
		if err != unix.EINTR {
			return n > 0 || err != nil
		}
	}
}
