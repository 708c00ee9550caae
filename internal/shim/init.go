package shim

import (
	"strconv"
	"syscall"
	_ "unsafe" // for linkname

	"golang.org/x/sys/unix"

	"muelle/internal/linux/spawn"
	"muelle/internal/shimapi"
)

// InitName is the first argument under which the shim's binary is a container's
// init process, as `docker run --init` shows it.
const InitName = "/sbin/docker-init"

// readyFD is what a container's init closes once it takes signals: before that a Go
// program would end by the first one.
const readyFD = 3

// awaitInit waits until the other side of the pipe is closed, by an init that is
// ready or has ended. The patience is for one that hardly gets any time to run.
func awaitInit(pipe int) {
	const patience = 5000
	fds := []unix.PollFd{{Fd: int32(pipe), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, patience); err != unix.EINTR {
			return
		}
	}
}

// initArgs is the command line of a container's init: the program's path, found
// already, and its own arguments.
func initArgs(path string, args []string) []string {
	return append([]string{InitName, path, "--"}, args...)
}

// withFiles adds the soft limit of open files to an init's environment.
func withFiles(m *shimapi.Process) []string {
	for _, r := range m.Rlimits {
		if r.Resource == unix.RLIMIT_NOFILE {
			return append(m.Env[:len(m.Env):len(m.Env)], shimapi.InitFiles+strconv.FormatUint(r.Soft, 10))
		}
	}
	return m.Env
}

// takeFiles takes that limit out of the environment and adds to a program that it gets
// it. An init is a Go program, whose runtime has raised it for itself before it could
// be read.
func takeFiles(p *spawn.Program, env []string) []string {
	for i, v := range env {
		if len(v) <= len(shimapi.InitFiles) || v[:len(shimapi.InitFiles)] != shimapi.InitFiles {
			continue
		}
		lim := &unix.Rlimit{}
		soft, err := strconv.ParseUint(v[len(shimapi.InitFiles):], 10, 64)
		if err == nil && unix.Getrlimit(unix.RLIMIT_NOFILE, lim) == nil && soft < lim.Max {
			lim.Cur = soft
			p.Do("restore limit of files", unix.SYS_PRLIMIT64, spawn.Int(0), spawn.Int(unix.RLIMIT_NOFILE), spawn.Pointer(p, lim), spawn.Int(0))
		}
		return append(env[:i:i], env[i+1:]...)
	}
	return env
}

// signalEnable and signalRecv are the runtime's half of os/signal, which would
// otherwise bring package os into every shim.
//
//go:linkname signalEnable os/signal.signal_enable
func signalEnable(uint32)

//go:linkname signalRecv os/signal.signal_recv
func signalRecv() uint32

// Init is PID 1 of a container that asked for one: it starts the program in a
// process group of its own, the terminal's foreground one if there is a terminal,
// forwards signals to it, and reaps what is left to it. It returns the exit status.
func Init(args, env []string) int {
	if len(args) == 3 && args[1] == "" && args[2] == "--" {
		return idle()
	}
	if len(args) < 4 || args[2] != "--" {
		return 125
	}
	setName("docker-init") // it was started from a sealed copy, whose name says nothing
	if args[1] == "" {
		// Another runtime has not looked for it.
		path, err := ownProgram(args[3:], env)
		if err != nil {
			unix.Write(2, []byte(err.Error()+"\n"))
			return codeNotFound
		}
		args[1] = path
	}
	for sig := uint32(1); sig < 65; sig++ {
		if forwarded(syscall.Signal(sig)) {
			signalEnable(sig)
		}
	}
	unix.Close(readyFD)
	p := &spawn.Program{}
	p.Do("make process group", unix.SYS_SETPGID, spawn.Int(0), spawn.Int(0))
	p.Do("take terminal", unix.SYS_IOCTL, spawn.Int(0), spawn.Int(unix.TIOCSPGRP), p.PidPointer()).Optional()
	p.ResetSignals()
	env = takeFiles(p, env)
	p.Exec(-1, args[1], args[3:], env)
	child, err := spawn.Start(p, spawn.Options{Cgroup: -1})
	if err != nil {
		unix.Write(2, []byte("exec "+args[3]+": "+err.Error()+"\n"))
		if e, ok := err.(*spawn.Error); ok && e.Exec && e.Errno == unix.ENOENT {
			return codeNotFound
		}
		return codeCannotRun
	}
	go func() {
		for {
			unix.Kill(child.Pid, syscall.Signal(signalRecv()))
		}
	}()
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		if err != nil && err != unix.EINTR {
			return 125
		}
		if pid != child.Pid || status.Stopped() || status.Continued() {
			continue
		}
		if status.Signaled() {
			return 128 + int(status.Signal())
		}
		return status.ExitStatus()
	}
}

// idle is the init of a container without a program: it reaps until it is asked to end.
func idle() int {
	setName("docker-init")
	for _, sig := range []uint32{uint32(unix.SIGCHLD), uint32(unix.SIGTERM), uint32(unix.SIGINT)} {
		signalEnable(sig)
	}
	unix.Close(readyFD)
	for {
		if sig := syscall.Signal(signalRecv()); sig != unix.SIGCHLD {
			return 0
		}
		for {
			pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
			if err != unix.EINTR && (err != nil || pid <= 0) {
				break
			}
		}
	}
}

// ownProgram looks for the program in this process's own root.
func ownProgram(args, env []string) (string, error) {
	root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(root)
	cwd, err := unix.Getwd()
	if err != nil {
		return "", err
	}
	return findProgram(root, &shimapi.Process{Args: args, Env: env, Cwd: cwd})
}

// forwarded leaves out what is the init's own matter: faults, its children, and
// what Go's runtime and the C library use among threads.
func forwarded(sig syscall.Signal) bool {
	switch sig {
	case unix.SIGKILL, unix.SIGSTOP, unix.SIGCHLD, unix.SIGURG, unix.SIGPIPE, unix.SIGPROF,
		unix.SIGILL, unix.SIGTRAP, unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV, unix.SIGSYS, unix.SIGSTKFLT,
		unix.SIGTTIN, unix.SIGTTOU, unix.SIGTSTP, 32, 33, 34:
		return false
	}
	return true
}
