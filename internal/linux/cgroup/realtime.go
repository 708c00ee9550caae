package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// Realtime is a share of each processor's time for real-time processes: Runtime
// microseconds of each Period, of which 0 is the kernel's second.
type Realtime struct {
	Period  uint64
	Runtime int64
}

// GrantRealtime gives the groups that this one lies in a share: a group can pass on only
// what its parent has (Documentation/scheduler/sched-rt-group.rst). Cgroup v1 only;
// elsewhere, and without a share to give, it does nothing.
func (g *Group) GrantRealtime(share Realtime) error {
	dir := g.manager.Path("cpu")
	if Version() != 1 || dir == "" || share.Runtime <= 0 {
		return nil
	}
	all, err := Hierarchies()
	if err != nil {
		return err
	}
	root := ""
	for _, h := range all {
		if h.Name == "cpu" {
			root = h.Mountpoint
		}
	}
	below, err := filepath.Rel(root, filepath.Dir(dir))
	if err != nil || root == "" {
		return err
	}
	at := root
	for _, name := range strings.Split(below, "/") {
		at = filepath.Join(at, name)
		if err := unix.Mkdir(at, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("create cgroup %s: %w", at, err)
		}
		for _, f := range []struct{ name, value string }{
			{"cpu.rt_period_us", strconv.FormatUint(share.Period, 10)}, {"cpu.rt_runtime_us", strconv.FormatInt(share.Runtime, 10)},
		} {
			file := filepath.Join(at, f.name)
			if have, err := os.ReadFile(file); f.value == "0" || err == nil && string(bytes.TrimSpace(have)) == f.value {
				continue
			}
			if err := os.WriteFile(file, []byte(f.value), 0); err != nil {
				return fmt.Errorf("give containers real-time processor time: %w: the daemon's --cpu-rt-runtime asks for more than is left of %s",
					err, filepath.Join(filepath.Dir(at), f.name))
			}
		}
	}
	return nil
}

// explained says why the kernel does not take a limit where its own word does not.
func explained(err error, r *cgroups.Resources) error {
	text := err.Error()
	switch {
	case errors.Is(err, unix.EINVAL) && strings.Contains(text, "cpu.rt_runtime_us") && r.CpuRtRuntime > 0:
		return fmt.Errorf("%w: a container gets real-time processor time from what the daemon has for all: start muelled with --cpu-rt-runtime "+
			"(microseconds of each second, 950000 at most less what other groups have) and ask for less than that", err)
	case len(r.BlkioWeightDevice) > 0 && strings.Contains(text, "bfq.weight") && (errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENODEV)):
		return fmt.Errorf("%w: only disks with the scheduler bfq weigh requests (echo bfq > /sys/block/NAME/queue/scheduler)", err)
	}
	return err
}
