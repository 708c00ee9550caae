package main

import (
	"errors"
	"fmt"
	"strings"

	"muelle/internal/container"
	"muelle/internal/linux/cgroup"
)

const driverOption = "native.cgroupdriver"

// cgroupDriver reads exec-opts, of which there is one: who makes control groups.
func (c *config) cgroupDriver() (container.CgroupDriver, error) {
	driver := container.CgroupFS
	for _, o := range c.ExecOpts {
		key, value, ok := strings.Cut(o, "=")
		if !ok || !strings.EqualFold(strings.TrimSpace(key), driverOption) {
			return "", fmt.Errorf("exec-opts: unknown option %q: there is %s=cgroupfs|systemd", o, driverOption)
		}
		driver = container.CgroupDriver(strings.TrimSpace(value))
	}
	if driver != container.CgroupFS && driver != container.CgroupSystemd {
		return "", fmt.Errorf("exec-opts: the cgroup driver %q is none of cgroupfs and systemd", driver)
	}
	if driver == container.CgroupSystemd && c.CgroupParent != "" && !strings.HasSuffix(c.CgroupParent, ".slice") {
		return "", errors.New(`cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"`)
	}
	return driver, nil
}

// usableDriver is the driver that was asked for, if it can work on this host.
func (c *config) usableDriver() (container.CgroupDriver, error) {
	driver, err := c.cgroupDriver()
	if err == nil && driver == container.CgroupSystemd && !cgroup.Systemd() {
		err = errors.New("exec-opts: native.cgroupdriver=systemd: systemd does not run on this host; leave the option out")
	}
	return driver, err
}

// realtime is the share of real-time processor time that containers may have.
func (c *config) realtime() (share cgroup.Realtime, err error) {
	switch {
	case c.RealtimePeriod == 0 && c.RealtimeRuntime == 0:
		return share, nil
	case c.RealtimePeriod < 0 || c.RealtimeRuntime < 0:
		return share, errors.New("cpu-rt-period and cpu-rt-runtime cannot be negative")
	case c.RealtimePeriod > 0 && c.RealtimeRuntime > c.RealtimePeriod:
		return share, errors.New("cpu-rt-runtime cannot be higher than cpu-rt-period")
	case cgroup.Version() == 2:
		return share, errors.New("cpu-rt-runtime: cgroup v2 has no real-time processor time for groups; leave the option out")
	case !cgroup.HostFeatures().CPURealtime:
		return share, errors.New("cpu-rt-runtime: this kernel has no real-time processor time for groups (CONFIG_RT_GROUP_SCHED); leave the option out")
	}
	return cgroup.Realtime{Period: uint64(c.RealtimePeriod), Runtime: int64(c.RealtimeRuntime)}, nil
}
