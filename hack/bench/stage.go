package main

import (
	"crypto/sha256"
	"encoding/hex"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// outside runs the measurement in namespaces of its own and, however that ends, leaves
// nothing of it: SIGINT, SIGTERM and SIGHUP end it at once.
func outside() int {
	dir, err := os.MkdirTemp("/var/tmp", "muelle-bench-")
	if err != nil {
		log.Print(err)
		return 1
	}
	made, err := missing(private)
	if err != nil {
		log.Print(err)
		return 1
	}
	before := groups()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	cmd := again("init", dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	ended := make(chan error, 1)
	if err = cmd.Start(); err == nil {
		go func() { ended <- cmd.Wait() }()
		select {
		case err = <-ended:
		case s := <-stop:
			log.Printf("%v: ending what was started", s)
			cmd.Process.Kill()
			err = <-ended
		}
	}
	clean(dir, before)
	for _, d := range made {
		_ = os.Remove(d) // which another program may use by now
	}
	if err != nil {
		if _, ok := err.(*exec.ExitError); !ok {
			log.Print(err)
		}
		return 1
	}
	return 0
}

func again(stage, dir string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), stageEnv+"="+stage, dirEnv+"="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd
}

// first is the first process of the namespace: it reaps whatever comes to it.
func first() int {
	if err := ownMounts(); err != nil {
		log.Print(err)
		return 1
	}
	cmd := again("inside", os.Getenv(dirEnv))
	if err := cmd.Start(); err != nil {
		log.Print(err)
		return 1
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			log.Print(err)
			return 1
		case pid == cmd.Process.Pid && status.Exited():
			return status.ExitStatus()
		case pid == cmd.Process.Pid:
			return 1
		}
	}
}

// private are folders that the peers keep things in wherever their own data are: each
// gets an empty one over it.
var private = []string{"/run", "/etc/cni/net.d", "/etc/containers/networks", "/var/lib/cni", "/var/lib/containers", "/opt/containerd"}

// ownMounts makes mounts private, gives the namespace its processes, and empty folders
// over those that the peers share with the machine's own.
func ownMounts() error {
	names, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return err
	}
	resolv, err := filepath.EvalSymlinks("/etc/resolv.conf")
	if err != nil {
		return err
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	const flags = syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_NOEXEC
	if err := syscall.Mount("proc", "/proc", "proc", flags, ""); err != nil {
		return err
	}
	for _, dir := range private {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", flags, "mode=755"); err != nil {
			return err
		}
	}
	if err := os.MkdirAll("/run/lock", 0o755); err != nil || !strings.HasPrefix(resolv, "/run/") {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(resolv), 0o755); err != nil {
		return err
	}
	return os.WriteFile(resolv, names, 0o644)
}

// missing makes those folders that are not there, to be mounted upon, and gives what it
// made, the deepest first.
func missing(dirs []string) ([]string, error) {
	var made []string
	for _, dir := range dirs {
		var above []string
		for d := dir; ; d = filepath.Dir(d) {
			if _, err := os.Lstat(d); err == nil {
				break
			}
			above = append(above, d)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return made, err
		}
		made = append(above, made...)
	}
	return made, nil
}

// groups are the directories of control groups, down to those of containers.
func groups() map[string]bool {
	all := map[string]bool{}
	for _, pattern := range []string{"/sys/fs/cgroup/*", "/sys/fs/cgroup/*/*", "/sys/fs/cgroup/*/*/*"} {
		dirs, _ := filepath.Glob(pattern)
		for _, d := range dirs {
			all[d] = true
		}
	}
	return all
}

// clean removes the folder, and the control groups of what ran: those of the daemons'
// containers, which bear names that the folder has, and of bundles.
func clean(dir string, before map[string]bool) {
	sum := sha256.Sum256([]byte(filepath.Join(dir, "muelle", "data")))
	ours := []string{"muelle-" + hex.EncodeToString(sum[:])[:8]}
	for _, pattern := range []string{"docker/data/containers/*", "podman/data/overlay-containers/*", "podman/data/vfs-containers/*"} {
		ids, _ := filepath.Glob(filepath.Join(dir, pattern))
		for _, id := range ids {
			ours = append(ours, filepath.Base(id))
		}
	}
	parents := []string{}
	for group := range groups() {
		name := filepath.Base(group)
		switch {
		case before[group]:
		case name == "docker" || name == "libpod_parent":
			parents = append(parents, group)
		case strings.HasPrefix(name, "bench") || slices.ContainsFunc(ours, func(id string) bool { return strings.Contains(name, id) }):
			removeGroup(group)
		}
	}
	for _, p := range parents {
		_ = syscall.Rmdir(p) // which another daemon may use by now
	}
	if err := os.RemoveAll(dir); err != nil {
		log.Print(err)
	}
}

// removeGroup removes a control group and what is below it, once its processes are gone;
// one that others use stays.
func removeGroup(dir string) {
	below, _ := filepath.Glob(dir + "/*/cgroup.procs")
	for _, b := range below {
		removeGroup(filepath.Dir(b))
	}
	for range 100 {
		if err := syscall.Rmdir(dir); err != syscall.EBUSY {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}
