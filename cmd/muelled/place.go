package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"muelle/api"
)

// preflight refuses what the daemon cannot run on.
func preflight() error {
	if os.Geteuid() != 0 {
		return errors.New("the daemon must be run as root")
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return fmt.Errorf("ask kernel's version: %w", err)
	}
	return checkKernel(unix.ByteSliceToString(u.Release[:]))
}

// checkKernel names what an older kernel lacks.
func checkKernel(release string) error {
	var major, minor int
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n < 2 {
		return fmt.Errorf("cannot read the kernel's version %q", release)
	}
	for _, f := range []struct {
		major, minor int
		what         string
	}{
		{5, 3, "clone3 and pidfd_open"},
		{5, 6, "openat2"},
		{5, 9, "close_range"},
		{5, 10, "reliable time and cgroup namespaces of clone3"},
	} {
		if major < f.major || major == f.major && minor < f.minor {
			return fmt.Errorf("this kernel is %s, which lacks %s: Muelle needs Linux 5.10 or newer", release, f.what)
		}
	}
	return nil
}

// places are the folders of one daemon, held by locks.
type places struct {
	data, exec string
	instance   string // empty for the default data-root
	locks      []*os.File
	pidfile    string
}

// takePlaces makes the folders and locks them against a second daemon.
func takePlaces(c *config) (_ *places, err error) {
	p := &places{}
	defer func() {
		if err != nil {
			p.release()
		}
	}()
	if p.data, err = filepath.Abs(c.DataRoot); err != nil {
		return p, fmt.Errorf("find data-root: %w", err)
	}
	if p.exec, err = filepath.Abs(c.ExecRoot); err != nil {
		return p, fmt.Errorf("find exec-root: %w", err)
	}
	if p.data != api.DefaultDataRoot {
		sum := sha256.Sum256([]byte(p.data))
		p.instance = fmt.Sprintf("%x", sum[:4])
	}
	for _, dir := range []struct {
		path, name string
		mode       os.FileMode
	}{{p.data, "data-root", 0o710}, {p.exec, "exec-root", 0o711}} {
		if err := os.MkdirAll(dir.path, dir.mode); err != nil {
			return p, fmt.Errorf("make %s: %w", dir.name, err)
		}
		// Whatever the umask was, and whoever made it before (CVE-2021-41091).
		if err := os.Chmod(dir.path, dir.mode); err != nil {
			return p, fmt.Errorf("protect %s: %w", dir.name, err)
		}
		lock, err := lockFile(filepath.Join(dir.path, "muelled.lock"))
		if err != nil {
			return p, fmt.Errorf("%s %s: %w", dir.name, dir.path, err)
		}
		p.locks = append(p.locks, lock)
	}
	p.pidfile = c.Pidfile
	if p.pidfile == "" {
		p.pidfile = filepath.Join(p.exec, "muelled.pid")
	}
	if err := os.WriteFile(p.pidfile, []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
		p.pidfile = ""
		return p, fmt.Errorf("write pidfile: %w", err)
	}
	return p, nil
}

// lockFile holds path for this process and writes its pid there.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	// A child that a killed daemon was about to make holds the lock until its exec.
	for end := time.Now().Add(lockPatience); errors.Is(err, unix.EWOULDBLOCK) && holderIsDead(path) && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock: %w", err)
		}
		pid, err := os.ReadFile(path)
		if err != nil || len(pid) == 0 {
			pid = []byte("unknown")
		}
		return nil, fmt.Errorf("in use by another muelled (pid %s)", bytes.TrimSpace(pid))
	}
	if err = f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("write lock: %w", err)
	}
	return f, nil
}

// lockPatience is how long the lock of a daemon that is dead is waited for.
const lockPatience = 5 * time.Second

// holderIsDead tells whether the daemon that took the lock has ended.
func holderIsDead(path string) bool {
	text, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(text)))
	return err == nil && pid > 0 && errors.Is(unix.Kill(pid, 0), unix.ESRCH)
}

func (p *places) release() {
	if p.pidfile != "" {
		os.Remove(p.pidfile)
	}
	for _, l := range p.locks {
		l.Close()
	}
}

// cgroupParent is the cgroup above those of all containers.
func (p *places) cgroupParent() string {
	if p.instance == "" {
		return "muelle"
	}
	return "muelle-" + p.instance
}
