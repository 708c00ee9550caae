package native

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"muelle/api"
	"muelle/internal/check"
	"muelle/internal/id"
	"muelle/internal/linux/cgroup"
	"muelle/internal/shimapi"
)

// Leaks tells of cgroups and shims of this instance whose container does not run; runs
// says so of an id.
func (r *Runtime) Leaks(_ context.Context, runs func(id string) bool) ([]check.Leak, error) {
	parent := filepath.Dir(r.shims.path)
	all, err := cgroup.Hierarchies()
	if err != nil {
		return nil, err
	}
	var leaks []check.Leak
	seen, pids := map[string]bool{}, map[int]bool{}
	for _, h := range all {
		list, err := os.ReadDir(filepath.Join(h.Mountpoint, parent))
		if err != nil {
			continue // nothing ran yet
		}
		for _, e := range list {
			if !e.IsDir() || seen[e.Name()] {
				continue
			}
			seen[e.Name()] = true
			// Others are parents that somebody chose for containers, or made himself.
			if id.Valid(e.Name()) {
				leaks = append(leaks, cgroupLeak(filepath.Join(parent, e.Name()), runs))
			}
		}
		for _, pid := range pidsIn(filepath.Join(h.Mountpoint, r.shims.path)) {
			if !pids[pid] {
				pids[pid] = true
				leaks = append(leaks, r.shimLeak(pid, runs))
			}
		}
	}
	return leaks, nil
}

func cgroupLeak(path string, runs func(string) bool) check.Leak {
	g, err := cgroup.Open(path)
	return check.Leak{
		Finding: api.Finding{Kind: "cgroup", Name: path, Problem: "no container of this name runs"},
		There:   func() bool { return err == nil && g.Exists() },
		Owned:   func() bool { return runs(filepath.Base(path)) },
		Mend: func(context.Context) error {
			if err := g.Kill(10 * time.Second); err != nil {
				return err
			}
			return g.Remove()
		},
	}
}

func pidsIn(dir string) (pids []int) {
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return nil
	}
	for _, f := range strings.Fields(string(data)) {
		if pid, err := strconv.Atoi(f); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// shimLeak: a shim may outlive its container to feed a slow reader; then this daemon
// still talks to it. What is no shim was started by one: a hook, or another OCI runtime
// at work; or it is about to become one.
func (r *Runtime) shimLeak(pid int, runs func(string) bool) check.Leak {
	name, cid := commandOf(pid)
	start := startTime(pid)
	return check.Leak{
		Finding: api.Finding{Kind: "process", Name: strconv.Itoa(pid), Problem: fmt.Sprintf("%s of container %.12s, which does not run", name, cid)},
		There:   func() bool { return start != 0 && startTime(pid) == start },
		Owned: func() bool {
			for at := pid; at > 1; at = parentOf(at) {
				if at == os.Getpid() {
					return true
				}
				if name, cid := commandOf(at); name == shimapi.BinaryName {
					return r.serves(cid) || runs(cid)
				}
			}
			return false
		},
		Mend: func(context.Context) error {
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			if startTime(pid) != start {
				return nil // it ended, and its number is another's
			}
			return unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		},
	}
}

// serves tells whether the daemon talks to the shim of a container.
func (r *Runtime) serves(cid string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for t := range r.tasks {
		if t.id == cid {
			return true
		}
	}
	return false
}

func commandOf(pid int) (name, first string) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return "", ""
	}
	args := bytes.Split(data, []byte{0})
	if len(args) > 1 {
		first = string(args[1])
	}
	return string(args[0]), first
}
