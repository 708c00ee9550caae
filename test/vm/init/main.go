// Command init is the first process of the virtual machine that test/vm starts. From
// the initial file system it loads the kernel's modules and changes to the disk; there
// it mounts what a host has, cgroup v2 alone among it, runs the program that the
// kernel's command line names with muelle.run=, says with which status it ended, and
// powers off. With muelle.init= it hands over to another first process instead.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(); err != nil {
		fmt.Println("muelle-vm: error:", err)
	}
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

type mount struct {
	kind, dir, data string
}

func run() error {
	for _, m := range []mount{{"devtmpfs", "/dev", ""}, {"proc", "/proc", ""}, {"sysfs", "/sys", ""}} {
		if err := m.do(); err != nil {
			return err
		}
	}
	if err := loadModules("/modules"); err != nil {
		return err
	}
	words := map[string]string{}
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	for _, w := range strings.Fields(string(line)) {
		if k, v, ok := strings.Cut(w, "="); ok {
			words[k] = v
		}
	}
	if err := changeRoot(); err != nil {
		return err
	}
	if path := words["muelle.init"]; path != "" {
		return unix.Exec(path, []string{path}, []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"})
	}
	if err := mountHost(); err != nil {
		return err
	}
	status, err := runProgram(words["muelle.run"])
	if err != nil {
		return err
	}
	fmt.Printf("muelle-vm: exit status %d\n", status)
	return nil
}

func (m mount) do() error {
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(m.kind, m.dir, m.kind, 0, m.data); err != nil && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("mount %s: %w", m.dir, err)
	}
	return nil
}

// loadModules loads every file of a folder, in the order of their names.
func loadModules(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.ko"))
	if err != nil {
		return err
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load %s: %w", name, err)
		}
	}
	return nil
}

// changeRoot makes the disk the root: the initial file system cannot be pivoted away
// from, and containers have to be able to.
func changeRoot() error {
	const disk = "/disk"
	if err := os.MkdirAll(disk, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("/dev/vda", disk, "ext4", unix.MS_NOATIME, ""); err != nil {
		return fmt.Errorf("mount the disk: %w", err)
	}
	for _, dir := range []string{"/dev", "/proc", "/sys"} {
		if err := os.MkdirAll(disk+dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(dir, disk+dir, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move %s: %w", dir, err)
		}
	}
	if err := unix.Chdir(disk); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return unix.Chdir("/")
}

func mountHost() error {
	for _, m := range []mount{
		{"devpts", "/dev/pts", "ptmxmode=0666"}, {"tmpfs", "/dev/shm", ""}, {"mqueue", "/dev/mqueue", ""},
		{"tmpfs", "/run", "mode=755"}, {"tmpfs", "/tmp", ""},
		{"cgroup2", "/sys/fs/cgroup", "nsdelegate"}, {"securityfs", "/sys/kernel/security", ""},
	} {
		if err := m.do(); err != nil {
			return err
		}
	}
	// udev makes it; a kernel with TOMOYO executes no descriptor without it.
	if err := os.Symlink("/proc/self/fd", "/dev/fd"); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return unix.Sethostname([]byte("vm"))
}

// runProgram runs a program on the console and reaps every orphan until it ends.
func runProgram(path string) (int, error) {
	console, err := os.OpenFile("/dev/console", os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer console.Close()
	p, err := os.StartProcess(path, []string{path}, &os.ProcAttr{
		Dir: "/", Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"},
		Files: []*os.File{nil, console, console},
	})
	if err != nil {
		return 0, err
	}
	for {
		var st unix.WaitStatus
		pid, err := unix.Wait4(-1, &st, 0, nil)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return 0, err
		}
		if pid == p.Pid {
			if st.Signaled() {
				return 128 + int(st.Signal()), nil
			}
			return st.ExitStatus(), nil
		}
	}
}
