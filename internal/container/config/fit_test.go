package config_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/blkiodev"
	ctypes "github.com/moby/moby/api/types/container"

	"muelle/internal/container/config"
	"muelle/internal/linux/cgroup"
)

func ptr[T any](v T) *T { return &v }

func TestFit(t *testing.T) {
	all := cgroup.Features{
		Memory: true, Swap: true, Reservation: true, Swappiness: true, OOMKillDisable: true, CPUShares: true, CPUQuota: true,
		CPUSet: true, Pids: true, BlockWeight: true, BlockWeightDevice: true, BlockThrottle: true,
	}
	throttle := []*blkiodev.ThrottleDevice{{Path: "/dev/vda", Rate: 5}}
	full := ctypes.Resources{
		Memory: 64 << 20, MemorySwap: 128 << 20, MemoryReservation: 32 << 20, MemorySwappiness: ptr(int64(5)), OomKillDisable: ptr(true),
		PidsLimit: ptr(int64(9)), CPUShares: 5, CPUPeriod: 5000, CPUQuota: 5000, CpusetCpus: "0", CpusetMems: "0", BlkioWeight: 50,
		BlkioWeightDevice:  []*blkiodev.WeightDevice{{Path: "/dev/vda", Weight: 50}},
		BlkioDeviceReadBps: throttle, BlkioDeviceWriteBps: throttle, BlkioDeviceReadIOps: throttle, BlkioDeviceWriteIOps: throttle,
	}
	r := full
	if w := config.Fit(&r, all); w != nil || cmp.Diff(r, full) != "" {
		t.Errorf("a kernel with everything: %v %s", w, cmp.Diff(r, full))
	}
	w := config.Fit(&r, cgroup.Features{})
	if diff := cmp.Diff(r, ctypes.Resources{MemorySwap: -1}); diff != "" {
		t.Errorf("a kernel without anything: %s", diff)
	}
	if len(w) != 14 || w[0] != "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded." {
		t.Errorf("%d warnings: %q", len(w), w)
	}
	r = full
	noSwap := all
	noSwap.Swap = false
	if w := config.Fit(&r, noSwap); len(w) != 1 || r.MemorySwap != -1 || r.Memory != full.Memory {
		t.Errorf("without swap: %q, %+v", w, r)
	}
	r = ctypes.Resources{OomKillDisable: ptr(true)}
	if w := config.Fit(&r, all); len(w) != 1 || w[0][:3] != "OOM" {
		t.Errorf("without a limit: %q", w)
	}
	r = ctypes.Resources{OomKillDisable: ptr(false), MemorySwappiness: ptr(int64(-1))}
	if w := config.Fit(&r, cgroup.Features{}); w != nil {
		t.Errorf("what asks for nothing is warned of: %q", w)
	}
}
