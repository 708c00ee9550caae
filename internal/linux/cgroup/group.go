package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/fs2"
	"golang.org/x/sys/unix"
)

// mkdir makes the group's directories and their parents.
func (g *Group) mkdir() error {
	if Version() == 2 {
		c, err := g.manager.GetCgroups()
		if err != nil {
			return err
		}
		if err := fs2.CreateCgroupPath(g.dirs[0], c); err != nil {
			return fmt.Errorf("create cgroup %s: %w", g.path, err)
		}
		return nil
	}
	cpuset := g.manager.Path("cpuset")
	for _, d := range g.dirs {
		err := unix.Mkdir(d, 0o755)
		if errors.Is(err, unix.ENOENT) {
			err = mkdirParents(d, d == cpuset)
		}
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("create cgroup %s: %w", d, err)
		}
		if d == cpuset {
			if err := inheritCpuset(d); err != nil {
				return err
			}
		}
	}
	return nil
}

// mkdirParents makes a v1 directory whose parents are missing.
func mkdirParents(dir string, cpuset bool) error {
	parent := filepath.Dir(dir)
	if err := unix.Mkdir(parent, 0o755); errors.Is(err, unix.ENOENT) {
		if err := mkdirParents(parent, cpuset); err != nil {
			return err
		}
	} else if err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	if cpuset {
		if err := inheritCpuset(parent); err != nil {
			return err
		}
		// Children get processors and memory nodes without further writes.
		err := os.WriteFile(filepath.Join(parent, "cgroup.clone_children"), []byte("1"), 0)
		if err != nil {
			return err
		}
	}
	return unix.Mkdir(dir, 0o755)
}

// inheritCpuset fills an empty v1 cpuset from its parent: a group without
// processors and memory nodes can hold no process.
func inheritCpuset(dir string) error {
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		have, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return fmt.Errorf("read cpuset: %w", err)
		}
		if len(bytes.TrimSpace(have)) > 0 {
			continue
		}
		v, err := os.ReadFile(filepath.Join(filepath.Dir(dir), name))
		if err != nil {
			return fmt.Errorf("read cpuset: %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), v, 0); err != nil {
			return fmt.Errorf("set cpuset: %w", err)
		}
	}
	return nil
}

// Pids lists the processes of the group and of the groups below it, in the host's
// numbering.
func (g *Group) Pids() ([]int, error) {
	pids, err := cgroups.GetAllPids(g.pidDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return pids, err
}

// pidDir is a hierarchy that every process of the group is in.
func (g *Group) pidDir() string {
	if d := g.manager.Path("pids"); d != "" {
		return d
	}
	return g.dirs[0]
}

// KillFile is the file that kills the whole group when "1" is written to it, or ""
// where the kernel (before 5.14) or the host's layout has none.
func (g *Group) KillFile() string {
	p := filepath.Join(g.manager.Path(""), "cgroup.kill")
	if g.manager.Path("") == "" {
		return ""
	}
	if _, err := os.Stat(p); err != nil {
		return ""
	}
	return p
}

// OOMFile is the file that counts the processes killed for lack of memory, on a
// line "oom_kill N".
func (g *Group) OOMFile() string {
	if Version() == 2 {
		return filepath.Join(g.dirs[0], "memory.events")
	}
	if d := g.manager.Path("memory"); d != "" {
		return filepath.Join(d, "memory.oom_control")
	}
	return ""
}

// Kill ends every process of the group, thawing it first, and returns when none is
// left or after the given patience.
func (g *Group) Kill(patience time.Duration) error {
	if err := g.Thaw(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if f := g.KillFile(); f != "" {
		if err := os.WriteFile(f, []byte("1"), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("kill cgroup %s: %w", g.path, err)
		}
	}
	deadline := time.Now().Add(patience)
	for pause := 500 * time.Microsecond; ; pause *= 2 {
		pids, err := g.Pids()
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("kill process %d: %w", pid, err)
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v of cgroup %s do not end", pids, g.path)
		}
		time.Sleep(pause)
	}
}

// Freeze stops every process of the group; Thaw lets them go on.
func (g *Group) Freeze() error { return g.manager.Freeze(cgroups.Frozen) }

// Frozen tells whether the group is frozen, or about to be.
func (g *Group) Frozen() (bool, error) {
	st, err := g.manager.GetFreezerState()
	return st == cgroups.Frozen, err
}

// Thaw is the opposite of Freeze; a group that is not frozen stays as it is.
func (g *Group) Thaw() error {
	if Version() == 1 {
		dir := g.manager.Path("freezer")
		if dir == "" {
			return nil
		}
		if err := os.WriteFile(filepath.Join(dir, "freezer.state"), []byte("THAWED"), 0); err != nil {
			return fmt.Errorf("thaw cgroup %s: %w", g.path, err)
		}
		return nil
	}
	err := os.WriteFile(filepath.Join(g.dirs[0], "cgroup.freeze"), []byte("0"), 0)
	if err != nil {
		return fmt.Errorf("thaw cgroup %s: %w", g.path, err)
	}
	return nil
}

// Remove removes the group and the groups below it. They must hold no process.
// A group that is not there is no error.
func (g *Group) Remove() error {
	var errs []error
	for _, d := range g.dirs {
		if err := unix.Rmdir(d); err == nil || errors.Is(err, unix.ENOENT) {
			continue
		}
		if err := cgroups.RemovePath(d); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, g.leaveScope())...)
}

// Stats reads the group's counters.
func (g *Group) Stats() (*cgroups.Stats, error) {
	s, err := g.manager.GetStats()
	if err != nil {
		return nil, fmt.Errorf("read statistics of cgroup %s: %w", g.path, err)
	}
	return s, nil
}

// OOMKills is how many processes were killed for lack of memory.
func (g *Group) OOMKills() (uint64, error) { return g.manager.OOMKillCount() }

// isUnified tells whether a directory lies in a hybrid host's unified hierarchy.
func isUnified(dir string) bool {
	return strings.HasPrefix(dir, filepath.Join(Root, "unified")+"/")
}

// RemoveEmpty removes the group where no process and no group is in it, and leaves
// it otherwise. For what is ending in it there may be some patience.
func (g *Group) RemoveEmpty(patience time.Duration) {
	deadline := time.Now().Add(patience)
	for pause := time.Millisecond; g.RemoveQuick() != nil; pause = min(2*pause, 20*time.Millisecond) {
		if time.Now().Add(pause).After(deadline) {
			return
		}
		time.Sleep(pause)
	}
}

// ProcsFile lists the processes of the group, one a line.
func (g *Group) ProcsFile() string { return filepath.Join(g.pidDir(), "cgroup.procs") }

// RemoveQuick removes the group if no process and no group is in it, which is how
// it is after a container's end; otherwise something of it may be left, and the
// error says so.
func (g *Group) RemoveQuick() error {
	var first error
	for _, d := range g.dirs {
		if err := unix.Rmdir(d); err != nil && err != unix.ENOENT && first == nil {
			first = fmt.Errorf("remove cgroup %s: %w", d, err)
		}
	}
	if first == nil {
		return g.leaveScope()
	}
	return first
}
