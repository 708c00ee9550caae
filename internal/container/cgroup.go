package container

import (
	"cmp"
	"path"
	"strings"

	ctypes "github.com/moby/moby/api/types/container"

	"muelle/internal/linux/cgroup"
)

// CgroupDriver says who makes control groups.
type CgroupDriver string

// The drivers, by Docker's names.
const (
	CgroupFS      CgroupDriver = "cgroupfs"
	CgroupSystemd CgroupDriver = "systemd"
)

// cgroupsPath names the control group of a container: a path below each hierarchy's
// root, or, with the systemd driver, slice:prefix:name as runc has it.
func (s *Service) cgroupsPath(cid string, hc *ctypes.HostConfig) string {
	parent := s.o.DefaultCgroupParent
	if hc != nil {
		parent = cmp.Or(hc.CgroupParent, parent)
	}
	if s.o.CgroupDriver == CgroupSystemd {
		return cgroup.ScopePath(cmp.Or(parent, "system.slice"), s.o.CgroupParent, cid)
	}
	return path.Join("/", cmp.Or(parent, s.o.CgroupParent), cid)
}

// group is the control group of a container whose record may be gone.
func (s *Service) group(c *entry) string {
	c.mu.Lock()
	hc := c.rec.HostConfig
	c.mu.Unlock()
	return s.cgroupsPath(c.id, hc)
}

// checkCgroupParent: systemd knows parents as slices only.
func (s *Service) checkCgroupParent(parent string) error {
	if s.o.CgroupDriver == CgroupSystemd && parent != "" && (!strings.HasSuffix(parent, ".slice") || len(parent) <= len(".slice")) {
		return invalid(`cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"`)
	}
	return nil
}
