package shim

import (
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"muelle/internal/linux/spawn"
	"muelle/internal/shimapi"
)

// launcher starts a hook with the given streams.
type launcher func(h *shimapi.Hook, stdio [3]int) (*spawn.Child, error)

// runHooks runs the hooks of one kind, in order, each with the container's state as
// standard input; the first that fails ends it.
func runHooks(kind string, hooks []shimapi.Hook, state []byte, launch launcher) error {
	for n := range hooks {
		if err := runHook(&hooks[n], state, launch); err != nil {
			return &failure{code: codeOther, text: "run " + kind + " hook " + strconv.Itoa(n) + " (" + hooks[n].Path + "): " + err.Error()}
		}
	}
	return nil
}

func hookArgs(h *shimapi.Hook) []string {
	if len(h.Args) == 0 {
		return []string{h.Path}
	}
	return h.Args
}

// beside starts a hook where this thread is, in a directory.
func beside(dir string) launcher {
	return func(h *shimapi.Hook, stdio [3]int) (*spawn.Child, error) {
		p := &spawn.Program{}
		p.Do("die with the runtime", unix.SYS_PRCTL, spawn.Int(unix.PR_SET_PDEATHSIG), spawn.Int(int(unix.SIGKILL)))
		p.Do("become session leader", unix.SYS_SETSID)
		if dir != "" {
			p.Do("change to the bundle", unix.SYS_CHDIR, p.String(dir))
		}
		p.Move(stdio[:]...)
		p.CloseOnExec(3)
		p.ResetSignals()
		p.Exec(-1, h.Path, hookArgs(h), h.Env)
		return spawn.Start(p, spawn.Options{Cgroup: -1})
	}
}

func runHook(h *shimapi.Hook, state []byte, launch launcher) error {
	// A child dies with the thread that made it, see beside.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
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
	child, err := launch(h, [3]int{in, out, out})
	if err != nil {
		return err
	}
	defer unix.Close(child.PidFD)
	late := !awaitEnd(child.PidFD, h.Timeout)
	if late {
		unix.Kill(-child.Pid, unix.SIGKILL) // with what it has started
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
		return &failure{code: codeOther, text: "it took longer than " + strconv.Itoa(h.Timeout) + " s" + lastWords(out)}
	case status.Signaled():
		return &failure{code: codeOther, text: "it was ended by signal " + strconv.Itoa(int(status.Signal())) + lastWords(out)}
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

// lastWords is the end of what a hook has printed: that is where an error stands.
func lastWords(fd int) string {
	const most = 1024
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return ""
	}
	b := make([]byte, most)
	n, err := unix.Pread(fd, b, max(0, st.Size-most))
	words := strings.TrimSpace(string(b[:max(n, 0)]))
	if err != nil || words == "" {
		return ""
	}
	return ": " + words
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
