package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Leave moves this process out of the group of the given name, in every hierarchy
// where it is in one, into the group above, and removes what is then empty: nobody
// else knows when a process that was put into a group of its own has ended.
func Leave(name string) error {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return fmt.Errorf("read own cgroups: %w", err)
	}
	all, err := Hierarchies()
	if err != nil {
		return err
	}
	mounts := map[string]string{}
	for _, h := range all {
		mounts[strings.TrimPrefix(h.Name, "name=")] = h.Mountpoint
	}
	var errs []error
	for line := range strings.Lines(string(own)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 || filepath.Base(parts[2]) != name {
			continue
		}
		first, _, _ := strings.Cut(parts[1], ",")
		mount, ok := mounts[strings.TrimPrefix(first, "name=")]
		if !ok {
			continue
		}
		dir := filepath.Join(mount, parts[2])
		above := filepath.Join(filepath.Dir(dir), "cgroup.procs")
		if err := os.WriteFile(above, []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
			errs = append(errs, fmt.Errorf("leave cgroup: %w", err))
			continue
		}
		// Whoever else is in it removes it when it leaves.
		if err := unix.Rmdir(dir); err != nil && err != unix.EBUSY && err != unix.ENOENT {
			errs = append(errs, fmt.Errorf("remove cgroup %s: %w", dir, err))
		}
	}
	return errors.Join(errs...)
}
